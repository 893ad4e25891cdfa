"""Lines on logarithmic axes, as an SVG file: enough for these benchmarks, without a plotting library."""

from __future__ import annotations

import math
from pathlib import Path

Points = list[tuple[float, float]]

_COLOURS = ("#3366aa", "#cc5533", "#339966", "#885599")
_WIDTH, _HEIGHT, _MARGIN = 480, 320, 60


def line_plot(file: Path, title: str, x_label: str, y_label: str, lines: dict[str, Points]) -> None:
    """Write a picture of named lines; every value must be above zero."""
    xs = sorted({x for points in lines.values() for x, _ in points})
    ys = [y for points in lines.values() for _, y in points]
    low, high = 2.0 ** math.floor(math.log2(min(ys))), 2.0 ** math.ceil(math.log2(max(ys)))

    def place(value: float, least: float, most: float, start: float, end: float) -> float:
        share = math.log(value / least) / math.log(most / least) if most > least else 0.5
        return start + share * (end - start)

    def across(x: float) -> float:
        return place(x, xs[0], xs[-1], _MARGIN, _WIDTH - _MARGIN / 2)

    def up(y: float) -> float:
        return place(y, low, high, _HEIGHT - _MARGIN, _MARGIN)

    def text(x: float, y: float, words: str, anchor: str = "middle") -> str:
        return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{words}</text>'

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" font-family="sans-serif" '
        'font-size="11"><rect width="100%" height="100%" fill="white"/>',
        text(_WIDTH / 2, 18, title),
        text(_WIDTH / 2, _HEIGHT - 12, x_label),
        text(8, _MARGIN - 12, y_label, "start"),
    ]
    for x in xs:
        parts.append(text(across(x), _HEIGHT - _MARGIN + 16, f"{x:g}"))
    tick = low
    while tick <= high:
        parts.append(f'<path d="M{_MARGIN} {up(tick):.1f}H{_WIDTH - _MARGIN / 2}" stroke="#ddd"/>')
        parts.append(text(_MARGIN - 6, up(tick) + 4, f"{tick:g}", "end"))
        tick *= 2
    for index, (name, points) in enumerate(lines.items()):
        colour = _COLOURS[index % len(_COLOURS)]
        corners = " ".join(f"{across(x):.1f},{up(y):.1f}" for x, y in points)
        parts.append(f'<polyline points="{corners}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{across(x):.1f}" cy="{up(y):.1f}" r="3" fill="{colour}"/>' for x, y in points]
        parts.append(f'<g fill="{colour}">{text(_MARGIN + 8, _MARGIN + 14 * index, name, "start")}</g>')
    file.write_text("\n".join([*parts, "</svg>\n"]))
