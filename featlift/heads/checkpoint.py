"""Where a training is after each epoch, so that a killed one goes on."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from featlift.atomic_io import write_atomically
from featlift.errors import StoreError

CHECKPOINT = "checkpoint.pt"


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A training after some epochs.

    Attributes:
        asked: what decides its result.
        head: state of the head.
        optimiser: state of the optimiser.
        best: state of the head after its best epoch.
        rows: of the curves.
    """

    asked: dict[str, Any]
    head: dict[str, Tensor]
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


def remove_checkpoint(folder: Path) -> None:
    """Remove it: the training has ended."""
    (folder / CHECKPOINT).unlink(missing_ok=True)
