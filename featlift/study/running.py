"""Run a study: arm by arm extract, score, and let the features go. What is scored already is skipped."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import groupby
from pathlib import Path

from featlift.atomic_io import check_writable
from featlift.cohort import extract_scans
from featlift.counting import number_of
from featlift.errors import OptionError, VolumeError
from featlift.extraction import Job, Shard
from featlift.progress import Progress
from featlift.results.result import Result, name_of, write_result
from featlift.store import open_store
from featlift.store.backends import backend_of
from featlift.study.cells import Cell, Split, cells_of, has_all_layers
from featlift.study.choosing import choose
from featlift.study.cohorts import Members, members_of, write_members
from featlift.study.costs import Cost, measure_cost, read_cost
from featlift.study.plan import Arm, Cohort, Study
from featlift.study.summary import Summary, summarise
from featlift.study.tasks import Scored, score
from featlift.study.writing import write_summary

_STUDY = "study.sha256"
_TAKE_PART: dict[Split, tuple[str, ...]] = {"val": ("train", "val"), "test": ("train", "val", "test")}

Notify = Callable[[str], object]


@dataclass(frozen=True)
class Planned:
    """An arm on a cohort, before it runs.

    Attributes:
        cohort: name of the cohort.
        arm: name of the arm.
        cells: how many scores are left to make.
        cost: of one of its volumes.
    """

    cohort: str
    arm: str
    cells: int
    cost: Cost

    @property
    def seconds(self) -> float:
        """Of lifting every volume once."""
        return self.cost.seconds * self.cost.volumes

    @property
    def bytes(self) -> int:
        """Of the store while it is there."""
        return self.cost.stored_bytes * self.cost.volumes


def plan_study(study: Study, folder: str | Path, progress: Progress | None = None) -> list[Planned]:
    """What each arm will take, from one volume that is lifted with it; nothing is extracted.

    Raises:
        FeatliftError: what a run would stop at: a network, a scan, a mask or a split that is missing.
    """
    run = _Run(study, Path(folder), Shard(1, 1), progress, lambda line: None)
    left = [cell for split in run.splits for cell in cells_of(study, split) if not cell.place(run.folder).exists()]
    found = []
    for number, (cohort, arm) in enumerate(run.units, start=1):
        of_arm = [cell for cell in left if (cell.cohort, cell.arm.name) == (cohort, arm.name)]
        found.append(Planned(cohort.name, arm.name, len(of_arm), run.cost(cohort, arm)))
        if progress is not None:
            progress("measuring", number, len(run.units))
    return found


def run_study(
    study: Study,
    folder: str | Path,
    shard: Shard | None = None,
    progress: Progress | None = None,
    notify: Notify | None = None,
) -> Summary | None:
    """Score every cell of a study. It can be stopped at any time; the same call goes on.

    Args:
        study: read by `featlift.study.read_study`.
        folder: for results, costs, the summary, and stores while they are needed.
        shard: the arms to take, of several processes that share the folder; None takes all.
        progress: told of what takes time.
        notify: told what one wants to know, a line each.

    Returns:
        The summary, or None while other shards still have cells to score.

    Raises:
        OptionError: the folder is of another study.
        FeatliftError: a scan cannot be extracted, or a task not be scored; what was scored stays.
    """
    run = _Run(study, Path(folder), shard or Shard(1, 1), progress, notify or (lambda line: None))
    run.begin()
    for cohort, arm in run.mine:
        run.cost(cohort, arm)
    if study.choice is not None and not run.score("val", cells_of(study, "val")):
        return None
    if not run.score("test", cells_of(study, "test", choose(study, run.folder))):
        return None
    summary = summarise(study, run.folder)
    write_summary(summary, run.folder)
    return summary


@dataclass(frozen=True)
class _Run:
    study: Study
    folder: Path
    shard: Shard
    progress: Progress | None
    notify: Notify

    @property
    def splits(self) -> Sequence[Split]:
        return ("val", "test") if self.study.choice else ("test",)

    @property
    def units(self) -> list[tuple[Cohort, Arm]]:
        """Cohort by cohort every arm: what is extracted together."""
        return [(cohort, arm) for cohort in self.study.cohorts for arm in self.study.arms]

    @property
    def mine(self) -> list[tuple[Cohort, Arm]]:
        """Those of this shard: every N-th."""
        return self.units[self.shard.number - 1 :: self.shard.of]

    @cached_property
    def members(self) -> dict[str, Members]:
        """Of each cohort."""
        selection = self.study.arms[0].config.selection
        return {
            cohort.name: members_of(cohort, selection, self.folder / "cohorts" / cohort.name, self.progress)
            for cohort in self.study.cohorts
        }

    def begin(self) -> None:
        """Refuse a folder that holds results of another study."""
        check_writable(self.folder)
        note = self.folder / _STUDY
        if note.exists() and note.read_text().strip() != self.study.sha256:
            raise OptionError(
                f"{self.folder} holds results of another study, or of this one before its file was changed: "
                "give another folder with -o, or remove that"
            )
        self.folder.mkdir(parents=True, exist_ok=True)
        note.write_text(f"{self.study.sha256}\n")

    def cost(self, cohort: Cohort, arm: Arm) -> Cost:
        """What one volume of an arm costs, measured once."""
        path = self.folder / "costs" / cohort.name / f"{name_of(arm.name)}.json"
        job = self._job(cohort, arm, _TAKE_PART["test"])
        return read_cost(path) or measure_cost(replace(job, output=path.with_suffix(".none")), path)

    def score(self, split: Split, cells: Iterable[Cell]) -> bool:
        """Score what is missing of a split and of this shard; says whether all shards have theirs."""
        everything = list(cells)
        mine = {(cohort.name, arm.name) for cohort, arm in self.mine}
        for (cohort, arm), found in groupby(everything, key=lambda cell: (cell.cohort, cell.arm)):
            of_arm = list(found)
            missing = [cell for cell in of_arm if not cell.place(self.folder).exists()]
            if missing and (cohort.name, arm.name) in mine:
                self.notify(f"featlift: {cohort.name}, {arm.name}: {number_of(len(missing), 'score')} on {split}")
                every = self.study.keep_features or any(has_all_layers(cell.features) for cell in of_arm)
                layers = arm.layers if every else sorted({cell.layer for cell in of_arm})
                self._score_arm(split, cohort, replace(arm, config=arm.config.with_values({"layers": layers})), missing)
        left = [cell for cell in everything if not cell.place(self.folder).exists()]
        if left:
            self.notify(
                f"featlift: {len(left)} of {len(everything)} scores on {split} are left to other shards; "
                "when they are done, the same command goes on"
            )
        return not left

    def _score_arm(self, split: Split, cohort: Cohort, arm: Arm, cells: Sequence[Cell]) -> None:
        members = self.members[cohort.name]
        job = self._job(cohort, arm, _TAKE_PART[split])
        job = job.with_values(overwrite=not self.study.keep_features)  # other layers, for the other split
        if arm.config.output.reduce:  # a basis is fitted on training cases
            self._extract(replace(job, found=members.of("train")))
        self._extract(job)
        store = open_store(job.output)
        ids = [case_id for case_id in store if members.splits[case_id] in _TAKE_PART[split]]
        table = write_members(members, ids, Path(f"{job.output}.csv"))
        given = Scored(store, members.masks, {case_id: members.splits[case_id] for case_id in ids}, table)
        for number, cell in enumerate(cells, start=1):
            result = score(cell, given, self.progress)
            write_result(result, cell.place(self.folder).parent)
            self.notify(f"featlift: {number} of {len(cells)}: {result.name}: {_mean(result, cell)}")
        if not self.study.keep_features:
            table.unlink()
            backend_of(job.output).erase()

    def _job(self, cohort: Cohort, arm: Arm, splits: Sequence[str]) -> Job:
        store = self.folder / "features" / cohort.name / f"{name_of(arm.name)}.zarr"
        return Job(store, self.members[cohort.name].of(*splits), arm.config)

    def _extract(self, job: Job) -> None:
        total = len(job.found.scans)

        def tell(outcome: object, done: int, todo: int) -> None:
            if self.progress is not None and done:
                self.progress("extracting", total - todo + done, total)

        extracted = extract_scans(job.found, job.output, job.config, progress=tell)
        if extracted.failed:
            case_id, reason = next(iter(extracted.failed.items()))
            raise VolumeError(
                f"{len(extracted.failed)} scans failed, all arms need the same cases: {case_id}: {reason}"
            )


def _mean(result: Result, cell: Cell) -> str:
    found = result.measures[cell.task.measure].mean
    return "-" if found is None else f"{cell.task.measure} {found:.3f}"
