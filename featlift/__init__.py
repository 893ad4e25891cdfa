"""featlift: 3D scans to volumetric embeddings with frozen 2D foundation models."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from featlift.errors import FeatliftError
from featlift.version import __version__

if TYPE_CHECKING:
    from featlift.backbones.catalogue import list_models
    from featlift.backbones.loading import load_backbone
    from featlift.cohort import extract_cohort
    from featlift.embedding import embed
    from featlift.extraction import extract
    from featlift.lifting import Features, LiftedBackbone, MagnifiedBackbone, OrientedBackbone, lift
    from featlift.store import Case, Store, open_store
    from featlift.store.patches import FeaturePatches
    from featlift.volumes import Preparation, Prepared, Volume, find_masks, prepare, read, read_mask

__all__ = [
    "Case",
    "FeatliftError",
    "FeaturePatches",
    "Features",
    "LiftedBackbone",
    "MagnifiedBackbone",
    "OrientedBackbone",
    "Preparation",
    "Prepared",
    "Store",
    "Volume",
    "__version__",
    "embed",
    "extract",
    "extract_cohort",
    "find_masks",
    "lift",
    "list_models",
    "load_backbone",
    "open_store",
    "prepare",
    "read",
    "read_mask",
]

_HOME = {
    "load_backbone": "featlift.backbones.loading",
    "embed": "featlift.embedding",
    "extract": "featlift.extraction",
    "extract_cohort": "featlift.cohort",
    "list_models": "featlift.backbones.catalogue",
    "FeaturePatches": "featlift.store.patches",
    **dict.fromkeys(
        ("Features", "LiftedBackbone", "MagnifiedBackbone", "OrientedBackbone", "lift"), "featlift.lifting"
    ),
    **dict.fromkeys(("Case", "Store", "open_store"), "featlift.store"),
    **dict.fromkeys(
        ("Preparation", "Prepared", "Volume", "find_masks", "prepare", "read", "read_mask"), "featlift.volumes"
    ),
}


def __dir__() -> list[str]:
    return [*__all__, *(name for name in globals() if name.startswith("__"))]


def __getattr__(name: str) -> Any:
    # torch and zarr take seconds to import: only those who use them wait
    if name not in _HOME:
        raise AttributeError(f"module 'featlift' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)
