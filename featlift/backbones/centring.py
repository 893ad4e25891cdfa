"""Where the cells of a convolutional network's layers look: known, remembered, or measured once for its weights."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from threading import Timer

from featlift.atomic_io import write_atomically
from featlift.backbones.backbone import Backbone, Layer
from featlift.backbones.catalogue import OFFSETS
from featlift.backbones.mirror import BORDER, looking_at

Offsets = Sequence[float | None]

#: Raised whenever the measure would give other offsets: what was remembered before is then measured anew.
_MEASURE = 1
_LONG = 10.0  # seconds after which a notice says what is waited for

_log = logging.getLogger(__name__)


def centred(backbone: Backbone) -> tuple[Layer, ...]:
    """The layers of a network with their cells where the trained network looks.

    That is what the catalogue has of these weights, or what an earlier run on this machine remembers, or what
    `featlift.backbones.mirror` measures now. A layer keeps the middle of its windows where the measure is not clear, or
    where the two differ by no more than a 32nd of the stride, which is how well it can be told.

    Random weights keep theirs too: nothing was trained that could look elsewhere.

    Args:
        backbone: a convolutional network with its weights, in float32 on the CPU and in evaluation mode.
    """
    if backbone.weights["source"].startswith("random:"):
        return backbone.layers
    offsets = _offsets_of(backbone)
    return tuple(
        layer.looking_at(offset if offset is not None and _differs(layer, offset) else None)
        for layer, offset in zip(backbone.layers, offsets, strict=True)
    )


def _differs(layer: Layer, offset: float) -> bool:
    return abs(offset - layer.sampling.offset) > layer.sampling.stride / 32


def _offsets_of(backbone: Backbone) -> Offsets:
    known = OFFSETS.get((backbone.name, backbone.weights["sha256"]))
    if known is not None and not backbone.arguments:
        return known
    file = _cache() / f"{_key(backbone)}.json"
    offsets = _remembered(file, backbone)
    if offsets is None:
        offsets = _measured(backbone)
        _remember(file, offsets)
    return offsets


def _measured(backbone: Backbone) -> Offsets:
    if BORDER % backbone.stride:
        return [None] * len(backbone.layers)
    notice = Timer(_LONG, _log.warning, ["featlift: measuring where %s looks, once for these weights", backbone.name])
    notice.daemon = True
    notice.start()
    try:
        return looking_at(backbone)
    finally:
        notice.cancel()


def _key(backbone: Backbone) -> str:
    """A name for all that the offsets depend on."""
    on = {
        "measure": _MEASURE,
        "model": backbone.name,
        "arguments": {name: repr(value) for name, value in backbone.arguments.items()},
        "weights": [backbone.weights["sha256"], backbone.weights.get("prefix")],
        "scaling": [backbone.mean, backbone.std],
    }
    return hashlib.sha256(json.dumps(on, sort_keys=True).encode()).hexdigest()


def _cache() -> Path:
    """The folder of what was measured on this machine, below ``XDG_CACHE_HOME`` or ``~/.cache``."""
    above = os.environ.get("XDG_CACHE_HOME")
    return (Path(above) if above else Path(os.path.expanduser("~"), ".cache")) / "featlift" / "centres"


def _remembered(file: Path, backbone: Backbone) -> Offsets | None:
    """The offsets in a file of the cache, or None if it is not there or makes no sense."""
    try:
        offsets: Offsets = json.loads(file.read_bytes())["offsets"]
        makes_sense = [
            offset is None or ((2 * offset).is_integer() and abs(offset) <= 4 * layer.sampling.stride)
            for layer, offset in zip(backbone.layers, offsets, strict=True)
        ]
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None
    return offsets if all(makes_sense) else None


def _remember(file: Path, offsets: Offsets) -> None:
    """Keep offsets for later runs; a cache that cannot be written costs a measure, and nothing else."""
    with suppress(OSError):
        write_atomically(file, lambda draft: draft.write_text(json.dumps({"offsets": offsets})))
