"""Train one head: AdamW, warm-up and cosine, the best epoch by validation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import torch

from featlift.atomic_io import check_writable
from featlift.model_folder import CONFIG
from featlift.progress import Progress
from featlift.segmentation.data.survey import survey
from featlift.segmentation.folder import Config, read_config, write_head
from featlift.segmentation.objects.survey import survey_objects
from featlift.segmentation.objects.task import AffinityTask
from featlift.segmentation.plan import Plan
from featlift.segmentation.task import HeadTask
from featlift.store.reading import Store
from featlift.training.checkpoint import check_same, interrupted, remove_checkpoint
from featlift.training.curves import draw_curves
from featlift.training.order import Order
from featlift.training.precision import Precision, use_bf16
from featlift.training.rates import WarmUpCosine
from featlift.training.splits import Split
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
        VolumeError: a mask is damaged, empty, or of another place; or its objects make no affinities, see `objects_of`.
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
    task: HeadTask
    if plan.affinities is None:
        task = HeadTask(survey(store, masks, split, plan, label_names, progress), plan)
    else:
        task = AffinityTask(*survey_objects(store, masks, split, plan, progress), plan)
    material, bf16 = task.material, use_bf16(precision, device)
    training = Trainer(task, course_of(plan, task), device, bf16, workers)
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
        objects=task.settled(device, bf16),
    )
    draw_curves(folder, training.rows, task.measure)
    write_head(folder, task.network, config)
    remove_checkpoint(folder)
    return config


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
