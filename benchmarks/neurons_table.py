"""The table of `benchmarks.neurons`."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from featlift.metrics.bootstrap import interval_of_mean

#: What a row is compared with: the same head, or as large a network, on intensities.
BASELINES = {"linear": "squares-linear", "decoder": "unet"}

#: Columns of costs: extraction is of all phantoms, once for all rows of a store; tokens and MB are of one phantom.
COSTS = {"extraction": ".0f", "training": ".0f", "prediction": ".0f", "tokens": ",d"}


def table(rows: dict[str, dict[str, Any]]) -> str:
    """Means and 95 % intervals over the phantoms of test, differences paired."""
    lines = [
        "| row | VOI, bits | split | merge | ARAND | VOI, minus baseline | ARAND, minus baseline | threshold "
        "| extraction, s | training, s | prediction, s | tokens | MB |",
        "|---" * 13 + "|",
    ]
    for name, row in rows.items():
        values = {
            key: np.array([case[key] for case in row["cases"]]) for key in ("voi", "voi_split", "voi_merge", "arand")
        }
        base = rows.get(BASELINES.get(name.rsplit("-", 1)[-1], ""))
        less = ["", ""]
        if base is not None and base is not row:
            less = [_interval(values[key] - [case[key] for case in base["cases"]], "+.3f") for key in ("voi", "arand")]
        costs = [format(row[key], form) if key in row else "" for key, form in COSTS.items()]
        size = f"{row['bytes'] / 1e6:.1f}" if "bytes" in row else ""
        cells = [
            name,
            *(_interval(each, ".3f") for each in values.values()),
            *less,
            f"{row['threshold']:g}",
            *costs,
            size,
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _interval(values: NDArray[np.float64], form: str) -> str:
    found = interval_of_mean(values.tolist())
    mean = format(found.mean, form)
    return mean if found.low is None else f"{mean} [{found.low:{form}}, {found.high:{form}}]"
