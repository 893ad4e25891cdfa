"""What a fine-tuning was asked for."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from featlift.backbones.lora import LoraOptions
from featlift.errors import OptionError

TaskName = Literal["classify", "segment"]
Adapt = Literal["full", "lora", "head"]
SlicePooling = Literal["learned", "mean"]
Tokens = Literal["cls", "patch-mean", "cls+patch-mean"]


@dataclass(frozen=True)
class FinetunePlan:
    """How a network is trained. All of it decides the result; where it runs does not.

    What is None has the default of its task and of what is adapted, see `defaults_of`.

    Attributes:
        task: ``classify`` labels of volumes, or ``segment`` voxels.
        adapt: ``full`` trains the whole network, ``lora`` matrices of low rank beside its layers, ``head`` neither.
        rank: LoRA's, as the next four, see `LoraOptions`.
        alpha: None is twice the rank.
        lora_dropout: of its inputs.
        targets: names of layers within a block.
        slices: of a fused ``qkv``.
        epochs: of classification: at most.
        iterations: of segmentation: at most.
        every: of segmentation: iterations from one validation to the next.
        batch: cases of a step.
        at_once: cases that are computed together, gradients being added up; None takes the whole batch.
        rate: highest learning rate, of the head.
        backbone_rate: part of it that the backbone, or its LoRA, has.
        layer_decay: of ``full``: part of a block's rate that the block before it has.
        decay: AdamW's.
        warm_up: epochs, or iterations, in which the rate rises.
        clip: of the norm of all gradients together; 0 for none.
        patience: validations without a better one after which training ends; None trains to the end.
        pooling: of classification: slices are weighted as learned, or averaged.
        tokens: of classification: what of a slice is taken; None the class token, if there is one.
        width: of the decoder.
        dropout: of the decoder.
        crop: (D, H, W) in voxels of training volumes, drawn at random; empty takes whole ones.
        augment: whether training volumes are changed.
        rope_rescale: R of a factor in [1 / R, R] that every trained block draws for its rotary coordinates; the hub
            models of the released code have 2. None for none.
        checkpointing: whether blocks keep their input alone for the way back.
        seed: of weights, order and changes.
    """

    task: TaskName = "classify"
    adapt: Adapt = "full"
    rank: int = 8
    alpha: float | None = None
    lora_dropout: float = 0.0
    targets: tuple[str, ...] = LoraOptions().targets
    slices: tuple[str, ...] = ()
    epochs: int | None = None
    iterations: int | None = None
    every: int = 250
    batch: int | None = None
    at_once: int | None = None
    rate: float | None = None
    backbone_rate: float | None = None
    layer_decay: float = 1.0
    decay: float | None = None
    warm_up: int | None = None
    clip: float | None = None
    patience: int | None = None
    pooling: SlicePooling = "learned"
    tokens: Tokens | None = None
    width: int = 512
    dropout: float | None = None
    crop: tuple[int, ...] = ()
    augment: bool = True
    rope_rescale: float | None = None
    checkpointing: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        words = (("task", TaskName), ("adapt", Adapt), ("pooling", SlicePooling), ("tokens", Tokens))
        for name, kind in words:
            value = getattr(self, name)
            if value not in get_args(kind) and not (value is None and name == "tokens"):
                raise OptionError(f"{name} {value!r}: choose {', '.join(get_args(kind))}")
        for name, value in defaults_of(self.task, self.adapt).items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, value)
        self._check()

    def _check(self) -> None:
        rounds, other = (self.epochs, self.iterations) if self.task == "classify" else (self.iterations, self.epochs)
        if other is not None:
            raise OptionError("epochs are of task classify, iterations of task segment")
        counts = {"rounds": rounds, "batch": self.batch, "every": self.every, "width": self.width}
        counts |= {"at once": self.at_once or 1, "patience": self.patience or 1}
        for name, value in counts.items():
            if value is None or value < 1:
                raise OptionError(f"{name} {value}: give a number from 1")
        if self.task == "segment" and self.width % 64:
            raise OptionError(
                f"width {self.width}: give a multiple of 64, of which the last stage but one has an eighth"
            )
        if not (self.rate or 0) > 0 or (self.decay or 0) < 0 or (self.clip or 0) < 0 or (self.backbone_rate or 0) < 0:
            raise OptionError(f"rate {self.rate}, decay {self.decay}, clip {self.clip}: give positive numbers")
        if not 0 < self.layer_decay <= 1 or (self.layer_decay < 1 and self.adapt != "full"):
            raise OptionError(f"layer decay {self.layer_decay}: give a part above 0, at most 1, with --adapt full")
        if not 0 <= (self.warm_up or 0) < (rounds or 1):
            raise OptionError(f"warm-up {self.warm_up}: less than the {rounds} in all")
        if self.rope_rescale is not None and not self.rope_rescale > 1:
            raise OptionError(f"rope rescale {self.rope_rescale}: give a factor above 1")
        if self.rope_rescale is not None and self.adapt == "head":
            raise OptionError("rope rescale: of a backbone that is trained, with --adapt full or lora")
        if len(self.crop) not in (0, 3) or any(size < 1 for size in self.crop):
            raise OptionError(f"crop {self.crop}: give D,H,W in voxels")
        if self.crop and self.task == "classify":
            raise OptionError("crop: of segmentation; a label is of a whole volume, give --size")
        if self.slices and self.adapt != "lora":
            raise OptionError("LoRA slices: of --adapt lora")

    @property
    def lora(self) -> LoraOptions:
        """LoRA's part."""
        alpha = 2.0 * self.rank if self.alpha is None else self.alpha
        return LoraOptions(self.rank, alpha, self.lora_dropout, tuple(self.targets), tuple(self.slices))

    def as_json(self) -> dict[str, Any]:
        """All of it, as JSON would give it back."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> FinetunePlan:
        """What `as_json` gave."""
        given: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in values.items()
        }
        return cls(**given)


def defaults_of(task: TaskName, adapt: Adapt) -> dict[str, Any]:
    """The released hyper-parameters of PlaneCycle (HINTLab/PlaneCycle, its two experiments); LoRA's are our choice."""
    if task == "classify":
        shared = {"batch": 32, "warm_up": 10, "clip": 0.0, "backbone_rate": 1.0, "dropout": 0.0, "iterations": None}
        own: dict[Adapt, dict[str, Any]] = {
            "head": {"epochs": 200, "rate": 1e-3, "decay": 1e-5},
            "full": {"epochs": 100, "rate": 5e-5, "decay": 0.05},
            "lora": {"epochs": 100, "rate": 1e-3, "decay": 0.0, "backbone_rate": 0.5},
        }
    else:
        shared = {"batch": 8, "rate": 1e-4, "decay": 1e-3, "epochs": None}
        own = {
            "head": {"iterations": 20_000, "warm_up": 1_000, "clip": 0.0, "backbone_rate": 1.0, "dropout": 0.0},
            "full": {"iterations": 30_000, "warm_up": 1_500, "clip": 0.8, "backbone_rate": 0.1, "dropout": 0.2},
            "lora": {"iterations": 20_000, "warm_up": 1_000, "clip": 0.8, "backbone_rate": 5.0, "dropout": 0.2},
        }
    return {**shared, **own[adapt]}
