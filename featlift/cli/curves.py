"""A bar of the rounds of a training."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tqdm import tqdm


def epochs_bar(name: str, measure: str = "dice") -> Callable[[dict[str, float], int], object]:
    """A progress bar of epochs with the loss and what validation measured."""
    from tqdm import tqdm

    shown: list[tqdm[object]] = []

    def tell(row: dict[str, float], epochs: int) -> None:
        if not shown or shown[-1].n >= epochs or row["epoch"] <= shown[-1].n:  # the next fold begins anew
            done = int(row["epoch"]) - 1
            shown.append(tqdm(total=epochs, initial=done, disable=None, desc=f"{name}: training"))
        shown[-1].update(1)
        shown[-1].set_postfix({"loss": f"{row['loss']:.3f}", measure: f"{row[measure]:.3f}"})

    return tell
