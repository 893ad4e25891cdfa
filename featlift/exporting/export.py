"""A store's features as files of other programs: one case after the other, each complete or absent."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from featlift.atomic_io import as_output_error, sync, sync_tree
from featlift.checksums import sha256_of_file
from featlift.errors import OptionError, OutputError, StoreError, VolumeError
from featlift.exporting.npy import write_about, write_npy
from featlift.exporting.picture import channels_of, coloured
from featlift.exporting.spec import PICTURES, ExportSpec
from featlift.names import file_names
from featlift.pictures.colours import Colours
from featlift.pictures.fitting import fit_colours
from featlift.staging import remove_abandoned_temporary, temporary_folder
from featlift.store.backends import backend_of
from featlift.store.case import Case
from featlift.store.layout import differing_fields
from featlift.store.reading import Store

_COLOURS, _RECORD = "colours.safetensors", "export.json"


@dataclass(frozen=True)
class Exported:
    """What became of a case.

    Attributes:
        id: case id.
        was_there: whether an earlier run had written its file.
        failure: why there is none; empty if there is.
    """

    id: str
    was_there: bool = False
    failure: str = ""


def export(
    store: Store, folder: Path, spec: ExportSpec, colours: Colours | None = None, cases: Sequence[str] = ()
) -> Iterator[Exported]:
    """Write a file for each case. What an earlier run wrote is kept, unless the case is newer.

    Args:
        store: with dense features.
        folder: for the files, their colours, and ``export.json``, which says what they hold.
        spec: what to write.
        colours: for what `wanted` colours; by default those that the folder was begun with, or new ones, fitted on the
            store.
        cases: ids; empty takes all.

    Yields:
        Each case in turn: written, kept, or failed.

    Raises:
        OptionError: a case, layer or channel that is not there, colours of other features, or a folder of other things.
        StoreError: the store keeps no dense features.
        OutputError: the folder cannot be written.
    """
    store.require("dense")
    store.require_cases(cases)
    layers = store.recipe["layers"]
    if spec.layer is not None and spec.layer not in layers:
        raise OptionError(f"layer {spec.layer}: {store.path} holds {', '.join(map(str, layers))}")
    if colours is not None and not spec.is_coloured:
        raise OptionError("--colours: npy and --channels hold features as they are, without colours")
    check_is_ours(folder)
    if spec.is_coloured:
        colours = colours or _colours(store, folder, spec)
        colours.check(store, spec.layer)
    with as_output_error(folder):
        _begin(store, folder, spec, colours)
    return _files(store, folder, spec, colours, cases or list(store))


def check_is_ours(folder: Path) -> None:
    """Refuse a folder of other things, such as the scans, which could be called as what is exported.

    Raises:
        OptionError: there are other things in it.
        OutputError: it is a file.
    """
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"cannot write {folder}: it is a file; give a folder with -o")
    if folder.exists() and not (folder / _RECORD).exists():
        remove_abandoned_temporary(folder)
        if {path.name for path in folder.iterdir()} - {_COLOURS}:  # a run that was killed may have left these
            raise OptionError(f"{folder} holds other things: give a new or an empty folder with -o")


def _colours(store: Store, folder: Path, spec: ExportSpec) -> Colours:
    if (folder / _COLOURS).exists():
        return Colours.read(folder / _COLOURS)
    return fit_colours([store], layer=spec.layer)


def _begin(store: Store, folder: Path, spec: ExportSpec, colours: Colours | None) -> None:
    """Record what the folder is for, or make sure that it is for just that."""
    folder.mkdir(parents=True, exist_ok=True)
    with temporary_folder(folder) as staging:
        record: dict[str, Any] = {
            "store": store.name,
            "recipe_sha256": store.attributes["recipe_sha256"],
            "to": spec.to,
            "layer": max(store.recipe["layers"]) if spec.layer is None else spec.layer,
            "channels": list(spec.channels),
            "on": spec.on,
        }
        if colours is not None:
            colours.write(staging / _COLOURS)
            record["colours_sha256"] = sha256_of_file(staging / _COLOURS)
        if (folder / _RECORD).exists():
            held = _record_in(folder)
            if differing := differing_fields(held, record, "there", "asked"):
                raise OptionError(f"{folder} holds another export, which differs in {'; '.join(differing)}: give -o")
            return
        (staging / _RECORD).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
        for draft in sorted(staging.iterdir()):  # the colours first
            sync(draft)
            draft.replace(folder / draft.name)


def _record_in(folder: Path) -> dict[str, Any]:
    try:
        record = json.loads((folder / _RECORD).read_bytes())
    except ValueError as error:
        raise OptionError(f"{folder / _RECORD} is damaged: give a new folder with -o") from error
    return record if isinstance(record, dict) else {}


def _files(
    store: Store, folder: Path, spec: ExportSpec, colours: Colours | None, cases: Sequence[str]
) -> Iterator[Exported]:
    published = backend_of(store.path).complete()  # when
    names = file_names(store)
    for case_id in cases:
        path = folder / f"{names[case_id]}{spec.ending}"
        if path.exists() and path.stat().st_mtime_ns > published.get(case_id, 0):
            yield Exported(case_id, was_there=True)
            continue
        try:
            with as_output_error(folder), temporary_folder(folder) as staging:
                _write(staging / path.name, store[case_id], spec, colours)
                _move(staging, path)
            yield Exported(case_id)
        except (StoreError, VolumeError) as error:
            yield Exported(case_id, failure=str(error))


def _write(path: Path, case: Case, spec: ExportSpec, colours: Colours | None) -> None:
    if spec.to == "npy":
        write_npy(path, case, spec.channels, spec.layer)
        write_about(path.with_suffix(".json"), case, spec.channels, spec.layer)
        return
    if colours is not None:
        picture = coloured(case, colours, spec.layer, spec.on)
    else:
        picture = channels_of(case, spec.channels, spec.layer, spec.on)
    PICTURES[spec.to][1](path, picture)


def _move(staging: Path, path: Path) -> None:
    """Put what was staged in its place, that which says that a case is complete last."""
    sync_tree(staging)
    if path.is_dir():  # an older one; a folder cannot be replaced in one step
        shutil.rmtree(path)
    for draft in sorted(staging.iterdir()):  # .json before .npy
        draft.replace(path.with_name(draft.name))
    sync(path.parent)
