"""How numbers of a cohort are spread, as SVG in the colours of the page."""

from __future__ import annotations

from html import escape

import numpy as np
from numpy.typing import NDArray

_WIDTH, _HEIGHT, _FOOT = 260, 96, 18
_BINS = 24
_LETTER = 6.5  # wide, at 11 pixels; keeps the median's number off those at the ends
_LOGARITHMIC = 50  # times the smallest: from there on a linear axis hides all but the largest


def constant(values: NDArray[np.float64]) -> str | None:
    """The value that all cases have, as text; None if they differ, or none is known."""
    known = values[np.isfinite(values)]
    return _text(float(known[0])) if len(known) and np.allclose(known, known[0], rtol=1e-6, atol=0) else None


def histogram(title: str, values: NDArray[np.float64], unit: str = "") -> str:
    """How many cases have which value, with smallest, median and largest below; NaN is unknown.

    Args:
        title: of the ``figure`` that is returned.
        values: at least two different ones.
        unit: of the values.
    """
    known = values[np.isfinite(values)]
    low, middle, high = float(known.min()), float(np.median(known)), float(known.max())
    is_log = low > 0 and high / low > _LOGARITHMIC
    scaled, ends = (np.log10(known), (np.log10(low), np.log10(high))) if is_log else (known, (low, high))
    counts, _ = np.histogram(scaled, _BINS, ends)
    step, room = _WIDTH / _BINS, _HEIGHT - _FOOT - 4
    bars = "".join(
        f'<rect x="{step * place + 0.75:.2f}" y="{4 + room * (1 - count / counts.max()):.1f}" width="{step - 1.5:.2f}" '
        f'height="{max(1.5, room * count / counts.max()):.1f}" rx="1.5"/>'
        for place, count in enumerate(counts)
        if count
    )
    at = _WIDTH * (float(np.median(scaled)) - ends[0]) / (ends[1] - ends[0])
    left, right = (_LETTER * (len(_text(end)) + len(_text(middle)) / 2 + 1) for end in (low, high))
    inner = [
        f'<g class="bars">{bars}</g><path class="axis" d="M0 {_HEIGHT - _FOOT}.5H{_WIDTH}"/>',
        f'<path class="median" d="M{at:.1f} 0V{_HEIGHT - _FOOT}"/>',
        _label(0, _HEIGHT, _text(low)),
        _label(_WIDTH, _HEIGHT, _text(high), "end"),
        _label(at, _HEIGHT, _text(middle), "middle") if left < at < _WIDTH - right else "",
    ]
    words = f"{title}: from {_text(low)} to {_text(high)} {unit}, median {_text(middle)}"
    note = ", ".join(part for part in (unit, "logarithmic" if is_log else "") if part)
    return _figure(title, _svg("".join(inner), words, _WIDTH, _HEIGHT), note)


def intensity_band(spreads: NDArray[np.float64]) -> str:
    """Share of the voxels at each intensity: the median case, and the band in which 8 of 10 cases lie.

    Args:
        spreads: ``(N, bins)``, shares of a case.
    """
    width, height = 2 * _WIDTH + 40, 150
    low, middle, high = np.percentile(spreads, [10, 50, 90], axis=0)
    # air is most of many scans, all in the first bin: the scale is that of the others, and of the root
    top = max(float(high[1:].max()), 1e-6)
    room = height - _FOOT - 6
    x = (np.arange(spreads.shape[1]) + 0.5) * width / spreads.shape[1]
    air = f"; of the median case {middle[0]:.0%} are below {1 / spreads.shape[1]:.2g}" if middle[0] > top else ""
    low, middle, high = (6 + room * (1 - np.sqrt(np.minimum(each / top, 1))) for each in (low, middle, high))
    upper = " ".join(f"{a:.1f} {b:.1f}" for a, b in zip(x, high, strict=True))
    lower = " ".join(f"{a:.1f} {b:.1f}" for a, b in zip(x[::-1], low[::-1], strict=True))
    line = " ".join(f"{a:.1f} {b:.1f}" for a, b in zip(x, middle, strict=True))
    inner = [
        f'<path class="band" d="M{upper} L{lower}Z"/><path class="line" d="M{line}"/>',
        f'<path class="axis" d="M0 {height - _FOOT}.5H{width}"/>',
        _label(0, height, "0"),
        _label(width / 2, height, "0.5", "middle"),
        _label(width, height, "1", "end"),
    ]
    words = "Share of the voxels at each intensity the network saw, of the median case and of 8 in 10 cases"
    band = "; the band holds 8 in 10 cases" if len(spreads) > 1 else ""
    note = f"share of the voxels, root scale{band}{air}"
    return _figure("Intensities the network saw", _svg("".join(inner), words, width, height), note, wide=True)


def share_bars(title: str, counts: dict[str, int]) -> str:
    """How many cases are of each class, in order."""
    most = max(counts.values())
    rows = "".join(
        f'<tr><th scope="row">{escape(name)}</th>'
        '<td><svg viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true">'
        f'<rect class="bars" width="{100 * count / most:.1f}" height="8"/></svg></td><td>{count:,}</td></tr>'
        for name, count in counts.items()
    )
    return _figure(title, f'<table class="shares"><tbody>{rows}</tbody></table>')


def _figure(title: str, inner: str, note: str = "", wide: bool = False) -> str:
    kind = "chart wide" if wide else "chart"
    note = f" <small>{escape(note)}</small>" if note else ""
    return f'<figure class="{kind}"><figcaption>{escape(title)}{note}</figcaption>{inner}</figure>\n'


def _svg(inner: str, words: str, width: int, height: int) -> str:
    return f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(words)}">{inner}</svg>'


def _label(x: float, height: int, text: str, kind: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{height - 4}" class="{kind}">{text}</text>'


def _text(value: float) -> str:
    """Three digits, without an exponent where that can be."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
