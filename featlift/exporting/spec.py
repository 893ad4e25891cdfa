"""What is exported of every case, and what its files are called."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from featlift.errors import OptionError
from featlift.exporting.nifti import write_picture
from featlift.exporting.nrrd import pynrrd, write_nrrd
from featlift.exporting.ome_zarr import write_ome_zarr
from featlift.exporting.picture import Grid, Picture

Format = Literal["nifti", "nrrd", "ome-zarr", "npy"]

#: The formats of pictures: how their files end, and what writes one.
PICTURES: dict[str, tuple[str, Callable[[Path, Picture], None]]] = {
    "nifti": (".nii.gz", write_picture),
    "nrrd": (".nrrd", write_nrrd),
    "ome-zarr": (".ome.zarr", write_ome_zarr),
}


@dataclass(frozen=True)
class ExportSpec:
    """What is exported of every case.

    Attributes:
        to: the format.
        channels: their numbers; empty takes colours, or with ``npy`` every channel.
        layer: absolute index; None is the deepest.
        on: the grid of pictures: voxels of the ``scan`` as the store keeps it, or feature ``cells``.

    Raises:
        OptionError: no such format or grid, options that do not go together, or a package that is missing.
    """

    to: Format
    channels: tuple[int, ...] = ()
    layer: int | None = None
    on: Grid = "scan"

    def __post_init__(self) -> None:
        if self.to not in get_args(Format):
            raise OptionError(f"--to {self.to}: choose {', '.join(get_args(Format))} or parquet")
        if self.on not in get_args(Grid):
            raise OptionError(f"--on {self.on}: choose {' or '.join(get_args(Grid))}")
        if len(set(self.channels)) < len(self.channels):
            raise OptionError(f"--channels {','.join(map(str, self.channels))}: a channel stands in it twice")
        if self.to == "ome-zarr" and self.channels:
            raise OptionError("--channels: ome-zarr is for colours; the store itself opens as OME-Zarr of all channels")
        if self.to == "nrrd":
            pynrrd()

    @property
    def is_coloured(self) -> bool:
        """Whether colours are needed."""
        return self.to != "npy" and not self.channels

    @property
    def ending(self) -> str:
        """What follows the id of a case in the name of its file."""
        if self.to == "npy":
            return "__features.npy"
        return f"__{'colours' if self.is_coloured else 'channels'}{PICTURES[self.to][0]}"
