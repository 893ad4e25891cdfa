"""How long work tells how far it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

#: Told of a step: what is being done, how much of it is through, and how much there is.
Progress = Callable[[str, int, int], object]


def counted(ids: Sequence[str], doing: str, progress: Progress | None) -> Iterator[str]:
    """The ids, telling how far it is after each."""
    for number, case_id in enumerate(ids, start=1):
        yield case_id
        if progress is not None:
            progress(doing, number, len(ids))


def steps(doing: str, progress: Progress | None) -> Callable[[int, int], object] | None:
    """What is told of each step of one thing that is being done: how many are done, and their number."""
    return None if progress is None else lambda done, total: progress(doing, done, total)
