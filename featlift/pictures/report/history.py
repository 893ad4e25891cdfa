"""What runs on a store did, and what they could not do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from featlift.names import without_folders
from featlift.store.contents import damaged_cases, run_records
from featlift.store.reading import Store


def runs_of(store: Store) -> list[dict[str, Any]]:
    """The run records of a store, the oldest first; one that cannot be read is left out."""
    return [record for record in run_records(store.path).values() if record is not None]


def failures_of(store: Store, runs: Sequence[dict[str, Any]]) -> dict[str, str]:
    """Why cases are not in the store, by the last run that tried, and what `featlift verify` found damaged."""
    failures = {case_id: reason for record in runs for case_id, reason in (record.get("failures") or {}).items()}
    missing = {case_id: without_folders(str(reason)) for case_id, reason in failures.items() if case_id not in store}
    return missing | {case_id: f"damaged: {'; '.join(found)}" for case_id, found in damaged_cases(store.path).items()}
