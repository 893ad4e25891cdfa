"""Results side by side, for people."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from featlift.results.result import Measure, Result

#: How measures are called, those first that come with their intervals.
_WITH_INTERVAL = {
    "dice": "Dice",
    "best_dice": "best-threshold Dice",
    "hd95": "HD95 mm",
    "hd95_pooled": "pooled HD95 mm",
    "asd": "ASD mm",
    "tre": "TRE mm",
    "auroc": "AUROC",
    "auc": "AUC",
    "accuracy": "ACC",
    "mae": "MAE",
    "psnr": "PSNR dB",
    "ssim": "SSIM",
    "voi": "VOI bits",
    "arand": "ARAND",
}
_WITHOUT = {
    "balanced_accuracy": "balanced ACC",
    "precision": "precision",
    "recall": "recall",
    "f1": "F1",
    "jaccard": "Jaccard",
    "volume_similarity": "volume similarity",
    "failure_rate": "failure rate",
    "sdlogj": "SDlogJ",
    "voi_split": "VOI split",
    "voi_merge": "VOI merge",
    "arand_precision": "ARAND precision",
    "arand_recall": "ARAND recall",
    "peak_mb": "peak MB",
}
_MOST_LABELS = 8
_OF_A_LABEL = re.compile(r"(dice|hd95|hd95_pooled|asd|volume_similarity|failure_rate)_(\d+)")


def table(results: Sequence[Result]) -> str:
    """`table_rows` as text, in columns."""
    rows = table_rows(results)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def table_rows(results: Sequence[Result]) -> list[list[str]]:
    """A header, then a row for each result: means, with standard deviations over seeds and 95 % intervals.

    A mean over fewer cases than the row has says over how many. The mean Dice of each label stands in it where there
    are 2 to 8. Means over tasks come last.
    """
    tasks = any(result.task for result in results)
    heads = any("head" in result.protocol for result in results)
    names = list(dict.fromkeys(name for result in results for name in result.measures))
    labels = [name for name in names if name.startswith("dice_")]
    shown = labels if 1 < len(labels) <= _MOST_LABELS else []
    names = [name for name in names if name in shown or not _OF_A_LABEL.fullmatch(name)]
    asked = [*(["task", "protocol"] if tasks else []), *(["head"] if heads else [])]
    called = _label_names(results)
    rows = [["store", "model", "mode", *asked, "cases", *(title(name, called) for name in names)]]
    for result in sorted(results, key=lambda result: "tasks" in result.protocol):
        what = [result.store, str(result.recipe["model"]), str(result.recipe["mode"])]
        what += [result.task, protocol_of(result)] if tasks else []
        what += [result.protocol.get("head", "")] if heads else []
        numbers = [_number(result, name) for name in names]
        rows.append([*what, str(len(result.cases) or "-"), *numbers])
    return rows


def _label_names(results: Sequence[Result]) -> dict[str, str]:
    """The names of labels on which all results agree that name them."""
    given = [(label, name) for result in results for label, name in result.details.get("label_names", {}).items()]
    several = {label for label, name in given if any(label == other and name != its for other, its in given)}
    return {label: name for label, name in given if label not in several}


def _number(result: Result, name: str) -> str:
    measure = result.measures.get(name)
    text = text_of(measure, name in _WITH_INTERVAL)
    fewer = measure is not None and measure.mean is not None and measure.cases < len(result.cases)
    return f"{text} (n = {measure.cases})" if fewer and measure else text


def title(measure: str, label_names: Mapping[str, str] | None = None) -> str:
    """What people call a measure, of a label by its name if that is among `label_names`."""
    names = _WITH_INTERVAL | _WITHOUT
    if found := _OF_A_LABEL.fullmatch(measure):
        return f"{names[found[1]]} of {(label_names or {}).get(found[2], found[2])}"
    return names.get(measure, measure.replace("_", " "))


def text_of(measure: Measure | None, with_interval: bool = True) -> str:
    """``0.812``, with several seeds ``0.812 ± 0.004``, with its interval ``0.812 [0.790, 0.834]``."""
    if measure is None or measure.mean is None:
        return "-"
    text = f"{measure.mean:.3f}" + ("" if measure.sd is None else f" ± {measure.sd:.3f}")
    return text + (f" [{measure.low:.3f}, {measure.high:.3f}]" if with_interval and measure.low is not None else "")


def protocol_of(result: Result) -> str:
    """Its kind, and the name of its protocol or, of k-NN, how many neighbours voted."""
    protocol = result.protocol
    return f"{result.kind} {protocol['k']}" if "k" in protocol else f"{result.kind} {protocol['name']}"
