"""Small cards of HTML, which notebooks show of an object: facts and thumbnails, nothing that is fetched."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray

_LONGEST = 200  # characters of a fact
_SIDE = 96  # pixels of a thumbnail's longer side
_DARK, _BRIGHT = 1, 99  # percentiles


def card(title: str, facts: Mapping[str, object], pictures: Iterable[str] = ()) -> str:
    """HTML of an object.

    Args:
        title: what it is.
        facts: names and values, all of which are escaped, and cut where they are long.
        pictures: from `thumbnail`.
    """
    rows = "".join(
        f'<tr><th style="text-align:left">{_text(name)}</th><td style="text-align:left">{_text(value)}</td></tr>'
        for name, value in facts.items()
    )
    return (
        f'<div><strong>{_text(title)}</strong><div style="display:flex;gap:4px;flex-wrap:wrap;margin:4px 0">'
        f"{''.join(pictures)}</div><table>{rows}</table></div>"
    )


def thumbnail(picture: NDArray[Any], extent: tuple[float, float] | None = None, name: str = "") -> str:
    """An image of at most 96 pixels a side.

    Args:
        picture: ``(rows, columns)`` or ``(rows, columns, 3)``, in [0, 1].
        extent: height and width in mm, for pixels that are not square.
        name: what is said where it cannot be seen.
    """
    from imagecodecs import png_encode
    from skimage.measure import block_reduce

    rows, columns = picture.shape[:2]
    step = -(-max(rows, columns) // _SIDE)
    small = block_reduce(picture.astype(np.float32), (step, step, *[1] * (picture.ndim - 2)), np.mean)
    pixels = np.ascontiguousarray(np.round(255 * np.clip(small, 0, 1)), dtype=np.uint8)
    content = base64.b64encode(png_encode(pixels)).decode()
    height, width = extent or (float(rows), float(columns))
    scale = _SIDE / max(height, width)
    size = f"width:{scale * width:.0f}px;height:{scale * height:.0f}px"
    return (
        f'<img alt="{_text(name)}" title="{_text(name)}" style="{size};image-rendering:pixelated" '
        f'src="data:image/png;base64,{content}">'
    )


def component_colours(features: NDArray[Any]) -> NDArray[np.float32]:
    """The first three principal components of features ``(C, ...)`` as red, green and blue ``(3, ...)`` in [0, 1].

    They are those of these features alone: `featlift.pictures.fitting.fit_colours` makes colours that cases share.
    """
    cells = features.reshape(len(features), -1).astype(np.float32)
    cells = cells - cells.mean(axis=1, keepdims=True)
    _, directions = np.linalg.eigh(cells @ cells.T)
    found = directions[:, ::-1][:, :3]
    found = found * np.sign(found[np.abs(found).argmax(axis=0), range(found.shape[1])])
    components = np.zeros((3, cells.shape[1]), np.float32)
    components[: found.shape[1]] = found.T @ cells
    low, high = np.percentile(components, [_DARK, _BRIGHT], axis=1).astype(np.float32)[..., None]
    shown = (components - low) / np.maximum(high - low, np.finfo(np.float32).tiny)
    colours: NDArray[np.float32] = np.clip(shown, 0, 1).reshape(3, *features.shape[1:])
    return colours


def times(sizes: Iterable[object]) -> str:
    """Sizes as people write them: 12 x 34."""
    return " x ".join(map(str, sizes))


def _text(value: object) -> str:
    text = str(value)
    return escape(text if len(text) <= _LONGEST else f"{text[:_LONGEST]} …")
