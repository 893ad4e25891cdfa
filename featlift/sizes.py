"""Sizes of memory as people write them."""

from __future__ import annotations

import re

from featlift.errors import OptionError

_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_BINARY_UNITS = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


def parse_size(text: int | str) -> int | None:
    """Read bytes, ``"500MiB"`` or ``"8GB"``; ``"auto"`` is None.

    Raises:
        OptionError: no size, or none above zero.
    """
    if text == "auto":
        return None
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(?:([KMGT]?)B?|([KMGT])IB)", str(text).strip().upper())
    if found is None or float(found[1]) == 0:
        raise OptionError(f"memory {text!r}: give auto or a size such as 500MiB or 8GB")
    return int(float(found[1]) * (_BINARY_UNITS[found[3]] if found[3] else _UNITS[found[2]]))


def human_bytes(count: float) -> str:
    """Bytes for people."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def decimal_bytes(count: float) -> str:
    """Bytes for people, as disks are sold and quotas are given: three digits."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 999.5:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB" if count < 999.5 else f"{count:,.0f} TB"
