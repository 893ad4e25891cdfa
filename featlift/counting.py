"""Numbers of things, as people write them."""

from __future__ import annotations


def number_of(count: int, thing: str, several: str = "") -> str:
    """``1 volume``, ``1,200 volumes``; `several` where the plural is not made with an s."""
    return f"{count:,} {thing if count == 1 else several or f'{thing}s'}"
