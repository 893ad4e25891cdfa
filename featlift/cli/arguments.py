"""Options that `extract` and `check` share: which scans, what of them, through what, and what is kept."""

from typing import Annotated

import typer

from featlift.cli import choices

MODEL = "Backbone"
LIFTING = "Lifting"
INPUTS = "Which scans"
VOLUMES = "What of them"
KEEPING = "What to keep"

Model = Annotated[str, typer.Option(help="A name of `featlift models`, or a timm name.", rich_help_panel=MODEL)]
ModelArg = Annotated[list[str] | None, typer.Option(help="KEY=VALUE for timm, repeatable.", rich_help_panel=MODEL)]
Mode = Annotated[
    str,
    choices.one_of(
        choices.MODES, "PlaneCycle (pooling adaptively or not), slices, or one sequence.", rich_help_panel=LIFTING
    ),
]
Layers = Annotated[str, typer.Option("--layers", help="Layers, as in 3,6,-1 or stride16.", rich_help_panel=LIFTING)]
DepthWindow = Annotated[
    int | None, typer.Option(help="Run the depth in windows of N slices, blended.", rich_help_panel=LIFTING)
]
Glob = Annotated[
    list[str] | None,
    typer.Option(help="Only paths that match, as '*_T1.nii.gz'; repeatable.", rich_help_panel=INPUTS),
]
Exclude = Annotated[
    list[str] | None, typer.Option(help="Leave out paths that match; repeatable.", rich_help_panel=INPUTS)
]
MaskPattern = Annotated[
    str | None,
    typer.Option(
        help="Files that are masks, as '*_label.nrrd': * names the scan.",
        rich_help_panel=INPUTS,
    ),
]
Masks = Annotated[
    str | None,
    typer.Option(
        help="A folder of masks, named as the scans; a CSV with id,path; or one file.", rich_help_panel=INPUTS
    ),
]
Key = Annotated[str | None, typer.Option(help="The array to read in HDF5, .npz and Zarr.", rich_help_panel=INPUTS)]
Frame = Annotated[
    str | None, typer.Option(help="Of images with several: a number from 0, or all.", rich_help_panel=INPUTS)
]
Channels = Annotated[
    str | None,
    typer.Option(help="Three frames, or columns of a manifest, as one volume's channels.", rich_help_panel=INPUTS),
]
AllowIrregular = Annotated[
    bool, typer.Option("--allow-irregular", help="Resample DICOM with gaps or tilt.", rich_help_panel=INPUTS)
]
MaxVoxels = Annotated[int | None, typer.Option(min=1, help="Refuse larger images unread.", rich_help_panel=INPUTS)]
Limit = Annotated[int | None, typer.Option(min=1, help="Only the first N scans.", rich_help_panel=INPUTS)]
Intensity = Annotated[
    str,
    typer.Option(
        help="percentile:LO,HI, minmax, none, window:LO,HI, ct:LO,HI, ct:lung, ct:lung+soft+bone; "
        "three with ; between for three channels.",
        rich_help_panel=VOLUMES,
    ),
]
Spacing = Annotated[
    str | None, typer.Option(help="Millimetres: all axes, or D,H,W (0 keeps).", rich_help_panel=VOLUMES)
]
Size = Annotated[
    str | None, typer.Option(help="Voxels: longer side in plane, H,W or D,H,W (0 keeps).", rich_help_panel=VOLUMES)
]
Crop = Annotated[str | None, typer.Option(help="body, or body:MM with the margin to leave.", rich_help_panel=VOLUMES)]
DepthStride = Annotated[int, typer.Option(min=1, help="Only every N-th slice.", rich_help_panel=VOLUMES)]
Orient = Annotated[
    str, choices.one_of(choices.ORIENTATIONS, "Bring axes to LPS, or leave them.", rich_help_panel=VOLUMES)
]
NanTo = Annotated[float | None, typer.Option(help="Replace NaN and infinities by this value.", rich_help_panel=VOLUMES)]
Save = Annotated[str, choices.some_of(choices.SAVED, "Arrays of a volume.", rich_help_panel=KEEPING)]
SaveDtype = Annotated[str, choices.one_of(choices.DTYPES, "Of dense and tokens.", rich_help_panel=KEEPING)]
Reduce = Annotated[
    str | None, typer.Option(help="Dense features to K channels: pca:K or random:K.", rich_help_panel=KEEPING)
]
