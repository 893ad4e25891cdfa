"""A dense probe as a result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict

import numpy as np

from featlift.evaluation.dense.cohort import TEST, TRAIN
from featlift.evaluation.dense.probe import DenseScores
from featlift.evaluation.dense.protocol import DenseProtocol
from featlift.metrics.bootstrap import RESAMPLES, interval_of_mean
from featlift.results.result import Measure, Result, name_of
from featlift.store.reading import Store

_MEASURES = ("dice", "hd95", "asd")


def dense_result(
    store: Store,
    protocol: DenseProtocol,
    scores: Sequence[DenseScores],
    splits: Mapping[str, str],
    seeds: Sequence[int],
    bootstrap_seed: int = 0,
    resamples: int = RESAMPLES,
    label_names: Mapping[int, str] | None = None,
) -> Result:
    """Means over test cases, each case's value being its mean over labels; then the means of each label.

    A case in which a label was not predicted at all has no HD95 and no ASD, rather than those of its other labels.

    Args:
        store: that was probed.
        protocol: how it was trained.
        scores: of every test case.
        splits: the split of each case.
        seeds: of the trainings.
        bootstrap_seed: of the intervals.
        resamples: of the intervals.
        label_names: what labels are called, for tables.
    """
    name = store.name
    labels = sorted({label for case in scores for label in case.labels})
    named = {str(label): label_names[label] for label in labels if label_names and label in label_names}
    columns = {measure: [_of_case(case, measure) for case in scores] for measure in _MEASURES}
    for label in labels:
        for measure in _MEASURES:
            columns[f"{measure}_{label}"] = [_of_label(case, measure, label) for case in scores]
    cases = [
        {
            "id": case.id,
            **{column: _mean(found[row]) for column, found in columns.items()},
            "labels": {str(label): [asdict(score) for score in case.labels[label]] for label in case.labels},
            "mask_sha256": case.mask_sha256,
        }
        for row, case in enumerate(scores)
    ]
    measures = {column: _measure(found, bootstrap_seed, resamples) for column, found in columns.items()}
    return Result(
        "dense-probe",
        name_of(name, "dense-probe", protocol.label),
        name,
        store.recipe,
        protocol.as_json(),
        measures,
        cases,
        seeds=list(seeds),
        bootstrap={"seed": bootstrap_seed, "resamples": resamples},
        left_out=[case_id for case_id in store if splits.get(case_id) not in (TRAIN, TEST)],
        details={
            "labels": labels,
            **({"label_names": named} if named else {}),
            "train": [case_id for case_id in store if splits.get(case_id) == TRAIN],
        },
    )


def _mean(values: list[float] | None) -> float | None:
    return None if values is None else float(np.mean(values))


def _of_label(case: DenseScores, measure: str, label: int) -> list[float] | None:
    """A label's values, one a seed; None if it has none for one of the seeds."""
    values = [getattr(score, measure) for score in case.labels.get(label, [])]
    return values if values and None not in values else None


def _of_case(case: DenseScores, measure: str) -> list[float] | None:
    """Means over the case's labels, one a seed; None if a label has none."""
    by_label = [_of_label(case, measure, label) for label in case.labels]
    found = [values for values in by_label if values is not None]
    return np.mean(found, axis=0).tolist() if found and len(found) == len(by_label) else None


def _measure(column: Sequence[list[float] | None], seed: int, resamples: int) -> Measure:
    found = [values for values in column if values is not None]
    if not found:
        return Measure(None, 0)
    interval = interval_of_mean([float(np.mean(values)) for values in found], seed, resamples)
    by_seed = np.mean(found, axis=0)
    sd = float(by_seed.std(ddof=1)) if len(by_seed) > 1 else None
    return Measure(interval.mean, len(found), sd, interval.low, interval.high, by_seed.tolist())
