"""Train one head: Dice and cross-entropy, AdamW, warm-up and cosine, the best epoch by validation Dice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from featlift.atomic_io import check_writable
from featlift.model_folder import CONFIG
from featlift.progress import Progress
from featlift.segmentation.data.patches import Patches, collated
from featlift.segmentation.data.survey import TrainingData, survey
from featlift.segmentation.folder import Config, read_config, write_head
from featlift.segmentation.inference.windows import logits_of
from featlift.segmentation.loss import dice_and_cross_entropy, mean_dice
from featlift.segmentation.networks.head import Batch, Head
from featlift.segmentation.plan import Plan
from featlift.store.reading import Store
from featlift.training.checkpoint import check_same, interrupted, remove_checkpoint
from featlift.training.curves import draw_curves
from featlift.training.order import Order
from featlift.training.precision import Precision, use_bf16
from featlift.training.rates import WarmUpCosine
from featlift.training.splits import Split
from featlift.training.task import Task
from featlift.training.trainer import Course, Told, Trainer
from featlift.volumes.source import MaskFile

_CLIP = 12.0


def train_head(
    store: Store,
    masks: Mapping[str, MaskFile],
    split: Split,
    plan: Plan,
    folder: str | Path,
    label_names: Mapping[int, str] | None = None,
    device: torch.device | None = None,
    precision: Precision = "auto",
    workers: int = 0,
    progress: Progress | None = None,
    told: Told | None = None,
) -> Config:
    """Train a head and write its folder; go on where an interrupted training of the same plan was.

    Every epoch starts from random numbers of its own, so that a training that went on ends as one that was not
    interrupted: bit for bit on one machine with one number of threads.

    Args:
        store: of the features.
        masks: the path of the mask of each case, by its id; see `featlift.find_masks`.
        split: who trains, who validates.
        plan: how.
        folder: of the head. One that holds a trained head of the same plan is left as it is.
        label_names: by label.
        device: None is the CPU.
        precision: ``auto`` multiplies in bfloat16 where the hardware does so natively.
        workers: processes that read patches ahead.
        progress: called with what is being done, the cases that are done and their number.
        told: called after each epoch.

    Raises:
        OptionError: what was asked for makes no sense, or the folder holds a head of another plan.
        VolumeError: a mask is damaged, empty, or of another place.
        StoreError: the store does not keep what the head needs.
        OutputError: the folder cannot be written.
    """
    folder, device = Path(folder), device or torch.device("cpu")
    check_writable(folder)
    asked = {**plan.as_json(), "recipe": store.recipe, "train": split.train, "val": split.val}
    if (folder / CONFIG).exists():
        config = read_config(folder)
        check_same({**config.plan, "recipe": config.recipe, "train": config.train, "val": config.val}, asked, folder)
        return config
    state = interrupted(folder, asked)
    material = survey(store, masks, split, plan, label_names, progress)
    task = HeadTask(material, plan)
    training = Trainer(task, course_of(plan, task), device, use_bf16(precision, device), workers)
    training.run(folder, asked, state, told)
    config = Config(
        plan=plan.as_json(),
        size=asdict(material.size),
        needs=list(material.reader.needs),
        layers=list(material.reader.layers),
        step=material.reader.step,
        labels={str(label): name for label, name in material.label_names.items()},
        recipe=store.recipe,
        train=split.train,
        val=split.val,
        test=split.test,
        parameters=task.network.parameter_counts(),
        training=training.summary(),
    )
    draw_curves(folder, training.rows)
    write_head(folder, task.network, config)
    remove_checkpoint(folder)
    return config


class HeadTask(Task[Batch]):
    """A head on patches, or whole scans, of cached features.

    Args:
        material: what it is trained on.
        plan: how.
    """

    measure = "dice"
    network: Head

    def __init__(self, material: TrainingData, plan: Plan) -> None:
        self.material = material
        self.network = material.fresh_head(plan)
        self.to_validate = material.split.val
        self.patch = None if self.network.whole else plan.patch
        self.patches = Patches(material, self.patch, plan.seed, plan.noise)

    def dataset(self, number: int) -> Patches:
        """See `Task`."""
        self.patches.epoch = number
        return self.patches

    def collated(self, items: Sequence[Batch]) -> Batch:
        """See `Task`."""
        return collated(items)

    def on(self, batch: Batch, device: torch.device) -> Batch:
        """See `Task`."""
        return batch.to(device)

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        """See `Task`; Dice is of all patches together."""
        assert batch.labels is not None
        return dice_and_cross_entropy(outputs, batch.labels)

    def validated(self, names: Sequence[str], device: torch.device, bf16: bool) -> dict[str, Any]:
        """Mean Dice of each case over its labels, on the predicted voxels."""
        found = {}
        for case_id in names:
            logits = logits_of(self.network, self.material.reader, case_id, self.patch, device, bf16)
            found[case_id] = mean_dice(logits.argmax(dim=0).numpy(), self.material.reader.classes(case_id))
        return found

    def score(self, found: Mapping[str, Any]) -> float:
        """Mean Dice over validation cases."""
        return float(np.nanmean([found[case_id] for case_id in self.to_validate]))


def course_of(plan: Plan, task: HeadTask) -> Course:
    """Every training case once an epoch; the rate rises, then falls, step by step."""
    order = Order(len(task.patches), plan.batch, plan.seed)
    steps = plan.epochs * order.steps_of_a_round
    return Course(
        rounds=plan.epochs,
        order=order,
        rate=plan.rate or task.network.rate,
        shares=WarmUpCosine(steps, max(1, round(plan.warm_up * steps))),
        decay=plan.decay,
        clip=_CLIP,
        patience=plan.patience,
        seed=plan.seed,
    )
