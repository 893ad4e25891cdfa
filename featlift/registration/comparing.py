"""What two scans that lie on one grid are compared by."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from featlift.registration.body import of_cells
from featlift.registration.features import (
    Bodies,
    Pair,
    at_typical_distance,
    on_common_grid,
    principal_features,
    side_by_side,
    within_bodies,
)
from featlift.registration.mind import CHANNELS, mind
from featlift.registration.settings import PairSettings
from featlift.store.case import CaseLayer
from featlift.volumes.grid import Shape
from featlift.volumes.volume import Affine


def compared(
    fixed: NDArray[np.float32],
    moving: NDArray[np.float32],
    layers: tuple[CaseLayer, CaseLayer] | None,
    back: Affine,
    onto: Affine,
    bodies: Bodies | None,
    settings: PairSettings,
    device: str | torch.device,
) -> Pair:
    """What two scans are compared by: their MIND, features of a network, or both, and nothing outside their bodies.

    Args:
        fixed: a scan ``(D, H, W)`` on the common grid.
        moving: the other one there.
        layers: features of both, where they are asked for.
        back: 4x4 that takes places of the moving scan to where the affine stage brings them.
        onto: affine of the common grid.
        bodies: of both scans on the common grid; None counts everything.
        settings: which, and how.
        device: where they shall be.

    Returns:
        ``(C, D, H, W)`` of both.

    Raises:
        OptionError: not as many feature cells as components.
    """
    parts: list[Pair] = []
    if settings.features != "model":
        how = settings.radius, settings.dilation, device
        parts.append((mind_of(fixed, *how), mind_of(moving, *how)))
    if layers is not None and settings.features != "mind":
        depth, height, width = fixed.shape
        parts.append(_model_features(*layers, back, (depth, height, width), onto, bodies, settings, device))
    return within_bodies(side_by_side(parts), bodies)


def mind_of(
    image: NDArray[np.float32], radius: int = 1, dilation: int = 2, device: str | torch.device = "cpu"
) -> torch.Tensor:
    """MIND of a scan on the common grid; of the 4 channels of a slice each counts as 3 of the 12."""
    found = mind(torch.from_numpy(np.ascontiguousarray(image)).to(device), radius, dilation)
    return found if len(found) == CHANNELS else found * (CHANNELS / len(found)) ** 0.5


def _model_features(
    fixed: CaseLayer,
    moving: CaseLayer,
    back: Affine,
    grid: Shape,
    onto: Affine,
    bodies: Bodies | None,
    settings: PairSettings,
    device: str | torch.device,
) -> Pair:
    """Features of a network for both scans on the common grid, at MIND's typical distance."""
    assert fixed.affine is not None
    assert moving.affine is not None
    affines = fixed.affine, back @ moving.affine
    inside = None
    if bodies is not None:
        one, other = (
            of_cells(body, onto, layer.valid_cells, affine)
            for body, layer, affine in zip(bodies, (fixed, moving), affines, strict=True)
        )
        inside = one, other
    cells = principal_features(fixed, moving, settings.components, settings.centred, inside)
    first, second = (
        on_common_grid(values, affine, grid, onto).to(device) for values, affine in zip(cells, affines, strict=True)
    )
    return at_typical_distance(first, second, bodies)
