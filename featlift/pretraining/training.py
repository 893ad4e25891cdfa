"""Pretrain an encoder on scans, and write its folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from featlift.atomic_io import check_writable
from featlift.encoders.threedme import ThreeDME
from featlift.errors import InputError, OptionError
from featlift.evaluation.classification.labels import rows_of_csv, splits_in
from featlift.lifting import VolumeEncoder
from featlift.model_folder import CONFIG
from featlift.pretraining.crops import Crops
from featlift.pretraining.folder import PretrainConfig, asked_of, read_pretrain_config, write_pretrained
from featlift.pretraining.meaning import Meaning
from featlift.pretraining.network import Autoencoder
from featlift.pretraining.picture import draw_reconstruction
from featlift.pretraining.plan import PretrainPlan
from featlift.pretraining.task import Pretraining, held, restored
from featlift.progress import Progress
from featlift.training.checkpoint import check_same, interrupted, remove_checkpoint
from featlift.training.curves import draw_curves
from featlift.training.order import Order
from featlift.training.precision import Precision, use_bf16
from featlift.training.ranks import Ranks
from featlift.training.rates import WarmUpCosine
from featlift.training.scans import Scans
from featlift.training.splits import TRAIN, Split, split_of
from featlift.training.trainer import Course, Told, Trainer
from featlift.volumes import Preparation, Reading, Scan


@dataclass(frozen=True)
class Cohort:
    """Scans, and who does what.

    Attributes:
        scans: that were found, by id.
        split: who trains, who chooses the round, and who is left out of both.
        preparation: what happens to scans.
        reading: how far reading may go.
    """

    scans: dict[str, Scan]
    split: Split
    preparation: Preparation
    reading: Reading

    @property
    def taking_part(self) -> list[str]:
        """Ids of those that train or choose the round."""
        return [*self.split.train, *self.split.val]


def split_of_scans(scans: Sequence[Scan], listed: str | Path | None, seed: int = 0) -> Split:
    """Who trains; where nothing is said of any scan, all do but those of a fifth of the patients.

    Args:
        scans: that were found.
        listed: a CSV with ``id,split`` and perhaps ``patient``; None takes what the scans say themselves.
        seed: of the fifth.

    Raises:
        InputError: a case of no scan, or a split that is none.
        OptionError: too few scans, or a patient in two splits.
    """
    ids = {scan.id for scan in scans}
    where = "the scans" if listed is None else str(listed)
    own = {scan.id: {key: str(value).strip() for key, value in scan.labels.items()} for scan in scans}
    rows = own if listed is None else rows_of_csv(listed, ids)
    if unknown := [case_id for case_id in rows if case_id not in ids]:
        raise InputError(f"{where}: {len(unknown)} of {len(rows)} ids are no scan, as {unknown[0]}: take them out")
    splits = splits_in(rows, where) or dict.fromkeys(rows, TRAIN)
    patients = {case_id: row["patient"] for case_id, row in rows.items() if row.get("patient")}
    return split_of(splits, patients, seed)


def pretrain(
    cohort: Cohort,
    plan: PretrainPlan,
    folder: str | Path,
    *,
    meaning: VolumeEncoder | None = None,
    device: torch.device | None = None,
    precision: Precision = "fp32",
    workers: int = 0,
    ranks: Ranks | None = None,
    progress: Progress | None = None,
    told: Told | None = None,
) -> PretrainConfig:
    """Pretrain an encoder, or go on where an interrupted pretraining of the same plan was, and write its folder.

    Args:
        cohort: the scans.
        plan: how.
        folder: of the encoder. One that holds an encoder of the same plan is left as it is.
        meaning: φ of the semantic loss; None where that has no weight.
        device: None is the CPU.
        precision: in which type products are computed.
        workers: processes that cut crops ahead.
        ranks: which process of a training in several this is.
        progress: called with what is being done, how many are done, and their number.
        told: called after each validation.

    Raises:
        OptionError: what was asked for makes no sense, or the folder holds a training of another plan.
        VolumeError: a scan that cannot be read, that no crop fits, or that is all background; it is named.
        OutputError: the folder cannot be written.
    """
    folder, device, ranks = Path(folder), device or torch.device("cpu"), ranks or Ranks()
    if (meaning is None) != (plan.losses[1] == 0):
        raise OptionError("a semantic loss and a network for it belong together: give both or neither")
    check_writable(folder)
    split, recipe = cohort.split, cohort.preparation.as_recipe()
    seen = None if meaning is None else meaning.recipe()
    asked = asked_of(plan, recipe, seen, split.train, split.val)
    if (folder / CONFIG).exists():
        done = read_pretrain_config(folder)
        check_same(done.asked, asked, folder)
        return done
    state = interrupted(folder, asked)
    semantics = None if meaning is None else Meaning(meaning)
    crops = Crops(Scans(cohort.scans, cohort.preparation, cohort.reading), plan.config.size, plan.background, plan.dark)
    grown = crops.keep(cohort.taking_part, plan.seed, progress)
    if semantics is not None:
        semantics.check(cohort.preparation, grown)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(plan.seed)
        network = Autoencoder(ThreeDME(plan.config, plan.checkpointing))
    task = Pretraining(network, crops, split.train, split.val, plan, semantics)
    bf16 = use_bf16(precision, device)
    trainer = Trainer(task, course_of(plan), device, bf16, workers, ranks)
    if state is not None:  # it may have been killed before its picture was drawn
        task.load(state.network)
        _draw_stage(folder, task, len(state.rows), device, bf16)

    def tell(row: dict[str, float], rounds: int) -> None:
        _draw_stage(folder, task, int(row["epoch"]), device, bf16)
        if told is not None:
            told(row, rounds)

    trainer.run(folder, asked, state, tell)
    made = PretrainConfig(
        encoder=plan.config.to_json(),
        preparation=_needed(cohort.preparation),
        plan=plan.as_json(),
        scans=recipe,
        meaning=seen,
        train=split.train,
        val=split.val,
        test=split.test,
        grown=grown,
        parameters={
            "encoder": sum(value.numel() for value in network.encoder.parameters()),
            "decoder": sum(value.numel() for value in network.decoder.parameters()),
        },
        training=trainer.summary(),
    )
    if ranks.first:
        draw_curves(folder, trainer.rows, task.measure)
        write_pretrained(folder, network, made)
        remove_checkpoint(folder)
    ranks.wait()
    return made


def course_of(plan: PretrainPlan) -> Course:
    """By iterations; the rate rises, then falls, step by step. Every crop of a round is a draw of its own."""
    return Course(
        rounds=plan.rounds,
        order=Order(plan.steps * plan.batch, plan.batch, plan.seed),
        rate=plan.rate,
        shares=WarmUpCosine(plan.rounds * plan.steps, plan.warm_up),
        decay=plan.decay,
        clip=plan.clip or None,
        at_once=plan.at_once,
        seed=plan.seed,
    )


def _draw_stage(folder: Path, task: Pretraining, rounds: int, device: torch.device, bf16: bool) -> None:
    """If a stage ended with this round, draw what the network makes of a scan that only chooses the round."""
    number, stage = task.plan.stage_of(rounds - 1)
    if rounds < task.plan.rounds and task.plan.stage_of(rounds)[0] == number:
        return
    case_id = task.to_validate[0]
    crop, batch = held(task.crops, case_id, stage, task.plan.seed)
    output = restored(task.network, batch, device, bf16)
    title = f"{case_id}, not trained on, after stage {number + 1} of {len(task.plan.masking)}: {stage.name}"
    draw_reconstruction(folder / f"stage-{number + 1}.png", crop, batch, output, title)


def _needed(preparation: Preparation) -> dict[str, Any]:
    """Options that scans need for features of the encoder to be what they were in training."""
    recipe = preparation.as_recipe()
    names = ["intensity", *(["spacing"] if all(preparation.spacing) and preparation.spacing else [])]
    return {name: recipe[name] for name in [*names, *(["resampling"] if "resampling" in recipe else [])]}
