"""Train one head: Dice and cross-entropy, AdamW, warm-up and cosine, the best epoch by validation Dice."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from featlift.atomic_io import check_writable
from featlift.errors import OptionError
from featlift.heads.checkpoint import Checkpoint, read_checkpoint, remove_checkpoint, write_checkpoint
from featlift.heads.curves import draw_curves, write_curves
from featlift.heads.folder import CONFIG, Config, read_config, write_head
from featlift.heads.head import Batch
from featlift.heads.loss import dice_and_cross_entropy, mean_dice
from featlift.heads.patches import Patches, collated
from featlift.heads.plan import Plan, Precision
from featlift.heads.splits import Split
from featlift.heads.survey import TrainingData, survey
from featlift.heads.windows import logits_of
from featlift.progress import Progress
from featlift.store.layout import differing_fields
from featlift.store.reading import Store

#: Called after each epoch with a row of the curves and the number of epochs at most.
EpochCallback = Callable[[dict[str, float], int], object]


def train_head(
    store: Store,
    masks: Mapping[str, str | Path],
    split: Split,
    plan: Plan,
    folder: str | Path,
    label_names: Mapping[int, str] | None = None,
    device: torch.device | None = None,
    precision: Precision = "auto",
    workers: int = 0,
    progress: Progress | None = None,
    told: EpochCallback | None = None,
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
        _check_same({**config.plan, "recipe": config.recipe, "train": config.train, "val": config.val}, asked, folder)
        return config
    state = read_checkpoint(folder)
    if state is not None:
        _check_same(state.asked, asked, folder)
    material = survey(store, masks, split, plan, label_names, progress)
    training = Training(material, plan, device, use_bf16(precision, device), workers)
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
        parameters=training.head.parameter_counts(),
        training=training.summary(),
    )
    draw_curves(folder, training.rows)
    write_head(folder, training.head, config)
    remove_checkpoint(folder)
    return config


class Training:
    """A head on its way.

    Args:
        material: what it is trained on.
        plan: how.
        device: where.
        bf16: multiply in bfloat16.
        workers: processes that read patches ahead.
    """

    def __init__(self, material: TrainingData, plan: Plan, device: torch.device, bf16: bool, workers: int = 0) -> None:
        self.material, self.plan, self.device, self.bf16, self.workers = material, plan, device, bf16, workers
        self.head = material.fresh_head(plan).to(device)
        self.patch = None if self.head.whole else plan.patch
        self.patches = Patches(material, self.patch, plan.seed, plan.noise)
        self.optimiser = torch.optim.AdamW(self.head.parameters(), lr=self._rate(0), weight_decay=plan.decay)
        self.rows: list[dict[str, float]] = []
        self.best: dict[str, Tensor] = {}

    def run(
        self, folder: Path, asked: dict[str, Any], state: Checkpoint | None = None, told: EpochCallback | None = None
    ) -> None:
        """Train until the last epoch, or until validation has not become better for long; then take the best epoch."""
        if state is not None:
            self.head.load_state_dict(state.head)
            self.optimiser.load_state_dict(state.optimiser)
            self.rows, self.best = state.rows, state.best
        while len(self.rows) < self.plan.epochs and self._since_best() < self.plan.patience:
            row = self.epoch(len(self.rows))
            if not self.best or row["dice"] > self.rows[self._best()]["dice"]:
                self.best = {name: value.detach().cpu().clone() for name, value in self.head.state_dict().items()}
            self.rows.append(row)
            write_curves(folder, self.rows)
            write_checkpoint(
                folder, Checkpoint(asked, self.head.state_dict(), self.optimiser.state_dict(), self.best, self.rows)
            )
            if told is not None:
                told(row, self.plan.epochs)
        self.head.load_state_dict(self.best)

    def epoch(self, number: int) -> dict[str, float]:
        """Every training case once, then validation: a row of the curves."""
        start = time.perf_counter()
        self.patches.epoch = number
        order = np.random.default_rng([self.plan.seed, number]).permutation(len(self.patches))
        steps = [order[first : first + self.plan.batch].tolist() for first in range(0, len(order), self.plan.batch)]
        loader = DataLoader(self.patches, batch_sampler=steps, collate_fn=collated, num_workers=self.workers)
        losses = []
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(self.plan.seed * 1_000_003 + number)
            self.head.train()
            for step, batch in enumerate(loader):
                losses.append(self._step(batch.to(self.device), number * len(steps) + step))
        dice = self.validate()
        rate = self.optimiser.param_groups[0]["lr"]
        seconds = time.perf_counter() - start
        return {"epoch": number + 1, "loss": float(np.mean(losses)), "dice": dice, "rate": rate, "seconds": seconds}

    def validate(self) -> float:
        """Mean Dice over validation cases, each being the mean of its labels, on the predicted voxels."""
        self.head.eval()
        scores = []
        for case_id in self.material.split.val:
            logits = logits_of(self.head, self.material.reader, case_id, self.patch, self.device, self.bf16)
            scores.append(mean_dice(logits.argmax(dim=0).numpy(), self.material.reader.classes(case_id)))
        return float(np.nanmean(scores))

    def summary(self) -> dict[str, Any]:
        """How it went."""
        best = self.rows[self._best()]
        seconds = sum(row["seconds"] for row in self.rows)
        return {"epochs": len(self.rows), "best_epoch": best["epoch"], "dice": best["dice"], "seconds": seconds}

    def _step(self, batch: Batch, step: int) -> float:
        for group in self.optimiser.param_groups:
            group["lr"] = self._rate(step)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            logits = self.head(batch)
        assert batch.labels is not None
        loss = dice_and_cross_entropy(logits, batch.labels)
        self.optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.head.parameters(), 12.0)
        self.optimiser.step()
        return float(loss.detach())

    def _rate(self, step: int) -> float:
        """Up in a line, down as a cosine."""
        steps = self.plan.epochs * -(-len(self.patches) // self.plan.batch)
        rising = max(1, round(self.plan.warm_up * steps))
        share = (
            (step + 1) / rising if step < rising else (1 + math.cos(math.pi * (step - rising) / (steps - rising))) / 2
        )
        return (self.plan.rate or self.head.rate) * share

    def _best(self) -> int:
        return max(range(len(self.rows)), key=lambda number: (self.rows[number]["dice"], -number))

    def _since_best(self) -> int:
        return len(self.rows) - 1 - self._best() if self.rows else 0


def use_bf16(precision: Precision, device: torch.device) -> bool:
    """Whether to multiply in bfloat16: by ``auto`` where the hardware does so natively.

    Raises:
        OptionError: another precision.
    """
    if precision not in ("auto", "fp32", "bf16"):
        raise OptionError(f"precision {precision!r}: choose auto, fp32 or bf16")
    if precision != "auto":
        return precision == "bf16"
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    return device.type == "cpu" and (torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported())


def _check_same(theirs: dict[str, Any], ours: dict[str, Any], folder: Path) -> None:
    if differences := differing_fields(theirs, ours, "there", "asked"):
        raise OptionError(
            f"{folder} holds a training of another plan: {'; '.join(_short(each) for each in differences)}. "
            "Give another -o, or remove it"
        )


def _short(text: str, most: int = 200) -> str:
    return text if len(text) <= most else text[:most] + "..."
