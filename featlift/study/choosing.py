"""The choice: which layer, cycle or size of each kind of arm goes into the report, by the split ``val`` alone."""

from __future__ import annotations

import json
from pathlib import Path

from featlift.results.result import read_result
from featlift.study.cells import Cell, cells_of
from featlift.study.plan import Study
from featlift.study.planes import foreign_blocks

_LESS_IS_BETTER = ("hd95", "asd", "failure_rate")


def choose(study: Study, folder: Path) -> list[tuple[str, str, int]] | None:
    """Cohort, arm and layer of the best cell of each group that differs in nothing but what is chosen over.

    Args:
        study: whose cells of ``val`` are all scored.
        folder: of its results.

    Returns:
        None where nothing is to be chosen.
    """
    choice = study.choice
    if choice is None:
        return None
    best: dict[str, tuple[float, Cell]] = {}
    for cell in cells_of(study, "val"):
        if cell.task.name != choice.task or cell.features != "stored" or _is_2d_by_another_name(cell):
            continue
        values = {key: value for key, value in cell.arm.values.items() if key not in choice.over}
        if "layer" not in choice.over:
            values["layer"] = cell.layer
        named = cell.arm.name if not cell.arm.values else ""
        group = json.dumps([cell.cohort.name, named, values], sort_keys=True, default=str)
        mean = read_result(cell.place(folder)).measures[cell.task.measure].mean
        if mean is None:
            continue
        score = -mean if cell.task.measure in _LESS_IS_BETTER else mean
        if group not in best or score > best[group][0]:
            best[group] = (score, cell)
    return [(cell.cohort.name, cell.arm.name, cell.layer) for _, cell in best.values()]


def _is_2d_by_another_name(cell: Cell) -> bool:
    """Whether a lifted layer comes before every block in a foreign plane, so that its features are those of mode 2d."""
    found = foreign_blocks(cell.values, cell.layer)
    return cell.values["mode"] != "2d" and found is not None and found[1] == 0
