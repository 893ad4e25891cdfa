"""Ways in which a store can be damaged: by disks, by people, and by those who wish to do harm."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from featlift.store.layout import NAMESPACE, sha256_of

CASE = "b"  # the one that is damaged
_KEYS = {
    "the group": "zarr.json",
    "dense metadata": "dense/zarr.json",
    "dense": "dense/c/0/0/0/0",
    "a further layer": "layers/0/dense/c/0/0/0/0",
    "tokens": "tokens/c/0/0/0",
    "slice means": "slice_mean/c/0/0",
    "embedding metadata": "embedding/zarr.json",
    "embedding": "embedding/c/0",
    "scan metadata": "scan/zarr.json",
    "scan": "scan/c/0/0/0",
}
_NESTED = b"[" * 100_000


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def _replace(path: Path, make: Callable[[Path], object]) -> None:
    path.unlink()
    make(path)


_OF_A_FILE: dict[str, Callable[[Path], object]] = {
    "removed": Path.unlink,
    "emptied": lambda path: path.write_bytes(b""),
    "cut off": lambda path: path.write_bytes(path.read_bytes()[:-5]),
    "a bit flipped": _flip,
    "zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "a pipe": lambda path: _replace(path, os.mkfifo),
    "a device": lambda path: _replace(path, lambda place: place.symlink_to("/dev/zero")),
    "a folder": lambda path: _replace(path, Path.mkdir),
}


def _group(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    """Change our attributes of the volume and everything that would tell of it."""

    def damage(store: Path) -> None:
        path = store / "volumes" / CASE / "zarr.json"
        document = json.loads(path.read_bytes())
        ours = document["attributes"][NAMESPACE]
        del ours["metadata_sha256"]
        change(ours)
        with suppress(UnicodeEncodeError):  # of what nobody could have written
            ours["metadata_sha256"] = sha256_of(document)
        path.write_text(json.dumps(document))

    return damage


def _array(name: str, change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    """Change the metadata of an array and everything that would tell of it."""

    def damage(store: Path) -> None:
        path = store / "volumes" / CASE / name / "zarr.json"
        document = json.loads(path.read_bytes())
        change(document)
        path.write_text(json.dumps(document))
        now = {"bytes": path.stat().st_size, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
        _group(lambda ours: ours["keys"].update({f"{name}/zarr.json": now}))(store)

    return damage


def _shape(*sizes: int) -> Callable[[dict[str, Any]], object]:
    def change(document: dict[str, Any]) -> None:
        document["shape"] = list(sizes)
        document.get("chunk_grid", {}).get("configuration", {})["chunk_shape"] = [max(1, size) for size in sizes]

    return change


def _grid(**fields: object) -> Callable[[dict[str, Any]], object]:
    return lambda document: document["attributes"][NAMESPACE].update(fields)


def _swap(store: Path) -> None:
    a, b = store / "volumes/a", store / "volumes/b"
    a.rename(store / "volumes/aside")
    b.rename(a)
    (store / "volumes/aside").rename(b)


def _write(key: str, content: bytes) -> Callable[[Path], object]:
    return lambda store: (store / key).write_bytes(content)


def _at(key: str, damage: Callable[[Path], object]) -> Callable[[Path], object]:
    return lambda store: damage(store / key)


def _run(store: Path) -> Path:
    return next((store / "runs").glob("*.json"))


#: By what they do: of one file of a volume, of what it says, of the store around it.
CORRUPTIONS: dict[str, Callable[[Path], object]] = {
    **{
        f"{file}: {what}": _at(f"volumes/{CASE}/{key}", damage)
        for file, key in _KEYS.items()
        for what, damage in _OF_A_FILE.items()
        if (file, what) != ("the group", "removed")  # an object store calls it a volume on its way
    },
    "no metadata": _at(f"volumes/{CASE}/zarr.json", Path.unlink),
    "nested metadata": _write(f"volumes/{CASE}/zarr.json", _NESTED),
    "half a character": _group(lambda ours: ours["source"].update(name="\ud800")),
    "no attributes of ours": _write(f"volumes/{CASE}/zarr.json", b'{"zarr_format": 3, "node_type": "group"}'),
    "another id": _group(lambda ours: ours.update(id="c")),
    "no source": _group(lambda ours: ours.pop("source")),
    "a source that is no object": _group(lambda ours: ours.update(source=3)),
    "no keys": _group(lambda ours: ours.pop("keys")),
    "keys above": _group(lambda ours: ours["keys"].update({"../a/dense/zarr.json": {"bytes": 1, "sha256": ""}})),
    "keys of a size that is none": _group(lambda ours: ours["keys"].update({"dense/zarr.json": {"bytes": "x"}})),
    "a shape of two": _group(lambda ours: ours.update(shape=[3, 4])),
    "a shape of nothing": _group(lambda ours: ours.update(shape=[0, -1, 4])),
    "an affine of words": _group(lambda ours: ours.update(affine=["a"])),
    "an affine that is flat": _group(lambda ours: ours.update(affine=4 * [4 * [1.0]])),
    "a spacing of NaN": _group(lambda ours: ours.update(spacing=[float("nan")] * 3)),
    "windows that are none": _group(lambda ours: ours.update(windows=["soft"])),
    "kept what there is not": _group(lambda ours: ours.update(saved=["dense", "everything"])),
    "grids that are none": _group(lambda ours: ours.update(grids={"dense": 3})),
    "an embedding of terabytes": _array("embedding", _shape(10**12)),
    "dense features of terabytes": _array("dense", _shape(10**4, 10**4, 10**4, 10**4)),
    "a negative shape": _array("embedding", _shape(-32)),
    "an empty shape": _array("embedding", _shape(0)),
    "dense features of one axis": _array("dense", _shape(16)),
    "a stride of nothing": _array("dense", _grid(stride=[1, 0, 4])),
    "an offset of words": _array("dense", _grid(offset=["a", "b", "c"])),
    "more valid cells than cells": _array("dense", _grid(valid=[99, 99, 99])),
    "a layer that is no number": _array("dense", _grid(layer="last")),
    "parts beyond the embedding": _array("embedding", _grid(parts={"cls-mean": [0, 10**9]})),
    "codecs that do not exist": _array("dense", lambda document: document.update(codecs=[{"name": "magic"}])),
    "a type that does not exist": _array("dense", lambda document: document.update(data_type="float7")),
    "array metadata that are a list": _array("dense", lambda document: document.clear()),
    "swapped folders": _swap,
    "a folder removed": _at(f"volumes/{CASE}", shutil.rmtree),
    "a folder emptied": lambda store: (shutil.rmtree(store / "volumes" / CASE), (store / "volumes" / CASE).mkdir()),
    "a stray array": lambda store: shutil.copytree(store / "volumes/a/tokens", store / "volumes" / CASE / "more"),
    "a stray file": _write(f"volumes/{CASE}/notes.txt", b"look at this"),
    "no group of volumes": _at("volumes/zarr.json", Path.unlink),
    "a group of volumes that is none": _write("volumes/zarr.json", _NESTED),
    "index: a bit flipped": _at("index.parquet", _flip),
    "index: garbage": _write("index.parquet", b"PAR1" + 500 * b"x" + b"PAR1"),
    "index: a pipe": _at("index.parquet", _OF_A_FILE["a pipe"]),
    "index: a folder": _at("index.parquet", _OF_A_FILE["a folder"]),
    "index: removed": _at("index.parquet", Path.unlink),
    "run record: garbage": lambda store: _run(store).write_bytes(b"\x00\xff"),
    "run record: nested": lambda store: _run(store).write_bytes(_NESTED),
    "run record: a list": lambda store: _run(store).write_bytes(b"[]"),
    "run record: other fields": lambda store: _run(store).write_text('{"failures": [1], "volumes": 3, "started": 4}'),
    "run record: a pipe": lambda store: _replace(_run(store), os.mkfifo),
    "damage list: garbage": _write("damaged.json", b"\x00"),
    "damage list: a list": _write("damaged.json", b"[3]"),
    "damage list: numbers": _write("damaged.json", b'{"b": 3, "c": [4]}'),
    "damage list: nested": _write("damaged.json", _NESTED),
    "store: a bit flipped": _at("zarr.json", _flip),
    "store: nested": _write("zarr.json", _NESTED),
    "store: a pipe": _at("zarr.json", _OF_A_FILE["a pipe"]),
    "store: a recipe of numbers": lambda store: _recipe(store, {"model": 3, "mode": None, "layers": "all"}),
}


def _recipe(store: Path, recipe: dict[str, Any]) -> None:
    document = json.loads((store / "zarr.json").read_bytes())
    document["attributes"][NAMESPACE] |= {"recipe": recipe, "recipe_sha256": sha256_of(recipe)}
    (store / "zarr.json").write_text(json.dumps(document))
