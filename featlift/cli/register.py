"""`featlift register`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from featlift.cli import choices
from featlift.cli.configured import configured
from featlift.cli.options import human_seconds, times
from featlift.cli.register_network import train
from featlift.cli.register_pairs import register_each, score
from featlift.config import ExtractConfig
from featlift.errors import OptionError

register = typer.Typer(
    name="register",
    help="Align two scans by MIND or by features of a network; warp other images alike.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)

register.command()(train)

_PAIRS, _OPTIMISATION, _FEATURES = "Many pairs", "ConvexAdam", "What scans are compared by"
_NOT_HERE = (
    "masks", "mask_pattern", "limit", "channels", "roi", "roi_mm", "nan_to", "save", "save_dtype",
    "reduce", "basis", "embedding", "overwrite", "yes", "workers", "prefetch", "shard", "devices", "engine", "actors",
    "confirm_above",
)  # fmt: skip


def _option(text: str, panel: str, *names: str, **how: Any) -> Any:
    return typer.Option(*names, help=text, rich_help_panel=panel, **how)


@register.command()
@configured(leave_out=_NOT_HERE)
def run(
    fixed: Annotated[
        str,
        typer.Argument(
            help="The scan that stays: a file, PNG and JPEG too, a DICOM folder, or a URL. With --pairs: a store, or "
            "scans."
        ),
    ],
    config: ExtractConfig,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for field, warped scan and run.json.")],
    moving: Annotated[
        str | None,
        typer.Argument(help="The scan that is brought onto it. With --pairs: as FIXED."),
    ] = None,
    pairs: Annotated[Path | None, _option("A CSV of case ids, fixed,moving[,split].", _PAIRS)] = None,
    split: Annotated[str | None, _option("Only pairs of this split.", _PAIRS)] = None,
    images: Annotated[
        str | None, _option("Of a store: the scans that it was made from, for MIND and warped scans.", _PAIRS)
    ] = None,
    method: Annotated[
        str, choices.one_of(choices.REGISTRATIONS, "Search and refine, or a network that was trained to (--network).")
    ] = "convex-adam",
    network: Annotated[Path | None, typer.Option(help="Of net: folder of `register train`.")] = None,
    features: Annotated[
        str,
        choices.one_of(choices.COMPARED, "MIND of the scans, features of --model, or both.", rich_help_panel=_FEATURES),
    ] = "mind",
    mind_radius: Annotated[int, _option("Of its patches, in voxels of the common grid.", _FEATURES, min=1)] = 1,
    mind_dilation: Annotated[int, _option("How far apart its patches lie.", _FEATURES, min=1)] = 2,
    components: Annotated[int, _option("Principal components of a model's features.", _FEATURES, min=1)] = 24,
    centred: Annotated[
        bool, _option("Their mean subtracted, or as DINO-Reg projects.", _FEATURES, "--centred/--uncentred")
    ] = True,
    affine: Annotated[
        str,
        choices.one_of(choices.AFFINE, "What comes first: by bodies, scans, or a model.", rich_help_panel=_FEATURES),
    ] = "none",
    inverse: Annotated[
        bool, typer.Option("--inverse", help="Write inverse.nii.gz too, on the voxels of the moving scan.")
    ] = False,
    body: Annotated[
        str, _option("What counts: none (everything), otsu, or FIXED_MASK,MOVING_MASK.", _FEATURES)
    ] = "none",
    grid: Annotated[
        str, choices.one_of(choices.GEOMETRIES, "How scans meet: as their headers say, or voxel by voxel.")
    ] = "affine",
    grid_mm: Annotated[
        float | None, _option("Edge of the voxels of the common grid. Default: the fixed scan's shortest.", _FEATURES)
    ] = None,
    layer: Annotated[int | None, _option("Of a model: absolute index. Default: the deepest.", _FEATURES)] = None,
    search_cell: Annotated[int, _option("Voxels of the search's cells (grid_sp).", _OPTIMISATION, min=1)] = 6,
    reach: Annotated[int, _option("Cells that it goes along an axis (disp_hw).", _OPTIMISATION, min=1)] = 4,
    both_ways: Annotated[
        bool, _option("Search back as well, and make both agree (ic).", _OPTIMISATION, "--both-ways/--one-way")
    ] = True,
    iterations: Annotated[
        int | None, _option("Of Adam; 0 leaves what was found before. Default: 80; of net 0.", _OPTIMISATION, min=0)
    ] = None,
    smoothness: Annotated[float, _option("Weight of the regulariser (lambda_weight).", _OPTIMISATION, min=0)] = 1.25,
    fine_cell: Annotated[int, _option("Voxels of Adam's cells (grid_sp_adam).", _OPTIMISATION, min=1)] = 2,
    smoothing: Annotated[
        int, _option("Odd side of a box that smooths the final field; 0 for none.", _OPTIMISATION, min=0)
    ] = 0,
) -> None:
    """Find where each voxel of one scan lies in another (ConvexAdam), and write the field and the warped scan.

    field.nii.gz holds displacements in LPS millimetres on the voxels of the fixed scan, as SimpleITK takes them. Scans
    that lie apart take --affine, which the field includes. Options of lifting count with a model only.
    --method net leaves the search to a network of `featlift register train`.
    With --pairs each pair of a CSV goes to a folder of its own; a second run goes on where the first was stopped.
    """
    from featlift.cli.results import bars
    from featlift.registration import ConvexAdam, PairSettings
    from featlift.registration.body import parse_body
    from featlift.registration.files import register_files

    if (method == "net") != (network is not None):
        raise OptionError("--method net and --network belong together: what `featlift register train` made")
    if network is not None and (features != "mind" or grid_mm is not None or body != "none"):
        raise OptionError("--features, --grid-mm, --body: the network says what it sees; leave them out")
    iterations = (80 if network is None else 0) if iterations is None else iterations
    optimisation = ConvexAdam(search_cell, reach, both_ways, iterations, smoothness, fine_cell, smoothing)
    counts, masks = parse_body(body)
    settings = PairSettings(
        features,  # type: ignore[arg-type]
        grid_mm,
        mind_radius,
        mind_dilation,
        components,
        centred,
        optimisation,
        layer,
        affine,  # type: ignore[arg-type]
        counts,
    )
    if pairs is not None:
        if grid != "affine":
            raise OptionError("--grid voxels: it is of one pair; scans of --pairs meet as their headers say")
        register_each(pairs, fixed, moving, output, settings, config, images, split, inverse, network)
        return
    if moving is None or split is not None or images is not None:
        raise OptionError("give the scans FIXED and MOVING; or --pairs, and with it --split and --images if needed")
    found = register_files(
        fixed,
        moving,
        output,
        settings,
        config,
        bars("register"),
        inverse,
        masks,
        grid == "voxels",
        network,
        notify=lambda line: typer.echo(line, err=True),
    )
    metrics = found.metrics
    typer.echo(
        f"{output}: {times(found.grid)} voxels of {times(found.spacing)} mm in "
        f"{human_seconds(sum(found.seconds.values()))}; displaced by {metrics['mean_mm']:.1f} mm in the mean, "
        f"{metrics['max_mm']:.1f} at most; SDlogJ {metrics['sdlogj']:.3f}, {100 * metrics['folds']:.2f} % folds"
    )


@register.command()
def apply(
    transforms: Annotated[
        list[str], typer.Argument(help="Fields of LPS millimetres, .tfm, .mat, .txt; the affine one before the field.")
    ],
    image: Annotated[str, typer.Option(help="What to warp: it lies as the moving scan does.")],
    like: Annotated[str, typer.Option(help="A scan whose voxels the result has, such as the fixed one.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The file to write, .nii.gz.")],
    labels: Annotated[bool, typer.Option("--labels", help="These are labels: they are not blended.")] = False,
    label_interpolation: Annotated[
        str, choices.one_of(choices.LABEL_INTERPOLATIONS, "Of --labels: linear takes what there is most of.")
    ] = "nearest",
    grid: Annotated[str, choices.one_of(choices.GEOMETRIES, "As for `register run`.")] = "affine",
) -> None:
    """Warp another image by a field, or several transforms at once: a second sequence, or labels of the moving scan."""
    from featlift.registration.applying import apply_transforms

    apply_transforms(transforms, image, like, output, labels, grid == "voxels", label_interpolation)  # type: ignore[arg-type]
    typer.echo(str(output))


register.command()(score)
