"""Which cells of a case to train on: as many of each label as there is room for, weighted as if it were all of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Draw:
    """Some cells of one case.

    Attributes:
        cells: index of each in the flattened grid.
        labels: of each.
        weights: how many cells of its label each one stands for.
    """

    cells: NDArray[np.intp]
    labels: NDArray[np.int32]
    weights: NDArray[np.float64]


def draw_cells(labels: NDArray[np.int32], most: int, rng: np.random.Generator) -> Draw:
    """Draw cells without replacement, the same number of each label as far as there are enough.

    A lesion of ten cells among a hundred thousand so is there with all ten. The weights make up for it: any weighted
    sum over the draw is, on average over draws, the sum over all cells (Horvitz and Thompson 1952).

    Args:
        labels: on the cells, ``(d, h, w)``.
        most: cells to draw.
        rng: source of randomness.
    """
    flat = labels.ravel()
    values, sizes = np.unique(flat, return_counts=True)
    cells, weights = [], []
    left = max(most, len(values))
    for number, index in enumerate(np.argsort(sizes, kind="stable")):  # what rare labels leave goes to the others
        count = min(int(sizes[index]), left // (len(values) - number))
        left -= count
        cells.append(rng.choice(np.flatnonzero(flat == values[index]), count, replace=False))
        weights.append(np.full(count, sizes[index] / count))
    chosen = np.concatenate(cells)
    return Draw(chosen, flat[chosen], np.concatenate(weights))
