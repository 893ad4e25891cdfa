"""Which parameters learn how fast, and how long a fine-tuning takes."""

from __future__ import annotations

from typing import Any

from torch import nn

from featlift.backbones.torchvision_guard import import_timm
from featlift.encoders.native import NativeEncoder
from featlift.finetuning.plan import FinetunePlan
from featlift.lifting import LiftedBackbone
from featlift.training.order import Order
from featlift.training.rates import WarmUpCosine
from featlift.training.trainer import Course

_FIRST, _LAST = 1e-3, 1e-6  # of classification: where the rise begins, as a part, and where the fall ends, as a rate
_FIRST_OF_SEGMENTATION = 1e-6


def groups_of(network: nn.Module, plan: FinetunePlan) -> list[dict[str, Any]]:
    """Parameters that are trained: the backbone's, layer by layer with `layer_decay`, and the head's.

    As in the released code, weight decay is on all of them; with layer decay biases and norms have none, as in timm.
    """
    encoder: LiftedBackbone | NativeEncoder = network.encoder  # type: ignore[assignment]
    backbone = [value for value in encoder.parameters() if value.requires_grad]
    own = {id(value) for value in backbone}
    head = [value for value in network.parameters() if value.requires_grad and id(value) not in own]
    share = plan.backbone_rate
    if backbone and plan.layer_decay < 1 and isinstance(encoder, LiftedBackbone):
        timm = import_timm()
        layers = timm.optim.param_groups_layer_decay(
            encoder.backbone.net, weight_decay=plan.decay, layer_decay=plan.layer_decay
        )
        groups = [
            {"params": layer["params"], "weight_decay": layer["weight_decay"], "lr_scale": share * layer["lr_scale"]}
            for layer in layers
        ]
    else:
        groups = [{"params": backbone, "lr_scale": share}] if backbone else []
    return [*groups, {"params": head, "lr_scale": 1.0}]


def course_of(plan: FinetunePlan, cases: int) -> Course:
    """Classification by epochs, its rate changing once an epoch; segmentation by iterations, step by step."""
    batch, rate, warm_up = plan.batch or 1, plan.rate or 0.0, plan.warm_up or 0  # `FinetunePlan` has filled them in
    shared: dict[str, Any] = {
        "rate": rate,
        "decay": plan.decay,
        "clip": plan.clip or None,
        "patience": plan.patience,
        "at_once": plan.at_once,
        "seed": plan.seed,
    }
    if plan.task == "classify":
        assert plan.epochs is not None
        shares = WarmUpCosine(plan.epochs, warm_up, _FIRST, _LAST / rate)
        return Course(plan.epochs, Order(cases, batch, plan.seed), shares=shares, by_round=True, **shared)
    assert plan.iterations is not None
    steps = min(plan.every, plan.iterations)
    rounds = -(-plan.iterations // steps)
    shares = WarmUpCosine(rounds * steps, warm_up, _FIRST_OF_SEGMENTATION)
    return Course(rounds, Order(cases, batch, plan.seed, steps), shares=shares, **shared)
