"""A network by name, on a device: what both the command line and `featlift.extract` start from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from featlift.backbones.adapters import apply_adapter
from featlift.backbones.loading import load_backbone
from featlift.backbones.precision import place, resolve_device, resolve_precision
from featlift.config import LiftingConfig, NetworkConfig, PreparationConfig
from featlift.config.modes import check_mode
from featlift.encoders import load_encoder
from featlift.errors import OptionError
from featlift.lifting import LiftedBackbone, MagnifiedBackbone, OrientedBackbone, VolumeEncoder, lift
from featlift.volumes import Preparation


def lifted_backbone(
    model: str,
    weights: str | Path | None = None,
    *,
    adapter: str | Path | None = None,
    device: str = "auto",
    precision: str = "auto",
    loading: dict[str, Any] | None = None,
    **lifting: Any,
) -> LiftedBackbone:
    """Load a backbone, bring it to its device and precision, and lift it.

    Args:
        model: a name of the catalogue, or timm's.
        weights: a file, or ``random:SEED``; None takes the published ones.
        adapter: what fine-tuning changed of it, see `featlift.backbones.adapters.apply_adapter`.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1``, ``mps``.
        precision: ``auto``, ``fp32``, ``bf16`` or ``fp16``.
        loading: further arguments of `featlift.load_backbone`.
        **lifting: further arguments of `featlift.lift`.
    """
    on = resolve_device(device)
    backbone = load_backbone(model, weights, precision="fp32", device="cpu", **(loading or {}))  # as adapters want it
    if adapter is not None:
        apply_adapter(backbone, adapter)
    return lift(place(backbone, on, resolve_precision(precision, on, backbone.family)), **lifting)


def encoder_of(network: NetworkConfig, lifting: LiftingConfig) -> VolumeEncoder:
    """The encoder that a configuration asks for: a native 3D network, or a lifted backbone.

    Raises:
        OptionError: options of the one with the other.
        FeatliftError: what `load_encoder` and `lifted_backbone` raise.
    """
    check_mode(network, lifting)
    if lifting.mode != "native":
        return lifted_network(network, lifting)
    return load_encoder(
        network.model,
        network.weights,
        weights_prefix=network.weights_prefix,
        layers=lifting.layers,
        tile=lifting.tile,
        device=network.device,
        precision=network.precision,
        memory=lifting.memory,
        offload=lifting.offload,
        **(network.model_args or {}),
    )


def preparation_of(config: PreparationConfig, encoder: VolumeEncoder) -> Preparation:
    """The preparation that a configuration asks for; a network that was trained with one of its own has that.

    Raises:
        OptionError: another value than the network's own.
    """
    own = dict(getattr(encoder, "preparation", {}))
    wanted, plain = Preparation.of(config), Preparation()
    asked, default, has = (each.as_recipe() for each in (wanted, plain, replace(plain, **own)))
    for name in own:
        if asked.get(name) not in (default.get(name), has.get(name)):
            flag = name.replace("_", "-")
            raise OptionError(f"--{flag}: {encoder.name} has its own from its training, {own[name]}: leave it out")
    return replace(wanted, **own)


def lifted_network(
    network: NetworkConfig, lifting: LiftingConfig
) -> LiftedBackbone | OrientedBackbone | MagnifiedBackbone:
    """The lifted backbone that a configuration asks for, along its axes, or magnified; raises as `lifted_backbone`."""
    loading = {
        "weights_prefix": network.weights_prefix,
        "rope_periods": network.rope_periods,
        "position_resize": network.position_resize,
    }
    options = {**vars(lifting)}
    magnify, tile = options.pop("magnify"), options.pop("tile")
    orienting = {name: options.pop(name) for name in ("orientations", "cell", "step", "fuse")}
    lifted = lifted_backbone(
        network.model,
        network.weights,
        adapter=network.adapter,
        device=network.device,
        precision=network.precision,
        loading={**loading, **(network.model_args or {})},
        **options,
    )
    if magnify > 1 or tile:
        return MagnifiedBackbone(lifted, magnify, tile or None)
    return lifted if orienting["orientations"] == ("axial",) else OrientedBackbone(lifted, **orienting)
