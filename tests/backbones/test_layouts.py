"""Checkpoint layouts, proved by their tokens: transformers' own forward against timm with the converted weights."""

from __future__ import annotations

import sys
from collections import OrderedDict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from featlift.backbones.layouts import strip_prefix, to_official, unwrap
from featlift.backbones.torchvision_guard import import_timm
from featlift.errors import WeightsError

State = dict[str, Tensor]

_DEPTH = 3


class _Case(NamedTuple):
    """One architecture as both libraries build it, and an image (height, width)."""

    layout: str
    transformers: str
    config: dict[str, Any]
    timm: str
    arguments: dict[str, Any]
    image: tuple[int, int]


def _dinov3(timm: str, **config: Any) -> _Case:
    size = {
        "hidden_size": 64,
        "num_hidden_layers": _DEPTH,
        "num_attention_heads": 2,
        "intermediate_size": 256,
    }
    return _Case(
        "transformers-dinov3-vit",
        "DINOv3ViTModel",
        {**size, "num_register_tokens": 4, **config},
        timm,
        {"embed_dim": 64, "depth": _DEPTH, "num_heads": 2},
        (48, 64),
    )


def _dinov2(timm: str, model: str, **config: Any) -> _Case:
    size = {"hidden_size": 48, "num_hidden_layers": _DEPTH, "num_attention_heads": 3, "mlp_ratio": 4}
    return _Case(
        "transformers-dinov2",
        model,
        {**size, "image_size": 42, "patch_size": 14, **config},
        timm,
        {"embed_dim": 48, "depth": _DEPTH, "num_heads": 3, "img_size": 42, "dynamic_img_size": True},
        (42, 42),
    )


_CONVNEXT = _Case(
    "transformers-dinov3-convnext",
    "DINOv3ConvNextModel",
    {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 2, 1]},
    "convnext_tiny",
    {"dims": [8, 16, 24, 32], "depths": [1, 1, 2, 1]},
    (64, 96),
)

_CASES = {
    "dinov3": _dinov3("vit_small_patch16_dinov3_qkvb"),
    "dinov3-swiglu": _dinov3("vit_small_plus_patch16_dinov3_qkvb", use_gated_mlp=True, hidden_act="silu"),
    "dinov3-convnext": _CONVNEXT,
    "dinov2": _dinov2("vit_small_patch14_dinov2", "Dinov2Model"),
    "dinov2-no-mask-token": _dinov2("vit_small_patch14_dinov2", "Dinov2Model", use_mask_token=False),
    "dinov2-swiglu": _dinov2("vit_giant_patch14_dinov2", "Dinov2Model", use_swiglu_ffn=True),
    "dinov2-registers": _dinov2("vit_small_patch14_reg4_dinov2", "Dinov2WithRegistersModel"),
    "dinov2-registers-swiglu": _dinov2(
        "vit_giant_patch14_reg4_dinov2", "Dinov2WithRegistersModel", use_swiglu_ffn=True
    ),
}


def _in_memory(model: Any, _: Path) -> State:
    return dict(model.state_dict())


def _on_disk(model: Any, folder: Path) -> State:
    """transformers 5 writes the names of transformers 4, which differ from those in memory."""
    model.save_pretrained(folder)
    return load_file(folder / "model.safetensors")


def _as_teacher(model: Any, _: Path) -> State:
    """Inside the checkpoint of a self-supervised training, beside a student and a head."""
    teacher = {f"module.backbone.{key}": tensor for key, tensor in model.state_dict().items()}
    student = {key: torch.zeros_like(tensor) for key, tensor in teacher.items()}
    head = {"module.dino_head.mlp.0.weight": torch.zeros(4, 4)}
    return strip_prefix(unwrap({"student": student, "teacher": teacher | head, "epoch": 3}))


def _randomise(model: nn.Module) -> None:
    """Give every parameter, also biases and LayerScale, values that matter to the output."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            centre = 1.0 if parameter.ndim == 1 and not name.endswith("bias") else 0.0
            parameter.normal_(centre, 0.2)


def _timm_tokens(model: Any, image: Tensor) -> Tensor:
    """Final-normed tokens (B, prefix + patches, D); of a ConvNeXt, as in DINOv3: the mean pixel, then the map."""
    features: Tensor = model.forward_features(image)
    if features.ndim == 3:
        return features
    pixels, norm = features.flatten(2).mT, model.head.norm
    tokens = torch.cat([pixels.mean(1, keepdim=True), pixels], 1)
    return nn.functional.layer_norm(tokens, norm.weight.shape, norm.weight, norm.bias, norm.eps)


def _numel(state: State) -> int:
    return sum(tensor.numel() for tensor in state.values())


@pytest.mark.parametrize("stored", [_in_memory, _on_disk, _as_teacher])
@pytest.mark.parametrize("case", _CASES.values(), ids=_CASES)
def test_transformers_weights_give_the_same_tokens_in_timm(
    case: _Case, stored: Callable[[Any, Path], State], tmp_path: Path
) -> None:
    timm = import_timm()
    transformers = pytest.importorskip("transformers", reason="transformers' own forward is the reference")
    torch.manual_seed(0)
    architecture = getattr(transformers, case.transformers)
    theirs = architecture(architecture.config_class(**case.config)).eval()
    _randomise(theirs)
    image = torch.randn(2, 3, *case.image)
    weights = stored(theirs, tmp_path)

    layout, official = to_official(weights)

    assert layout == case.layout
    key_biases = _DEPTH * 64 if layout == "transformers-dinov3-vit" else 0
    assert _numel(official) == _numel(weights) + key_biases
    assert to_official(official) == ("as-is", official)

    ours = timm.create_model(case.timm, num_classes=0, **case.arguments).eval()
    to_timm = sys.modules[type(ours).__module__].checkpoint_filter_fn
    ours.load_state_dict(to_timm(dict(official), ours), strict=True)
    with torch.inference_mode():
        expected = theirs(image).last_hidden_state
        torch.testing.assert_close(_timm_tokens(ours, image), expected, rtol=0, atol=1e-5)


def _numbered(names: Iterable[str]) -> State:
    return {name: torch.tensor(float(i)) for i, name in enumerate(names)}


def _renamed(state: State, names: dict[str, str | None]) -> State:
    return {new: state[old] for old, new in names.items() if new is not None}


@pytest.mark.parametrize(
    ("layout", "names"),
    [
        (
            "transformers-dinov3-vit",
            {
                "layer.0.layer_scale1.lambda1": "blocks.0.ls1.gamma",
                "layer.0.attention.k_proj.bias": "layer.0.attention.k_proj.bias",  # timm has no place for it
                "layer.0.attention.gate.weight": "layer.0.attention.gate.weight",
                "classifier.weight": "classifier.weight",
            },
        ),
        (
            "dinov2-block-chunks",
            {
                "cls_token": "cls_token",
                "blocks.0.1.norm1.weight": "blocks.1.norm1.weight",
                "blocks.1.2.norm1.weight": "blocks.2.norm1.weight",
                "blocks.1.10.mlp.w12.bias": "blocks.10.mlp.w12.bias",
            },
        ),
        ("as-is", {"cls_token": "cls_token", "blocks.0.attn.qkv.weight": "blocks.0.attn.qkv.weight"}),
        ("as-is", {"stem.0.weight": "stem.0.weight", "stages.0.blocks.0.gamma": "stages.0.blocks.0.gamma"}),
    ],
)
def test_a_layout_renames_its_keys_and_passes_the_others(layout: str, names: dict[str, str | None]) -> None:
    state = _numbered(names)
    assert to_official(state) == (layout, _renamed(state, names))


def test_two_keys_that_would_become_one_are_refused() -> None:
    with pytest.raises(WeightsError, match=r"blocks\.1\.norm1\.weight"):
        to_official(_numbered(["blocks.0.1.norm1.weight", "blocks.1.1.norm1.weight"]))


_NETWORK = ("cls_token", "patch_embed.proj.weight", "blocks.0.norm1.weight", "norm.weight")
_BESIDE_A_TEACHER = {
    "teacher.dino_head.mlp.0.weight": None,
    "teacher.ibot_head.last_layer.weight": None,
    "student.backbone.patch_embed.proj.weight": None,
}


def _within(prefix: str) -> dict[str, str | None]:
    return {prefix + key: key for key in _NETWORK}


def _unchanged(*keys: str) -> dict[str, str | None]:
    return {key: key for key in keys}


@pytest.mark.parametrize(
    "names",
    [
        _within(""),
        _within("module."),
        _within("_orig_mod.module."),
        _within("module.encoder."),
        _within("student.backbone."),
        {**_BESIDE_A_TEACHER, **_within("teacher.backbone.")},
        {"model.criterion.centre": None, **_within("model.teacher.module.")},
        {"decoder.weight": None, "mask_token": None, **_within("encoder.")},
        {"classifier.weight": None, "dinov2.embeddings.cls_token": "embeddings.cls_token"},
        {
            "patch_embed.proj.weight": "patch_embed.proj.weight",
            "blocks.0._orig_mod.norm1.weight": "blocks.0.norm1.weight",
            "blocks.1._checkpoint_wrapped_module.norm1.weight": "blocks.1.norm1.weight",
        },
        _unchanged("embeddings.cls_token", "encoder.layer.0.norm1.weight", "layernorm.weight"),
        _unchanged("embeddings.cls_token", "model.layer.0.norm1.weight", "norm.weight"),
        _unchanged("model.stages.0.layers.0.gamma", "layer_norm.weight"),
        _unchanged("model.conv1.weight", "model.layer1.0.conv1.weight", "model.fc.weight"),
        _unchanged("visual.trunk.patch_embed.proj.weight", "text.token_embedding.weight"),
    ],
)
def test_wrappers_are_stripped_and_parts_of_a_network_are_not(names: dict[str, str | None]) -> None:
    state = _numbered(names)
    assert strip_prefix(state) == _renamed(state, names)


@pytest.mark.parametrize("prefix", ["student.backbone.", "student.backbone", ""])
def test_an_explicit_prefix_overrides_the_detection(prefix: str) -> None:
    state = _numbered([*_within("teacher.backbone."), *_within("student.backbone.")])
    names = _within("student.backbone.") if prefix else _unchanged(*state)
    assert strip_prefix(state, prefix) == _renamed(state, names)


def test_a_prefix_that_is_not_there_is_refused_with_those_that_are() -> None:
    state = _numbered([*_within("teacher.backbone."), *_BESIDE_A_TEACHER])
    with pytest.raises(WeightsError) as refusal:
        strip_prefix(state, "teacher.back")
    assert "'teacher.back'" in str(refusal.value)
    assert str(refusal.value).endswith(
        "student., student.backbone., teacher., teacher.backbone., teacher.dino_head., teacher.ibot_head."
    )


_WANTED, _OTHER = _numbered(_NETWORK), _numbered(reversed(_NETWORK))


@pytest.mark.parametrize(
    "checkpoint",
    [
        _WANTED,
        OrderedDict(_WANTED, epoch=3),
        {"state_dict": _WANTED, "optimizer": {"state": {0: _OTHER}}},
        {"model": {"state_dict": _WANTED}, "epoch": 3},
        {"module": _WANTED, "lr_scheduler": None},
        {"student": _OTHER, "model": _OTHER, "model_ema": _OTHER, "teacher": _WANTED},
        {"state_dict": _OTHER, "state_dict_ema": _WANTED},
        {"model": _WANTED, "model_ema": None, "teacher": {"momentum": 0.99}},
    ],
)
def test_unwrap_finds_the_state_dict(checkpoint: object) -> None:
    assert unwrap(checkpoint) == _WANTED


@pytest.mark.parametrize(
    ("checkpoint", "held"),
    [({"model": {"epoch": 3}, "args": None}, "'model', 'args'"), ({}, "nothing"), (3, "int")],
)
def test_a_checkpoint_without_weights_is_refused(checkpoint: object, held: str) -> None:
    with pytest.raises(WeightsError, match=held):
        unwrap(checkpoint)
