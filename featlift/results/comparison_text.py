"""A comparison as Markdown, CSV, LaTeX and JSON."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from featlift.errors import OptionError
from featlift.results.comparison import Comparison
from featlift.results.differences import Difference, Value

FORMAT = 1
_SIGNED = re.compile(r"[+-]\d+\.\d+")
_SPECIAL = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
_SPECIAL |= {character: f"\\{character}" for character in "&%$#_{}"}


def comparison_text(comparison: Comparison, to: str = "markdown") -> str:
    """The comparison in a format.

    Args:
        comparison: of results.
        to: ``markdown``, ``csv``, ``latex`` or ``json``.

    Raises:
        OptionError: another format.
    """
    formats: dict[str, Callable[[Comparison], str]] = {
        "markdown": _markdown,
        "csv": _csv,
        "latex": _latex,
        "json": _json,
    }
    if to not in formats:
        raise OptionError(f"--to {to!r}: choose {', '.join(formats)}")
    return formats[to](comparison)


def _markdown(comparison: Comparison) -> str:
    tables = [_means(comparison), _differences(comparison)]
    parts = ["\n".join(_row(cells) for cells in (table[0], ["---"] * len(table[0]), *table[1:])) for table in tables]
    return "\n\n".join([parts[0], _notes(comparison), *(parts[1:] if comparison.differences else [])]) + "\n"


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


def _latex(comparison: Comparison) -> str:
    tables = [_means(comparison), *([_differences(comparison)] if comparison.differences else [])]
    parts = ["% \\usepackage{booktabs}"]
    for table in tables:
        lines = [" & ".join(map(_escaped, cells)) + r" \\" for cells in table]
        body = [r"\toprule", lines[0], r"\midrule", *lines[1:], r"\bottomrule"]
        parts.append("\n".join([rf"\begin{{tabular}}{{{'l' * len(table[0])}}}", *body, r"\end{tabular}"]))
    return "\n\n".join([*parts, *(f"% {line}" for line in _notes(comparison).splitlines() if line)]) + "\n"


def _escaped(text: str) -> str:
    escaped = "".join(_SPECIAL.get(character, character) for character in text)
    return _SIGNED.sub(r"$\g<0>$", escaped.replace("±", r"$\pm$").replace("<", "$<$"))


def _means(comparison: Comparison) -> list[list[str]]:
    head = [*comparison.rows[0], "store", *(f"{asked}: {measure}" for asked, measure in comparison.questions)]
    rows = zip(comparison.rows, comparison.stores, comparison.values, strict=True)
    return [head, *([*row.values(), store, *map(_of_value, values)] for row, store, values in rows)]


def _differences(comparison: Comparison) -> list[list[str]]:
    head = ["", "of", "minus", "difference", "95 % interval", "t-test over", "t", "p", "p (Holm)"]
    return [head, *(_of_difference(comparison, difference) for difference in comparison.differences)]


def _of_value(value: Value | None) -> str:
    if value is None or value.mean is None:
        return "-"
    return f"{value.mean:.3f}" + ("" if value.sd is None else f" ± {value.sd:.3f}")


def _of_difference(comparison: Comparison, difference: Difference) -> list[str]:
    asked, measure = comparison.questions[difference.question]
    return [
        f"{asked}: {measure}",
        comparison.name(difference.row),
        comparison.name(difference.against),
        _signed(difference.mean),
        "-" if difference.low is None else f"[{_signed(difference.low)}, {_signed(difference.high)}]",
        f"{difference.n} {difference.over}" if difference.over else "-",
        "-" if math.isnan(difference.t) else _signed(difference.t, 2),
        _probability(difference.p),
        _probability(difference.p_holm),
    ]


def _signed(value: float | None, digits: int = 3) -> str:
    return "-" if value is None or math.isnan(value) else f"{value:+.{digits}f}"


def _probability(p: float) -> str:
    return "-" if math.isnan(p) else "< 0.001" if p < 0.001 else f"{p:.3f}"


def _notes(comparison: Comparison) -> str:
    lines = []
    for number, (asked, measure) in enumerate(comparison.questions):
        found = {(value.n, value.over) for row in comparison.values if (value := row[number]) and value.over}
        spread = " or ".join(f"{count} {over}" for count, over in sorted(found))
        lines.append(f"{asked}: {measure}: ± is the standard deviation over {spread}." if spread else "")
    lines.append(
        "Intervals by paired bootstrap over cases; t-tests are paired and two-sided, p (Holm) is corrected for all "
        "differences of one measure."
    )
    return "\n".join(line for line in lines if line)


def _csv(comparison: Comparison) -> str:
    """One line for each mean, then one for each difference, which has an entry under ``minus``."""
    names = list(comparison.rows[0])
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    numbers = ["value", "sd", "low", "high", "over", "n", "t", "p", "p_holm"]
    writer.writerow(["evaluation", "measure", *names, "store", "minus", *numbers])
    for name, store, values in zip(comparison.rows, comparison.stores, comparison.values, strict=True):
        for question, value in zip(comparison.questions, values, strict=True):
            if value is not None:
                found = [value.mean, value.sd, value.low, value.high, value.over, value.n]
                writer.writerow([*question, *name.values(), store, "", *found, "", "", ""])
    for each in comparison.differences:
        row, found = each.row, [each.mean, None, each.low, each.high, each.over, each.n, each.t, each.p, each.p_holm]
        cells = ["" if isinstance(value, float) and math.isnan(value) else value for value in found]
        question = comparison.questions[each.question]
        about = [*question, *comparison.rows[row].values(), comparison.stores[row], comparison.name(each.against)]
        writer.writerow([*about, *cells])
    return text.getvalue()


def _json(comparison: Comparison) -> str:
    document = {"comparison": "featlift", "format": FORMAT, **_finite(asdict(comparison))}
    return json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _finite(value: Any) -> Any:
    """JSON has no nan: null stands for it."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value
