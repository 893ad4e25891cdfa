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
from featlift.config import ExtractConfig
from featlift.errors import OptionError, StoreError
from featlift.extraction import lifted_network
from featlift.finetuning.classifier import Classifier
from featlift.finetuning.decoder import Segmenter
from featlift.finetuning.plan import FinetunePlan
from featlift.lifting import LiftedBackbone
from featlift.model_folder import read_model_config, write_model_folder
from featlift.store.layout import Recipe

FORMAT = 1
WEIGHTS = "head.safetensors"
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
        recipe: of the lifted network and the preparation, before training.
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


def network_of(
    config: ExtractConfig, plan: FinetunePlan, outputs: int, depth: int
) -> tuple[Classifier | Segmenter, dict[str, LoraLinear]]:
    """The lifted network with a fresh head, and what is to be trained made trainable.

    Raises:
        ModelError: LoRA beside a convolutional network.
        OptionError: a native network; several orientations; an adapter; no layer of that name for LoRA.
        WeightsError: no weights, or an adapter of another backbone.
    """
    if config.lifting.mode == "native":
        raise OptionError("fine-tuning is of lifted 2D networks: give another --mode than native")
    if config.lifting.orientations != ("axial",):
        raise OptionError("fine-tuning takes one orientation: leave --orientations out")
    if config.network.adapter is not None:  # what is written is of the backbone's own weights
        raise OptionError("fine-tuning begins with the backbone's own weights: leave --adapter out")
    lifted = lifted_network(config.network, config.lifting)
    assert isinstance(lifted, LiftedBackbone)
    lifted.checkpointing = plan.checkpointing
    lora: dict[str, LoraLinear] = {}
    if plan.adapt == "full":
        lifted.backbone.requires_grad_(True)
    elif plan.adapt == "lora":
        lora = add_lora(lifted.backbone, plan.lora, plan.seed)
    if plan.rope_rescale is not None and plan.adapt != "head":
        lifted.backbone.rescale_rope(plan.rope_rescale)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(plan.seed)
        network: Classifier | Segmenter
        if plan.task == "classify":
            network = Classifier(lifted, outputs, depth, plan.pooling, plan.tokens)
        else:
            network = Segmenter(lifted, outputs, plan.width, plan.dropout or 0.0)
    return network, lora


def write_model(folder: Path, network: Classifier | Segmenter, lora: Mapping[str, LoraLinear], config: Config) -> None:
    """Write a model's folder; the configuration comes last and says that it is complete.

    Raises:
        OutputError: the folder cannot be written.
    """
    plan = FinetunePlan.from_json(config.plan)
    network.eval()
    if plan.adapt == "full":
        write_full(folder, network.lifted.backbone)
    elif plan.adapt == "lora":
        write_lora(folder, network.lifted.backbone, plan.lora, dict(lora))
    state = {name: value for name, value in network.state_dict().items() if not name.startswith("lifted.")}
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
        weights: of the backbone before training, where they lie elsewhere now; none are needed after full fine-tuning.

    Raises:
        InputError: no such folder, or its training did not end.
        StoreError: it is damaged, or of a later format.
        WeightsError: the backbone's weights are missing, or others than before training.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    config = read_config(folder)
    plan = FinetunePlan.from_json(config.plan)
    extract = ExtractConfig().with_values({**config.options, "device": device, "precision": "fp32"})
    if weights is not None:
        extract = extract.with_values({"weights": weights})
    full = plan.adapt == "full"
    if full:
        extract = extract.with_values({"weights": "random:0"})
    network, _ = network_of(
        extract,
        replace(plan, adapt="head", rope_rescale=None, slices=(), layer_decay=1.0),
        config.outputs,
        config.depth,
    )
    if plan.adapt != "head":
        apply_adapter(network.lifted.backbone, folder, check_base=not full)
    try:
        state = load_file(Path(folder, WEIGHTS))
        missing, unexpected = network.load_state_dict(state, strict=False)
    except (OSError, RuntimeError, SafetensorError) as error:
        raise StoreError(f"{folder}: its {WEIGHTS} are missing or damaged: train it again") from error
    if unexpected or any(not name.startswith("lifted.") for name in missing):
        raise StoreError(f"{folder}: its {WEIGHTS} are of another network: train it again")
    return network.to(network.lifted.device).eval(), config, extract
