"""Results as files: one envelope for every evaluation, so that a table can be made again without the features."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from featlift.atomic_io import write_atomically
from featlift.cards import card
from featlift.counting import number_of
from featlift.errors import InputError, StoreError
from featlift.metrics.bootstrap import Interval
from featlift.store.layout import Recipe, sha256_of
from featlift.version import __version__

FORMAT = 1


class Cases(Protocol):
    """What a result is of: a store, or other cases with a name and a recipe."""

    @property
    def name(self) -> str:
        """Of them, without folders."""

    @property
    def recipe(self) -> Recipe:
        """How their features are made."""

    def __iter__(self) -> Iterator[str]:
        """Ids of all cases."""


@dataclass(frozen=True)
class Measure:
    """One number of a result.

    Attributes:
        mean: over the cases, or of all of them together; over the seeds where there are several. None without cases.
        cases: how many it is of.
        sd: standard deviation over the seeds (n - 1), None for less than two.
        low: lower end of its 95 % bootstrap interval over cases, None where there is none.
        high: upper end.
        by_seed: its value for each seed, None for what knows no seeds.
    """

    mean: float | None
    cases: int
    sd: float | None = None
    low: float | None = None
    high: float | None = None
    by_seed: list[float] | None = None

    @classmethod
    def of(cls, interval: Interval) -> Measure:
        """A mean over cases."""
        return cls(interval.mean if interval.cases else None, interval.cases, None, interval.low, interval.high)


@dataclass(frozen=True)
class Result:
    """What an evaluation found, with all that its measures were made from.

    Attributes:
        kind: ``featdice``, ``knn``, ``probe``, ``dense-probe``, ``segment``, ``instances``, ``reconstruction``,
            or ``registration``, whose cases are pairs.
        name: what its files are called, see `name_of`.
        store: name of the store, without folders.
        recipe: of its features.
        protocol: how it was measured: ``name`` and every setting that decides a number.
        measures: what was found, by name.
        cases: one for each case that took part: ``id``, and the case's own value of a measure under its name. What has
            no value for a single case, as an AUC, is made from ``label`` and ``probabilities`` (seeds, classes). In a
            mean over tasks these two, and the ``classes`` of the details, are by task; what is not known is not there.
        task: the label column that was predicted; empty where masks are the truth.
        seeds: that trainings started from; empty where nothing is drawn.
        bootstrap: ``seed`` and ``resamples`` of the intervals.
        failed: why a case has no values, by id.
        left_out: ids of cases of the store without a mask or label.
        details: what else this kind has to tell, such as the names of classes.
    """

    kind: str
    name: str
    store: str
    recipe: Recipe
    protocol: dict[str, Any]
    measures: dict[str, Measure]
    cases: list[dict[str, Any]]
    task: str = ""
    seeds: list[int] = field(default_factory=list)
    bootstrap: dict[str, Any] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)
    details: dict[str, Any] = field(default_factory=dict)

    def with_label_names(self, names: Mapping[int, str]) -> Result:
        """The same, with the labels of masks called so; one of no masks is as it was."""
        called = {str(label): names[label] for label in self.details.get("labels", ()) if label in names}
        kept = self.details.get("label_names", {})
        return replace(self, details={**self.details, "label_names": kept | called}) if called else self

    def as_json(self) -> str:
        """All of it, a line for each case. No paths: ids and checksums say what it was made from."""
        rest = {
            name: value for name, value in vars(self).items() if name not in ("kind", "recipe", "measures", "cases")
        }
        head = {
            "result": self.kind,
            "format": FORMAT,
            "featlift": __version__,
            **rest,
            "recipe_sha256": sha256_of(self.recipe),
            "recipe": self.recipe,
            "measures": {name: asdict(measure) for name, measure in self.measures.items()},
        }
        text = json.dumps(head, indent=2, ensure_ascii=False, allow_nan=False).removesuffix("\n}")
        lines = [json.dumps(case, ensure_ascii=False, allow_nan=False) for case in self.cases]
        return text + ',\n  "cases": [\n    ' + ",\n    ".join(lines) + "\n  ]\n}\n"

    def _repr_html_(self) -> str:
        measures = {name: _said(measure) for name, measure in self.measures.items()}
        about = {"store": self.store, "task": self.task, "cases": len(self.cases), "failed": len(self.failed)}
        return card(f"{self.kind} {self.name}", measures | {name: value for name, value in about.items() if value})

    def as_csv(self) -> str:
        """A row a case: ``id``, ``label`` and ``split`` if it has them, then its values of the measures.

        Where there are probabilities, their means over the seeds stand instead, a column a class. In a mean over tasks
        each task has columns of its own.
        """
        rows = [_row(case, self.details.get("classes", [])) for case in self.cases]
        held = dict.fromkeys(name for row in rows for name in row)
        known = [name for name in ("id", "label", "split", *self.measures) if name in held]
        of_classes = [name for name in held if name.startswith(("label_", "probability_"))]
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, [*known, *of_classes], extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        return text.getvalue()


def _said(measure: Measure) -> str:
    """A number with its interval, as people write it."""
    if measure.mean is None:
        return "none"
    interval = "" if measure.low is None else f" ({measure.low:.3f} to {measure.high:.3f})"
    return f"{measure.mean:.3f}{interval}, {number_of(measure.cases, 'case')}"


def _row(case: dict[str, Any], classes: list[str] | dict[str, list[str]]) -> dict[str, Any]:
    """The columns of a case: what stands in it, with a column for each class, and in a mean for each task."""
    if "probabilities" not in case:
        return case
    if not isinstance(classes, dict):
        return case | _means("probability", classes, case["probabilities"])
    row = {"id": case["id"], "split": case["split"]}
    for task, names in classes.items():
        row[f"label_{task}"] = case["label"].get(task)
        row |= _means(f"probability_{task}", names, case["probabilities"].get(task, []))
    return row


def _means(name: str, classes: list[str], by_seed: list[list[float]]) -> dict[str, float | None]:
    columns = [f"{name}_{one}" for one in classes]
    if not by_seed:
        return dict.fromkeys(columns)
    return {
        column: sum(values) / len(values) for column, values in zip(columns, zip(*by_seed, strict=True), strict=True)
    }


def name_of(store: str, *parts: str) -> str:
    """A name for the files of a result: its store, then what was done, with - for what a path could not hold."""
    words = [store.removesuffix(".zarr"), *(part for part in parts if part)]
    return re.sub(r"[^\w.+-]+", "-", "-".join(words))


def write_result(result: Result, folder: str | Path) -> Path:
    """Write ``<name>.json`` and ``<name>.csv``, in the place of older ones.

    Returns:
        The path of the JSON file.

    Raises:
        OutputError: the folder cannot be written.
    """
    folder = Path(folder)
    for suffix, text in ((".csv", result.as_csv()), (".json", result.as_json())):
        write = partial(Path.write_text, data=text, encoding="utf-8")
        write_atomically(folder / f"{result.name}{suffix}", write)
    return folder / f"{result.name}.json"


def read_result(path: str | Path) -> Result:
    """Read what `write_result` wrote.

    Raises:
        InputError: no such file.
        StoreError: it is no result, or one of a later format.
    """
    try:
        document = json.loads(Path(path).read_bytes())
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; `featlift featdice`, `knn` and `probe` make results") from error
    except (OSError, ValueError) as error:
        raise StoreError(f"{path}: not a readable JSON file ({error})") from error
    if not isinstance(document, dict) or not {"result", "format"} <= document.keys():
        raise StoreError(f"{path}: not a result of featlift")
    if not isinstance(document["format"], int) or document["format"] > FORMAT:
        raise StoreError(f"{path} has format {document['format']}, this featlift reads up to {FORMAT}: update it")
    try:
        return result_of(document)
    except (LookupError, TypeError, AttributeError) as error:
        raise StoreError(f"{path}: a result with a part missing or too many ({error})") from error


def result_of(document: Mapping[str, Any]) -> Result:
    """The result that `Result.as_json` wrote.

    Raises:
        LookupError, TypeError, AttributeError: a part is missing, or too many.
    """
    rest = {name: value for name, value in document.items() if name not in ("format", "featlift", "recipe_sha256")}
    measures = {name: Measure(**values) for name, values in rest.pop("measures").items()}
    return Result(rest.pop("result"), measures=measures, **rest)


def read_results(paths: Sequence[str | Path]) -> list[Result]:
    """`read_result` of several files, and of every result in the folders among them, by name."""
    files = [file for path in map(Path, paths) for file in (sorted(path.glob("*.json")) if path.is_dir() else [path])]
    return [read_result(file) for file in files]
