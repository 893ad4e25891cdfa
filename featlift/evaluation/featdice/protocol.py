"""Which of the procedures, and with which settings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

from featlift.errors import OptionError
from featlift.evaluation.featdice.segmentation import THRESHOLD, Centre
from featlift.store.cells import Nearest


@dataclass(frozen=True)
class Protocol:
    """How features are turned into a segmentation.

    Attributes:
        name: ``centre``, see `segment_by_centre`, or ``prototype``, see `segment_by_prototypes`.
        centre: of ``centre``: the middle of the ``grid``, or of the ``lesion``.
        threshold: of ``centre``.
        nearest: of ``prototype``: the voxel whose label a cell takes, see `CellGrid.labels_on_cells`; ``corner`` as the
            released notebook.
        layer: absolute index; None takes the deepest.
        uncentred: give reduced features their mean back, see `CaseLayer.uncentred`.
    """

    name: Literal["centre", "prototype"] = "prototype"
    centre: Centre = "grid"
    threshold: float = THRESHOLD
    nearest: Nearest = "centre"
    layer: int | None = None
    uncentred: bool = False

    def __post_init__(self) -> None:
        if self.name not in ("centre", "prototype"):
            raise OptionError(f"protocol {self.name!r}: choose centre or prototype")
        if self.centre not in get_args(Centre):
            raise OptionError(f"centre {self.centre!r}: choose grid or lesion")
        if self.nearest not in get_args(Nearest):
            raise OptionError(f"nearest {self.nearest!r}: choose corner or centre")
        if not 0 <= self.threshold < 1:
            raise OptionError(f"threshold {self.threshold}: give a number from 0 to below 1, the range of the maps")
        if self.name == "prototype" and (self.centre != "grid" or self.threshold != THRESHOLD):
            raise OptionError("centre and threshold belong to the protocol centre, not to prototype")
        if self.name == "centre" and self.nearest != "centre":
            raise OptionError("nearest belongs to the protocol prototype, not to centre")

    def as_json(self) -> dict[str, Any]:
        """What of it decides the scores."""
        features = {"layer": self.layer, **({"uncentred": True} if self.uncentred else {})}
        if self.name == "centre":
            return {"name": self.name, "centre": self.centre, "threshold": self.threshold, **features}
        return {"name": self.name, "nearest": self.nearest, **features}

    @property
    def label(self) -> str:
        """Its name, the reading of labels, and what of the rest is not the default, for names of files."""
        parts = [
            self.name,
            "" if self.centre == "grid" else self.centre,
            "" if self.threshold == THRESHOLD else f"above{self.threshold:g}",
            f"nearest-{self.nearest}" if self.name == "prototype" else "",
            "" if self.layer is None else f"layer{self.layer}",
            "uncentred" if self.uncentred else "",
        ]
        return "-".join(part for part in parts if part)
