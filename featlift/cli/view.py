"""`featlift view`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from featlift.cli.options import InstancePlace, LabelNames, MaskPattern, TruePlace, words
from featlift.cli.results import bars, chosen_cases, instances_of, masks_of, opened, print_coarse, print_failures
from featlift.counting import number_of
from featlift.sizes import decimal_bytes

if TYPE_CHECKING:
    from featlift.pictures.viewer import Scene

_CASES = 12  # in a page, unless others are asked for
_PORT = 8765


def view(
    stores: Annotated[list[str], typer.Argument(help="The store, or its URL; several, as modes, are shown in sync.")],
    case: Annotated[list[str] | None, typer.Option(help="Id of a case to show; give it again for more.")] = None,
    limit: Annotated[
        int | None,
        typer.Option(min=0, help="Without --case: so many, evenly spaced; 0 all. Default: 12; --serve: all."),
    ] = None,
    masks: Annotated[
        str | None, typer.Option(help="Masks to outline: a folder, named as the cases; a CSV with id,path; one file.")
    ] = None,
    mask_pattern: MaskPattern = None,
    label_names: LabelNames = None,
    instances: InstancePlace = None,
    true_instances: TruePlace = None,
    overlay: Annotated[
        Path | None, typer.Option(help="A folder of maps, as of `probe --attention`: layers over the scan.")
    ] = None,
    maps: Annotated[
        str, typer.Option(help="Of --overlay: which; <id>_attention.nii.gz is the map attention.")
    ] = "attention,scores",
    output: Annotated[Path, typer.Option("--output", "-o", help="The page.")] = Path("view.html"),
    channels: Annotated[
        int, typer.Option(min=1, help="That features are reduced to, for the similarity in the page.")
    ] = 64,
    colours: Annotated[Path | None, typer.Option(help="Colours that `featlift pca` saved.")] = None,
    layer: Annotated[int | None, typer.Option(help="Absolute index. Default: the deepest.")] = None,
    serve: Annotated[
        bool, typer.Option("--serve", help="Write nothing: serve the page, with all cases, to this machine alone.")
    ] = False,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Of --serve; 0 takes any that is free.")] = _PORT,
) -> None:
    """Look at features and ask them: a page with three planes in which a click shows what is similar.

    One HTML file that needs no network and sends nothing, or with --serve a page of this machine.
    """
    from featlift.names import file_names
    from featlift.pictures.colours import Colours
    from featlift.pictures.fitting import fit_colours
    from featlift.pictures.overlay import find_overlays
    from featlift.pictures.viewer import Scene

    found = opened(stores)
    overlays = {}
    if overlay is not None:
        overlays = find_overlays(overlay, file_names(found[0]), case or found[0], words(maps))
    ids = chosen_cases(found, case, (0 if serve else _CASES) if limit is None else limit, overlays or None)
    outlined, names = masks_of(found[0], ids, masks, mask_pattern, label_names)
    objects = instances_of(found[0], ids, instances, true_instances)
    basis = Colours.read(colours) if colours else fit_colours(found, ids, layer)
    scene = Scene(found, ids, basis, outlined, channels, layer, overlays, names, objects)
    if serve:
        _serve(scene, port)
    else:
        _write(scene, output)


def _write(scene: Scene, output: Path) -> None:
    from featlift.pictures.viewer import write_view

    failures = write_view(scene, output, tell=bars(output.name))
    shown = len(scene.cases) - len(failures)
    typer.echo(f"{output}: {number_of(shown, 'case')}, {decimal_bytes(output.stat().st_size)}")
    print_coarse(scene.stores, scene.cases[0], scene.layer)
    print_failures([(scene.stores[0].name, *failure) for failure in failures.items()])


def _serve(scene: Scene, port: int) -> None:
    from featlift.pictures.viewer import Server

    with Server(scene, port) as server:
        typer.echo(f"{server.url}: {number_of(len(scene.cases), 'case')}, for browsers of this machine; Ctrl-C ends it")
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            typer.echo("")
