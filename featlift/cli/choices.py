"""Options that take one of a few words, or several of them. They are checked as they are read, before heavy imports.

The words are those of the functions behind the commands, which cannot be imported for ``--help``; the tests compare.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import typer

from featlift.config.options import read_word

FEATDICE_PROTOCOLS = ("centre", "prototype")
CENTRES = ("grid", "lesion")
NEAREST = ("corner", "centre")
INPUTS = ("cls", "patch-mean", "cls+patch-mean", "voxels")
PROBES = ("planecycle", "logistic", "ct-rate", "abmil")
BAGS = ("slices", "patches", "both")
POOLINGS = ("attention", "mean", "max")
WEIGHTINGS = ("cells", "labels")
PAIRED = ("seeds", "cases")
TABLES = ("markdown", "csv", "latex", "json")
EXPORTS = ("nifti", "nrrd", "ome-zarr", "npy", "parquet")
DENSE_FORMATS = ("nifti", "npy")
GRIDS = ("scan", "cells")
ON = ("scan", "mask")
SOURCES_HELP = "Measure stored, smoothed, layers, coordinates or intensity; or several, as in stored+coordinates."
PICTURES = ("png", "svg", "pdf")
ANIMATIONS = ("gif", "webp")
FOREGROUNDS = ("auto", "mask", "none")
HEADS = ("linear", "decoder", "subcube", "dino3dra")
HEAD_FEATURES = ("store", "random", "none")
HEAD_PRECISIONS = ("auto", "fp32", "bf16")
PREDICTED = ("input", "stored")
ABLATIONS = ("room-lite", "calibration")
INSTANCE_METRICS = ("voi", "arand")
CONVENTIONS = ("skimage", "cremi")
SEGMENT_TASKS = ("labels", "affinities")
OFFSETS = ("neighbours", "long-range")
AGGLOMERATIONS = ("mean", "median", "mutex")
OBJECT_FORMATS = ("hdf5", "zarr", "nifti")
SPLITS = ("train", "val", "test")
FINETUNE_TASKS = ("classify", "segment")
ADAPTS = ("full", "lora", "head")
SLICE_POOLINGS = ("learned", "mean")
TOKENS = ("cls", "patch-mean", "cls+patch-mean")
COMPARED = ("mind", "model", "both")
AFFINE = ("none", "moments", "intensity", "features")
GEOMETRIES = ("affine", "voxels")
LABEL_INTERPOLATIONS = ("nearest", "linear")
REGISTRATIONS = ("convex-adam", "net")
REGISTRATION_INPUTS = ("features", "mind", "intensity")
REGISTRATION_LOSSES = ("mse", "lncc")
ENCODERS = ("base", "tiny")
EDGES = ("squares", "sums")


def one_of(words: Sequence[str], help: str, *names: str, **more: Any) -> Any:  # noqa: A002 - typer's own word
    """An option that takes one of these words, in any case.

    Args:
        words: as the function behind the command spells them.
        help: what the choice is about; ``--help`` shows the words beside it.
        names: of the option, as for `typer.Option`.
        more: of `typer.Option`.
    """
    return typer.Option(*names, help=help, metavar="|".join(words), callback=_checked(words, read_word), **more)


def some_of(words: Sequence[str], help: str, *names: str, **more: Any) -> Any:  # noqa: A002 - typer's own word
    """An option that takes some of these words, in any case and with commas between; otherwise as `one_of`."""
    return typer.Option(*names, help=help, metavar="|".join(words) + ",...", callback=_checked(words, _some), **more)


def _checked(words: Sequence[str], read: Callable[[str, str, Sequence[str]], str]) -> Callable[..., str | None]:
    def check(param: typer.CallbackParam, value: str | None) -> str | None:
        return value and read(value, max(param.opts, key=len), words)

    return check


def _some(value: str, option: str, words: Sequence[str]) -> str:
    return ",".join(read_word(part, option, words) for part in value.split(","))
