"""Cases unlike the others, each with its reason."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

#: Neighbours whose mean distance tells how far a case is from the others.
NEIGHBOURS = 5

#: Modified z-score above which a value is an outlier (Iglewicz and Hoaglin, 1993).
THRESHOLD = 3.5

#: A spacing or size that differs from the median by more than this factor.
FACTOR = 2.0

#: Cases that are shown, the strangest first: more would not be looked at.
LISTED = 40

_SMALLEST = 1e-7  # distance that float32 tells from none

#: Cases below which none is called unlike the others.
FEWEST = 8


@dataclass(frozen=True)
class Outlier:
    """One reason why a case is unlike the others.

    Attributes:
        id: case id.
        reason: for people.
        score: how far it is off, for the order: 1 is just beyond what is usual.
    """

    id: str
    reason: str
    score: float


def modified_z(values: NDArray[np.floating]) -> NDArray[np.float64]:
    """How far each value is above the median, in units of the median absolute deviation: 0.6745 (x - median) / MAD."""
    middle = np.median(values)
    spread = np.median(np.abs(values - middle))
    if spread == 0:
        return np.zeros(len(values))
    return np.asarray(0.6745 * (values - middle) / spread, np.float64)


def by_embedding(ids: Sequence[str], vectors: NDArray[np.float32], store: str = "") -> list[Outlier]:
    """Cases far from their nearest neighbours, by cosine distance.

    Args:
        ids: of the cases.
        vectors: ``(N, E)``.
        store: is named where there are several.
    """
    from featlift.evaluation.classification.neighbours import nearest_by_cosine

    if len(ids) < FEWEST:
        return []
    similarity, _ = nearest_by_cosine(vectors, vectors, NEIGHBOURS, np.arange(len(vectors)))
    distance = 1 - similarity.mean(axis=1, dtype=np.float64)
    return _beyond(ids, distance, f"{store}: embedding" if store else "embedding", f"its {NEIGHBOURS} nearest cases")


def by_intensity(spreads: Mapping[str, NDArray[np.float64]]) -> list[Outlier]:
    """Cases whose histogram of intensities is far from the median one: the area between the cumulative shares."""
    if len(spreads) < FEWEST:
        return []
    cumulative = np.cumsum(np.stack(list(spreads.values())), axis=1)
    distance = np.abs(cumulative - np.median(cumulative, axis=0)).mean(axis=1)
    return _beyond(list(spreads), distance, "intensities", "those of the median case")


def by_geometry(ids: Sequence[str], columns: Mapping[str, NDArray[np.float64]]) -> list[Outlier]:
    """Cases whose spacing or size is off by more than a factor of 2 from the median; NaN is unknown."""
    found = []
    for name, values in columns.items():
        known = np.isfinite(values)
        if known.sum() < FEWEST:
            continue
        middle = float(np.median(values[known]))
        for row in np.flatnonzero(known).tolist():
            factor = max(values[row] / middle, middle / values[row])
            if factor > FACTOR:
                reason = f"{name} {values[row]:.4g}, the median {middle:.4g}"
                found.append(Outlier(ids[row], reason, float(factor / FACTOR)))
    return found


def _beyond(ids: Sequence[str], distances: NDArray[np.float64], what: str, other: str) -> list[Outlier]:
    """Those of the largest distances, in multiples of the median one; their logarithm is judged, as they are skewed."""
    distances = np.maximum(distances, _SMALLEST)
    scores = modified_z(np.log(distances))
    usual = float(np.median(distances))
    return [
        Outlier(
            ids[row],
            f"{what} {_times(distances[row] / usual)} as far from {other} as usual",
            scores[row] / THRESHOLD,
        )
        for row in np.flatnonzero(scores > THRESHOLD).tolist()
    ]


def _times(factor: float) -> str:
    return f"{factor:,.0f} times" if factor >= 10 else f"{factor:.2g} times"


def strangest(outliers: Iterable[Outlier]) -> tuple[list[Outlier], int]:
    """The outliers that are `LISTED`, the strangest case first, and how many cases there are."""
    ordered = sorted(outliers, key=lambda outlier: -outlier.score)
    cases = list(dict.fromkeys(outlier.id for outlier in ordered))
    listed = set(cases[:LISTED])
    return [outlier for outlier in ordered if outlier.id in listed], len(cases)
