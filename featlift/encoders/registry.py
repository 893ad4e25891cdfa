"""`load_encoder`: a native 3D network by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from featlift.backbones.precision import place_precision, resolve_device, resolve_precision
from featlift.encoders import monai_networks, nnunet, plugins
from featlift.encoders.catalogue import list_encoders
from featlift.encoders.catalogue import plugins as brought_by_packages
from featlift.encoders.request import Request
from featlift.encoders.threedme import load as threedme
from featlift.errors import ModelError, OptionError
from featlift.lifting.encoder import VolumeEncoder
from featlift.sizes import parse_size

_KINDS: dict[str, Callable[[Request], VolumeEncoder]] = {
    "monai": monai_networks.load,
    "nnunet": nnunet.load,
    "3dme": threedme.load,
}


def load_encoder(
    name: str,
    weights: str | Path | None = None,
    *,
    weights_prefix: str | None = None,
    layers: int | str | Sequence[int | str] = (-1,),
    tile: int | Sequence[int] | None = None,
    device: str = "auto",
    precision: str = "auto",
    memory: int | str = "auto",
    offload: bool = False,
    **model_args: Any,
) -> VolumeEncoder:
    """A native 3D network by name, in evaluation mode and frozen.

    Args:
        name: ``monai:SegResNet``, ``monai:SegResEncoder``, ``monai:SwinUNETR``, ``nnunet:FOLDER``,
            ``3dme:FOLDER``, ``3dme:base``, ``3dme:tiny``, or the name of a plugin.
        weights: a safetensors or torch file, or ``random:SEED``; None takes what it comes with.
        weights_prefix: of the network's keys in the file.
        layers: stages to return: absolute indices, negative ones from the end, or ``"stride16"``.
        tile: voxels of a tile, for all axes or (D, H, W); None leaves it to the network.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1``, ``mps``.
        precision: ``auto`` (``fp32``), ``fp32``, ``bf16`` or ``fp16``.
        memory: what a tile may take, such as ``"2GB"`` or bytes; ``auto`` goes by what is free.
        offload: keep features in host memory.
        **model_args: arguments of the network.

    Raises:
        ModelError: no such network or device, or it cannot be built.
        WeightsError: weights missing, unsafe, or of another architecture.
        LiftingError: a layer that it does not have.
        LiftingMemoryError: a tile that takes more memory than there is.
        OptionError: a tile that makes no sense.
    """
    kind, _, rest = name.partition(":")
    brought = brought_by_packages()
    if (kind not in _KINDS or not rest) and name not in brought:
        known = [each.name for each in list_encoders()]
        nearest = get_close_matches(name, known, n=1, cutoff=0.5)
        hint = f"did you mean {nearest[0]}?" if nearest else f"choose one of {', '.join(known)}"
        raise ModelError(f"{name!r} is no native 3D network: {hint}")
    on = resolve_device(device)
    request = Request(
        rest if kind in _KINDS and rest else name,
        None if weights is None else str(weights),
        weights_prefix,
        (layers,) if isinstance(layers, (int, str)) else tuple(layers),
        _tile(tile),
        on,
        place_precision(on, resolve_precision(precision, on, "native")),
        parse_size(memory),
        offload,
        model_args,
    )
    return _KINDS[kind](request) if kind in _KINDS and rest else plugins.load(brought[name], request)


def _tile(given: int | Sequence[int] | None) -> tuple[int, int, int] | None:
    sizes = (given,) if isinstance(given, int) else tuple(given or ())
    if not sizes:
        return None
    sizes = sizes * 3 if len(sizes) == 1 else sizes
    if len(sizes) != 3 or any(size < 1 for size in sizes):
        raise OptionError(f"--tile {','.join(map(str, sizes))}: give voxels for all axes at once, or for D,H,W")
    d, h, w = sizes
    return d, h, w
