"""What can be known of an image before its voxels are read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from numpy.typing import NDArray

from featlift.volumes.grid import Shape
from featlift.volumes.volume import Affine


@dataclass(frozen=True, eq=False)
class Image:
    """An image whose header was read, and whose voxels can be.

    Attributes:
        shape: (D, H, W), the fastest axis of the file last.
        load: reads the voxels of one frame, ``(D, H, W)``, in the units of the file: of the type they are stored as,
            which holds ids of any size exactly, or float32 where they are computed from what is stored.
        affine: 4x4, maps indices ``(d, h, w, 1)`` to LPS millimetres; None where the file does not say.
        frames: how many volumes of this shape there are: time points, phases, echoes, sequences.
        modality: ``CT``, ``MR``, ... if the file says.
        notes: what was done to read it that changes what is seen, as JSON values; kept with the volume's features.
    """

    shape: Shape
    load: Callable[[int], NDArray[Any]]
    affine: Affine | None = None
    frames: int = 1
    modality: str | None = None
    notes: dict[str, Any] = field(default_factory=dict)


def once(load: Callable[[], NDArray[Any]], frames: int) -> Callable[[], NDArray[Any]]:
    """`load`, which decodes all frames of a compressed file, remembering them for the next ones if there are any."""
    return cache(load) if frames > 1 else load
