"""The cells of a study: one task on the features of one arm's layer, of one cohort, scored on one split."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from featlift.evaluation.sources import LAYERS
from featlift.lifting.planes import DEFAULT_CYCLE
from featlift.results.result import name_of
from featlift.study.plan import Arm, Cohort, Study, StudyTask

#: ``val`` is for choices, ``test`` for the report.
Split = Literal["val", "test"]
#: Sources of features that no network makes.
_OF_NO_NETWORK = {"coordinates", "intensity"}


def is_control(features: str) -> bool:
    """Whether no network takes part in features, but only the grid of its cells."""
    return set(features.split("+")) <= _OF_NO_NETWORK


def has_all_layers(features: str) -> bool:
    """Whether features are of all layers of an arm, and scored once."""
    return LAYERS in features.split("+")


@dataclass(frozen=True)
class Cell:
    """One score.

    Attributes:
        split: that is scored.
        cohort: whose cases.
        arm: whose features.
        task: that scores.
        layer: absolute index.
        features: see `featlift.evaluation.sources.SOURCES`.
    """

    split: Split
    cohort: Cohort
    arm: Arm
    task: StudyTask
    layer: int
    features: str

    @property
    def values(self) -> dict[str, Any]:
        """What tells the arm from others, and always ``model``, ``mode`` and, where it has one, ``cycle``."""
        network, lifting = self.arm.config.network, self.arm.config.lifting
        values = {"model": network.model, "mode": lifting.mode, **self.arm.values}
        if lifting.mode in ("pcg", "pcm"):
            values["cycle"] = list(lifting.cycle or DEFAULT_CYCLE)
        return values

    def is_of(self, cohort: str, arm: str, layer: int) -> bool:
        """Whether it scores that layer of an arm, alone or with all others."""
        return (self.cohort.name, self.arm.name) == (cohort, arm) and (
            self.layer == layer or has_all_layers(self.features)
        )

    def place(self, folder: Path) -> Path:
        """The file of its result."""
        name = name_of(self.task.name, f"layer{self.layer}", self.features)
        return folder / "results" / self.split / self.cohort.name / name_of(self.arm.name) / f"{name}.json"


def cells_of(study: Study, split: Split, chosen: Iterable[tuple[str, str, int]] | None = None) -> Iterator[Cell]:
    """The cells that are scored on a split, cohort by cohort and arm by arm.

    A control without a network is scored once for each grid of cells: by the first arm that has it.

    Args:
        study: the study.
        split: that is scored.
        chosen: names of cohort and arm, and layer, of those to score; None takes all.
    """
    wanted = None if chosen is None else list(chosen)
    for cohort in study.cohorts:
        seen = set()
        for arm in study.arms:
            if arm.cost_only:
                continue
            for cell in _cells(study, split, cohort, arm):
                if wanted is not None and not any(cell.is_of(*names) for names in wanted):
                    continue
                grid = (cell.task.name, cell.features, arm.config.network.model, arm.config.preparation)
                if is_control(cell.features) and grid in seen:
                    continue
                seen.add(grid)
                yield cell


def _cells(study: Study, split: Split, cohort: Cohort, arm: Arm) -> Iterator[Cell]:
    for task in study.tasks:
        if task.cohorts and cohort.name not in task.cohorts:
            continue
        held = [layer for layer in arm.layers if not task.layers or layer in task.layers]
        if task.kind in ("knn", "probe"):
            held = [arm.layers[-1]]
        for features in task.features:
            for layer in held[-1:] if has_all_layers(features) else held:
                yield Cell(split, cohort, arm, task, layer, features)
