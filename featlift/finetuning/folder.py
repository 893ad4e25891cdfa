"""A fine-tuned network as a folder: what was trained of it, and everything that has to be known to use it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from featlift.backbones.adapters import apply_adapter, write_full, write_lora
from featlift.backbones.lora import LoraLinear, add_lora
from featlift.config import ExtractConfig, LiftingConfig
from featlift.encoders.native import NativeEncoder
from featlift.encoders.threedme import Pretrained, write_encoder
from featlift.errors import OptionError, StoreError, WeightsError
from featlift.extraction import encoder_of
from featlift.finetuning.classifier import Classifier, LiftedClassifier
from featlift.finetuning.decoder import LiftedSegmenter, Segmenter
from featlift.finetuning.native import NativeClassifier, NativeSegmenter, network_of_stages
from featlift.finetuning.plan import FinetunePlan
from featlift.lifting import LiftedBackbone
from featlift.model_folder import read_model_config, write_model_folder
from featlift.store.layout import Recipe

FORMAT = 1
WEIGHTS = "head.safetensors"
#: A folder in it, of a 3DME that was trained, as its pretraining writes one.
ENCODER = "encoder"
#: Sections of an extraction's options that decide what a network sees.
_SECTIONS = ("network", "lifting", "preparation", "reading")
#: Options among them that say where and how fast, and no more.
_OF_THE_MACHINE = ("device", "precision", "memory", "offload", "compile", "max_voxels", "adapter")


@dataclass(frozen=True)
class Config:
    """What is to be known of a fine-tuned network.

    Attributes:
        plan: it was trained by, see `FinetunePlan`.
        options: of the extraction that prepares its scans, by name.
        depth: slices that a learned pooling has weights for.
        labels: what is predicted: of classification, classes by the name of each label column; of segmentation, the
            name of each label by its number.
        columns: labels that were asked for.
        recipe: of the network and the preparation, before training.
        train: ids of the cases that it was trained on.
        val: ids of those that chose the epoch.
        truth: digest of the labels or masks of both.
        test: ids of those that were left out of both.
        parameters: how many are trained, in the backbone and in the head.
        training: how that went.
    """

    plan: dict[str, Any]
    options: dict[str, Any]
    depth: int
    labels: dict[str, Any]
    columns: list[str]
    recipe: Recipe
    train: list[str]
    val: list[str]
    truth: str
    test: list[str] = field(default_factory=list)
    parameters: dict[str, int] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)

    @property
    def outputs(self) -> int:
        """K of the head."""
        if self.plan["task"] == "segment":
            return 1 if len(self.labels) == 2 else len(self.labels)
        classes = list(self.labels.values())
        return len(classes) if len(classes) > 1 else len(classes[0])

    @property
    def name(self) -> str:
        """What it is, as in ``finetune-lora-pcg``."""
        return f"finetune-{self.plan['adapt']}-{self.options['mode']}"


def options_of(config: ExtractConfig) -> dict[str, Any]:
    """What of an extraction decides what a network sees, as JSON values by name."""
    values = {name: value for section in _SECTIONS for name, value in vars(getattr(config, section)).items()}
    kept = {name: value for name, value in values.items() if name not in _OF_THE_MACHINE}
    plain: dict[str, Any] = json.loads(json.dumps(kept))
    return plain


def trained_encoder(config: ExtractConfig, plan: FinetunePlan) -> LiftedBackbone | NativeEncoder:
    """The network that is to be trained, or whose head is, as it is before.

    Raises:
        OptionError: a native network other than 3DME, or options that it has no use for; several orientations;
            magnified planes; an adapter.
        ModelError: no such network.
        InputError: no such folder of a pretraining.
        WeightsError: no weights.
    """
    if config.lifting.orientations != ("axial",):
        raise OptionError("fine-tuning takes one orientation: leave --orientations out")
    if config.lifting.mode != "native" and (config.lifting.magnify > 1 or config.lifting.tile):
        raise OptionError("fine-tuning sees planes whole, as they are: leave --magnify and --tile out")
    if config.network.adapter is not None:  # what is written is of the backbone's own weights
        raise OptionError("fine-tuning begins with the backbone's own weights: leave --adapter out")
    encoder = encoder_of(config.network, config.lifting)
    if isinstance(encoder, NativeEncoder):
        network_of_stages(encoder, plan).checkpointing = plan.checkpointing
        if plan.task == "segment" and config.lifting.layers == LiftingConfig().layers:
            encoder.read([layer.index for layer in encoder.stages.layers])
        return encoder
    if not isinstance(encoder, LiftedBackbone):
        raise OptionError(f"--model {encoder.name}: a plugin's network is not fine-tuned: give a 2D network, or 3dme")
    encoder.checkpointing = plan.checkpointing
    return encoder


def network_of(
    encoder: LiftedBackbone | NativeEncoder, plan: FinetunePlan, outputs: int, depth: int
) -> tuple[Classifier | Segmenter, dict[str, LoraLinear]]:
    """The network with a fresh head, and what is to be trained made trainable.

    Raises:
        ModelError: LoRA beside a convolutional network.
        OptionError: no layer of that name for LoRA.
    """
    lora: dict[str, LoraLinear] = {}
    if isinstance(encoder, NativeEncoder):
        encoder.stages.requires_grad_(plan.adapt == "full")
    else:
        if plan.adapt == "full":
            encoder.backbone.requires_grad_(True)
        elif plan.adapt == "lora":
            lora = add_lora(encoder.backbone, plan.lora, plan.seed)
        if plan.rope_rescale is not None and plan.adapt != "head":
            encoder.backbone.rescale_rope(plan.rope_rescale)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(plan.seed)
        return _with_head(encoder, plan, outputs, depth), lora


def _with_head(
    encoder: LiftedBackbone | NativeEncoder, plan: FinetunePlan, outputs: int, depth: int
) -> Classifier | Segmenter:
    dropout = plan.dropout or 0.0
    if isinstance(encoder, NativeEncoder):
        if plan.task == "classify":
            return NativeClassifier(encoder, outputs, plan.seed)
        return NativeSegmenter(encoder, outputs, plan.width, dropout)
    if plan.task == "classify":
        return LiftedClassifier(encoder, outputs, depth, plan.pooling, plan.tokens)
    return LiftedSegmenter(encoder, outputs, plan.width, dropout)


def write_model(folder: Path, network: Classifier | Segmenter, lora: Mapping[str, LoraLinear], config: Config) -> None:
    """Write a model's folder; the configuration comes last and says that it is complete.

    Raises:
        OutputError: the folder cannot be written.
    """
    plan, encoder = FinetunePlan.from_json(config.plan), network.encoder
    network.eval()
    if isinstance(encoder, NativeEncoder):
        if plan.adapt == "full":
            stages = network_of_stages(encoder, plan)
            write_encoder(folder / ENCODER, stages, Pretrained(stages.config.to_json(), encoder.preparation))
    elif plan.adapt == "full":
        write_full(folder, encoder.backbone)
    elif plan.adapt == "lora":
        write_lora(folder, encoder.backbone, plan.lora, dict(lora))
    state = {name: value for name, value in network.state_dict().items() if not name.startswith("encoder.")}
    write_model_folder(folder, WEIGHTS, state, config, FORMAT)


def read_config(folder: str | Path) -> Config:
    """The configuration of a fine-tuned network.

    Raises:
        InputError: no such folder, or its training did not end.
        StoreError: it is damaged, or of a later format.
    """
    return read_model_config(Config, folder, "fine-tuned network", "featlift finetune train", FORMAT)


def read_model(
    folder: str | Path, device: str = "auto", weights: str | None = None
) -> tuple[Classifier | Segmenter, Config, ExtractConfig]:
    """A fine-tuned network in evaluation mode, what is to be known of it, and how its scans are prepared.

    Args:
        folder: of `featlift finetune train`.
        device: where it shall compute.
        weights: of the network before training, where they lie elsewhere now, of 3DME its folder; none are needed after
            full fine-tuning.

    Raises:
        InputError: no such folder, or its training did not end.
        StoreError: it is damaged, or of a later format.
        WeightsError: the backbone's weights are missing, or others than before training.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    config = read_config(folder)
    plan = FinetunePlan.from_json(config.plan)
    extract = _before_training(config, Path(folder), weights).with_values({"device": device, "precision": "fp32"})
    fresh = replace(plan, adapt="head", rope_rescale=None, slices=(), layer_decay=1.0)
    encoder = trained_encoder(extract, fresh)
    if plan.adapt == "head" and encoder.weights["sha256"] != config.recipe["weights_sha256"]:
        raise WeightsError(f"{folder}: its head is of other weights of {encoder.name}: give those with --weights")
    network, _ = network_of(encoder, fresh, config.outputs, config.depth)
    if plan.adapt != "head" and isinstance(encoder, LiftedBackbone):
        apply_adapter(encoder.backbone, folder, check_base=plan.adapt != "full")
    try:
        state = load_file(Path(folder, WEIGHTS))
        missing, unexpected = network.load_state_dict(state, strict=False)
    except (OSError, RuntimeError, SafetensorError) as error:
        raise StoreError(f"{folder}: its {WEIGHTS} are missing or damaged: train it again") from error
    if unexpected or any(not name.startswith("encoder.") for name in missing):
        raise StoreError(f"{folder}: its {WEIGHTS} are of another network: train it again")
    return network.to(network.encoder.device).eval(), config, extract


def _before_training(config: Config, folder: Path, weights: str | None) -> ExtractConfig:
    """How the network is made before what was trained of it is put in; after full fine-tuning, of whatever weights."""
    extract = ExtractConfig().with_values(config.options)
    full, native = config.plan["adapt"] == "full", extract.lifting.mode == "native"
    if full and native:
        return extract.with_values({"model": f"3dme:{folder / ENCODER}", "weights": None, "model_args": None})
    if full:
        return extract.with_values({"weights": "random:0"})
    if weights is None:
        return extract
    if native and Path(weights).is_dir():
        return extract.with_values({"model": f"3dme:{weights}", "weights": None, "model_args": None})
    return extract.with_values({"weights": weights})
