"""FeatDice of a store's cases as a result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from featlift.evaluation.featdice.protocol import Protocol
from featlift.evaluation.featdice.scoring import CaseScores
from featlift.metrics.bootstrap import RESAMPLES, interval_of_mean
from featlift.results.result import Measure, Result, name_of
from featlift.store.layout import Recipe

_MEASURES = ("dice", "best_dice", "auroc")


def featdice_result(
    store: str,
    recipe: Recipe,
    protocol: Protocol,
    scores: Sequence[CaseScores],
    left_out: Sequence[str] = (),
    seed: int = 0,
    resamples: int = RESAMPLES,
    label_names: Mapping[int, str] | None = None,
) -> Result:
    """Means over cases, each case's value being its mean over labels; then the mean Dice of each label.

    Args:
        store: its name, without folders.
        recipe: of its features.
        protocol: how the cases were scored.
        scores: of every case that has a mask; those that failed among them.
        left_out: ids of the other cases.
        seed: of the bootstrap.
        resamples: of the bootstrap.
        label_names: what labels are called, for tables.
    """
    scored = [case for case in scores if not case.failure]
    labels = sorted({label for case in scored for label in case.labels})
    named = {str(label): label_names[label] for label in labels if label_names and label in label_names}
    cases = [_as_json(case, labels) for case in scored]
    measures = {}
    for name in (*_MEASURES, *(f"dice_{label}" for label in labels)):
        values = [case[name] for case in cases if case[name] is not None]
        measures[name] = Measure.of(interval_of_mean(values, seed, resamples))
    return Result(
        "featdice",
        name_of(store, "featdice", protocol.label),
        store,
        recipe,
        protocol.as_json(),
        measures,
        cases,
        bootstrap={"seed": seed, "resamples": resamples},
        failed={case.id: case.failure for case in scores if case.failure},
        left_out=list(left_out),
        details={"labels": labels, **({"label_names": named} if named else {})},
    )


def _as_json(case: CaseScores, labels: Sequence[int]) -> dict[str, Any]:
    return {
        "id": case.id,
        **{name: case.mean(name) for name in _MEASURES},
        **{f"dice_{label}": case.labels[label].dice if label in case.labels else None for label in labels},
        "labels": {str(label): asdict(score) for label, score in case.labels.items()},
        "mask_sha256": case.mask_sha256,
    }
