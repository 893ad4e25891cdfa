"""Who is trained on and what is known of them, told before anything is computed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from featlift.checksums import sha256_of_file
from featlift.errors import InputError, OptionError
from featlift.evaluation.classification.labels import Task, rows_of_csv, splits_in, tasks_of
from featlift.evaluation.classification.targets import Targets
from featlift.store.layout import sha256_of
from featlift.training.splits import Split, split_of
from featlift.volumes import Scan
from featlift.volumes.opening import identity
from featlift.volumes.source import MaskFile, Source


@dataclass(frozen=True)
class Cases:
    """Scans, and who does what.

    Attributes:
        scans: by id, of the cases that take part.
        rows: what each column says of each.
        split: who trains, who validates, and who is left for the test.
        source: where this was read.
    """

    scans: dict[str, Scan]
    rows: dict[str, dict[str, str]]
    split: Split
    source: str

    @property
    def taking_part(self) -> list[str]:
        """Ids of those that train or validate."""
        return [*self.split.train, *self.split.val]


def cases_of(scans: Sequence[Scan], labels: str | Path | None, seed: int = 0) -> Cases:
    """Read the splits of scans, and what else is known of them.

    Args:
        scans: that were found.
        labels: a CSV with ``id``, ``split`` and perhaps ``patient`` and labels; None takes what the scans say
            themselves, as a manifest or MedMNIST has it.
        seed: of the fifth of the training patients who validate where no case is in the split ``val``.

    Raises:
        InputError: a case of no scan, no splits, or a split that is none.
        OptionError: nobody to train on, or a patient in two splits.
    """
    by_id = {scan.id: scan for scan in scans}
    own = {scan.id: {key: str(value).strip() for key, value in scan.labels.items()} for scan in scans}
    where = "the scans" if labels is None else str(labels)
    rows = own if labels is None else rows_of_csv(labels, by_id)
    if unknown := [case_id for case_id in rows if case_id not in by_id]:
        raise InputError(f"{where}: {len(unknown)} of {len(rows)} ids are no scan, as {unknown[0]}: take them out")
    splits = splits_in(rows, where)
    if not splits:
        raise InputError(f"{where}: no column split: it says train, val or test of each case (a patient's all in one)")
    patients = {case_id: row["patient"] for case_id, row in rows.items() if row.get("patient")}
    return Cases(by_id, rows, split_of(splits, patients, seed), where)


@dataclass(frozen=True)
class Labels:
    """What is to be predicted of each case.

    Attributes:
        tasks: a label each; several are findings, yes or no.
        values: by case id, a class, or 0, 1 and nan for each finding, ``(K,)``.
    """

    tasks: list[Task]
    values: dict[str, Any]

    @property
    def findings(self) -> bool:
        """Whether they are findings rather than classes."""
        return len(self.tasks) > 1

    @property
    def outputs(self) -> int:
        """K, how many the network has."""
        return len(self.tasks) if self.findings else len(self.tasks[0].classes)


def labels_of(cases: Cases, columns: Sequence[str] = ()) -> Labels:
    """The labels of cases that train or validate.

    Args:
        cases: see `cases_of`.
        columns: to predict; see `featlift.evaluation.read_labels`.

    Raises:
        InputError: a class that training or validation lacks, or a case without a label.
        OptionError: several labels, one of which has more than two classes.
    """
    named = dict.fromkeys(cases.split.train, "train") | dict.fromkeys(cases.split.val, "val")
    rows = {case_id: {**cases.rows[case_id], "split": split} for case_id, split in named.items()}
    tasks = tasks_of(rows, cases.source, columns)
    targets = (
        Targets.of_findings(tasks, "train", "val") if len(tasks) > 1 else Targets.of_classes(tasks[0], "train", "val")
    )
    if unlabelled := sorted(rows.keys() - set(targets.ids)):
        names = ", ".join(task.name for task in tasks)
        raise InputError(f"{cases.source}: {unlabelled[0]} has no {names}: fill it in, or clear its split")
    return Labels(tasks, dict(zip(targets.ids, targets.values, strict=True)))


def masks_of(cases: Cases, masks: Mapping[str, MaskFile]) -> dict[str, MaskFile]:
    """The masks of cases that train or validate.

    Raises:
        OptionError: one has none.
    """
    if without := [case_id for case_id in cases.taking_part if case_id not in masks]:
        raise OptionError(
            f"{without[0]} has no mask, nor have {len(without) - 1} others that train or validate: give them, or clear "
            f"their split in {cases.source}"
        )
    return {case_id: masks[case_id] for case_id in cases.taking_part}


def digest_of_labels(labels: Labels) -> str:
    """SHA-256 of what is to be predicted of each case, by which a training knows that it is still the same."""
    return sha256_of({case_id: str(value) for case_id, value in labels.values.items()})


def digest_of_masks(masks: Mapping[str, MaskFile]) -> str:
    """SHA-256 of masks, of their bytes where they are files of this machine and of their paths elsewhere."""
    return sha256_of({case_id: _digest(mask) for case_id, mask in masks.items()})


def _digest(mask: MaskFile) -> str:
    if isinstance(mask, Source):
        return str(identity([mask])["sha256"])
    return sha256_of_file(Path(mask)) if Path(mask).is_file() else str(mask)
