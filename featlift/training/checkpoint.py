"""Where a training is after each epoch, so that a killed one goes on."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from featlift.atomic_io import write_atomically
from featlift.errors import OptionError, StoreError
from featlift.store.layout import differing_fields

CHECKPOINT = "checkpoint.pt"


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A training after some epochs.

    Attributes:
        asked: what decides its result.
        network: state of what is trained.
        optimiser: state of the optimiser.
        best: state of what is trained, after its best epoch.
        rows: of the curves.
    """

    asked: dict[str, Any]
    network: dict[str, Tensor]
    optimiser: dict[str, Any]
    best: dict[str, Tensor]
    rows: list[dict[str, float]]


def write_checkpoint(folder: Path, checkpoint: Checkpoint) -> None:
    """Put a checkpoint in the place of the last one, in one step."""
    write_atomically(folder / CHECKPOINT, lambda draft: torch.save(vars(checkpoint), draft))


def read_checkpoint(folder: Path) -> Checkpoint | None:
    """The checkpoint of a folder, None if it has none.

    Raises:
        StoreError: it is damaged.
    """
    path = folder / CHECKPOINT
    if not path.exists():
        return None
    try:
        return Checkpoint(**torch.load(path, map_location="cpu", weights_only=True))
    except (OSError, RuntimeError, EOFError, TypeError, pickle.UnpicklingError) as error:
        raise StoreError(f"{path}: not a readable checkpoint; remove it to train from the beginning") from error


def interrupted(folder: Path, asked: dict[str, Any]) -> Checkpoint | None:
    """The checkpoint to go on from, None if there is none.

    Raises:
        OptionError: it is of a training that was asked for otherwise.
        StoreError: it is damaged.
    """
    state = read_checkpoint(folder)
    if state is not None:
        check_same(state.asked, asked, folder)
    return state


def check_same(theirs: Mapping[str, Any], ours: Mapping[str, Any], folder: Path) -> None:
    """Refuse to go on with, or to take as done, what was asked for otherwise, with an `OptionError`."""
    if differences := differing_fields(dict(theirs), dict(ours), "there", "asked"):
        raise OptionError(
            f"{folder} holds a training of another plan: {'; '.join(_short(each) for each in differences)}. "
            "Give another -o, or remove it"
        )


def _short(text: str, most: int = 200) -> str:
    return text if len(text) <= most else text[:most] + "..."


def remove_checkpoint(folder: Path) -> None:
    """Remove it: the training has ended."""
    (folder / CHECKPOINT).unlink(missing_ok=True)
