"""Import timm beside a CPU build of torch.

timm imports torchvision. The torchvision on PyPI is built against CUDA torch; beside a CPU torch its compiled
operators do not load, and its import stops at `operator torchvision::nms does not exist`, because it registers a shape
function for an operator that nobody defined. featlift uses no torchvision operator, so declaring the two missing
schemas is enough. With a torchvision that works, nothing here acts.
"""

from __future__ import annotations

import importlib
import sys
from functools import cache
from types import ModuleType
from typing import Any

_MISSING_SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
_libraries: list[Any] = []  # torch forgets a schema when its Library is collected


@cache
def import_timm() -> ModuleType:
    """Return the `timm` module, declaring torchvision's missing operator schemas if that is what stops it."""
    try:
        return importlib.import_module("timm")
    except RuntimeError as error:
        if "torchvision::nms" not in str(error):
            raise
    import torch

    for name in [name for name in sys.modules if name.partition(".")[0] in ("torchvision", "timm")]:
        del sys.modules[name]
    library = torch.library.Library("torchvision", "FRAGMENT")
    for schema in _MISSING_SCHEMAS:
        library.define(schema)
    _libraries.append(library)
    return importlib.import_module("timm")


def acted() -> bool:
    """Whether `import_timm` had to declare the schemas."""
    return bool(_libraries)
