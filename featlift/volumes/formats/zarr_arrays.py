"""Zarr and OME-Zarr arrays."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featlift.errors import VolumeError
from featlift.volumes.formats.arrays import chosen, cremi_affine, index_of_frame
from featlift.volumes.formats.voxels import frames_and_shape, numbers, one_line, parsing
from featlift.volumes.image import Image
from featlift.volumes.volume import Affine

_MILLIMETRES = {"meter": 1000.0, "centimeter": 10.0, "millimeter": 1.0, "micrometer": 1e-3, "nanometer": 1e-6}
_BLOSC_HEADER = 16  # bytes, the last four of them the length of the chunk
_LPS = {"x": 0, "y": 1, "z": 2}
#: The axis of the patient that OME-Zarr's anatomical orientations (RFC-4) follow, and whether along LPS or against it.
_ORIENTATIONS = {
    "right-to-left": (0, 1),
    "left-to-right": (0, -1),
    "anterior-to-posterior": (1, 1),
    "posterior-to-anterior": (1, -1),
    "inferior-to-superior": (2, 1),
    "superior-to-inferior": (2, -1),
}


def open_zarr(path: Path, key: str | None = None) -> Image:
    """Open a Zarr array, or a level of an OME-Zarr image (0.4 or 0.5), the finest if none is named.

    OME-Zarr places an image by scale and translation along x, y and z, which are taken as LPS unless its axes name
    their anatomical orientation. Arrays laid out as CREMI's are lie by their resolution; others have no geometry.
    """
    import zarr

    with parsing("Zarr"):
        try:
            array = zarr.open(path, mode="r")
        except FileNotFoundError as error:  # zarr's own, of a folder without metadata
            raise VolumeError("no Zarr array or group: no zarr.json, .zarray or .zgroup in it") from error
        folder, affine = path, None
        if isinstance(array, zarr.Group):
            group = array
            name = chosen(key or next(iter(_levels(group)), None), _shapes(path), "--key NAME")
            folder, affine = path / name, _affine_of(group, name)
            array = zarr.open(folder, mode="r")
            affine = cremi_affine(name, array.attrs) if affine is None else affine
        elif key:
            raise VolumeError(f"no array {key!r} in it: it is an array itself")
        assert isinstance(array, zarr.Array)
        voxels = array
        frames, shape = frames_and_shape(voxels.shape)
        numbers(voxels.dtype)

    def load(frame: int) -> NDArray[Any]:
        if voxels.shards is None and any(type(codec).__name__.startswith("Blosc") for codec in voxels.compressors):
            _check_blosc(folder)
        try:
            return np.asarray(voxels[index_of_frame(frame, voxels.shape)])
        except (OSError, MemoryError):
            raise
        except Exception as error:  # zarr's codecs raise many kinds on damaged chunks
            raise VolumeError(f"damaged Zarr chunk ({one_line(error)}): copy it again") from error

    return Image(shape, load, affine, frames)


def _shapes(root: Path) -> dict[str, tuple[int, ...]]:
    """Shapes of all arrays below a group, as each says itself.

    Not through the group, which leaves out damaged ones and prints so, as it does of every stray file.
    """
    import zarr

    folders = sorted({file.parent for name in ("zarr.json", ".zarray") for file in root.rglob(name)} - {root})
    nodes = {folder.relative_to(root).as_posix(): zarr.open(folder, mode="r") for folder in folders}
    return {name: node.shape for name, node in nodes.items() if isinstance(node, zarr.Array)}


def _check_blosc(folder: Path) -> None:
    """Refuse chunks that are shorter than they say: numcodecs reads beyond their end and crashes (its issue 228)."""
    for file in folder.rglob("*"):
        if file.is_file() and file.name != "zarr.json" and not file.name.startswith("."):
            with file.open("rb") as chunk:
                start = chunk.read(_BLOSC_HEADER)
            if len(start) < _BLOSC_HEADER or int.from_bytes(start[12:], "little") > file.stat().st_size:
                raise VolumeError(f"damaged Zarr chunk ({file.relative_to(folder).as_posix()}): copy it again")


def _affine_of(root: Any, name: str) -> Affine | None:
    """Where an array lies: in the words of the first group above it that has it as a level of an image."""
    parts = name.split("/")
    for depth in range(len(parts)):
        levels = _levels(root["/".join(parts[:depth])] if depth else root)
        if (level := "/".join(parts[depth:])) in levels:
            return levels[level]
    return None


def _levels(group: Any) -> dict[str, Affine]:
    """The affine of each level of the image in a group, by its path there, the finest first; none if it is no image."""
    attributes: dict[str, Any] = dict(group.attrs)
    images = attributes.get("ome", attributes).get("multiscales")
    if not images:
        return {}
    axes, common = images[0]["axes"], images[0].get("coordinateTransformations", [])
    space = [number for number, axis in enumerate(axes) if axis.get("type") == "space"]
    if [axes[number]["name"] for number in space] != ["z", "y", "x"] or space[0] != len(axes) - 3:
        raise VolumeError(f"its axes are {', '.join(axis['name'] for axis in axes)}: the last three must be z, y, x")
    levels = images[0]["datasets"]
    if len({level["path"] for level in levels}) < len(levels):
        raise VolumeError("levels of one path, so its metadata are damaged: copy it again")
    return {
        level["path"]: _affine(
            axes[-3:], [_last_three(each) for each in [*level["coordinateTransformations"], *common]]
        )
        for level in levels
    }


def _last_three(transform: dict[str, Any]) -> tuple[str, NDArray[np.float64]]:
    kind = transform["type"]
    if kind not in ("identity", "scale", "translation"):
        shown = str(kind)[:40]
        raise VolumeError(f"a coordinate transformation of type {shown!r}: OME-Zarr 0.5 has scale and translation")
    return kind, np.array(transform[kind][-3:] if kind != "identity" else (), dtype=np.float64)


def _affine(axes: Sequence[dict[str, Any]], transforms: Sequence[tuple[str, NDArray[np.float64]]]) -> Affine:
    """Scales and translations along z, y and x, one after the other, as an affine to LPS millimetres."""
    scale, offset = np.ones(3), np.zeros(3)
    for kind, values in transforms:
        if kind == "scale":
            scale, offset = scale * values, offset * values
        elif kind == "translation":
            offset = offset + values
    affine = np.zeros((4, 4))
    affine[3, 3] = 1
    for number, axis in enumerate(axes):
        row, sign = _ORIENTATIONS.get(axis.get("orientation", {}).get("value"), (_LPS[axis["name"]], 1))
        unit = _MILLIMETRES.get(axis.get("unit", "millimeter"), 1.0)
        affine[row, number] = sign * unit * scale[number]
        affine[row, 3] = sign * unit * offset[number]
    return affine
