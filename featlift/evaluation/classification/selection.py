"""Train heads, and keep of each seed's the epoch that validation likes best."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from featlift.evaluation.classification.multi_seed import Heads, ProbeTraining, train
from featlift.metrics.classification_bootstrap import mean_areas


@dataclass(frozen=True)
class Selected:
    """Heads that were chosen.

    Attributes:
        probabilities: of the tested cases, ``(S, N, classes)``.
        iterations: after which each was chosen.
        areas: its validation AUC.
    """

    probabilities: NDArray[np.float64]
    iterations: list[int]
    areas: list[float]


def train_and_select(
    vectors: NDArray[np.float32],
    labels: NDArray[np.int64],
    parts: Sequence[NDArray[np.intp]],
    classes: int,
    training: ProbeTraining,
    seeds: Sequence[int],
    progress: Callable[[int, int], object] | None = None,
) -> Selected:
    """Validate after every epoch, and keep for each seed the latest of its best epochs, as the released script does.

    Args:
        vectors: of all cases, ``(N, D, C)``.
        labels: classes of all cases, ``(N,)``.
        parts: which of them are for training, validation and test.
        classes: how many there are.
        training: how.
        seeds: of the trainings.
        progress: called with the steps done and their number.
    """
    inputs = torch.from_numpy(vectors)
    trained, validated, tested = parts
    best: dict[str, torch.Tensor] = {}
    areas, at = np.full(len(seeds), -np.inf), np.zeros(len(seeds), dtype=int)

    def after_epoch(heads: Heads, step: int) -> None:
        now = mean_areas(labels[validated], heads(inputs[validated]).double().softmax(dim=-1).numpy())
        better = now >= areas
        areas[better], at[better] = now[better], step
        for name, value in heads.copy().items():
            chosen = torch.from_numpy(better).view(-1, *[1] * (value.ndim - 1))
            best[name] = torch.where(chosen, value, best.get(name, value))

    heads = train(inputs[trained], torch.from_numpy(labels[trained]), classes, training, seeds, after_epoch, progress)
    heads.parameters = best
    with torch.no_grad():
        probabilities = heads(inputs[tested]).double().softmax(dim=-1).numpy()
    return Selected(probabilities, at.tolist(), areas.tolist())
