"""How much of a volume's other planes a layer has seen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from featlift.backbones.catalogue import CATALOGUE

_TRANSFORMERS = ("VisionTransformer", "Eva")


def foreign_blocks(values: Mapping[str, Any], layer: int) -> tuple[str, int] | None:
    """The plane in which the block of a layer works, and how many blocks so far did in foreign planes.

    Args:
        values: ``model``, ``mode`` and, of ``pcg`` and ``pcm``, ``cycle``.
        layer: absolute index.

    Returns:
        None of networks that are no transformers of the catalogue, whose layers are no blocks, and of mode 3d.
    """
    entry = CATALOGUE.get(str(values.get("model")))
    mode, cycle = values.get("mode"), values.get("cycle")
    if entry is None or entry.family not in _TRANSFORMERS or mode == "3d":
        return None
    if mode == "2d" or not cycle:
        return "HW", 0
    planes = [cycle[block % len(cycle)] for block in range(layer + 1)]
    return planes[-1], sum(plane != "HW" for plane in planes)
