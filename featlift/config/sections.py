"""The topics of an extraction, each a dataclass of plain values. None, or nothing, leaves the choice to featlift."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from featlift.config.options import (
    BYTES,
    FLAG,
    FRAME,
    LAYERS,
    MODEL_ARGS,
    NUMBER,
    PATTERNS,
    SIZE,
    TEXT,
    WORDS,
    numbers,
    one_of,
    option,
    some_of,
    whole,
)
from featlift.config.words import (
    DEPTHS,
    DTYPES,
    EMBEDDINGS,
    ENGINES,
    FUSES,
    MODES,
    ORIENTATIONS,
    PLANES,
    POSITION_RESIZES,
    PRECISIONS,
    RESAMPLINGS,
    ROPE_PERIODS,
    SAVED,
    TOKEN_POOLINGS,
)


@dataclass(frozen=True)
class NetworkConfig:
    """The network, and where it computes."""

    model: str = option(
        "vitb16",
        TEXT,
        "A name of `featlift models`, or a timm name; of mode native as monai:NAME.",
        feature=True,
        everyday=True,
    )
    weights: str | None = option(
        None, TEXT, "Weights file, or random:SEED. Default: the published ones.", feature=True, everyday=True
    )
    adapter: str | None = option(None, TEXT, "A folder of `featlift finetune`, or a LoRA of PEFT.", feature=True)
    device: str = option("auto", TEXT, "auto, cpu, cuda, cuda:1, mps.", everyday=True)
    precision: str = option("auto", one_of(*PRECISIONS), "auto takes an existing store's.", feature=True, everyday=True)
    weights_prefix: str | None = option(None, TEXT, "Prefix of the network's keys in the file.", feature=True)
    rope_periods: str = option("auto", one_of(*ROPE_PERIODS), "Of rotary embeddings.", feature=True)
    position_resize: str = option(
        "timm", one_of(*POSITION_RESIZES), "Of learned positions, for other image sizes.", feature=True
    )
    model_args: Mapping[str, Any] | None = option(
        None, MODEL_ARGS, "KEY=VALUE of the network, repeatable.", feature=True, flags=("--model-arg",)
    )


@dataclass(frozen=True)
class LiftingConfig:
    """How the network sees a volume."""

    mode: str = option(
        "pcg", one_of(*MODES), "PlaneCycle (pooling adaptively or not), slices, one sequence; or a native 3D network.",
        feature=True, everyday=True,
    )  # fmt: skip
    layers: tuple[int | str, ...] = option(
        (-1,), LAYERS, "Layers, as in 3,6,-1 or stride16.", feature=True, everyday=True
    )
    memory: str = option(
        "auto", SIZE, "For the planes, or the tile, at work: auto, or a size such as 2GB.", everyday=True
    )
    cycle: tuple[str, ...] | None = option(
        None, some_of(*PLANES), "Planes in turn. Default: HW,DW,DH,HW.", feature=True
    )
    orientations: tuple[str, ...] = option(
        ("axial",), some_of(*DEPTHS), "Axes that are depth, one pass for each; needs isotropic voxels.", feature=True,
        everyday=True,
    )  # fmt: skip
    cell: int = option(4, whole(1), "Of several orientations: voxels of a cell of the common grid.", feature=True)
    step: int | None = option(
        None, whole(1), "Of several orientations: voxels from one plane to the next. Default: the cell.", feature=True
    )
    fuse: str = option("concat", one_of(*FUSES), "Of several orientations.", feature=True)
    token_pooling: str = option(
        "depth", one_of(*TOKEN_POOLINGS), "As the released code (depth) or Algorithm 1 (direct).", feature=True
    )
    norm: bool = option(True, FLAG, "Apply the backbone's final norm.", feature=True, flags=("--norm/--no-norm",))
    depth_window: int | None = option(None, whole(1), "Run the depth in windows of N slices, blended.", feature=True)
    depth_overlap: int | None = option(None, whole(0), "Slices that windows share. Default: a quarter.", feature=True)
    magnify: int = option(
        1, whole(1), "Enlarge planes M times before the network: finer cells, in tiles.", feature=True
    )
    tile: tuple[int, ...] = option(
        (), numbers(int), "Voxels of a tile: one number, H,W, or of mode native D,H,W. Default: 512 pixels with "
        "--magnify, a native network's own, or the scan.",
        feature=True,
    )  # fmt: skip
    offload: bool = option(False, FLAG, "Keep features in host memory.")
    compile: bool = option(False, FLAG, "Compile transformer blocks: for long runs.")


@dataclass(frozen=True)
class SelectionConfig:
    """Which files are scans, and what in them."""

    glob: tuple[str, ...] = option((), PATTERNS, "Only paths that match, as '*_T1.nii.gz'; repeatable.", everyday=True)
    exclude: tuple[str, ...] = option((), PATTERNS, "Leave out paths that match; repeatable.", everyday=True)
    masks: str | None = option(
        None, TEXT, "A folder of masks, named as the scans; a CSV with id,path; or one file.", everyday=True
    )
    mask_pattern: str | None = option(
        None, TEXT, "Files that are masks, as '*_label.nrrd': * names the scan.", everyday=True
    )
    limit: int | None = option(None, whole(1), "Only the first N scans.", everyday=True)
    key: str | None = option(None, TEXT, "The array to read in HDF5, .npz and Zarr.")
    frame: int | str | None = option(None, FRAME, "Of images with several: a number from 0, or all.")
    channels: tuple[str, ...] = option((), WORDS, "Three frames, or columns of a manifest, as one volume's channels.")
    roi: str | None = option(
        None, TEXT, "A case for each lesion (masks, or their folder) or point (a CSV: id,x,y,z in LPS mm)."
    )


@dataclass(frozen=True)
class ReadingConfig:
    """How far reading may go."""

    allow_irregular: bool = option(False, FLAG, "Resample DICOM with gaps or tilt.")
    max_voxels: int | None = option(None, whole(1), "Refuse larger images unread.")


@dataclass(frozen=True)
class PreparationConfig:
    """What happens to a volume before lifting."""

    intensity: str = option(
        "percentile:0.5,99.5", TEXT,
        "percentile:LO,HI, minmax, zscore, none, window:LO,HI, ct:LO,HI, ct:lung, ct:lung+soft+bone; three with ; "
        "between for three channels.",
        feature=True, everyday=True,
    )  # fmt: skip
    spacing: tuple[float, ...] = option(
        (), numbers(float), "Millimetres: all axes, or D,H,W (0 keeps).", feature=True, everyday=True
    )
    size: tuple[int, ...] = option(
        (), numbers(int), "Voxels: longer side in plane, H,W or D,H,W (0 keeps).", feature=True, everyday=True
    )
    resampling: str = option(
        "linear", one_of(*RESAMPLINGS), "To another spacing or size; cubic as nnU-Net.", feature=True
    )
    crop: str | None = option(
        None, TEXT, "body, body:MM with the margin to leave, or nonzero.", feature=True, everyday=True
    )
    roi_mm: tuple[float, ...] = option((), numbers(float), "Size of a region: all axes, or D,H,W.", feature=True)
    depth_stride: int = option(1, whole(1), "Only every N-th slice.", feature=True)
    orient: str = option("LPS", one_of(*ORIENTATIONS), "Bring axes to LPS, or leave them.", feature=True)
    nan_to: float | None = option(None, NUMBER, "Replace NaN and infinities by this value.", feature=True)


@dataclass(frozen=True)
class OutputConfig:
    """What is kept of a volume."""

    save: tuple[str, ...] = option(SAVED, some_of(*SAVED), "Arrays of a volume.", feature=True, everyday=True)
    save_dtype: str = option("float16", one_of(*DTYPES), "Of dense and tokens.", feature=True, everyday=True)
    reduce: str | None = option(
        None, TEXT, "Dense features to K channels: pca:K or random:K.", feature=True, everyday=True
    )
    basis: str | None = option(
        None, TEXT, "A basis.safetensors of another store for pca. Default: fitted.", feature=True
    )
    embedding: str | None = option(None, one_of(*EMBEDDINGS), "Default: what the backbone has.", feature=True)


@dataclass(frozen=True)
class RunningConfig:
    """How the run goes."""

    overwrite: bool = option(False, FLAG, "Erase the store if its recipe is another.", everyday=True)
    yes: bool = option(False, FLAG, "Do not ask before writing a large store.", everyday=True)
    workers: int | None = option(
        None, whole(0), "Processes that read ahead. Default: by device and cores.", environment="FEATLIFT_WORKERS"
    )
    prefetch: str = option("auto", SIZE, "What waits for lifting: auto, or a size such as 4GB.")
    shard: str | None = option(None, TEXT, "Only part I/N of the scans, 1/N to N/N. Default: by the Slurm array.")
    devices: tuple[str, ...] = option((), WORDS, "Several at once, as cuda:0,cuda:1: a process for each.")
    engine: str = option("local", one_of(*ENGINES), "Here, or on the cluster of RAY_ADDRESS.")
    actors: int | None = option(None, whole(1), "Of ray. Default: one for each GPU.")
    confirm_above: str = option("100GB", BYTES, "Ask before writing a store larger than this.")
