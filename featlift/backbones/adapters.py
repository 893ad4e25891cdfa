"""What fine-tuning changed of a backbone, as a folder: PEFT's files of LoRA, or all weights of the network."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from featlift.atomic_io import write_atomically
from featlift.backbones.backbone import Backbone
from featlift.backbones.lora import LoraLinear, LoraOptions
from featlift.checksums import sha256_of_file
from featlift.errors import WeightsError

LORA_CONFIG, LORA_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
FULL_WEIGHTS = "backbone.safetensors"
BASE = "base.json"  # the network that it is of: PEFT's configuration has no place for a checksum
_PREFIX = "base_model.model."
#: Parts of PEFT's configuration that would compute something else, and what they say where they do not.
_UNUSUAL = {
    "use_dora": False, "bias": "none", "fan_in_fan_out": False, "modules_to_save": None, "layer_replication": None,
    "lora_bias": False, "use_qalora": False, "alora_invocation_tokens": None, "target_parameters": None,
    "trainable_token_indices": None,
}  # fmt: skip


def write_lora(folder: Path, backbone: Backbone, options: LoraOptions, layers: dict[str, LoraLinear]) -> None:
    """Write LoRA so that PEFT reads it into the same timm model, and `apply_adapter` into the same backbone.

    Slices of a fused product become one pair of matrices of their ranks together, B zero where they do not meet.

    Raises:
        OutputError: the folder cannot be written.
    """
    from safetensors.torch import save

    state = {}
    for name, layer in layers.items():
        state[f"{_PREFIX}{name}.lora_A.weight"] = layer.lora_A.detach().cpu().contiguous()
        state[f"{_PREFIX}{name}.lora_B.weight"] = layer._up().detach().cpu().contiguous()
    wide = {target for target in options.targets if options.slices and target.endswith("qkv")}
    config = {
        "peft_type": "LORA",
        "auto_mapping": {
            "base_model_class": type(backbone.net).__name__,
            "parent_library": type(backbone.net).__module__,
        },
        "base_model_name_or_path": None,
        "r": options.rank,
        "lora_alpha": options.alpha,
        "lora_dropout": options.dropout,
        "target_modules": sorted(options.targets),
        "exclude_modules": None,
        "rank_pattern": {target: options.rank * len(options.slices) for target in sorted(wide)},
        "alpha_pattern": {target: options.alpha * len(options.slices) for target in sorted(wide)},
        "bias": "none",
        "fan_in_fan_out": False,
        "use_dora": False,
        "use_rslora": False,
        "inference_mode": True,
        "task_type": None,
    }
    write_atomically(folder / LORA_WEIGHTS, lambda draft: draft.write_bytes(save(state, {"format": "pt"})))
    _write_json(folder / LORA_CONFIG, config)
    _write_base(folder, backbone)


def write_full(folder: Path, backbone: Backbone) -> None:
    """Write all weights of a network under timm's names.

    Raises:
        OutputError: the folder cannot be written.
    """
    from safetensors.torch import save

    state = {name: value.detach().cpu().contiguous() for name, value in backbone.net.state_dict().items()}
    write_atomically(folder / FULL_WEIGHTS, lambda draft: draft.write_bytes(save(state, {"format": "pt"})))
    _write_base(folder, backbone)


def apply_adapter(backbone: Backbone, folder: str | Path, check_base: bool = True) -> Backbone:
    """Give a backbone the weights that fine-tuning found, and note their sha256 as ``weights["adapter_sha256"]``.

    Args:
        backbone: as it was before; changed in place.
        folder: of `featlift finetune train`, or a LoRA of PEFT on the same timm model.
        check_base: whether the backbone has to be the very one that was trained; all weights may replace any.

    Raises:
        WeightsError: no adapter there, a damaged one, one of another backbone, or of a kind that is not known.
    """
    folder = Path(folder)
    if check_base:
        _check_base(folder, backbone)
    if (folder / FULL_WEIGHTS).exists():
        path, state = folder / FULL_WEIGHTS, _read(folder / FULL_WEIGHTS)
        _take(backbone, state, path)
    elif (folder / LORA_CONFIG).exists():
        path = folder / LORA_WEIGHTS
        _add(backbone, _read_json(folder / LORA_CONFIG), _read(path), path)
    else:
        raise WeightsError(
            f"{folder}: no adapter here: give a folder of `featlift finetune train` or of PEFT, with "
            f"{LORA_CONFIG} or {FULL_WEIGHTS}"
        )
    backbone.weights["adapter_sha256"] = sha256_of_file(path)
    return backbone


def _take(backbone: Backbone, state: dict[str, Tensor], path: Path) -> None:
    own = backbone.net.state_dict()
    if wrong := [name for name in own if name not in state or state[name].shape != own[name].shape]:
        raise WeightsError(f"{path}: of another backbone than {backbone.name}: it has no {wrong[0]} of its shape")
    backbone.net.load_state_dict(state)


def _add(backbone: Backbone, config: dict[str, Any], state: dict[str, Tensor], path: Path) -> None:
    """Add the products of LoRA to the weights."""
    if config.get("peft_type") != "LORA":
        raise WeightsError(f"{path.parent}: an adapter of kind {config.get('peft_type')!r}: only LoRA is known")
    if odd := [key for key, usual in _UNUSUAL.items() if config.get(key, usual) not in (usual, [], {})]:
        raise WeightsError(f"{path.parent}: LoRA with {odd[0]} = {config[odd[0]]!r}, which is not known here")
    modules = dict(backbone.net.named_modules())
    halves = {name.rpartition(".lora_")[0] for name in state}
    for half in sorted(halves):
        name = half.removeprefix(_PREFIX)
        down, up = (state.get(f"{half}.lora_{letter}.weight") for letter in "AB")
        weight = getattr(modules.get(name), "weight", None)
        if down is None or up is None or weight is None or (len(up), down.shape[-1]) != tuple(weight.shape):
            raise WeightsError(f"{path}: of another backbone than {backbone.name}, where {name} is not what it was")
        rank, alpha = _of_layer(config, name)
        scale = alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)
        with torch.no_grad():
            weight += (scale * (up.double() @ down.double())).to(weight)


def _of_layer(config: dict[str, Any], name: str) -> tuple[int, float]:
    """Rank and alpha of a layer; patterns are ends of names, as PEFT reads them."""
    found = []
    for key, pattern in (("r", "rank_pattern"), ("lora_alpha", "alpha_pattern")):
        ends = {end: value for end, value in (config.get(pattern) or {}).items() if f".{name}".endswith(f".{end}")}
        found.append(next(iter(ends.values()), config[key]))
    return int(found[0]), float(found[1])


def _write_base(folder: Path, backbone: Backbone) -> None:
    _write_json(folder / BASE, {"model": backbone.name, "weights_sha256": backbone.weights["sha256"]})


def _check_base(folder: Path, backbone: Backbone) -> None:
    if not (folder / BASE).exists():
        return  # of PEFT: shapes have to do
    base = _read_json(folder / BASE)
    ours = {"model": backbone.name, "weights_sha256": backbone.weights["sha256"]}
    if odd := [name for name, value in ours.items() if base.get(name) != value]:
        raise WeightsError(
            f"{folder}: an adapter of another backbone: its {odd[0]} is {base.get(odd[0])}, here {ours[odd[0]]}"
        )


def _read(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        state: dict[str, Tensor] = load_file(path)
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"{path}: missing or damaged ({error})") from error
    return state


def _read_json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise WeightsError(f"{path}: no readable JSON ({error})") from error
    if not isinstance(found, dict):
        raise WeightsError(f"{path}: no readable JSON object")
    return found


def _write_json(path: Path, document: dict[str, Any]) -> None:
    text = json.dumps(document, indent=2) + "\n"
    write_atomically(path, lambda draft: draft.write_text(text, encoding="utf-8"))
