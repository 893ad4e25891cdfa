"""Whoever waits for a probe is told how long: by a bar, or by a line in a log."""

import pytest

from featlift.cli import results
from featlift.evaluation import Probe, probe, read_labels
from featlift.evaluation.classification.logistic import CS
from tests.support.stores import clouds, splits_of, write_labels, write_store


@pytest.mark.parametrize("protocol", ["planecycle", "logistic", "ct-rate", "abmil"])
def test_every_protocol_tells_how_far_it_is(tmp_path, protocol):
    cases, labels = clouds(36)
    store = write_store(tmp_path / "s.zarr", cases)
    tasks = read_labels(store, write_labels(tmp_path / "l.csv", labels, splits_of(labels, 3)))
    told = []
    done = probe(store, tasks, Probe(protocol, seeds=(0,), iterations=None if protocol == "logistic" else 20),
                 lambda *step: told.append(step))  # fmt: skip
    assert list(done)
    training = [(number, total) for what, number, total in told if what.startswith("training")]
    assert training == [(number, len(training)) for number in range(1, len(training) + 1)]
    assert len(training) == (len(CS) if protocol == "logistic" else 20)


def test_a_log_is_told_once_how_long_it_will_take(capsys, monkeypatch):
    monkeypatch.setattr(results, "_SILENCE", -1.0)  # as if it had waited
    tell = results.bars("s.zarr")
    for done in range(1, 5):
        tell("reading", done, 4)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("featlift: s.zarr: reading: 2 of 4, about ")
    monkeypatch.undo()
    tell = results.bars("s.zarr")
    for done in range(1, 5):
        tell("reading", done, 4)
    assert capsys.readouterr().err == ""


def test_what_goes_on_in_the_middle_and_what_comes_twice_is_told(capsys, monkeypatch):
    monkeypatch.setattr(results, "_SILENCE", -1.0)
    tell = results.bars("study")
    for _ in range(2):
        for done in range(3, 6):  # two were done by a run before
            tell("extracting", done, 5)
    first, second = capsys.readouterr().err.splitlines()
    assert first == second
    assert first.startswith("featlift: study: extracting: 4 of 5, about ")
