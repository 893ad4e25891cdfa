"""Checkpoint layouts: from the state dict people own to the key names of the research repository behind it.

Three steps, in this order: `unwrap` finds the state dict inside a checkpoint, `strip_prefix` takes the network
out of its training wrappers, and `to_official` renames what is left to the names used by Meta's DINOv2, DINOv3
and ConvNeXt repositories, from where timm's own `checkpoint_filter_fn` continues.

The names on the left of the tables are those of Hugging Face transformers: what 4.x and 5.x write to disk, and
what the modules of 5.x have in memory (`torch.save(model.state_dict())`), which differs. A key that no table
knows passes through unchanged, for the loader to report.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from featlift.errors import WeightsError

State = dict[str, Tensor]

# Where a checkpoint keeps its state dict; of several, the first. Teacher and EMA are what gets evaluated.
_STATE_NAMES = ("teacher", "model_ema", "state_dict_ema", "model", "state_dict", "module", "student", "network_weights")

# Modules around a whole network; of several side by side, the first: teacher before student.
_WRAPPERS = (
    "module",
    "teacher",
    "student",
    "backbone",
    "encoder",
    "model",
    "dinov2",
    "dinov2_with_registers",
)

# Modules at the top of a network. A `model.` or `encoder.` beside one of them is a part of it, not a wrapper.
_NETWORK_TOPS = {"patch_embed", "embeddings", "stem", "downsample_layers", "stages", "layer_norm", "_conv_stem"}

# torch.compile, activation checkpointing and FSDP wrap single blocks too, so these stand in the middle of keys.
_TORCH_WRAPPERS = re.compile(r"\b_(?:orig_mod|checkpoint_wrapped_module|fsdp_wrapped_module)\.")


class _Layout(NamedTuple):
    """A layout's name, a key that only it has, and its renames: the first that matches a whole key counts."""

    name: str
    signature: str
    renames: dict[str, str]

    def fits(self, state: State) -> bool:
        return any(re.fullmatch(self.signature, key) for key in state)

    def official(self, key: str) -> str:
        matches = ((re.fullmatch(pattern, key), name) for pattern, name in self.renames.items())
        return next((match.expand(name) for match, name in matches if match), key)


# `qkv[0]` is part 0 of `qkv`, see `_fuse`.
_BLOCK = r"(?:encoder\.|model\.)?layer\.(\d+)\."
_VIT = {
    r"embeddings\.(cls_token|mask_token)": r"\1",
    r"embeddings\.patch_embeddings\.(?:projection\.)?(\w+)": r"patch_embed.proj.\1",
    _BLOCK + r"norm([12])\.(\w+)": r"blocks.\1.norm\2.\3",
    _BLOCK + r"attention\.(?:attention\.query|q_proj)\.(\w+)": r"blocks.\1.attn.qkv[0].\2",
    _BLOCK + r"attention\.(?:attention\.key|k_proj)\.(\w+)": r"blocks.\1.attn.qkv[1].\2",
    _BLOCK + r"attention\.(?:attention\.value|v_proj)\.(\w+)": r"blocks.\1.attn.qkv[2].\2",
    _BLOCK + r"attention\.(?:output\.dense|o_proj)\.(\w+)": r"blocks.\1.attn.proj.\2",
    _BLOCK + r"layer_scale([12])\.lambda1": r"blocks.\1.ls\2.gamma",
}
_DINOV3 = {
    r"embeddings\.register_tokens": "storage_tokens",
    # The official keys have no bias. One that was trained (`key_bias=True`) stays, for the loader to report.
    _BLOCK + r"attention\.k_proj\.bias": r"\g<0>",
}
_DINOV3_MLP = {
    _BLOCK + r"mlp\.up_proj\.(\w+)": r"blocks.\1.mlp.fc1.\2",
    _BLOCK + r"mlp\.down_proj\.(\w+)": r"blocks.\1.mlp.fc2.\2",
}
_DINOV3_SWIGLU = {
    _BLOCK + r"mlp\.gate_proj\.(\w+)": r"blocks.\1.mlp.w1.\2",
    _BLOCK + r"mlp\.up_proj\.(\w+)": r"blocks.\1.mlp.w2.\2",
    _BLOCK + r"mlp\.down_proj\.(\w+)": r"blocks.\1.mlp.w3.\2",
}
_DINOV2 = {
    r"embeddings\.register_tokens": "register_tokens",
    r"embeddings\.position_embeddings": "pos_embed",
    _BLOCK + r"mlp\.fc([12])\.(\w+)": r"blocks.\1.mlp.fc\2.\3",
    _BLOCK + r"mlp\.weights_in\.(\w+)": r"blocks.\1.mlp.w12.\2",
    _BLOCK + r"mlp\.gate_proj\.(\w+)": r"blocks.\1.mlp.w12[0].\2",
    _BLOCK + r"mlp\.up_proj\.(\w+)": r"blocks.\1.mlp.w12[1].\2",
    _BLOCK + r"mlp\.(?:weights_out|down_proj)\.(\w+)": r"blocks.\1.mlp.w3.\2",
    r"layernorm\.(\w+)": r"norm.\1",
}
_STAGE = r"(?:model\.)?stages\.(\d+)\."
_CONVNEXT = {
    _STAGE + r"downsample_layers\.(\d+)\.(\w+)": r"downsample_layers.\1.\2.\3",
    _STAGE + r"layers\.(\d+)\.gamma": r"stages.\1.\2.gamma",
    _STAGE + r"layers\.(\d+)\.depthwise_conv\.(\w+)": r"stages.\1.\2.dwconv.\3",
    _STAGE + r"layers\.(\d+)\.layer_norm\.(\w+)": r"stages.\1.\2.norm.\3",
    _STAGE + r"layers\.(\d+)\.pointwise_conv([12])\.(\w+)": r"stages.\1.\2.pwconv\3.\4",
    r"layer_norm\.(\w+)": r"norm.\1",
}
# DINOv2 trains with blocks grouped for FSDP, `blocks.{chunk}.{i}`, where i counts over the whole network.
_CHUNKS = {r"blocks\.\d+\.(\d+)\.(.+)": r"blocks.\1.\2"}

# The names of efficientnet_pytorch and of its Lite variant. A block without expansion counts its norms from 1.
_EFFICIENTNET = {
    r"_conv_stem\.(\w+)": r"conv_stem.\1",
    r"_bn0\.(\w+)": r"bn1.\1",
    r"_conv_head\.(\w+)": r"conv_head.\1",
    r"_bn1\.(\w+)": r"bn2.\1",
    r"_fc\.(\w+)": r"classifier.\1",
}
_EXPANDED = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_se_reduce": "se.conv_reduce",
    "_se_expand": "se.conv_expand",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}
_NOT_EXPANDED = _EXPANDED | {"_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}

_DINOV3_LAYER = r"(?:model\.)?layer\.\d+\."
_LAYOUTS = (
    _Layout("transformers-dinov3-vit", _DINOV3_LAYER + r"mlp\.gate_proj\.weight", _DINOV3 | _VIT | _DINOV3_SWIGLU),
    _Layout("transformers-dinov3-vit", _DINOV3_LAYER + r"layer_scale1\.lambda1", _DINOV3 | _VIT | _DINOV3_MLP),
    _Layout("transformers-dinov2", r"encoder\.layer\.\d+\.layer_scale1\.lambda1", _DINOV2 | _VIT),
    _Layout("transformers-dinov3-convnext", _STAGE + r"layers\.\d+\.depthwise_conv\.weight", _CONVNEXT),
    _Layout("dinov2-block-chunks", r"blocks\.\d+\.\d+\.norm1\.weight", _CHUNKS),
    _Layout("efficientnet-pytorch", r"_blocks\.\d+\._depthwise_conv\.weight", _EFFICIENTNET),
)

_PART = re.compile(r"(.+)\[(\d)\]\.(\w+)")


def unwrap(checkpoint: object) -> State:
    """Find the state dict inside a checkpoint.

    Descends through `teacher`, `model_ema`, `state_dict_ema`, `model`, `state_dict`, `module`, `student` and nnU-Net's
    `network_weights`, always into the first of them that holds tensors, and returns the tensors found there by key.
    Optimizer, epoch and arguments stay behind. Raises `WeightsError` if there is no tensor.
    """
    state = _find_state(checkpoint)
    if not state:
        found = ", ".join(map(repr, checkpoint)) if isinstance(checkpoint, Mapping) else type(checkpoint).__name__
        raise WeightsError(f"no state dict in the checkpoint, which holds: {found or 'nothing'}")
    return state


def strip_prefix(state: State, prefix: str | None = None) -> State:
    """Take a network out of the training wrappers that prefix its keys.

    With a `prefix` ("teacher.backbone."), keeps exactly the keys under it; an empty one keeps all. Raises
    `WeightsError` if there is none, naming the prefixes that exist.

    Without, strips wrappers (`module.`, `teacher.`, `backbone.`, ...) until a network is found, and leaves behind
    what stands beside it: the student, the self-supervised heads. Where no network is found, nothing is stripped.

    torch's own wrappers (`_orig_mod.` and the like) go in both cases, wherever they stand in a key.
    """
    if prefix is not None:
        network = _under(state, prefix and prefix.rstrip(".") + ".")
        if not network:
            raise WeightsError(f"no weights under {prefix!r}; prefixes in the checkpoint: {_prefixes(state)}")
        return _rename(network, _without_torch_wrappers)
    state = _rename(state, _without_torch_wrappers)
    return _find_network(state) or state


def to_official(state: State) -> tuple[str, State]:
    """Rename a network's weights to the keys of the research repository it comes from.

    `state` is what `strip_prefix` returns. Returns the layout found and the renamed weights. The layouts are
    "transformers-dinov3-vit", "transformers-dinov3-convnext", "transformers-dinov2" (with or without registers),
    "dinov2-block-chunks" (saved by DINOv2's own training), "efficientnet-pytorch" (whose blocks `in_stages` renames)
    and, for everything else, "as-is": the same `state`.

    Separate projections q, k, v (D, D) become one `attn.qkv` (3D, D), the two inputs of DINOv2's SwiGLU (H, D)
    one `mlp.w12` (2H, D). No other tensor changes and none is dropped. Raises `WeightsError` if two keys would
    become one.
    """
    for layout in _LAYOUTS:
        if layout.fits(state):
            return layout.name, _fuse(_rename(state, layout.official))
    return "as-is", state


def in_stages(state: State, stages: Sequence[int]) -> State:
    """Give the blocks of efficientnet_pytorch, counted through, their names in timm, counted by stage.

    Args:
        state: what `to_official` returns.
        stages: how many blocks each stage of the network has.
    """
    places = [f"blocks.{stage}.{index}" for stage, count in enumerate(stages) for index in range(count)]

    def timm_name(key: str) -> str:
        match = re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", key)
        if match is None or int(match[1]) >= len(places):
            return key
        names = _EXPANDED if f"_blocks.{match[1]}._expand_conv.weight" in state else _NOT_EXPANDED
        return f"{places[int(match[1])]}.{names.get(match[2], match[2])}.{match[3]}"

    return _rename(state, timm_name)


def _find_state(node: object) -> State:
    if not isinstance(node, Mapping):
        return {}
    for name in _STATE_NAMES:
        if state := _find_state(node.get(name)):
            return state
    return {key: value for key, value in node.items() if isinstance(key, str) and isinstance(value, Tensor)}


def _find_network(state: State) -> State | None:
    tops = {key.partition(".")[0] for key in state}
    if tops & _NETWORK_TOPS:
        return state
    inner = (_find_network(_under(state, wrapper + ".")) for wrapper in _WRAPPERS if wrapper in tops)
    return next((network for network in inner if network), None)


def _under(state: State, prefix: str) -> State:
    return {key.removeprefix(prefix): tensor for key, tensor in state.items() if key.startswith(prefix)}


def _prefixes(state: State) -> str:
    """The first and second level of modules, without the numbered ones."""
    paths = [key.split(".")[:-1] for key in state]
    names = {".".join(path[:n]) + "." for path in paths for n in (1, 2) if len(path) >= n and not path[n - 1].isdigit()}
    return ", ".join(sorted(names)) or "none"


def _without_torch_wrappers(key: str) -> str:
    return _TORCH_WRAPPERS.sub("", key)


def _rename(state: State, rename: Callable[[str], str]) -> State:
    renamed: State = {}
    for key, tensor in state.items():
        new = rename(key)
        if new in renamed:
            raise WeightsError(f"{key!r} is in the checkpoint twice, under two names for {new!r}")
        renamed[new] = tensor
    return renamed


def _fuse(state: State) -> State:
    """Concatenate `name[0].weight`, `name[1].weight`, ... to `name.weight`, and the biases likewise.

    A missing key bias becomes zeros. That changes nothing: DINOv3 masks it to zero, and without rotary positions
    a key bias adds the same to all logits of a query.
    """
    fused: State = {}
    parts: defaultdict[str, dict[int, Tensor]] = defaultdict(dict)
    for key, tensor in state.items():
        if match := _PART.fullmatch(key):
            name, index, kind = match.groups()
            parts[f"{name}.{kind}"][int(index)] = tensor
        else:
            fused[key] = tensor
    for key, part in parts.items():
        if key.endswith(".qkv.bias") and part.keys() == {0, 2}:
            part[1] = torch.zeros_like(part[0])
        fused[key] = torch.cat([part[i] for i in sorted(part)])
    return fused
