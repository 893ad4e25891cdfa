"""`featlift segment score --metric`: objects of which each has an id of its own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from featlift.cli import choices
from featlift.cli.options import numbers, words
from featlift.config.options import read_word
from featlift.errors import OptionError

if TYPE_CHECKING:
    from featlift.segmentation.instances.scoring import Scoring

_COMPARING_LABELS = ("dice", "hd95", "asd", "jaccard", "volume_similarity", "failure_rate")


def scoring_of(metric: str, convention: str, ignore: str | None, border: float, resolution: str | None) -> Scoring:
    """The settings of the options, checked."""
    asked = words(metric)
    if of_labels := [word for word in asked if word.lower() in _COMPARING_LABELS]:
        raise OptionError(
            f"--metric {of_labels[0]} compares voxels of one label, and ids of instances are arbitrary: ask for "
            f"{','.join(choices.INSTANCE_METRICS)}; without --metric, labels are scored"
        )
    metrics = dict.fromkeys(read_word(word, "--metric", choices.INSTANCE_METRICS) for word in asked)
    nanometres = numbers(resolution, float, "--resolution")
    if nanometres and (len(nanometres) != 3 or min(nanometres) <= 0):
        raise OptionError(f"--resolution {resolution}: give nanometres along d,h,w, as in 40,4,4")
    ignored = numbers(ignore, int, "--ignore")
    if ignored and not 0 <= min(ignored) <= max(ignored) < 2**64:
        raise OptionError(f"--ignore {ignore}: ids are from 0 to 2^64 - 1")
    from featlift.segmentation.instances.scoring import Scoring

    return Scoring(tuple(metrics), convention, ignored, border, nanometres)  # type: ignore[arg-type]


def score_instances(
    predictions: str, masks: str, pattern: str | None, how: Scoring, output: Path, seed: int, resamples: int
) -> None:
    """Score, write the result, and show it."""
    from featlift.cli.results import bars, intervals, some, written
    from featlift.evaluation import table
    from featlift.segmentation.instances.result import instances_result
    from featlift.segmentation.instances.scoring import name_of_file, pairs_of, score_pairs

    pairs, without = pairs_of(predictions, masks, pattern)
    if without:
        count = f"{len(without)} of {len(pairs) + len(without)} segmentations"
        typer.echo(f"featlift: {count} have no mask: {some(without)}", err=True)
    name = name_of_file(predictions)
    scores = score_pairs(pairs, how, bars(name))
    results = written([instances_result(name, scores, how, without, seed, resamples)], output)
    typer.echo(f"Instances; {intervals(results)}; VOI in bits, of {how.convention}'s conventions; less is better")
    typer.echo(table(results))
