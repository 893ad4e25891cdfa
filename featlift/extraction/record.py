"""The run record: what a run did, with which versions, on what. No absolute paths, no patient tags."""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

import torch

from featlift.store.layout import Recipe, sha256_of
from featlift.version import __version__
from featlift.volumes import Skipped

if TYPE_CHECKING:
    from featlift.extraction.outcome import Outcome

_PACKAGES = ("torch", "timm", "zarr", "numpy", "nibabel")


def run_record(
    recipe: Recipe,
    weights: dict[str, str],
    device: str,
    started: str,
    seconds: float,
    volumes: Mapping[str, int],
    outcomes: Sequence[Outcome],
    waited: Mapping[str, float],
    no_scans: Sequence[Skipped],
) -> dict[str, Any]:
    """A run as JSON values.

    Args:
        recipe: of the store.
        weights: where the weights came from.
        device: where the run computed.
        started: time of its start, ISO 8601.
        seconds: its wall time.
        volumes: how many were done, skipped and failed.
        outcomes: of those that were not complete before.
        waited: seconds that lifting waited for other stages, which work at the same time.
        no_scans: what the inputs hold besides.
    """
    stages: Counter[str] = Counter()
    sizes: Counter[str] = Counter()
    for outcome in outcomes:
        stages.update(outcome.seconds)
        sizes.update(outcome.bytes)
    return {
        "started": started,
        "seconds": round(seconds, 3),
        "recipe_sha256": sha256_of(recipe),
        "recipe": recipe,
        "weights": weights,
        "versions": {
            "featlift": __version__,
            "python": platform.python_version(),
            **{package: _version(package) for package in _PACKAGES},
        },
        "device": device,
        "threads": torch.get_num_threads(),
        "volumes": dict(volumes),
        "seconds_by_stage": {stage: round(total, 3) for stage, total in stages.items()},
        "seconds_waited_for": {stage: round(total, 3) for stage, total in waited.items()},
        "bytes": dict(sizes),
        "no_scans": {each.name: each.reason for each in no_scans},
        "failures": {outcome.id: outcome.reason for outcome in outcomes if outcome.status == "failed"},
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def name_of(device: torch.device) -> str:
    """The name of a device, for a record."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"{device.type} {platform.machine()}"
