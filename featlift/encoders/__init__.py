"""Native 3D networks as encoders of volumes: MONAI's, trained nnU-Nets, 3DME, and those that other packages bring."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from featlift.encoders.catalogue import list_encoders
    from featlift.encoders.native import NativeEncoder
    from featlift.encoders.registry import load_encoder
    from featlift.encoders.request import Request
    from featlift.encoders.stages import Stages

__all__ = ["NativeEncoder", "Request", "Stages", "list_encoders", "load_encoder"]

_HOMES = {
    "NativeEncoder": "native",
    "Request": "request",
    "Stages": "stages",
    "list_encoders": "catalogue",
    "load_encoder": "registry",
}


def __getattr__(name: str) -> Any:
    """Import what is asked for; torch comes with most of it, and listing needs none."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
