"""Scores of registered pairs as a result that `featlift compare` reads: its cases are pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from featlift.metrics.bootstrap import RESAMPLES, interval_of_mean
from featlift.registration.plan import flattened
from featlift.registration.scoring import PairScore, ScoredPairs
from featlift.results.result import Measure, Result, name_of
from featlift.store.layout import Recipe

_OF_LABELS = ("dice", "hd95", "hd95_pooled", "asd")
_OF_PAIRS = ("tre", "sdlogj", "folds", "seconds", "peak_mb")
UNREGISTERED = "unregistered"


def registration_result(
    found: ScoredPairs,
    scores: Sequence[PairScore],
    before: bool = False,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Result:
    """Means over pairs, each pair's value being its mean over labels; then the means of each label.

    A pair of which nothing is left of a label has no HD95 and no ASD. A measure that no pair has is not there.

    Args:
        found: the folder.
        scores: of its pairs.
        before: these are of the scans as they lay.
        seed: of the intervals.
        resamples: of the intervals.
    """
    labels = sorted({label for score in scores for label in score.labels})
    columns: dict[str, list[float | None]] = {name: [_mean(score, name) for score in scores] for name in _OF_LABELS}
    columns |= {name: [getattr(score, name) for score in scores] for name in _OF_PAIRS}
    for label in labels:
        for name in _OF_LABELS:
            columns[f"{name}_{label}"] = [_of_label(score, name, label) for score in scores]
    columns = {name: values for name, values in columns.items() if any(value is not None for value in values)}
    cases = [
        {
            "id": score.id,
            **{name: values[row] for name, values in columns.items()},
            "labels": {str(label): asdict(each) for label, each in score.labels.items()},
            "mask_sha256": score.truth_sha256,
        }
        for row, score in enumerate(scores)
    ]
    return Result(
        "registration",
        name_of(found.name, "registration", UNREGISTERED if before else ""),
        found.name,
        {"model": UNREGISTERED, "mode": "-", "layers": []} if before else recipe_of(found.plan),
        found.protocol,
        {
            name: Measure.of(interval_of_mean([value for value in values if value is not None], seed, resamples))
            for name, values in columns.items()
        },
        cases,
        bootstrap={"seed": seed, "resamples": resamples},
        left_out=found.left_out,
        details={"labels": labels},
    )


def recipe_of(plan: dict[str, Any]) -> Recipe:
    """What decided the fields: the recipe of the features, if a network made some, and every setting by its name."""
    recipe: Recipe = plan["recipe"] or {"mode": "-", "layers": []}
    network = plan["settings"].get("network")
    seen = {"mind": ["mind"], "both": ["features", "mind"], "model": ["features"]}
    parts = seen[plan["settings"]["features"]] if network is None else network["plan"]["inputs"]
    model = "+".join(recipe.get("model") or part if part == "features" else part for part in parts)
    if network is not None:
        model = f"net of {model}"
    rest = {name: plan[name] for name in ("registration", "settings")}
    return {**recipe, "model": model, **flattened(rest)}


def _mean(score: PairScore, name: str) -> float | None:
    """Over the labels; None where one has no value."""
    values = [_of_label(score, name, label) for label in score.labels]
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known and len(known) == len(values) else None


def _of_label(score: PairScore, name: str, label: int) -> float | None:
    value: float | None = getattr(score.labels[label], name) if label in score.labels else None
    return value
