"""A measure with its spread, and by how much one result has more of it than another of the same cases."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from featlift.errors import OptionError
from featlift.metrics.bootstrap import LEAST_CASES, interval_of_mean
from featlift.metrics.classification_bootstrap import mean_measures, percentile_interval, resampled
from featlift.metrics.significance import paired_t
from featlift.results.predictions import patients_of, predictions_by_task
from featlift.results.result import Result

Over = Literal["seeds", "cases"]


@dataclass(frozen=True)
class Value:
    """A measure of one row.

    Attributes:
        mean: None without any case.
        sd: standard deviation (n - 1) over seeds or over cases, None where there is neither.
        over: which of the two, empty for neither.
        n: how many seeds or cases.
        low: lower end of the 95 % bootstrap interval over cases.
        high: upper end.
        by_seed: the value for each seed.
    """

    mean: float | None
    sd: float | None
    over: str
    n: int
    low: float | None
    high: float | None
    by_seed: tuple[float, ...]


@dataclass(frozen=True)
class Difference:
    """What a row has more than another of a measure.

    Attributes:
        mean: of the differences of the cases, or of the measure where a case has no value of its own.
        low: lower end of its 95 % interval, by bootstrap of the cases, the same ones for both; None for few.
        high: upper end.
        over: what the t-test pairs: ``seeds``, ``cases``, or nothing.
        n: how many pairs.
        t: Student's t of the paired samples; nan without a test.
        p: two-sided, uncorrected.
        p_holm: corrected for all differences of this question.
        question: its index in a comparison.
        row: index there of what has more.
        against: index there of what is subtracted.
    """

    mean: float
    low: float | None
    high: float | None
    over: str
    n: int
    t: float
    p: float
    p_holm: float = math.nan
    question: int = 0
    row: int = 0
    against: int = 0


class Draws:
    """The same draws of cases for all results, each of which is measured on them once.

    Attributes:
        seed: of the draws.
        resamples: how many.
    """

    def __init__(self, seed: int, resamples: int) -> None:
        self.seed = seed
        self.resamples = resamples
        self._measures: dict[int, dict[str, NDArray[np.float64]]] = {}

    def measures(self, result: Result) -> dict[str, NDArray[np.float64]]:
        """The measures of a classification or of a mean over tasks, averaged over seeds.

        Returns:
            Values by name: that of the cases as they are, then that of each draw, of fewer than `LEAST_CASES` none.
        """
        if id(result) not in self._measures:
            self._measures[id(result)] = self._measured(result)
        return self._measures[id(result)]

    def _measured(self, result: Result) -> dict[str, NDArray[np.float64]]:
        # sorted by id, as they may stand in any order
        cases = sorted(result.cases, key=lambda case: str(case["id"]))
        tasks = list(predictions_by_task(replace(result, cases=cases)).values())
        even = np.ones((1, len(cases)))
        patients = patients_of(cases)
        enough = len(np.unique(patients)) >= LEAST_CASES
        draws = resampled(len(cases), self.seed, self.resamples, patients) if enough else ()
        specificity = float(result.protocol["specificity"])
        found = [mean_measures(tasks, weights, specificity) for weights in chain([even], draws)]
        return {name: np.concatenate([part[name] for part in found]) for name in found[0]}


def paired_over(results: Sequence[Result], measure: str, wanted: Over | None) -> Over | Literal[""]:
    """Whether a measure's values are those of cases or of seeds; of cases, where they have values of their own.

    Raises:
        OptionError: the results have different seeds, so that theirs are no pairs.
    """
    if wanted != "seeds" and all(_has_cases(result, measure) for result in results):
        return "cases"
    if wanted == "cases" or not all(len(result.measures[measure].by_seed or ()) > 1 for result in results):
        return ""
    for other in results[1:]:
        if other.seeds != results[0].seeds:
            raise OptionError(
                f"{results[0].name} has the seeds {_listed(results[0].seeds)}, {other.name} {_listed(other.seeds)}, "
                "which make no pairs: probe them with the same"
            )
    return "seeds"


def value_of(result: Result, measure: str, over: Over | Literal[""]) -> Value:
    """A measure, with its standard deviation over seeds or cases."""
    found = result.measures[measure]
    by_seed = tuple(found.by_seed or ())
    values = by_seed if over == "seeds" else tuple(_of_cases(result, measure).values()) if over == "cases" else ()
    sd = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return Value(found.mean, sd, over, len(values), found.low, found.high, by_seed)


def difference_of(result: Result, against: Result, measure: str, over: Over | Literal[""], draws: Draws) -> Difference:
    """What a result has more of a measure than another, by bootstrap over their cases and by a paired t-test.

    Cases that have no value in one of the two take no part.
    """
    pairs: tuple[list[float], list[float]] = ([], [])
    if _has_cases(result, measure) and _has_cases(against, measure):
        mine, its = _of_cases(result, measure), _of_cases(against, measure)
        both = [key for key in mine if key in its]
        pairs = [mine[key] for key in both], [its[key] for key in both]
        interval = interval_of_mean(np.subtract(*pairs).tolist(), draws.seed, draws.resamples)
        mean, low, high = interval.mean, interval.low, interval.high
    else:
        mean, low, high = _of_predictions(result, against, measure, draws)
    if over == "seeds":
        pairs = (list(result.measures[measure].by_seed or ()), list(against.measures[measure].by_seed or ()))
    t, p = paired_t(*pairs) if over else (math.nan, math.nan)
    return Difference(mean, low, high, over, len(pairs[0]), t, p)


def _of_predictions(
    result: Result, against: Result, measure: str, draws: Draws
) -> tuple[float, float | None, float | None]:
    """Of what only many cases together have, such as an AUC: both from the same draws of cases."""
    differences = draws.measures(result)[measure] - draws.measures(against)[measure]
    low, high = percentile_interval(differences[1:]) or (None, None)
    return float(differences[0]), low, high


def _has_cases(result: Result, measure: str) -> bool:
    return any(case.get(measure) is not None for case in result.cases)


def _of_cases(result: Result, measure: str) -> dict[str, float]:
    """The values of the cases that have one, by id."""
    known = {str(case["id"]): case[measure] for case in result.cases if case.get(measure) is not None}
    return dict(sorted(known.items()))


def _listed(seeds: Sequence[int]) -> str:
    return ", ".join(map(str, seeds)) or "none"
