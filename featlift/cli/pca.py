"""`featlift pca`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from featlift.cli import choices
from featlift.cli.options import InstancePlace, LabelNames, MaskPattern, TruePlace, numbers, words
from featlift.cli.results import chosen_cases, instances_of, masks_of, opened, print_coarse, print_failures
from featlift.errors import FeatliftError, OptionError

if TYPE_CHECKING:
    from featlift.pictures.colours import Colours
    from featlift.store import Store
    from featlift.volumes.source import MaskFile


def pca(
    stores: Annotated[list[str], typer.Argument(help="The store, or its URL; several, such as modes, become rows.")],
    case: Annotated[list[str] | None, typer.Option(help="Id of a case to draw; give it again for more.")] = None,
    limit: Annotated[int, typer.Option(min=0, help="Without --case: draw so many, evenly spaced; 0 all.")] = 12,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the pictures.")] = Path("pictures"),
    formats: Annotated[str, choices.some_of(choices.PICTURES, "Of the pictures.")] = "png",
    dpi: Annotated[int, typer.Option(min=30, max=1200, help="Pixels an inch; a figure is 7.2 inches wide.")] = 300,
    sweep: Annotated[str | None, choices.one_of(choices.ANIMATIONS, "An animation through all slices besides.")] = None,
    at: Annotated[
        str | None, typer.Option(help="d,h,w of the voxel that the planes go through. Default: the middle.")
    ] = None,
    masks: Annotated[str | None, typer.Option(help="Masks to outline: a folder, a CSV, or a file.")] = None,
    mask_pattern: MaskPattern = None,
    label_names: LabelNames = None,
    instances: InstancePlace = None,
    true_instances: TruePlace = None,
    overlay: Annotated[
        Path | None, typer.Option(help="A folder of maps, as of `probe --attention`, drawn over the scan in rows.")
    ] = None,
    maps: Annotated[
        str, typer.Option(help="Of --overlay: which; <id>_attention.nii.gz is the map attention.")
    ] = "attention,scores",
    foreground: Annotated[
        str, choices.one_of(choices.FOREGROUNDS, "What gets colours; mask: what masks label.")
    ] = "auto",
    layer: Annotated[int | None, typer.Option(help="Absolute index. Default: the deepest.")] = None,
    colours: Annotated[Path | None, typer.Option(help="Colours saved before, instead of fitting them.")] = None,
    save_colours: Annotated[Path | None, typer.Option(help="File to keep the colours in (safetensors).")] = None,
    dark: Annotated[bool, typer.Option(help="Light on dark, for slides.")] = False,
) -> None:
    """Draw features in colour beside the scan: principal components as red, green and blue, in all three planes.

    One basis for all the cases and stores named, so that a colour means the same in every picture.
    """
    from tqdm import tqdm

    from featlift.atomic_io import check_writable
    from featlift.names import file_names
    from featlift.pictures.figure import CaseFigure, check_formats
    from featlift.pictures.overlay import find_overlays

    found = opened(stores)
    kinds = check_formats(words(formats), sweep)
    voxel = numbers(at, int, "--at")
    if at and len(voxel) != 3:
        raise OptionError(f"--at {at!r}: give d,h,w of a voxel")
    check_writable(output)
    names = file_names(found[0])
    overlays = {} if overlay is None else find_overlays(overlay, names, case or found[0], words(maps))
    chosen = chosen_cases(found, case, limit, overlays or None)
    outlined, called = masks_of(found[0], chosen, masks, mask_pattern, label_names)
    objects = instances_of(found[0], chosen, instances, true_instances)
    basis = _colours(found, case, layer, foreground, outlined, colours)
    if save_colours is not None:
        basis.write(save_colours)
    failed = []
    for case_id in tqdm(chosen, unit="case", disable=None):
        try:
            mask = outlined.get(case_id)
            drawn = (mask, foreground, dark, overlays.get(case_id), called, objects.get(case_id))
            figure = CaseFigure.of(found, case_id, basis, layer, *drawn)  # type: ignore[arg-type]
            for kind in kinds:
                figure.write(output / f"{names[case_id]}.{kind}", voxel or figure.middle, dpi)
            if sweep:
                figure.sweep(output / f"{names[case_id]}.{sweep}")
        except (FeatliftError, FileNotFoundError) as error:
            if isinstance(error, OptionError):
                raise
            failed.append((found[0].name, case_id, str(error)))
    kept = f"{100 * basis.variance_kept:.0f} % of the variance"
    by = f"foreground: {basis.about['foreground']}"
    typer.echo(
        f"{output}: {len(chosen) - len(failed)} of {len(chosen)} cases drawn; three components keep {kept}; {by}"
    )
    print_coarse(found, chosen[0], layer)
    print_failures(failed)


def _colours(
    stores: list[Store],
    cases: list[str] | None,
    layer: int | None,
    foreground: str,
    masks: Mapping[str, MaskFile],
    path: Path | None,
) -> Colours:
    from featlift.pictures.colours import Colours
    from featlift.pictures.fitting import fit_colours

    if path is None:
        return fit_colours(stores, cases, layer, foreground, masks)  # type: ignore[arg-type]
    read = Colours.read(path)
    for store in stores:
        read.check(store, layer)
    return read
