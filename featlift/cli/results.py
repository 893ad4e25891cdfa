"""What the commands that measure share: stores in, tables and files out."""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

import typer

from featlift.cli.options import human_seconds
from featlift.errors import OptionError
from featlift.progress import Progress

if TYPE_CHECKING:
    from featlift.evaluation import Result, Task
    from featlift.pictures.instances import InstanceFiles
    from featlift.store import Store
    from featlift.volumes.label_names import Names
    from featlift.volumes.source import MaskFile

_LISTED = 5
_COARSE = 16  # cells of the longer side of a slice, of which fewer make a blur
_SILENCE = 30.0  # seconds, after which a log is told how long it will take


def opened_embeddings(path: str) -> Store:
    """Open a store, or a file of vectors that another program made."""
    from featlift.store import open_store
    from featlift.store.vectors import SUFFIXES, VectorTable

    return VectorTable(path) if path.endswith(SUFFIXES) else open_store(path)


def opened(paths: Sequence[str], vectors: bool = False) -> list[Store]:
    """Open stores whose results are to lie side by side; with `vectors` also files of vectors."""
    from featlift.store import open_store

    stores = [opened_embeddings(path) if vectors else open_store(path) for path in paths]
    if len({store.name for store in stores}) < len(stores):
        raise OptionError("two stores of one name, and results are called after stores: rename one")
    return stores


def chosen_cases(
    stores: Sequence[Store], wanted: Sequence[str] | None, limit: int, among: Container[str] | None = None
) -> list[str]:
    """The cases asked for, or else of those that every store has so many, evenly spaced; 0 takes all.

    Args:
        stores: side by side.
        wanted: ids that were asked for.
        limit: how many.
        among: ids that alone are taken where none were asked for; None takes any.
    """
    from featlift.sample import evenly_spaced

    if wanted:
        return list(dict.fromkeys(wanted))
    shared = [case_id for case_id in stores[0] if all(case_id in store for store in stores)]
    if among is not None:
        shared = [case_id for case_id in shared if case_id in among]
    if not shared:
        raise OptionError(f"{', '.join(str(store.path) for store in stores)}: no case is in all of them")
    chosen = evenly_spaced(shared, limit or len(shared))
    if len(chosen) < len(shared):
        shown = f"{len(chosen)} of {len(shared)} cases, evenly spaced"
        typer.echo(f"featlift: {shown}; --limit 0 shows all, --case others", err=True)
    return chosen


def found_masks(
    ids: Iterable[str], masks: str, pattern: str | None, label_names: str | None = None
) -> tuple[dict[str, MaskFile], Names]:
    """The mask of each case that has one, and the names of labels: as given, or as the masks themselves say."""
    from featlift.volumes import find_masks
    from featlift.volumes.label_names import label_names as read_names
    from featlift.volumes.label_names import names_in

    given = read_names(label_names) if label_names else None
    pairs = find_masks(ids, masks, pattern, given)
    return pairs, names_in(pairs.values()) if given is None else given


def masks_of(
    store: Store, ids: Sequence[str], masks: str | None, pattern: str | None, label_names: str | None = None
) -> tuple[dict[str, MaskFile], Names]:
    """`found_masks` of a store, after saying which of the cases to be shown have none."""
    if masks is None:
        if option := "--mask-pattern" if pattern else "--label-names" if label_names else "":
            raise OptionError(f"{option}: say with --masks where the masks are")
        return {}, {}
    pairs, names = found_masks(store, masks, pattern, label_names)
    if without := [case_id for case_id in ids if case_id not in pairs]:
        typer.echo(f"featlift: {len(without)} of {len(ids)} cases have no mask: {some(without)}", err=True)
    return pairs, names


def instances_of(store: Store, ids: Sequence[str], found: str | None, truth: str | None) -> dict[str, InstanceFiles]:
    """The masks of the objects of each case, with those of the true ones where there are any."""
    from featlift.pictures.instances import InstanceFiles

    if found is None and truth is not None:
        raise OptionError("--true-instances: say with --instances where the objects are that are compared with them")
    pairs, _ = masks_of(store, ids, found, None)
    truths, _ = masks_of(store, list(pairs), truth, None)
    return {case_id: InstanceFiles(mask, truths.get(case_id)) for case_id, mask in pairs.items()}


def print_coarse(stores: Sequence[Store], case_id: str, layer: int | None) -> None:
    """Say of features with few cells what would make a picture of them."""
    from featlift.store.features import grid_of, layer_of

    for store in stores:
        case = store[case_id]
        grid = grid_of(case, layer_of(case, layer))
        if store.recipe["mode"] != "native" and max(grid.cells[1:]) < _COARSE:
            rows, columns = grid.cells[1:]
            size = round(2 * _COARSE * max(grid.stride[1:]))
            finer = f"for a finer picture extract with --size {size} or --magnify 2"
            typer.echo(f"featlift: {store.name}: {rows} x {columns} cells: {finer}", err=True)


def tasks_of(store: Store, labels: Path | None, columns: Sequence[str]) -> list[Task]:
    """The labels of a store, after saying which cases have none."""
    from featlift.evaluation import read_labels

    tasks = read_labels(store, labels, columns)
    for task in tasks:
        held = set(task.ids)
        if without := [case_id for case_id in store if case_id not in held]:
            count = f"{len(without)} of {len(store)} cases"
            typer.echo(f"featlift: {store.path}: {count} take no part in {task.name}: {some(without)}", err=True)
    return tasks


def written(results: Iterable[Result], output: Path) -> list[Result]:
    """Write each result as it comes, and say where."""
    from featlift.evaluation import write_result

    done = []
    for result in results:
        typer.echo(f"{result.store}: {write_result(result, output)}", err=True)
        done.append(result)
    return done


def intervals(results: Sequence[Result]) -> str:
    """What the line above a table says of its intervals."""
    from featlift.metrics.bootstrap import LEAST_CASES

    if all(len(result.cases) < LEAST_CASES for result in results):
        return f"no 95 % intervals of fewer than {LEAST_CASES} cases"
    return "95 % intervals by bootstrap over cases"


def some(ids: Sequence[str]) -> str:
    """The first few of many."""
    return ", ".join(ids[:_LISTED]) + (f" and {len(ids) - _LISTED} more" if len(ids) > _LISTED else "")


def print_failures(failed: Sequence[tuple[str, str, str]]) -> None:
    """As `extract` does: store, case and reason of each in a table at the end, exit code 1."""
    if not failed:
        return
    told = [(store, case_id, reason.removeprefix(f"case {case_id}: ")) for store, case_id, reason in failed]
    rows = [("store", "case", "reason"), *told]
    stores, cases, _ = (max(map(len, column)) for column in zip(*rows, strict=True))
    typer.echo("", err=True)
    for store, case_id, reason in rows:
        typer.echo(f"{store:<{stores}}  {case_id:<{cases}}  {reason}", err=True)
    raise typer.Exit(1)


def print_missing_distances(name: str, result: Result) -> None:
    """Say of how many cases a result has no HD95 and ASD."""
    if (missing := len(result.cases) - result.measures["hd95"].cases) > 0:
        count = f"{missing} of {len(result.cases)} cases"
        why = "a label was not predicted, or the geometry is unknown"
        typer.echo(f"featlift: {name}: {count} have no HD95 and ASD: {why}", err=True)


def bars(name: str) -> Progress:
    """A progress bar for each thing that is being done; in a log, one line for what takes long, with an estimate."""
    from tqdm import tqdm

    shown: dict[str, tqdm[object]] = {}
    since: dict[str, tuple[float, int]] = {}  # when and at which step something began that goes on without a bar

    def tell(what: str, done: int, total: int) -> None:
        if what not in shown:
            shown[what] = tqdm(total=total, initial=done - 1, disable=None, desc=f"{name}: {what}")
            since[what] = (monotonic(), done)
        bar = shown[what]
        bar.update(1)
        began, first = since.get(what, (monotonic(), done))
        if bar.disable and first < done < total and (passed := monotonic() - began) > _SILENCE:
            left = human_seconds(passed / (done - first) * (total - done))
            typer.echo(f"featlift: {name}: {what}: {done:,} of {total:,}, about {left} left", err=True)
            del since[what]
        if done == total:  # what is done again later has a bar of its own
            bar.close()
            del shown[what]

    return tell
