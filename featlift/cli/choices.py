"""Options that take one of a few words, or several of them. They are checked as they are read, before heavy imports.

The words are those of the functions behind the commands, which cannot be imported for ``--help``; the tests compare.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from difflib import get_close_matches
from typing import Any

import typer

from featlift.errors import OptionError

MODES = ("pcg", "pcm", "2d", "3d")
PLANES = ("HW", "DW", "DH")
TOKEN_POOLINGS = ("depth", "direct")
ROPE_PERIODS = ("auto", "file", "fp32", "bf16")
PRECISIONS = ("auto", "fp32", "bf16", "fp16")
ORIENTATIONS = ("LPS", "native")
SAVED = ("scan", "dense", "tokens", "slice_mean", "embedding")
DTYPES = ("float16", "float32", "int8")
EMBEDDINGS = ("cls-mean", "patch-mean", "cls-mean+patch-mean")
ENGINES = ("local", "ray")
FEATDICE_PROTOCOLS = ("centre", "prototype")
CENTRES = ("grid", "lesion")
NEAREST = ("corner", "centre")
INPUTS = ("cls", "patch-mean", "cls+patch-mean")
PROBES = ("planecycle", "logistic", "ct-rate")
WEIGHTINGS = ("cells", "labels")
PAIRED = ("seeds", "cases")
TABLES = ("markdown", "csv", "latex", "json")
EXPORTS = ("nifti", "nrrd", "ome-zarr", "npy", "parquet")
GRIDS = ("scan", "cells")
PICTURES = ("png", "svg", "pdf")
ANIMATIONS = ("gif", "webp")
FOREGROUNDS = ("auto", "mask", "none")
HEADS = ("linear", "decoder", "subcube", "dino3dra")
HEAD_FEATURES = ("store", "random", "none")
HEAD_PRECISIONS = ("auto", "fp32", "bf16")
PREDICTED = ("input", "stored")
ABLATIONS = ("room-lite", "calibration")
SPLITS = ("train", "val", "test")


def one_of(words: Sequence[str], help: str, *names: str, **more: Any) -> Any:  # noqa: A002 - typer's own word
    """An option that takes one of these words, in any case.

    Args:
        words: as the function behind the command spells them.
        help: what the choice is about; ``--help`` shows the words beside it.
        names: of the option, as for `typer.Option`.
        more: of `typer.Option`.
    """
    return typer.Option(*names, help=help, metavar="|".join(words), callback=_checked(words, _one), **more)


def some_of(words: Sequence[str], help: str, *names: str, **more: Any) -> Any:  # noqa: A002 - typer's own word
    """An option that takes some of these words, in any case and with commas between; otherwise as `one_of`."""
    return typer.Option(*names, help=help, metavar="|".join(words) + ",...", callback=_checked(words, _some), **more)


def _checked(words: Sequence[str], read: Callable[[str, str, Sequence[str]], str]) -> Callable[..., str | None]:
    def check(param: typer.CallbackParam, value: str | None) -> str | None:
        return value and read(max(param.opts, key=len), value, words)

    return check


def _one(option: str, value: str, words: Sequence[str]) -> str:
    folded = {word.casefold(): word for word in words}
    if (found := folded.get(value.strip().casefold())) is not None:
        return found
    nearest = get_close_matches(value.casefold(), folded, n=1, cutoff=0.5)
    hint = f"; did you mean {folded[nearest[0]]}?" if nearest else ""
    raise OptionError(f"{option} {value!r}: choose one of {', '.join(words)}{hint}")


def _some(option: str, value: str, words: Sequence[str]) -> str:
    return ",".join(_one(option, part, words) for part in value.split(","))
