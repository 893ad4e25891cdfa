"""Segmentations of 3D Slicer (.seg.nrrd), and NRRD files with several values a voxel.

Every segment is a value in a layer; segments that overlap lie in several layers. Before Slicer 4.11 each had a layer of
its own. https://slicer.readthedocs.io/en/latest/developer_guide/modules/segmentations.html
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from featlift.volumes.formats.nrrd import open_layers
from featlift.volumes.image import Image
from featlift.volumes.merging import merged

_SEGMENT = re.compile(r"Segment(\d+)_(Name|LabelValue|Layer):=(.*)")


@dataclass(frozen=True)
class Segment:
    """A segment: its name, its value, and the layer that has it."""

    name: str
    value: int
    layer: int


def segments_in(path: Path) -> list[Segment]:
    """The segments that the header of a NRRD file names; none if it is no segmentation of 3D Slicer."""
    parts: dict[int, dict[str, str]] = {}
    with path.open("rb") as file:
        for line in file:
            text = line.decode("utf-8", "replace").strip()
            if not text:
                break
            if found := _SEGMENT.fullmatch(text):
                parts.setdefault(int(found[1]), {})[found[2]] = found[3].strip()
    is_old = not any("LabelValue" in part for part in parts.values())
    segments = []
    for number, part in sorted(parts.items()):
        value, layer = ("1", str(number)) if is_old else (part.get("LabelValue", ""), part.get("Layer", "0"))
        if part.get("Name") and value.isdigit() and layer.isdigit():
            segments.append(Segment(part["Name"], int(value), int(layer)))
    return segments


def open_segments(path: Path, segments: Sequence[Segment], labels: dict[str, int]) -> Image:
    """The segments that have a label by their name, as one image of labels."""
    layers = open_layers(path)

    def load(frame: int) -> NDArray[Any]:
        chosen = [one for one in segments if one.name in labels and one.layer < layers.frames]
        return merged(layers.shape, ((labels[one.name], layers.load(one.layer) == one.value) for one in chosen))

    return Image(layers.shape, load, layers.affine)
