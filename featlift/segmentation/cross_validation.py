"""Train a head on every fold."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from featlift.segmentation.folder import Config
from featlift.segmentation.inference.prediction import FOLD
from featlift.segmentation.plan import Plan
from featlift.segmentation.training import train_head
from featlift.store.reading import Store
from featlift.training.splits import Split
from featlift.volumes.source import MaskFile


def cross_validate(
    store: Store,
    masks: Mapping[str, MaskFile],
    splits: Sequence[Split],
    plan: Plan,
    folder: str | Path,
    **how: Any,
) -> Iterator[Config]:
    """Train a head on each split, in ``fold1``, ``fold2``, ... of a folder. Folds that are there are not trained again.

    Args:
        store: of the features.
        masks: the path of the mask of each case, by its id.
        splits: see `featlift.segmentation.folds_of`.
        plan: of every training.
        folder: for the folds.
        how: further arguments of `train_head`.

    Raises:
        FeatliftError: as `train_head`.
    """
    for number, split in enumerate(splits, start=1):
        yield train_head(store, masks, split, plan, Path(folder, f"{FOLD}{number}"), **how)
