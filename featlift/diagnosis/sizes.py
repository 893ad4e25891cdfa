"""Sizes in sentences, and what is free where."""

from __future__ import annotations

import shutil
from pathlib import Path


def human(count: float) -> str:
    """Bytes in GiB, or in MiB where that says more."""
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"


def existing(place: Path) -> Path:
    """The place, or the nearest folder above it that exists."""
    return next(folder for folder in (place, *place.absolute().parents) if folder.exists())


def free_on_disk(place: Path) -> int:
    """Bytes free on the file system of a place, which need not exist yet."""
    return shutil.disk_usage(existing(place)).free
