"""How the dense probe is trained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

from featlift.errors import OptionError
from featlift.evaluation.sources import STORED, check_sources
from featlift.store.truth import On

Weighting = Literal["cells", "labels"]


@dataclass(frozen=True)
class DenseProtocol:
    """How the classifier is trained.

    Attributes:
        weighting: every one of the ``cells`` counts alike, or every one of the ``labels``, however rare it is.
        cells: at most as many are trained on, of all cases together: what memory there is for their features.
        c: inverse of the penalty on the weights, see `fit_linear`.
        layer: absolute index; None takes the deepest.
        on: ``scan`` trains on cells and scores on the voxels of the stored scan; ``mask`` trains and scores on the
            mask's own voxels, features being interpolated linearly: thin labels keep their voxels, and scores of
            features of any size can be compared.
        features: what is probed, see `featlift.evaluation.sources.SOURCES`.
    """

    weighting: Weighting = "cells"
    cells: int = 100_000
    c: float = 1.0
    layer: int | None = None
    on: On = "scan"
    features: str = STORED

    def __post_init__(self) -> None:
        if self.weighting not in get_args(Weighting):
            raise OptionError(f"weighting {self.weighting!r}: choose cells or labels")
        if self.cells < 1 or not self.c > 0:
            raise OptionError(f"cells {self.cells}, c {self.c}: give numbers above 0")
        if self.on not in get_args(On):
            raise OptionError(f"on {self.on!r}: choose scan or mask")
        check_sources(self.features)

    def as_json(self) -> dict[str, Any]:
        """What of it decides the scores."""
        usual = {"on": "scan", "features": STORED}
        told = {name: value for name, value in vars(self).items() if value != usual.get(name)}
        return {"name": "linear", **told}

    @property
    def label(self) -> str:
        """What of it is not the default, for names of files."""
        parts = [
            "" if self.weighting == "cells" else f"weighting-{self.weighting}",
            "" if self.cells == DenseProtocol.cells else f"cells{self.cells}",
            "" if self.c == DenseProtocol.c else f"c{self.c:g}",
            "" if self.layer is None else f"layer{self.layer}",
            "" if self.on == "scan" else f"on-{self.on}",
            "" if self.features == STORED else self.features,
        ]
        return "-".join(part for part in parts if part)
