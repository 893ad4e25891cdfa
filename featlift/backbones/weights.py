"""Weights from a file into a network: read safely, recognise the layout, account for every key."""

from __future__ import annotations

import contextlib
import hashlib
import io
import pickle
import re
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from featlift.backbones.backbone import family_of
from featlift.backbones.layouts import in_stages, strip_prefix, to_official, unwrap
from featlift.backbones.onnx_file import read_onnx
from featlift.counting import number_of
from featlift.errors import WeightsError

State = dict[str, Tensor]

#: Keys of published files that no feature passes through: masked-image training, DINOv3's second norm for local crops,
#: the heads of self-supervised training.
_NOT_FEATURES = (
    "mask_token",
    "local_cls_norm.",
    "dino_head.",
    "ibot_head.",
    "lm_head.",
    "pre_logits.",
    "projectors.",
    "norms.",
)
#: How many times the size of a file its tensors may take. Weights that were packed by hand shrink by far less.
_MOST_PACKED = 4
#: Endings of keys that say something about others: masks, fixed positions, counters of training.
_DESCRIPTIONS = (".bias_mask", "rope_embed.periods", "rope.freqs_cos", "rope.freqs_sin", ".num_batches_tracked")


def read_weights(path: Path) -> State:
    """Read a state dict from safetensors, from ONNX, or from a torch file with ``weights_only``.

    Nothing but tensors is ever unpickled and there is no fallback.

    Raises:
        WeightsError: the file is missing, broken, unpacks to many times its size, or holds anything but plain tensors.
    """
    if not path.is_file():
        raise WeightsError(f"weights file {path} does not exist")
    try:
        if path.suffix == ".safetensors":
            import safetensors.torch

            return dict(safetensors.torch.load_file(path))
        if path.suffix == ".onnx":
            return read_onnx(path)
        if zipfile.is_zipfile(path):  # torch's format since 1.6; the one before names no more than it holds
            with zipfile.ZipFile(path) as archive:
                _check_size(sum(entry.file_size for entry in archive.infolist()), path)
        state = unwrap(torch.load(path, map_location="cpu", weights_only=True))
        _check_layouts(state)
        _check_size(sum(value.nbytes for value in state.values()), path)  # one number can be repeated for ever
        return state
    except pickle.UnpicklingError as error:
        if (found := re.search(r"GLOBAL (\S+)", str(error))) is None:
            raise WeightsError(
                f"{path.name} cannot be read as weights: it is no torch file, and not named .safetensors"
            ) from error
        raise WeightsError(
            f"{path.name} holds {found[1]} beside its tensors and is not loaded, because unpickling it could run code. "
            "Convert it to safetensors where you trust it"
        ) from error
    except WeightsError as error:
        raise WeightsError(f"{path.name}: {error}") from error
    except Exception as error:  # both readers raise many kinds on broken bytes
        raise WeightsError(f"{path.name} cannot be read as weights: {str(error) or type(error).__name__}") from error


def _check_size(unpacked: int, path: Path) -> None:
    """Refuse a file whose tensors would fill the memory: torch itself packs nothing."""
    if unpacked > _MOST_PACKED * (size := path.stat().st_size):
        raise WeightsError(
            f"its {size / 1e6:,.1f} MB would unpack to {unpacked / 1e6:,.1f} MB, which weights do not: "
            "save them with torch.save, or as safetensors"
        )


def _check_layouts(state: State) -> None:
    """Refuse tensors that are no plain arrays of numbers."""
    for key, value in state.items():
        kinds = {"nested": value.is_nested, "quantized": value.is_quantized, "meta": value.is_meta}
        if value.layout != torch.strided:
            kinds = {str(value.layout).removeprefix("torch."): True}
        if found := [kind for kind, it_is in kinds.items() if it_is]:
            raise WeightsError(f"{key} is a {found[0]} tensor, not a plain one: convert it where the file was made")


def sha256_of_state(state: State) -> str:
    """SHA-256 over names, shapes and values of a state dict, for weights that came from no file."""
    digest = hashlib.sha256()
    for name in sorted(state):
        value = state[name].detach().cpu().contiguous()
        digest.update(f"{name} {tuple(value.shape)} {value.dtype}\n".encode())
        digest.update(value.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def load_into(net: nn.Module, state: State, name: str, unused: tuple[str, ...], prefix: str | None = None) -> State:
    """Load a state dict of any known layout into a timm model, every key accounted for.

    Args:
        net: the timm model.
        state: keys as in the file.
        name: what to call the weights in messages.
        unused: prefixes of timm keys that features never pass through.
        prefix: prefix of the network's keys in the file; None recognises the usual wrappers.

    Returns:
        The state dict in its official layout, for what it says besides the weights (RoPE periods).

    Raises:
        WeightsError: keys are missing, left over, of another shape, or would be dropped.
    """
    try:
        layout, official = to_official(strip_prefix(state, prefix))
        official = _apply_bias_masks(official)
        converted = _to_timm(net, official)
    except WeightsError as error:
        raise WeightsError(f"{name}: {error}") from error
    needed = {key: value for key, value in net.state_dict().items() if _matters(key, unused)}
    given = {key: value for key, value in converted.items() if _matters(key, unused)}
    problems = [
        some_keys("without a value", [key for key in needed if key not in given]),
        some_keys("not of this model", [key for key in given if key not in needed]),
        some_keys(
            "of another shape",
            [
                f"{key} {tuple(given[key].shape)} for {tuple(value.shape)}"
                for key, value in needed.items()
                if key in given and given[key].shape != value.shape
            ],
        ),
        some_keys("that would be dropped", [key for key in _dropped(official, converted) if _matters(key, unused)]),
    ]
    if any(problems):
        found = "; ".join(problem for problem in problems if problem)
        raise WeightsError(
            f"{name} (layout {layout}) does not fit {type(net).__name__}: {found}. "
            "Check --model and --model-arg, or give --weights-prefix if the network's keys stand under a prefix"
        )
    net.load_state_dict(given, strict=False)
    return official


def _matters(key: str, unused: tuple[str, ...]) -> bool:
    """Whether features pass through the value of this key."""
    return not key.startswith((*_NOT_FEATURES, *unused)) and not key.endswith(_DESCRIPTIONS)


def _apply_bias_masks(official: State) -> State:
    """Bring DINOv3's biases to what they add: through their masks, which hide the third of the keys."""
    masked = dict(official)
    for key, bias in official.items():
        if "storage_tokens" not in official or not key.endswith("attn.qkv.bias"):
            continue
        masked[key] = bias * official.get(f"{key}_mask", torch.ones(()))
        if masked[key].chunk(3)[1].any():
            raise WeightsError(f"{key}: its key third is neither masked nor zero, and timm's DINOv3 cannot hold it")
    return masked


def _to_timm(net: nn.Module, official: State) -> State:
    """Apply timm's own conversion for the model's family."""
    from timm.models import convnext, eva, vision_transformer

    family = family_of(net)
    convert: dict[str, Callable[[State, nn.Module], State]] = {
        "Eva": eva.checkpoint_filter_fn,
        "VisionTransformer": partial(vision_transformer.checkpoint_filter_fn, adapt_layer_scale=True),
        "ConvNeXt": convnext.checkpoint_filter_fn,
        "EfficientNet": lambda state, net: in_stages(state, [len(stage) for stage in cast(Any, net).blocks]),
    }
    if family not in convert:
        return official
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # it prints a line a block for biases it leaves out
            return convert[family](dict(official), net)
    except Exception as error:  # it stumbles over foreign keys in many ways
        raise WeightsError(
            f"weights of another architecture than {family} ({type(error).__name__}: {error})"
        ) from error


def _dropped(official: State, converted: State) -> list[str]:
    """Keys that timm's conversion left out: neither their name nor their memory is in its result."""
    kept = [value.data_ptr() for value in converted.values()]
    return [
        key
        for key, value in official.items()
        if key not in converted and value.any() and not any(0 <= at - value.data_ptr() < value.nbytes for at in kept)
    ]


def some_keys(what: str, keys: list[str], most: int = 4) -> str:
    """Name a few of `keys`, or nothing at all."""
    if not keys:
        return ""
    more = f" and {len(keys) - most} more" if len(keys) > most else ""
    return f"{number_of(len(keys), 'key')} {what} ({', '.join(keys[:most])}{more})"
