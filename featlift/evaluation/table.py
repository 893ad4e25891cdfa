"""Results side by side, for people."""

from __future__ import annotations

from collections.abc import Sequence

from featlift.evaluation.bootstrap import Interval
from featlift.evaluation.results import MEASURES, Result

_MOST_COLUMNS = 8  # of labels


def table(results: Sequence[Result]) -> str:
    """A row for each store, means with their 95 % intervals, then the mean Dice of each label."""
    labels = sorted({label for result in results for label in result.labels})
    labels = labels if 1 < len(labels) <= _MOST_COLUMNS else []
    rows = [["store", "model", "mode", "cases", *MEASURES.values(), *(f"Dice of {label}" for label in labels)]]
    for result in results:
        dices = [_text(result.dice_of_labels.get(label), with_interval=False) for label in labels]
        recipe = [str(result.recipe["model"]), str(result.recipe["mode"])]
        means = [_text(result.means[name]) for name in MEASURES]
        rows.append([result.store, *recipe, str(len(result.scored)), *means, *dices])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def _text(interval: Interval | None, with_interval: bool = True) -> str:
    if interval is None or not interval.cases:
        return "-"
    if interval.low is None or not with_interval:
        return f"{interval.mean:.3f}"
    return f"{interval.mean:.3f} [{interval.low:.3f}, {interval.high:.3f}]"
