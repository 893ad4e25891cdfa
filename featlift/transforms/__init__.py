"""Features inside of scikit-learn's pipelines, MONAI's and TorchIO's transforms."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from featlift.transforms.for_monai import LiftedFeaturesd
    from featlift.transforms.for_sklearn import LiftedFeatures
    from featlift.transforms.for_torchio import LiftFeatures

__all__ = ["LiftFeatures", "LiftedFeatures", "LiftedFeaturesd"]

_HOME = {
    "LiftFeatures": "featlift.transforms.for_torchio",
    "LiftedFeatures": "featlift.transforms.for_sklearn",
    "LiftedFeaturesd": "featlift.transforms.for_monai",
}


def __getattr__(name: str) -> Any:
    # MONAI and TorchIO are optional: only those who use a class import what it is for
    if name not in _HOME:
        raise AttributeError(f"module 'featlift.transforms' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)
