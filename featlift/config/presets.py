"""Configurations that come with featlift, by name, such as ``ct-soft``: the files beside this one."""

from __future__ import annotations

from pathlib import Path

_FOLDER = Path(__file__).with_name("presets")


def presets() -> list[str]:
    """The names there are."""
    return sorted(file.stem for file in _FOLDER.glob("*.toml"))


def preset_file(name: str) -> Path | None:
    """The file of a preset, or None if there is none of this name."""
    return _FOLDER / f"{name}.toml" if name in presets() else None
