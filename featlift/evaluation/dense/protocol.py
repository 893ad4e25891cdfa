"""How the dense probe is trained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

from featlift.errors import OptionError

Weighting = Literal["cells", "labels"]


@dataclass(frozen=True)
class DenseProtocol:
    """How the classifier is trained.

    Attributes:
        weighting: every one of the ``cells`` counts alike, or every one of the ``labels``, however rare it is.
        cells: at most as many are trained on, of all cases together: what memory there is for their features.
        c: inverse of the penalty on the weights, see `fit_linear`.
        layer: absolute index; None takes the deepest.
    """

    weighting: Weighting = "cells"
    cells: int = 100_000
    c: float = 1.0
    layer: int | None = None

    def __post_init__(self) -> None:
        if self.weighting not in get_args(Weighting):
            raise OptionError(f"weighting {self.weighting!r}: choose cells or labels")
        if self.cells < 1 or not self.c > 0:
            raise OptionError(f"cells {self.cells}, c {self.c}: give numbers above 0")

    def as_json(self) -> dict[str, Any]:
        """What of it decides the scores."""
        return {"name": "linear", **vars(self)}

    @property
    def label(self) -> str:
        """What of it is not the default, for names of files."""
        parts = [
            "" if self.weighting == "cells" else f"weighting-{self.weighting}",
            "" if self.cells == DenseProtocol.cells else f"cells{self.cells}",
            "" if self.c == DenseProtocol.c else f"c{self.c:g}",
            "" if self.layer is None else f"layer{self.layer}",
        ]
        return "-".join(part for part in parts if part)
