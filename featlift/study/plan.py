"""What a study is: cohorts, arms, tasks, and the choice that is made before the test split is opened."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from featlift.config import ExtractConfig

Kind = Literal["featdice", "dense", "knn", "probe"]
KINDS: tuple[Kind, ...] = ("featdice", "dense", "knn", "probe")

_OF_CLASSES = ("auc", "accuracy", "balanced_accuracy", "precision", "recall", "f1", "jaccard")
#: What can be compared of each kind of task, first what is compared unless the study says otherwise.
MEASURES: dict[str, tuple[str, ...]] = {
    "featdice": ("best_dice", "dice", "auroc"),
    "dense": ("dice", "hd95", "asd"),
    "knn": _OF_CLASSES,
    "probe": _OF_CLASSES,
}

COSTS = ("operations", "seconds", "peak_bytes", "stored_bytes")


def is_called(arm: str, wanted: str) -> bool:
    """Whether the name of an arm is the one that is wanted, or that with further options."""
    return arm == wanted or arm.startswith(f"{wanted} ")


@dataclass(frozen=True)
class Cohort:
    """Scans with what is known of them.

    Attributes:
        name: of the cohort.
        scans: a file, a folder or a manifest, as `featlift extract` takes them.
        masks: their masks, as `featlift featdice` takes them; None without any.
        splits: a CSV with ``id,split`` and perhaps labels; None takes what the scans say themselves, as MedMNIST does.
            Cases of no split take no part.
        pad_at_random: millimetres that are added along each axis, shared out between its two ends at random, so that a
            place in the crop tells nothing of a place in the body; 0 leaves scans as they are.
        slice_thickness: millimetres to which neighbouring axial slices are averaged; masks keep theirs. 0 for none.
    """

    name: str
    scans: str
    masks: str | None = None
    splits: Path | None = None
    pad_at_random: float = 0.0
    slice_thickness: float = 0.0


@dataclass(frozen=True)
class Arm:
    """One way to make features.

    Attributes:
        name: what tells it from the others, for people and for files.
        values: the options in which arms differ, by name.
        config: all options of the extraction.
        cost_only: not extracted and not scored, only measured for what it costs.
    """

    name: str
    values: Mapping[str, Any]
    config: ExtractConfig
    cost_only: bool = False

    @property
    def layers(self) -> tuple[int, ...]:
        """Absolute indices, shallow to deep."""
        return tuple(sorted(int(layer) for layer in self.config.lifting.layers))


@dataclass(frozen=True)
class StudyTask:
    """One way to score features.

    Attributes:
        name: of the task.
        kind: ``featdice``, ``dense``, ``knn`` or ``probe``.
        options: of the evaluation, by the names of its protocol.
        layers: to score; empty takes all of an arm. k-NN and probes score what an arm's deepest layer gives.
        features: what is scored, see `featlift.evaluation.sources.SOURCES`.
        cohorts: names of those it is for; empty takes all.
        measure: what is compared, chosen by and drawn.
    """

    name: str
    kind: Kind
    options: Mapping[str, Any] = field(default_factory=dict)
    layers: tuple[int, ...] = ()
    features: tuple[str, ...] = ("stored",)
    cohorts: tuple[str, ...] = ()
    measure: str = ""


@dataclass(frozen=True)
class Choice:
    """What is chosen on the split ``val`` before the split ``test`` is opened.

    Attributes:
        task: whose measure decides, on stored features.
        over: options of the arms, or ``layer``, of which the best is taken; for all other options on its own.
    """

    task: str
    over: tuple[str, ...]


@dataclass(frozen=True)
class Study:
    """All of it.

    Attributes:
        name: what it asks, for people.
        cohorts: whose scans are extracted.
        arms: ways to make features.
        tasks: ways to score them.
        choice: None scores every arm and layer on the split ``test``, and the table says so.
        baseline: what the name of the arm that the others are tested against begins with; empty for no tests. Of
            several the first that is reported.
        across: option of the arms, or ``layer``, along the first axis of the figure.
        cost: along the first axis of its second panel, one of `COSTS`.
        keep_features: leave the stores where they are, rather than delete each when it is scored.
        sha256: of the file that it was read from.
    """

    name: str
    cohorts: tuple[Cohort, ...]
    arms: tuple[Arm, ...]
    tasks: tuple[StudyTask, ...]
    choice: Choice | None = None
    baseline: str = ""
    across: str = "layer"
    cost: str = "seconds"
    keep_features: bool = False
    sha256: str = ""
