"""Weights from a file into a network: read safely, recognise the layout, account for every key."""

from __future__ import annotations

import contextlib
import hashlib
import io
import pickle
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from featlift.backbones.backbone import family_of
from featlift.backbones.layouts import strip_prefix, to_official, unwrap
from featlift.errors import WeightsError

State = dict[str, Tensor]

#: Keys of published files that no feature passes through: masked-image training, DINOv3's second norm for local crops,
#: the heads of self-supervised training, buffers that only describe others.
_NOT_FEATURES = ("mask_token", "local_cls_norm.", "dino_head.", "ibot_head.", "projectors.", "norms.")
_DESCRIPTIONS = ("rope_embed.periods", ".bias_mask")


def read_weights(path: Path) -> State:
    """Read a state dict from safetensors, or from a torch file with ``weights_only``.

    Nothing but tensors is ever unpickled and there is no fallback.

    Raises:
        WeightsError: the file is missing, broken, or holds objects other than tensors.
    """
    if not path.is_file():
        raise WeightsError(f"weights file {path} does not exist")
    try:
        if path.suffix == ".safetensors":
            import safetensors.torch

            return dict(safetensors.torch.load_file(path))
        return unwrap(torch.load(path, map_location="cpu", weights_only=True))
    except pickle.UnpicklingError as error:
        reason = str(error).strip().splitlines()[0]
        raise WeightsError(
            f"{path.name} holds more than tensors and is not loaded, because unpickling it could run code ({reason}). "
            "Convert it to safetensors where you trust it"
        ) from error
    except WeightsError as error:
        raise WeightsError(f"{path.name}: {error}") from error
    except Exception as error:  # both readers raise many kinds on broken bytes
        raise WeightsError(f"{path.name} cannot be read as weights: {error}") from error


def sha256_of_file(path: Path) -> str:
    """SHA-256 of a file's bytes, as hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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
    layout, official = to_official(strip_prefix(state, prefix))
    converted = _to_timm(net, dict(official))
    expected = net.state_dict()
    converted = {key: value for key, value in converted.items() if key in expected or not key.startswith(unused)}
    problems = [
        _some("without a value", [key for key in expected if key not in converted]),
        _some("not of this model", [key for key in converted if key not in expected and not _is_known_extra(key)]),
        _some(
            "of another shape",
            [
                f"{key} {tuple(converted[key].shape)} for {tuple(expected[key].shape)}"
                for key in expected
                if key in converted and converted[key].shape != expected[key].shape
            ],
        ),
        _some("that would be dropped", _dropped(official, converted, unused)),
    ]
    if any(problems):
        found = "; ".join(problem for problem in problems if problem)
        raise WeightsError(
            f"{name} (layout {layout}) does not fit {type(net).__name__}: {found}. "
            "Check --model and --model-arg, or give --weights-prefix if the network's keys stand under a prefix"
        )
    net.load_state_dict({key: converted[key] for key in expected})
    return official


def load_in_order(net: nn.Module, state: State, name: str) -> None:
    """Copy tensors one by one in their order, for a file whose keys differ but whose layers are the same.

    Raises:
        WeightsError: number or shapes differ.
    """
    expected = net.state_dict()
    if len(expected) != len(state) or any(
        a.shape != b.shape for a, b in zip(expected.values(), state.values(), strict=True)
    ):
        raise WeightsError(f"{name}: its {len(state)} tensors are not those of {type(net).__name__} in order")
    net.load_state_dict(dict(zip(expected, state.values(), strict=True)))


def _to_timm(net: nn.Module, official: State) -> State:
    """Apply timm's own conversion for the model's family."""
    from timm.models import convnext, eva, vision_transformer

    family = family_of(net)
    if "storage_tokens" in official:
        _check_key_bias(official)
    convert: dict[str, Any] = {
        "Eva": eva.checkpoint_filter_fn,
        "VisionTransformer": vision_transformer.checkpoint_filter_fn,
        "ConvNeXt": convnext.checkpoint_filter_fn,
    }
    if family not in convert:
        return official
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # it prints a line a block for biases it leaves out
            return dict(convert[family](official, net))
    except (KeyError, AttributeError, RuntimeError, ValueError) as error:
        raise WeightsError(f"weights of another architecture than {family}: {error}") from error


def _check_key_bias(official: State) -> None:
    """Make sure that the key bias is masked or zero, because DINOv3 in timm has none."""
    for key, bias in official.items():
        if not key.endswith("attn.qkv.bias"):
            continue
        mask = official.get(f"{key}_mask")
        effective = bias if mask is None else bias * mask
        key_bias = effective.chunk(3)[1]
        if key_bias.nan_to_num().any():
            raise WeightsError(f"{key}: its key third is neither masked nor zero, and timm's DINOv3 cannot hold it")


def _dropped(official: State, converted: State, unused: tuple[str, ...]) -> list[str]:
    """Keys whose values reached nothing: not under their own name, not as a view under another."""
    kept = [(value.data_ptr(), value.untyped_storage().data_ptr()) for value in converted.values()]
    starts = {start for start, _ in kept}
    dropped = []
    for key, value in official.items():
        if key in converted or key.startswith(unused) or _is_known_extra(key) or key.endswith(_DESCRIPTIONS):
            continue
        last = value.data_ptr() + value.numel() * value.element_size()
        if value.numel() and not any(value.data_ptr() <= start < last for start in starts) and value.any():
            dropped.append(key)
    # what timm's conversion adds up or renames into new tensors (DINOv2's class token and registers)
    renamed = {"register_tokens": "reg_token", "storage_tokens": "reg_token"}
    return [key for key in dropped if renamed.get(key, key) not in converted]


def _is_known_extra(key: str) -> bool:
    return key.startswith(_NOT_FEATURES)


def _some(what: str, keys: list[str], most: int = 4) -> str:
    """Name a few of `keys`, or nothing at all."""
    if not keys:
        return ""
    more = f" and {len(keys) - most} more" if len(keys) > most else ""
    return f"{len(keys)} {'key' if len(keys) == 1 else 'keys'} {what} ({', '.join(keys[:most])}{more})"
