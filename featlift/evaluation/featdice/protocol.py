"""Which of the procedures, and with which settings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

from featlift.errors import OptionError
from featlift.evaluation.featdice.segmentation import THRESHOLD, Centre
from featlift.evaluation.sources import STORED, check_sources
from featlift.store.cells import Nearest
from featlift.store.truth import On


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
        on: of ``prototype``: score on the voxels of the stored ``scan``, or on the ``mask``'s own, where features of
            any size can be compared.
        features: what is measured, see `featlift.evaluation.sources.SOURCES`.
    """

    name: Literal["centre", "prototype"] = "prototype"
    centre: Centre = "grid"
    threshold: float = THRESHOLD
    nearest: Nearest = "centre"
    layer: int | None = None
    uncentred: bool = False
    on: On = "scan"
    features: str = STORED

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
        if self.on not in get_args(On):
            raise OptionError(f"on {self.on!r}: choose scan or mask")
        if self.on == "mask" and (self.name, self.nearest) != ("prototype", "centre"):
            raise OptionError("on mask belongs to the protocol prototype with nearest centre")
        check_sources(self.features)

    def as_json(self) -> dict[str, Any]:
        """What of it decides the scores."""
        features: dict[str, Any] = {"layer": self.layer, **({"uncentred": True} if self.uncentred else {})}
        features |= {} if self.on == "scan" else {"on": self.on}
        features |= {} if self.features == STORED else {"features": self.features}
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
            "" if self.on == "scan" else f"on-{self.on}",
            "" if self.features == STORED else self.features,
        ]
        return "-".join(part for part in parts if part)
