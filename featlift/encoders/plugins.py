"""Encoders that other packages bring: entry points of the group ``featlift.encoders``.

An entry point names a function that takes a `featlift.encoders.Request` and returns a `featlift.lifting.VolumeEncoder`,
usually a `featlift.encoders.NativeEncoder`.
"""

from __future__ import annotations

from importlib.metadata import EntryPoint

from featlift.encoders.catalogue import package_of
from featlift.encoders.request import Request
from featlift.errors import FeatliftError, ModelError
from featlift.lifting.encoder import VolumeEncoder

_MEMBERS = ("name", "feature_layers", "token_names", "tokens_per_slice", "size_multiple", "normed", "device", "weights")
_CALLED = ("recipe", "looking_at", "__call__")


def load(entry: EntryPoint, request: Request) -> VolumeEncoder:
    """The encoder of a plugin; raises a ModelError if it cannot be had."""
    package = package_of(entry)
    try:
        encoder = entry.load()(request)
    except FeatliftError:
        raise
    except Exception as error:  # foreign code raises what it likes
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise ModelError(f"{entry.name}, of {package or entry.value}, cannot be loaded ({reason})") from error
    lacking = [name for name in (*_MEMBERS, *_CALLED) if not hasattr(encoder, name)]
    if lacking:
        raise ModelError(
            f"{entry.name}, of {package or entry.value}, is no encoder: it lacks {', '.join(lacking)}; "
            "see docs/how-to/native-encoders.md"
        )
    found: VolumeEncoder = encoder
    return found
