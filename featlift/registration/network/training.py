"""Train a registration network, and write its folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from statistics import median

import torch

from featlift.atomic_io import check_writable, write_atomically
from featlift.errors import VolumeError
from featlift.model_folder import CONFIG
from featlift.progress import Progress
from featlift.registration.network.folder import (
    NetworkConfig,
    asked_of,
    flat_axis,
    read_config,
    write_network,
)
from featlift.registration.network.meeting import meet, padded_shape
from featlift.registration.network.plan import NetworkPlan
from featlift.registration.network.subjects import (
    PreparedCohort,
    Subject,
    each_of,
    finest,
    fitted_basis,
    grown_shape,
    projection_in,
)
from featlift.registration.network.task import Registering
from featlift.registration.network.unet import RegistrationNet, need_monai
from featlift.registration.network.who import Pairing
from featlift.store.basis import Basis
from featlift.store.layout import BASIS
from featlift.training.checkpoint import check_same, interrupted, remove_checkpoint
from featlift.training.curves import draw_curves
from featlift.training.order import Order
from featlift.training.precision import Precision, use_bf16
from featlift.training.rates import WarmUpCosine
from featlift.training.trainer import Course, Told, Trainer
from featlift.volumes.grid import Shape, inside


def train_network(
    cohort: PreparedCohort,
    pairing: Pairing,
    plan: NetworkPlan,
    folder: str | Path,
    device: torch.device | None = None,
    precision: Precision = "fp32",
    workers: int = 0,
    progress: Progress | None = None,
    told: Told | None = None,
) -> NetworkConfig:
    """Train a network, or go on where an interrupted training of the same plan was, and write its folder.

    All pairs come to one grid: per axis that of the largest scan that trains or validates, in multiples of 16 voxels.

    Args:
        cohort: the scans.
        pairing: who meets whom, see `featlift.registration.network.who.pairing_of`.
        plan: how.
        folder: of the network. One that holds a trained network of the same plan is left as it is.
        device: None is the CPU.
        precision: in which type the U-Net's products are computed.
        workers: processes that bring pairs together ahead.
        progress: called with what is being done, how many are done, and their number.
        told: called after each validation.

    Raises:
        OptionError: what was asked for makes no sense, MONAI is not installed, slices among volumes, or the folder
            holds a network of another plan.
        VolumeError: a scan that cannot be read, or a pair that does not overlap; it is named.
        StoreError: the store is damaged, or does not keep what is needed.
        OutputError: the folder cannot be written.
    """
    folder, device = Path(folder), device or torch.device("cpu")
    need_monai()
    check_writable(folder)
    asked = asked_of(plan, cohort.recipe, pairing.as_json())
    if (folder / CONFIG).exists():
        done = read_config(folder)
        check_same(done.asked, asked, folder)
        return done
    state = interrupted(folder, asked)
    basis = None
    if "features" in plan.inputs:
        known = state is not None and (folder / BASIS).exists()
        basis = Basis.read(folder / BASIS) if known else _kept_basis(cohort, pairing, plan, folder, progress)
    subjects, spacing, steps = _subjects(cohort, pairing, plan, basis, progress)
    _check_overlap(subjects, pairing)
    grid = _grid(subjects, spacing)
    fixed, moving = pairing.val[0]
    channels = len(meet(subjects[fixed], subjects[moving], plan, spacing, grid).seen[0])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(plan.seed)
        network = RegistrationNet(channels, flat_axis(list(grid)))
    task = Registering(network, subjects, pairing, plan, spacing, grid)
    course = course_of(plan, len(pairing.train))
    trainer = Trainer(task, course, device, use_bf16(precision, device), workers)
    trainer.run(folder, asked, state, told)
    made = NetworkConfig(
        plan=plan.as_json(),
        recipe=cohort.recipe,
        spacing=spacing,
        grid=list(grid),
        scans=steps,
        channels=channels,
        layer=None if basis is None else next(iter(basis.projections)),
        **pairing.as_json(),
        test=pairing.test,
        parameters=sum(value.numel() for value in network.parameters()),
        training=trainer.summary(),
    )
    draw_curves(folder, trainer.rows, task.measure)
    write_network(folder, network, made)
    remove_checkpoint(folder)
    return made


def course_of(plan: NetworkPlan, items: int) -> Course:
    """By iterations; the rate rises, then falls, step by step."""
    steps = min(plan.every, plan.iterations)
    rounds = -(-plan.iterations // steps)
    return Course(
        rounds=rounds,
        order=Order(items, plan.batch, plan.seed, steps),
        rate=plan.rate,
        shares=WarmUpCosine(rounds * steps, plan.warm_up),
        decay=plan.decay,
        patience=plan.patience,
        seed=plan.seed,
    )


def _kept_basis(
    cohort: PreparedCohort, pairing: Pairing, plan: NetworkPlan, folder: Path, progress: Progress | None
) -> Basis:
    """The basis of the training cases' features, written to the folder."""
    basis = fitted_basis(cohort, pairing.training_cases, plan.components, progress)
    write_atomically(folder / BASIS, lambda draft: draft.write_bytes(basis.content))
    return basis


def _subjects(
    cohort: PreparedCohort, pairing: Pairing, plan: NetworkPlan, basis: Basis | None, progress: Progress | None
) -> tuple[dict[str, Subject], float, list[float]]:
    """What is shown of all scans, the spacing of the grid, and the extremes of the training scans' shortest steps."""
    training = pairing.training_cases
    steps = {case_id: finest(scan) for case_id, scan in each_of(cohort, training, progress)}
    spacing = plan.spacing or median(steps.values())
    projection = projection_in(basis)
    subjects = {
        case_id: Subject.of(scan, None if projection is None else cohort.case(case_id), projection, spacing)
        for case_id, scan in each_of(cohort, pairing.cases, progress)
    }
    return subjects, spacing, [min(steps.values()), max(steps.values())]


def _grid(subjects: Mapping[str, Subject], spacing: float) -> Shape:
    """(D, H, W): per axis that of the largest scan, in multiples of 16."""
    shapes = [padded_shape(grown_shape(subject, spacing)) for subject in subjects.values()]
    d, h, w = (max(sizes) for sizes in zip(*shapes, strict=True))
    for shape in shapes:
        padded_shape(shape, (d, h, w))  # refuses slices among volumes
    return d, h, w


def _check_overlap(subjects: Mapping[str, Subject], pairing: Pairing) -> None:
    """Refuse pairs that do not meet; of those that are drawn, each training case with the next one is looked at."""
    following = [*pairing.train[1:], pairing.train[0]]
    drawn = [(pair[0], pair[1] or after[0]) for pair, after in zip(pairing.train, following, strict=True)]
    for fixed, moving in [*drawn, *pairing.val]:
        one, other = subjects[fixed], subjects[moving]
        if not inside(_shape(other), other.affine, _shape(one), one.affine).any():
            raise VolumeError(
                f"{fixed} and {moving} do not overlap as they lie: align them first, or take the pair out"
            )


def _shape(subject: Subject) -> Shape:
    depth, height, width = subject.image.shape
    return depth, height, width
