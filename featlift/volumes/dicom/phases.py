"""Tell apart the images of one position: echoes, time points, b-values, or copies."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

from featlift.errors import VolumeError
from featlift.volumes.dicom.headers import ORDER_TAGS, VALUE_TAGS, Value
from featlift.volumes.dicom.likeness import normal_of
from featlift.volumes.dicom.slices import Slice

Stack = list[Slice]

_SAME_POSITION = 0.01  # of the pixel spacing


def stacks_of(slices: Sequence[Slice]) -> tuple[list[Stack], str | None]:
    """Sort slices along their normal, into as many stacks as there are images at each position.

    The stacks are told apart by one tag whose values are the same at every position, else by all such tags together,
    else by the order of times or numbers at each position.

    Returns:
        The stacks, ordered by the tag, and the tag; one stack and None where positions have one image each.

    Raises:
        VolumeError: all slices have one position; or some positions have more images than others, or nothing tells
            the images of a position apart.
    """
    positions = _by_position(slices)
    if len(positions) == 1:
        raise VolumeError(f"all {len(slices)} images lie at one position: it is no volume")
    if len(positions) == len(slices):
        return [[images[0] for images in positions]], None
    if len({len(images) for images in positions}) == 1:
        for tags in _separating(positions):
            ordered = [sorted(images, key=lambda one: _sort_key(one, tags)) for images in positions]
            return [list(stack) for stack in zip(*ordered, strict=True)], " and ".join(tags)
    raise VolumeError(_duplicates(positions))


def _by_position(slices: Sequence[Slice]) -> list[list[Slice]]:
    normal = normal_of(slices[0].orientation)
    tolerance = _SAME_POSITION * min(slices[0].spacing)
    positions: list[list[Slice]] = []
    start = -np.inf
    for height, one in sorted(((float(one.position @ normal), one) for one in slices), key=lambda pair: pair[0]):
        if height - start > tolerance:
            positions.append([])
            start = height
        positions[-1].append(one)
    return positions


def _separating(positions: list[list[Slice]]) -> Iterable[tuple[str, ...]]:
    """Tags, alone or together, that have as many values at each position as it has images; the best first."""
    count = len(positions[0])
    varying = [tag for tag in VALUE_TAGS if any(len(_values(images, tag)) > 1 for images in positions)]
    steady = [tag for tag in varying if len({_counted(images, tag) for images in positions}) == 1]
    for tags in [*((tag,) for tag in steady), tuple(steady)]:
        if all(len({_sort_key(one, tags) for one in images}) == count for images in positions):
            yield tags
    if varying == steady:  # otherwise images of several kinds would end up in one stack
        for tag in ORDER_TAGS:
            if all(len(_values(images, tag)) == count for images in positions):
                yield (tag,)


def _values(images: Iterable[Slice], tag: str) -> set[Value]:
    return {one.phase[tag] for one in images if tag in one.phase}


def _counted(images: Iterable[Slice], tag: str) -> frozenset[tuple[Value | None, int]]:
    return frozenset(Counter(one.phase.get(tag) for one in images).items())


def _sort_key(one: Slice, tags: Iterable[str]) -> tuple[tuple[Value, ...], ...]:
    return tuple((type(one.phase[tag]).__name__, one.phase[tag]) if tag in one.phase else () for tag in tags)


def _duplicates(positions: list[list[Slice]]) -> str:
    normal = normal_of(positions[0][0].orientation)
    counts = sorted(Counter(map(len, positions)).items(), reverse=True)
    counted = ", ".join(f"{count} images at {n} of {len(positions)} positions" for count, n in counts if count > 1)
    first = next(images for images in positions if len(images) > 1)
    labels = ", ".join(one.label for one in first[:4])
    where = f"the first at {float(first[0].position @ normal):.2f} mm: {labels}"
    told = [_told(positions, tag) for tag in VALUE_TAGS if any(len(_values(images, tag)) > 1 for images in positions)]
    told = told or [tag for tag in ORDER_TAGS[:-1] if any(len(_values(images, tag)) > 1 for images in positions)]
    if not told:
        return f"{counted} ({where}); nothing tells them apart: remove the copies"
    return f"{counted} ({where}); they differ in {', '.join(told[:3])}: keep one kind in the folder"


def _told(positions: list[list[Slice]], tag: str) -> str:
    values = sorted({_text(value) for images in positions for value in _values(images, tag)})
    return f"{tag} ({', '.join(values[:4])}{', ...' if len(values) > 4 else ''})"


def _text(value: Value) -> str:
    if isinstance(value, tuple):
        return "\\".join(map(_text, value))
    return f"{value:g}" if isinstance(value, float) else value
