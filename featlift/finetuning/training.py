"""Fine-tune a network on scans, and write its folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import torch

from featlift.atomic_io import check_writable
from featlift.config import ExtractConfig
from featlift.errors import OptionError
from featlift.extraction import make_recipe, preparation_of
from featlift.finetuning.cases import Cases, digest_of_labels, digest_of_masks, labels_of, masks_of
from featlift.finetuning.changes import need_monai
from featlift.finetuning.classifying import Classifying
from featlift.finetuning.folder import Config, network_of, options_of, read_config, trained_encoder, write_model
from featlift.finetuning.plan import FinetunePlan
from featlift.finetuning.rates import course_of
from featlift.finetuning.segmenting import Segmenting
from featlift.model_folder import CONFIG
from featlift.progress import Progress
from featlift.training.checkpoint import check_same, interrupted, remove_checkpoint
from featlift.training.curves import draw_curves
from featlift.training.precision import Precision, use_bf16
from featlift.training.ranks import Ranks
from featlift.training.scans import Scans
from featlift.training.trainer import Told, Trainer
from featlift.volumes import Reading
from featlift.volumes.label_names import names_in
from featlift.volumes.source import MaskFile


def finetune(
    cases: Cases,
    config: ExtractConfig,
    plan: FinetunePlan,
    folder: str | Path,
    *,
    columns: Sequence[str] = (),
    masks: Mapping[str, MaskFile] | None = None,
    label_names: Mapping[int, str] | None = None,
    precision: Precision = "fp32",
    workers: int = 0,
    ranks: Ranks | None = None,
    progress: Progress | None = None,
    told: Told | None = None,
) -> Config:
    """Train a network, or go on where an interrupted training of the same plan was, and write its folder.

    Args:
        cases: who is trained on, see `cases_of`.
        config: the network, how it is lifted or seen in tiles, and how scans are prepared; weights are kept in float32.
        plan: how it is trained.
        folder: of the model. One that holds a trained model of the same plan is left as it is.
        columns: of classification: the labels to predict.
        masks: of segmentation: the path of the mask of each case, by its id.
        label_names: of segmentation, by label.
        precision: in which type products are computed.
        workers: processes that read volumes ahead.
        ranks: which process of a training in several this is.
        progress: called with what is being done, how many are done, and their number.
        told: called after each validation.

    Raises:
        OptionError: what was asked for makes no sense, or the folder holds a model of another plan.
        InputError: a label, a split or a mask that is missing.
        VolumeError: a scan or a mask that cannot be read.
        ModelError: a network that cannot be lifted, or have LoRA.
        WeightsError: no weights, or an adapter of another backbone.
        OutputError: the folder cannot be written.
    """
    folder, ranks = Path(folder), ranks or Ranks()
    if plan.task == "segment" and (plan.augment or plan.crop):
        need_monai()
    check_writable(folder)
    config = config.with_values({"precision": "fp32"})
    known = labels_of(cases, columns) if plan.task == "classify" else None
    held = {} if known else masks_of(cases, masks or {})
    truth = digest_of_labels(known) if known else digest_of_masks(held)
    asked = _asked(plan.as_json(), options_of(config), columns, cases.split.train, cases.split.val, truth)
    if (folder / CONFIG).exists():
        done = read_config(folder)
        check_same(_asked(done.plan, done.options, done.columns, done.train, done.val, done.truth), asked, folder)
        return done
    state = interrupted(folder, asked)
    encoder = trained_encoder(config, plan)
    preparation, reading = preparation_of(config.preparation, encoder), Reading.of(config.reading)
    ids = cases.taking_part
    task: Classifying | Segmenting
    labels: dict[str, Any]
    if known:
        labels = {each.name: list(each.classes) for each in known.tasks}
        scans = Scans(cases.scans, preparation, reading)
        scans.keep(ids, progress)
        depth = int(median(scans[case_id].scan.shape[0] for case_id in cases.split.train))
        network, lora = network_of(encoder, plan, known.outputs, depth)
        task = Classifying(network, scans, known, cases.split, plan)  # type: ignore[arg-type]
    else:
        scans = Scans(cases.scans, preparation, reading, held)
        found = scans.keep(ids, progress)
        in_masks = _labels_of(found, cases)
        names = label_names or names_in(held.values())
        labels = {str(label): names.get(label, str(label) if label else "background") for label in in_masks}
        depth = 0
        network, lora = network_of(encoder, plan, 1 if len(in_masks) == 2 else len(in_masks), depth)
        task = Segmenting(network, scans, in_masks, cases.split, plan)  # type: ignore[arg-type]
    recipe = make_recipe(network.encoder, preparation)
    device = network.encoder.device
    course = course_of(plan, len(cases.split.train))
    trainer: Trainer[Any] = Trainer(task, course, device, use_bf16(precision, device), workers, ranks)
    trainer.run(folder, asked, state, told)
    made = Config(
        plan=plan.as_json(),
        options=options_of(config),
        depth=depth,
        labels=labels,
        columns=list(columns),
        recipe=recipe,
        train=cases.split.train,
        val=cases.split.val,
        truth=truth,
        test=cases.split.test,
        parameters=_counted(network),
        training=trainer.summary(),
    )
    if ranks.first:
        draw_curves(folder, trainer.rows, task.measure)
        write_model(folder, network, lora, made)
        remove_checkpoint(folder)
    ranks.wait()
    return made


def _asked(
    plan: dict[str, Any],
    options: dict[str, Any],
    columns: Sequence[str],
    train: Sequence[str],
    val: Sequence[str],
    truth: str,
) -> dict[str, Any]:
    """What decides the result of a training, by names that differ."""
    scans = {f"scan_{name}": value for name, value in options.items()}
    return {**plan, **scans, "columns": list(columns), "train": list(train), "val": list(val), "labels or masks": truth}


def _labels_of(found: Mapping[str, Sequence[int]], cases: Cases) -> list[int]:
    """The labels of the training masks, background first."""
    known = sorted({label for case_id in cases.split.train for label in found[case_id]} | {0})
    if len(known) < 2:
        raise OptionError("the training masks hold no label: there is nothing to learn")
    if known[0] < 0:
        raise OptionError(f"a mask holds the label {known[0]}: labels are numbers from 0")
    for case_id in cases.split.val:
        if unknown := sorted(set(found[case_id]) - set(known)):
            raise OptionError(f"label {unknown[0]} of {case_id} is in no training mask")
    return known


def _counted(network: torch.nn.Module) -> dict[str, int]:
    counts = {"backbone": 0, "head": 0}
    for name, value in network.named_parameters():
        if value.requires_grad:
            counts["backbone" if name.startswith("encoder.") else "head"] += value.numel()
    return counts
