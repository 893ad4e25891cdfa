"""Arrays and what is to be known of them in one file: safetensors with JSON in its metadata."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featlift.store.layout import canonical

_ABOUT = "featlift"  # one entry: safetensors writes several in any order


def pack(tensors: Mapping[str, NDArray[Any]], about: Mapping[str, Any]) -> bytes:
    """The bytes of a file that holds these arrays and, as JSON, these values: the same for the same contents."""
    from safetensors.numpy import save

    return save({name: np.ascontiguousarray(array) for name, array in tensors.items()}, {_ABOUT: canonical(about)})


def unpack(content: bytes) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """The arrays and the values of such a file; raises one of many errors if it is none."""
    from safetensors.numpy import load

    length = int.from_bytes(content[:8], "little")
    about: dict[str, Any] = json.loads(json.loads(content[8 : 8 + length])["__metadata__"][_ABOUT])
    return load(content), about
