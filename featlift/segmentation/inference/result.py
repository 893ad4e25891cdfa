"""Scores of predictions as a result that `featlift compare` reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from featlift.metrics.bootstrap import RESAMPLES, interval_of_mean
from featlift.results.result import Cases, Measure, Result, name_of
from featlift.segmentation.inference.scoring import FAILED_BELOW, CaseScore

MEASURES = ("dice", "hd95", "asd", "volume_similarity", "failure_rate")


def segment_result(
    store: Cases, notes: Mapping[str, Any], scores: Sequence[CaseScore], seed: int = 0, resamples: int = RESAMPLES
) -> Result:
    """Means over cases, each case's value being its mean over labels; then the means of each label.

    A case in which a label was not predicted at all has no HD95 and no ASD. The failure rate is the share of a case's
    labels whose Dice is below 0.5.

    Args:
        store: that was segmented.
        notes: of the predictions, see `featlift.segmentation.read_notes`.
        scores: of each case.
        seed: of the intervals.
        resamples: of the intervals.
    """
    labels = sorted({label for case in scores for label in case.labels})
    columns = {measure: [_of_case(case, measure) for case in scores] for measure in MEASURES}
    for label in labels:
        for measure in MEASURES:
            columns[f"{measure}_{label}"] = [_of_label(case, measure, label) for case in scores]
    cases = [
        {
            "id": case.id,
            **{column: values[row] for column, values in columns.items()},
            "labels": {str(label): asdict(found) for label, found in case.labels.items()},
            "mask_sha256": case.mask_sha256,
        }
        for row, case in enumerate(scores)
    ]
    scored = {case.id for case in scores}
    return Result(
        "segment",
        name_of(store.name, "segment", notes["head"]),
        store.name,
        store.recipe,
        {"name": "score", "failed_below": FAILED_BELOW, "head": notes["head"]},
        {name: _measure(values, seed, resamples) for name, values in columns.items()},
        cases,
        bootstrap={"seed": seed, "resamples": resamples},
        left_out=[case_id for case_id in store if case_id not in scored],
        details={
            "labels": labels,
            "label_names": notes["labels"],
            "train": notes["trained"],
            "plan": notes["plan"],
            "grid": notes.get("grid", "scan"),
        },
    )


def _of_label(case: CaseScore, measure: str, label: int) -> float | None:
    value: float | None = getattr(case.labels[label], measure) if label in case.labels else None
    return value


def _of_case(case: CaseScore, measure: str) -> float | None:
    values = [_of_label(case, measure, label) for label in case.labels]
    found = [value for value in values if value is not None]
    return float(np.mean(found)) if found and len(found) == len(values) else None


def _measure(column: Sequence[float | None], seed: int, resamples: int) -> Measure:
    return Measure.of(interval_of_mean([value for value in column if value is not None], seed, resamples))
