"""``nnunet:FOLDER``: the encoder of a trained nnU-Net v2, so of every task of TotalSegmentator."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from featlift.backbones.loading import seed_of
from featlift.backbones.weights import read_weights, sha256_of_state
from featlift.checksums import sha256_of_file
from featlift.encoders.catalogue import INSTALL_NNUNET
from featlift.encoders.native import NativeEncoder
from featlift.encoders.nnunet_plans import Plans, read_plans
from featlift.encoders.request import Request
from featlift.encoders.stages import VOXELS, Stages, layer_at, main_path, through
from featlift.encoders.states import build, fill
from featlift.errors import InputError, ModelError, WeightsError

_NETWORKS = "dynamic_network_architectures.architectures."
#: Where the classes that plans name as arguments may come from.
_PARTS = ("torch.nn.", "dynamic_network_architectures.building_blocks.")
_BESIDE = ("skip", "squeeze_excitation", "drop_path")
_ARGUMENTS = ("fold", "configuration", "checkpoint", "axes")

#: What nnU-Net writes beside its tensors: the numbers of its training curves. All of it is data.
_SCALARS: Any = np._core.multiarray.scalar  # type: ignore[attr-defined]
_HARMLESS: list[Any] = [
    np.dtype,
    *(type(np.dtype(name)) for name in ("float16", "float32", "float64", "int32", "int64", "bool")),
    (_SCALARS, "numpy.core.multiarray.scalar"),
    (_SCALARS, "numpy._core.multiarray.scalar"),
]


class UnetStages(Stages):
    """The encoder of a U-Net of dynamic_network_architectures."""

    def __init__(self, encoder: Any, channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.stem, self.stages = getattr(encoder, "stem", None), encoder.stages
        place = VOXELS if self.stem is None else through(VOXELS, main_path(self.stem))
        layers = []
        for index, (stage, width) in enumerate(zip(self.stages, encoder.output_channels, strict=True)):
            place = through(place, main_path(stage, _BESIDE))
            layers.append(layer_at(index, f"encoder.stages.{index}", int(width), place))
        self.layers = tuple(layers)

    def forward(self, volume: Tensor, last: int) -> Sequence[Tensor]:
        """See `Stages`."""
        found = [volume if self.stem is None else self.stem(volume)]
        for stage in self.stages[: last + 1]:
            found.append(stage(found[-1]))
        return found[1:]


def load(request: Request) -> NativeEncoder:
    """The encoder of a trained model's folder.

    Its ``--model-arg`` are ``fold`` (0), ``configuration`` (by the folder's name), ``checkpoint``
    (checkpoint_final.pth) and ``axes``: which way those of the training scans ran, ``file``, ``LPS`` or ``RAS``.

    Raises:
        InputError: no such folder, or files in it.
        ModelError: plans of nnU-Net v1, another kind of network, or dynamic_network_architectures is not installed.
        WeightsError: a checkpoint that is unsafe, or of another architecture.
    """
    given = request.arguments
    if unknown := sorted(set(given) - set(_ARGUMENTS)):
        raise ModelError(f"nnunet: --model-arg {unknown[0]}: give {', '.join(_ARGUMENTS)}; plans.json says the rest")
    if request.weights_prefix is not None:
        raise ModelError("nnunet: --weights-prefix has no meaning with a trained model's folder: leave it out")
    folder = Path(request.name)
    plans = read_plans(folder, given.get("configuration"), given.get("axes"))
    name = f"nnunet:{plans.dataset}"
    weights = request.weights
    if weights is not None and not weights.startswith("random:"):
        raise WeightsError(f"{name}: its weights lie in its folder; --weights takes random:SEED, or nothing")
    fold, checkpoint = _fold(folder, given.get("fold")), str(given.get("checkpoint", "checkpoint_final.pth"))
    if weights is None:
        path = folder / f"fold_{fold}" / checkpoint
        with torch.serialization.safe_globals(_HARMLESS):
            state = read_weights(path)  # told before anything is built
        network = build(name, lambda: _network(plans))
        state = {key.removeprefix("module.").removeprefix("_orig_mod."): value for key, value in state.items()}
        fill(network, state, f"fold_{fold}/{checkpoint}", f"the plans of {name}", ("encoder.",))
        origin = {"source": f"{name}/fold_{fold}/{checkpoint}", "sha256": sha256_of_file(path)}
    else:
        network = build(name, lambda: _network(plans), seed_of(weights))
        origin = {"source": weights, "sha256": sha256_of_state(network.state_dict())}
    encoder = network.encoder
    if not isinstance(getattr(encoder, "stages", None), nn.Sequential):
        raise ModelError(f"{name}: {plans.network} has no encoder in stages; featlift takes nnU-Net's U-Nets")
    resolved = {"fold": fold, "configuration": plans.configuration, "checkpoint": checkpoint, "axes": plans.runs}
    return NativeEncoder(
        name,
        UnetStages(encoder, plans.channels),
        replace(request, arguments=resolved),
        origin,
        tile=plans.patch,
        axes=plans.axes,
        mean=plans.mean,
        std=plans.std,
        about={"plans_sha256": plans.sha256},
        preparation=plans.preparation,
    )


def _fold(folder: Path, given: object) -> str:
    """The fold that was asked for; otherwise the first, or the one of all cases."""
    here = sorted(each.name.removeprefix("fold_") for each in folder.glob("fold_*") if each.is_dir())
    fold = str(given) if given is not None else next((each for each in ("0", "all", *here) if each in here), "0")
    if fold not in here:
        raise InputError(f"{folder.name} has no fold_{fold}: give --model-arg fold= one of {', '.join(here) or 'none'}")
    return fold


def _network(plans: Plans) -> Any:
    """Build what plans name: a network of dynamic_network_architectures, of its parts and torch's, and nothing else."""
    if not plans.network.startswith(_NETWORKS):
        raise ModelError(f"plans.json names {plans.network}: only {_NETWORKS}* is built")
    arguments = dict(plans.arguments)
    for key in plans.imported:
        if (path := arguments.get(key)) is not None:
            if not str(path).startswith(_PARTS):
                raise ModelError(f"plans.json names {path} as {key}: only classes of {' and '.join(_PARTS)} are built")
            arguments[key] = _class(str(path))
    if arguments.get("conv_op") is not nn.Conv3d:
        raise ModelError(f"{plans.configuration} convolves with {arguments.get('conv_op')}, not in 3D")
    return _class(plans.network)(input_channels=plans.channels, num_classes=2, deep_supervision=False, **arguments)


def _class(path: str) -> type[nn.Module]:
    module, _, name = path.rpartition(".")
    try:
        found = getattr(import_module(module), name, None)
    except ImportError as error:
        if error.name and not error.name.startswith(module.partition(".")[0]):
            raise
        raise ModelError(f"{path} is not to be had ({error}): {INSTALL_NNUNET}") from error
    if not (isinstance(found, type) and issubclass(found, nn.Module)):
        raise ModelError(f"{path} is no network's class")
    return found
