"""`featlift register train`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from featlift.cli import choices
from featlift.cli.configured import configured
from featlift.cli.curves import epochs_bar
from featlift.cli.options import times, words
from featlift.config import ExtractConfig

if TYPE_CHECKING:
    from featlift.registration.network.folder import NetworkConfig
    from featlift.registration.network.subjects import PreparedCohort

_SEEN, _HOW = "What it sees", "How it is trained"
_SECTIONS = ("network", "lifting", "output", "running")
_OF_SELECTION = ("masks", "mask_pattern", "limit", "channels", "roi", "roi_mm")
#: No network makes features here, and nothing is extracted.
_NOT_HERE = (
    *_OF_SELECTION,
    *(
        each.name
        for section, each, _ in ExtractConfig.options()
        if section in _SECTIONS and each.name not in ("device", "workers")
    ),
)


def _option(text: str, panel: str, **how: Any) -> Any:
    return typer.Option(help=text, rich_help_panel=panel, **how)


@configured(leave_out=_NOT_HERE)
def train(
    inputs: Annotated[list[str], typer.Argument(help="A store; or scans, folders, manifests.")],
    config: ExtractConfig,
    pairs: Annotated[
        Path, typer.Option(help="A CSV with fixed,moving,split; or with id,split, and pairs are drawn at random.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the network.")],
    input: Annotated[  # noqa: A002 - the option's name
        str | None,
        choices.some_of(
            choices.REGISTRATION_INPUTS,
            "One or several. Default: features of a store, intensity of scans.",
            rich_help_panel=_SEEN,
        ),
    ] = None,
    components: Annotated[int, _option("Of features: principal components of the training cases.", _SEEN, min=1)] = 24,
    mind_radius: Annotated[int, _option("Of its patches, in voxels of the grid.", _SEEN, min=1)] = 1,
    mind_dilation: Annotated[int, _option("How far apart its patches lie.", _SEEN, min=1)] = 2,
    grid_mm: Annotated[
        float | None, _option("Of the grid. Default: the median of the training scans' shortest.", _SEEN)
    ] = None,
    loss: Annotated[
        str,
        choices.one_of(
            choices.REGISTRATION_LOSSES,
            "Squared distance of what it sees, or local correlation of intensities.",
            rich_help_panel=_HOW,
        ),
    ] = "mse",
    smoothness: Annotated[
        float | None, _option("Weight of the regulariser. Default: 1.25; lncc 1.", _HOW, min=0)
    ] = None,
    iterations: Annotated[int, _option("Steps of training, at most.", _HOW, min=1)] = 10_000,
    every: Annotated[int, _option("Iterations between validations.", _HOW, min=1)] = 250,
    batch: Annotated[int, _option("Pairs of a step.", _HOW, min=1)] = 1,
    rate: Annotated[float, _option("Highest learning rate.", _HOW)] = 1e-4,
    decay: Annotated[float, _option("Weight decay.", _HOW)] = 0.0,
    warm_up: Annotated[int, _option("Iterations in which the rate rises.", _HOW, min=0)] = 100,
    patience: Annotated[int | None, _option("Validations to wait for a better one. Default: all.", _HOW, min=1)] = None,
    seed: Annotated[int, _option("Of weights, order and random pairs.", _HOW, min=0)] = 0,
    precision: Annotated[
        str, choices.one_of(choices.HEAD_PRECISIONS, "Of products; weights stay in float32.", rich_help_panel=_HOW)
    ] = "fp32",
) -> None:
    """Train a network to register, on pairs of the split train and without labels; pairs of val choose the round.

    A second run of the same command goes on where an interrupted one was. Then: `featlift register run --method net`.
    """
    from featlift.backbones.precision import resolve_device
    from featlift.cli.results import bars
    from featlift.registration.network.plan import NetworkPlan
    from featlift.registration.network.training import train_network
    from featlift.registration.network.who import pairing_of

    stored = _is_store(inputs)
    plan = NetworkPlan(
        inputs=words(input) or (("features",) if stored else ("intensity",)),  # type: ignore[arg-type]
        loss=loss,  # type: ignore[arg-type]
        weight=smoothness,
        components=components,
        spacing=grid_mm,
        radius=mind_radius,
        dilation=mind_dilation,
        iterations=iterations,
        every=every,
        batch=batch,
        rate=rate,
        decay=decay,
        warm_up=warm_up,
        patience=patience,
        seed=seed,
    )
    config.check()
    cohort = _cohort(inputs, config, stored, "features" in plan.inputs)
    made = train_network(
        cohort,
        pairing_of(pairs, cohort.ids, seed),
        plan,
        output,
        resolve_device(config.network.device),
        precision,  # type: ignore[arg-type]
        config.running.workers or 0,
        bars("register"),
        epochs_bar("register", "val_loss"),
    )
    typer.echo(f"{output}: {_summary(made)}")


def _is_store(inputs: list[str]) -> bool:
    """Whether a store was given: one folder or URL with the metadata of one."""
    from featlift.remote import parse_location
    from featlift.store.layout import METADATA

    return len(inputs) == 1 and (parse_location(inputs[0]) / METADATA).exists()


def _cohort(inputs: list[str], config: ExtractConfig, stored: bool, features: bool) -> PreparedCohort:
    from featlift.errors import OptionError
    from featlift.registration.network.subjects import PreparedFiles, PreparedStore
    from featlift.store import open_store
    from featlift.volumes import Preparation, Reading, Selection, find_scans

    if stored:
        return PreparedStore(open_store(inputs[0]), features)
    if features:
        raise OptionError("--input features: they come from a store; `featlift extract` makes one of these scans")
    found = find_scans(inputs, Selection.of(config.selection), None, [])
    scans = {scan.id: scan for scan in found.scans}
    return PreparedFiles(scans, Preparation.of(config.preparation), Reading.of(config.reading))


def _summary(made: NetworkConfig) -> str:
    training = made.training
    return (
        f"{made.parameters:,} parameters on {times(made.grid)} voxels of {made.spacing:.3g} mm; best validation loss "
        f"{training['val_loss']:.4f} in round {training['best_epoch']:.0f} of {training['epochs']}, "
        f"{training['seconds']:.0f} s"
    )
