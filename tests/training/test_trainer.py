"""The loop: order, rates, parts of a batch, and going on."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.utils.data import Dataset

from featlift.errors import StoreError
from featlift.training.order import Order
from featlift.training.rates import WarmUpCosine
from featlift.training.task import Task
from featlift.training.trainer import Course, Trainer

CPU = torch.device("cpu")


@given(count=st.integers(1, 40), batch=st.integers(1, 12), rounds=st.integers(1, 5), seed=st.integers(0, 9))
def test_an_epoch_has_every_case_once(count, batch, rounds, seed):
    order = Order(count, batch, seed)
    for number in range(rounds):
        steps = order.of_round(number)
        assert len(steps) == order.steps_of_a_round
        assert sorted(case for step in steps for case in step) == list(range(count))


@given(count=st.integers(1, 15), batch=st.integers(1, 12), steps=st.integers(1, 9), rounds=st.integers(1, 6))
def test_rounds_of_iterations_go_on_where_the_last_one_was(count, batch, steps, rounds):
    order = Order(count, batch, 0, steps)
    stream = [case for number in range(rounds) for step in order.of_round(number) for case in step]
    assert len(stream) == rounds * steps * batch
    for first in range(0, len(stream) - count + 1, count):
        assert sorted(stream[first : first + count]) == list(range(count))


def test_rates_rise_in_a_line_and_fall_as_a_cosine():
    ours = [WarmUpCosine(20, 4)(step) for step in range(21)]
    assert ours[:5] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert ours[12] == pytest.approx(0.5)
    assert ours[20] == pytest.approx(0)
    # the released classification: LinearLR from a thousandth over 10 epochs, then CosineAnnealingLR to 1e-6
    parameter = nn.Parameter(torch.zeros(1))
    optimiser = torch.optim.AdamW([parameter], lr=5e-5)
    theirs = torch.optim.lr_scheduler.SequentialLR(
        optimiser,
        [
            torch.optim.lr_scheduler.LinearLR(optimiser, start_factor=0.001, total_iters=10),
            torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, T_max=90, eta_min=1e-6),
        ],
        milestones=[10],
    )
    shares = WarmUpCosine(100, 10, 1e-3, 1e-6 / 5e-5)
    for epoch in range(100):
        assert 5e-5 * shares(epoch) == pytest.approx(optimiser.param_groups[0]["lr"], rel=1e-9), epoch
        optimiser.step()
        theirs.step()


class Points(Dataset):
    """Points of two clouds."""

    def __init__(self, count):
        rng = np.random.default_rng(0)
        self.labels = rng.integers(2, size=count)
        self.places = (rng.normal(size=(count, 3)) + 2 * self.labels[:, None]).astype(np.float32)

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        return self.places[index], self.labels[index]


class Small(nn.Module):
    """Logits of a batch of points."""

    def __init__(self, dropout):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(3, 16), nn.GELU(), nn.Dropout(dropout), nn.Linear(16, 2))

    def forward(self, batch):
        return self.layers(batch[0])


class Clouds(Task):
    """A small network that tells the clouds apart."""

    measure = "accuracy"

    def __init__(self, count=23, dropout=0.0):
        torch.manual_seed(0)
        self.network = Small(dropout)
        self.points = Points(count)
        self.to_validate = [str(number) for number in range(count)]

    def dataset(self, number):
        return self.points

    def collated(self, items):
        places, labels = zip(*items, strict=True)
        return torch.from_numpy(np.stack(places)), torch.tensor(labels)

    def on(self, batch, device):
        return batch

    def loss(self, outputs, batch):
        return nn.functional.cross_entropy(outputs, batch[1])

    def validated(self, names, device, bf16):
        with torch.no_grad():
            decided = self.network((torch.from_numpy(self.points.places),)).argmax(dim=1)
        return {name: bool(decided[int(name)] == self.points.labels[int(name)]) for name in names}

    def score(self, found):
        return float(np.mean(list(found.values())))


def trained(folder, rounds=6, state=None, batch=8, dropout=0.0, steps=None, **course):
    task = Clouds(dropout=dropout)
    order = Order(23, batch, 0, steps)
    shares = WarmUpCosine(rounds * order.steps_of_a_round, 2)
    trainer = Trainer(task, Course(rounds, order, 0.03, shares, **course), CPU)
    folder.mkdir(exist_ok=True)
    trainer.run(folder, {}, state)
    return trainer, {name: value.clone() for name, value in task.network.state_dict().items()}


def test_it_learns_and_keeps_the_best_round(tmp_path):
    trainer, _ = trained(tmp_path)
    measures = [row["accuracy"] for row in trainer.rows]
    assert max(measures) > 0.9
    assert trainer.summary()["accuracy"] == max(measures) == trainer.validate()
    assert trainer.rows[-1]["loss"] < trainer.rows[0]["loss"]


def test_a_state_of_another_network_is_refused():
    """It would otherwise be left out without a word, and training go on from the beginning."""
    state = {f"other.{name}": value for name, value in Clouds().state().items()}
    with pytest.raises(StoreError, match="another network"):
        Clouds().load(state)


@pytest.mark.parametrize("steps", [None, 5])
def test_parts_of_a_batch_add_up_to_the_batch(tmp_path, steps):
    _, whole = trained(tmp_path / "whole", steps=steps, clip=0.5)
    for at_once in (1, 3):
        _, parts = trained(tmp_path / f"{at_once}", steps=steps, clip=0.5, at_once=at_once)
        for name, value in whole.items():
            torch.testing.assert_close(parts[name], value, atol=1e-6, rtol=1e-5)


def test_what_went_on_ends_as_what_was_not_interrupted(tmp_path):
    from featlift.training.checkpoint import read_checkpoint

    trainer, whole = trained(tmp_path / "whole", dropout=0.3)
    task = Clouds(dropout=0.3)
    course = Course(6, Order(23, 8, 0), 0.03, WarmUpCosine(18, 2))
    (tmp_path / "part").mkdir()

    class StoppedError(Exception):
        pass

    def stop(row, rounds):
        if row["epoch"] == 3:
            raise StoppedError

    with pytest.raises(StoppedError):
        Trainer(task, course, CPU).run(tmp_path / "part", {}, told=stop)
    again, parts = trained(tmp_path / "part", dropout=0.3, state=read_checkpoint(tmp_path / "part"))
    assert [{**row, "seconds": 0} for row in again.rows] == [{**row, "seconds": 0} for row in trainer.rows]
    for name, value in whole.items():
        assert torch.equal(parts[name], value), name


def test_patience_ends_a_training(tmp_path):
    trainer, _ = trained(tmp_path, rounds=40, patience=3)
    assert len(trainer.rows) == trainer.best_round + 1 + 3
    assert len(trainer.rows) < 40
