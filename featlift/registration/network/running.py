"""Register a pair by a trained network."""

from __future__ import annotations

import numpy as np
import torch

from featlift.errors import OptionError
from featlift.progress import Progress, steps
from featlift.registration.affine import AffineStage, affine_stage
from featlift.registration.convex_adam import ConvexAdam, convex_adam
from featlift.registration.field import DisplacementField
from featlift.registration.network.folder import Trained
from featlift.registration.network.meeting import Meeting, batch_of, meet
from featlift.registration.network.subjects import Subject, as_one_channel
from featlift.registration.pairs import Extract, Registered, check_pair, metrics_of
from featlift.registration.sampling import shape_of
from featlift.registration.transforms import inverse
from featlift.timing import timed
from featlift.volumes import Volume, prepare
from featlift.volumes.grid import on_grid


def register_by_network(
    fixed: Volume,
    moving: Volume,
    trained: Trained,
    optimisation: ConvexAdam | None = None,
    extract: Extract | None = None,
    device: str | torch.device = "cpu",
    progress: Progress | None = None,
    affine: AffineStage = "none",
) -> Registered:
    """Find where each voxel of the fixed scan lies in the moving one, by a network.

    Scans are prepared as those that it was trained on. The grid may be larger than that of the training, for a scan
    that is larger; none is cropped.

    Args:
        fixed: a scan ``(D, H, W)`` with an affine.
        moving: another, which overlaps it as it lies if there is no affine stage.
        trained: the network.
        optimisation: Adam's, from the field of the network; None, or no iterations, leaves that as it is.
        extract: makes the features that the network sees, of its recipe.
        device: where the network is.
        progress: told of the iterations.
        affine: what comes before, see `featlift.registration.affine.AffineStage`.

    Raises:
        VolumeError: see `featlift.registration.register`; a scan that cannot be prepared.
        OptionError: the network sees features and there is no `extract`; scans much finer or coarser than those it was
            trained on; a slice for a network of volumes.
    """
    if trained.sees_features and extract is None:
        raise OptionError(f"{trained.name} sees features: give the model that makes them")
    fixed_affine, _ = check_pair(fixed, moving, affine)
    seconds: dict[str, float] = {}
    matrix = np.eye(4)
    if affine != "none":
        with timed(seconds, "affine"):
            layers = (extract(fixed), extract(moving)) if affine == "features" and extract is not None else None
            matrix = affine_stage(affine, fixed, moving, layers)
    with timed(seconds, "features"):
        one, two = (_subject(volume, name, trained, extract) for volume, name in ((fixed, "fixed"), (moving, "moving")))
        d, h, w = trained.config.grid
        meeting = meet(one, two.moved(inverse(matrix)), trained.plan, trained.config.spacing, (d, h, w))
    with timed(seconds, "optimisation"):
        displacement = predicted(meeting, trained, device)
        if optimisation is not None and optimisation.iterations:
            onto, other = (each.to(device) for each in meeting.seen)
            told = steps("registration", progress)
            displacement = convex_adam(onto, other, meeting.spacing, optimisation, told, displacement)
    on_its_grid = DisplacementField.of_voxels(displacement.cpu().numpy(), meeting.affine)
    depth, height, width = fixed.array.shape
    vectors = [
        on_grid(values, meeting.affine, (depth, height, width), fixed_affine, order=1, fill_value=None)
        for values in on_its_grid.vectors
    ]
    field = DisplacementField(np.stack(vectors), fixed_affine)
    in_voxels = field.in_voxels.astype(np.float32)
    metrics = metrics_of(in_voxels, fixed_affine)
    if affine != "none":
        field = DisplacementField.of_voxels(in_voxels, fixed_affine, matrix)
    return Registered(field, matrix, shape_of(meeting.grey[0]), meeting.spacing, metrics, seconds)


@torch.no_grad()  # and no inference mode: Adam may begin with it
def predicted(meeting: Meeting, trained: Trained, device: str | torch.device = "cpu") -> torch.Tensor:
    """The network's field, ``(3, D, H, W)`` in voxels of the grid on which two scans met."""
    field: torch.Tensor = trained.network(batch_of([meeting]).to(torch.device(device)))[0]
    return field


def _subject(volume: Volume, name: str, trained: Trained, extract: Extract | None) -> Subject:
    """What the network is shown of a scan."""
    scan = as_one_channel(f"the {name} scan", prepare(volume, trained.preparation))
    trained.check_scan(scan, name)
    case = extract(volume) if extract is not None and trained.sees_features else None
    return Subject.of(scan, case, trained.projection, trained.config.spacing)
