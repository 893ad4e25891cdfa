"""`embed`: what `featlift embed` does, from Python."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from featlift.atomic_io import check_writable
from featlift.cohort import CohortProgress, Extracted, extract_scans, find_cohort
from featlift.config import ExtractConfig
from featlift.embedding.choosing import choose
from featlift.errors import OptionError
from featlift.exporting import ExportSpec, check_is_ours, export, write_npz, write_parquet
from featlift.processes import cores
from featlift.remote import Remote
from featlift.staging import temporary_folder
from featlift.store import Store, open_store
from featlift.store.contents import check_store, is_empty
from featlift.store.layout import saved_in

DenseFormat = Literal["nifti", "npy"]

#: How files of vectors end.
SUFFIXES = (".parquet", ".npz")


@dataclass(frozen=True)
class Embedded:
    """What became of the scans.

    Attributes:
        extracted: what `featlift.extract_cohort` says of them.
        vectors: how many the file holds; 0 if none was written.
        failed: why a scan has no vector or no dense features, by id.
    """

    extracted: Extracted
    vectors: int
    failed: dict[str, str]


def embed(
    inputs: str | Path | Sequence[str | Path],
    output: str | Path,
    *,
    store: str | Path | Remote | None = None,
    preset: str | None = None,
    dense: str | Path | None = None,
    dense_as: DenseFormat = "nifti",
    model: str | None = None,
    weights: str | None = None,
    progress: CohortProgress | None = None,
    notify: Callable[[str], object] | None = None,
    **running: Any,
) -> Embedded:
    """Write a vector a scan, with the preset that fits the scans and the network at hand; see docs/how-to/embed.md.

    Args:
        inputs: scans, folders that are searched for scans, manifests, or their URLs.
        output: the file of vectors: .parquet, which `knn`, `probe` and `retrieve` take, or .npz.
        store: a store to keep; the same call goes on with it. None takes a temporary one.
        preset: its name; None goes by the scans.
        dense: a folder for the dense features on the grid of their cells.
        dense_as: ``nifti``, all channels in one file of four axes, or ``npy``.
        model: a 2D network by name; None takes the best whose weights are here.
        weights: its file.
        progress: see `featlift.extract_cohort`.
        notify: is told what was chosen, and what else one wants to know, a line each.
        **running: options of the run by name, such as ``device="cpu", workers=2``.

    Raises:
        InputError: no such input, no scan, or none that can be read.
        OptionError: scans that look different, and what makes no sense.
        WeightsError: no network is at hand.
        StoreError: something else is at `store`, or a store of another recipe.
        OutputError: a file cannot be written.
    """
    output, dense = Path(output), None if dense is None else Path(dense)
    notify = notify or (lambda line: None)
    _check_places(output, dense, resumes=store is not None)
    base = ExtractConfig().with_values(running)
    found = find_cohort(inputs, base, notify)
    workers = base.running.workers
    choice = choose(found.scans, preset, model, weights, cores() if workers is None else workers, notify)
    for line in choice.told():
        notify(f"featlift: {line}")
    with _at(store, output) as place:
        config = choice.config.with_values({**running, "save": _kept(place, dense is not None)})
        extracted = extract_scans(found, place, config, progress=progress, notify=notify)
        failed = dict(extracted.failed)
        ids: list[str] = []
        if not is_empty(place):
            opened = open_store(place)
            ids = [scan.id for scan in found.scans if scan.id in opened]
        if ids:
            (write_npz if output.suffix == ".npz" else write_parquet)(opened, output, ids)
        if ids and dense is not None:
            failed |= dict(_export(opened, dense, dense_as, ids))
    return Embedded(extracted, len(ids), failed)


def _check_places(output: Path, dense: Path | None, resumes: bool) -> None:
    """Refuse places that cannot be written before anything is computed."""
    if output.suffix not in SUFFIXES:
        raise OptionError(f"-o {output}: give a file that ends in {' or '.join(SUFFIXES)}")
    check_writable(output.parent)
    if dense is None:
        return
    check_is_ours(dense)
    if not resumes and dense.is_dir() and any(dense.iterdir()):
        raise OptionError(f"--dense {dense}: it holds an export; give a new folder, or --store to go on with one")
    check_writable(dense)


@contextmanager
def _at(store: str | Path | Remote | None, output: Path) -> Iterator[str | Path | Remote]:
    """The store, or a temporary one on the disk of the output."""
    if store is not None:
        yield store
        return
    output.parent.mkdir(parents=True, exist_ok=True)
    with temporary_folder(output.parent) as folder:
        yield folder / "store"


def _kept(store: str | Path | Remote, dense: bool) -> tuple[str, ...]:
    """What the store keeps: what is asked for, or what it was begun with if that is more."""
    wanted = ("dense", "embedding") if dense else ("embedding",)
    if is_empty(store):
        return wanted
    held = tuple(saved_in(check_store(store)["recipe"]))
    if missing := [name for name in wanted if name not in held]:
        raise OptionError(f"{store} was begun without {missing[0]}: give another --store")
    return held


def _export(store: Store, folder: Path, to: DenseFormat, ids: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Write dense features; yields id and reason of those that failed."""
    channels = range(store[ids[0]].dense.shape[0]) if to == "nifti" else ()
    spec = ExportSpec(to, tuple(channels), on="cells")
    for each in export(store, folder, spec, cases=ids):
        if each.failure:
            yield each.id, each.failure
