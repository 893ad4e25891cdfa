"""Train heads, and keep of each seed's the epoch that validation likes best."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic

import numpy as np
import torch
from numpy.typing import NDArray

from featlift.evaluation.classification.multi_seed import AnyHeads, Cases, ProbeTraining, probabilities_of, train
from featlift.metrics.classification_bootstrap import mean_areas


@dataclass(frozen=True)
class Selected(Generic[AnyHeads]):
    """Heads that were chosen.

    Attributes:
        heads: of each seed those of its best epoch.
        probabilities: of the tested cases, ``(S, N, K)``.
        iterations: after which each was chosen.
        areas: its validation AUC.
    """

    heads: AnyHeads
    probabilities: NDArray[np.float64]
    iterations: list[int]
    areas: list[float]


def train_and_select(
    make: Callable[[Sequence[torch.Generator]], AnyHeads],
    cases: Cases[AnyHeads],
    targets: NDArray[np.int64] | NDArray[np.float32],
    parts: Sequence[NDArray[np.intp]],
    training: ProbeTraining,
    seeds: Sequence[int],
    progress: Callable[[int, int], object] | None = None,
    *,
    apart: int = 1,
) -> Selected[AnyHeads]:
    """Validate after every epoch, and keep for each seed the latest of its best epochs, as the released script does.

    Args:
        make: heads to start from, see `train`.
        cases: all of them.
        targets: theirs: classes ``(N,)``, or findings ``(N, K)`` with nan for what is not known.
        parts: which of them are for training, validation and test.
        training: how.
        seeds: of the trainings.
        progress: called with the steps done and their number.
        apart: epochs that end fewer steps after a validation than this are not validated, but for the last.
    """
    trained, validated, tested = parts
    watched = cases.of(validated)
    best: dict[str, torch.Tensor] = {}
    areas, at = np.full(len(seeds), -np.inf), np.zeros(len(seeds), dtype=int)
    last = 0

    def after_epoch(heads: AnyHeads, step: int) -> None:
        nonlocal last
        if step - last < apart and step < training.iterations:
            return
        last = step
        now = _areas(targets[validated], probabilities_of(watched.scored(heads), training.loss))
        better = now >= areas
        areas[better], at[better] = now[better], step
        for name, value in heads.copy().items():
            chosen = torch.from_numpy(better).view(-1, *[1] * (value.ndim - 1))
            best[name] = torch.where(chosen, value, best.get(name, value))

    heads = train(make, cases.of(trained), torch.from_numpy(targets[trained]), training, seeds, after_epoch, progress)
    heads.parameters = best
    with torch.no_grad():
        probabilities = probabilities_of(cases.of(tested).scored(heads), training.loss)
    return Selected(heads, probabilities, at.tolist(), areas.tolist())


def _areas(targets: NDArray[np.int64] | NDArray[np.float32], probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
    """AUC of each seed, ``(S,)``: of classes, or the mean over findings, each on the cases of which it is known."""
    if targets.ndim == 1:
        return mean_areas(targets.astype(np.int64), probabilities)
    areas = []
    for finding, positive in zip(targets.T, np.moveaxis(probabilities, -1, 0), strict=True):
        known = ~np.isnan(finding)
        both = np.stack([1 - positive[:, known], positive[:, known]], axis=-1)
        areas.append(mean_areas(finding[known].astype(np.int64), both))
    return np.asarray(np.mean(areas, axis=0))
