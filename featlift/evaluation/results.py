"""Results as files: all that a table needs, so that one can be made again without the features."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import featlift
from featlift.errors import InputError, StoreError
from featlift.evaluation.bootstrap import RESAMPLES, Interval, interval_of_mean
from featlift.evaluation.featdice import CaseScores
from featlift.evaluation.protocol import Protocol
from featlift.evaluation.scores import Score
from featlift.staging import staging_name
from featlift.store.durable import as_output_error
from featlift.store.layout import Recipe, sha256_of

FORMAT = 1
MEASURES = {"dice": "Dice", "best_dice": "best-threshold Dice", "auroc": "AUROC"}


@dataclass(frozen=True)
class Result:
    """FeatDice of one store.

    Attributes:
        store: its name, without folders.
        recipe: of its features.
        protocol: how they were scored.
        cases: every case that has a mask; those that failed among them.
        without_mask: ids of the other cases.
        seed: of the bootstrap.
        resamples: of the bootstrap.
    """

    store: str
    recipe: Recipe
    protocol: Protocol
    cases: list[CaseScores]
    without_mask: list[str] = field(default_factory=list)
    seed: int = 0
    resamples: int = RESAMPLES

    @property
    def scored(self) -> list[CaseScores]:
        """The cases that did not fail."""
        return [case for case in self.cases if not case.failure]

    @property
    def labels(self) -> list[int]:
        """Every label that a scored case has."""
        return sorted({label for case in self.scored for label in case.labels})

    @cached_property
    def means(self) -> dict[str, Interval]:
        """The mean over cases of ``dice``, ``best_dice`` and ``auroc``, each case's being its mean over labels."""
        return {name: self._interval([case.mean(name) for case in self.scored]) for name in MEASURES}

    @cached_property
    def dice_of_labels(self) -> dict[int, Interval]:
        """The mean Dice of each label over the cases that have it."""
        return {
            label: self._interval([case.labels[label].dice for case in self.scored if label in case.labels])
            for label in self.labels
        }

    def _interval(self, values: Sequence[float | None]) -> Interval:
        return interval_of_mean([value for value in values if value is not None], self.seed, self.resamples)

    @property
    def name(self) -> str:
        """What its files are called."""
        return f"{self.store.removesuffix('.zarr')}-featdice-{self.protocol.label}"

    def as_json(self) -> dict[str, Any]:
        """All of it as JSON values. No paths: ids and checksums say which files it was."""
        return {
            "result": "featdice",
            "format": FORMAT,
            "featlift": featlift.__version__,
            "store": self.store,
            "recipe_sha256": sha256_of(self.recipe),
            "recipe": self.recipe,
            "protocol": self.protocol.as_json(),
            "bootstrap": {"interval": "95 % percentile, over cases", "seed": self.seed, "resamples": self.resamples},
            "mean": {name: asdict(interval) for name, interval in self.means.items()},
            "dice_of_labels": {str(label): asdict(interval) for label, interval in self.dice_of_labels.items()},
            "cases": [_as_json(case) for case in self.scored],
            "failed": {case.id: case.failure for case in self.cases if case.failure},
            "without_mask": self.without_mask,
        }

    def as_csv(self) -> str:
        """A row a case: ``id``, the scores, and the Dice of each label."""
        text = io.StringIO(newline="")
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["id", *MEASURES, *(f"dice_{label}" for label in self.labels)])
        for case in self.scored:
            dices = [case.labels[label].dice if label in case.labels else None for label in self.labels]
            writer.writerow([case.id, *(case.mean(name) for name in MEASURES), *dices])
        return text.getvalue()


def _as_json(case: CaseScores) -> dict[str, Any]:
    scores = {str(label): asdict(score) for label, score in case.labels.items()}
    return {
        "id": case.id,
        **{name: case.mean(name) for name in MEASURES},
        "labels": scores,
        "mask_sha256": case.mask_sha256,
    }


def write_result(result: Result, folder: str | Path) -> Path:
    """Write ``<name>.json`` and ``<name>.csv``, in the place of older ones.

    Returns:
        The path of the JSON file.

    Raises:
        OutputError: the folder cannot be written.
    """
    folder = Path(folder)
    document = json.dumps(result.as_json(), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    with as_output_error(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for suffix, text in ((".csv", result.as_csv()), (".json", document)):
            draft = folder / staging_name(f".{result.name}")
            draft.write_text(text, encoding="utf-8")
            draft.replace(folder / f"{result.name}{suffix}")
    return folder / f"{result.name}.json"


def read_result(path: str | Path) -> Result:
    """Read what `write_result` wrote.

    Raises:
        InputError: no such file.
        StoreError: it is no result of FeatDice, or one of a later format.
    """
    try:
        document = json.loads(Path(path).read_bytes())
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; `featlift featdice` makes one") from error
    except (OSError, ValueError) as error:
        raise StoreError(f"{path}: not a readable JSON file ({error})") from error
    if not isinstance(document, dict) or document.get("result") != "featdice":
        raise StoreError(f"{path}: not a result of `featlift featdice`")
    if document["format"] > FORMAT:
        raise StoreError(f"{path} has format {document['format']}, this featlift reads up to {FORMAT}: update it")
    cases = [
        CaseScores(
            case["id"],
            {int(label): Score(**score) for label, score in case["labels"].items()},
            case["mask_sha256"],
        )
        for case in document["cases"]
    ]
    cases += [CaseScores(case_id, failure=reason) for case_id, reason in document["failed"].items()]
    bootstrap = document["bootstrap"]
    return Result(
        document["store"],
        document["recipe"],
        Protocol(**document["protocol"]),
        cases,
        document["without_mask"],
        bootstrap["seed"],
        bootstrap["resamples"],
    )
