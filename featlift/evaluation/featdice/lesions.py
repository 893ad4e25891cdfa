"""Which of the lesions of a mask a region was made for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from featlift.errors import VolumeError
from featlift.volumes.regions import centres_of_lesions
from featlift.volumes.volume import Volume

_SAME_PLACE = 1e-3  # mm


def lesion_at(mask: Volume, centre: Sequence[float]) -> Volume:
    """The mask without all lesions but one, a lesion being a connected piece (faces touch), as ``--roi masks`` has it.

    It is the one whose box has its centre there, as ``--roi masks`` makes regions; otherwise, for a point of a list,
    the one at that point, or nearest to it.

    Args:
        mask: on its own grid.
        centre: (x, y, z), LPS millimetres.

    Raises:
        VolumeError: the mask is empty, or does not say where it lies.
    """
    from scipy.ndimage import label

    pieces, count = label(mask.array > 0)
    if not count:
        raise VolumeError("not a mask: it is empty")
    away = np.linalg.norm(np.array(centres_of_lesions(mask)) - centre, axis=1)
    piece = int(away.argmin()) + 1
    if away.min() > _SAME_PLACE:
        assert mask.affine is not None  # or else it has no centres
        voxels = np.argwhere(pieces)
        places = voxels @ mask.affine[:3, :3].T + mask.affine[:3, 3]
        piece = int(pieces[tuple(voxels[np.square(places - centre).sum(axis=1).argmin()])])
    return replace(mask, array=np.where(pieces == piece, mask.array, 0))
