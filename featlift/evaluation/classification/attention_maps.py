"""What attention looks at, as volumes in the space of the scan."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from featlift.atomic_io import write_atomically
from featlift.evaluation.classification.bags import PATCHES
from featlift.evaluation.classification.gated import Explained
from featlift.store.case import CaseLayer
from featlift.volumes.grid import Shape
from featlift.volumes.nifti import write_nifti

Map = NDArray[np.float32]


def maps_of(explained: Explained, finding: int | None = None) -> dict[str, Map]:
    """Attention, scores and logits of the instances of a bag, each ``(M,)``.

    Logits are log-odds as if the instance were the whole bag: of a finding; of the second of two classes; or of the
    class that is predicted, among more.

    Args:
        explained: of one head.
        finding: its column; None where classes were learned.
    """
    logits = explained.logits
    column = finding or 0
    if finding is not None:
        odds = logits[:, finding]
    else:
        of_bag = explained.attention[:, 0] @ logits
        shown = 1 if len(of_bag) == 2 else int(of_bag.argmax())
        others = torch.arange(len(of_bag)) != shown
        odds = logits[:, shown] - logits[:, others].logsumexp(dim=1)
    maps = {"attention": explained.attention[:, column], "scores": explained.scores[:, column], "logits": odds}
    return {name: values.numpy() for name, values in maps.items()}


def write_attention(folder: Path, name: str, layer: CaseLayer, kinds: Sequence[str], maps: Mapping[str, Map]) -> None:
    """Write ``<name>_<map>.nii.gz`` for each map of a case, a voxel for each cell of its layer, by the cells' affine.

    What belongs to a slice is the same at all its cells. Bags of slices and cells have a folder ``slices`` and one
    ``patches``.

    Args:
        folder: made if it is missing.
        name: of the case, see `featlift.names.file_names`.
        layer: whose cells they are; its features need not be kept.
        kinds: what is in the bag, see `kinds_of`.
        maps: a number for each instance of the bag, ``(M,)``, by the name of the map.

    Raises:
        OutputError: the folder cannot be written.
    """
    for map_name, values in maps.items():
        for part, volume in _volumes(values, kinds, layer.valid_cells):
            place = folder if len(kinds) == 1 else folder / part
            write = partial(write_nifti, array=volume, affine=layer.affine)
            write_atomically(place / f"{name}_{map_name}.nii.gz", write)


def _volumes(values: Map, kinds: Sequence[str], cells: Shape) -> Iterator[tuple[str, Map]]:
    """The numbers of each kind of instance on the grid of cells, in the order in which bags are read."""
    for kind in kinds:
        shape = cells if kind == PATCHES else (cells[0], 1, 1)
        own, values = np.split(values, [math.prod(shape)])
        yield PATCHES if kind == PATCHES else "slices", np.array(np.broadcast_to(own.reshape(shape), cells))
