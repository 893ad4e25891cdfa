"""Python and the packages that featlift stands on."""

from __future__ import annotations

import platform
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version

from featlift.diagnosis.row import Row
from featlift.version import __version__

_OLDEST_PYTHON = (3, 11)
_NAMED = ("torch", "torchvision", "timm", "numpy", "zarr")


def look_at_python() -> Iterator[Row]:
    """Its version, and featlift's."""
    found = f"Python {platform.python_version()}, featlift {__version__}, {platform.platform(terse=True)}"
    if sys.version_info < _OLDEST_PYTHON:
        yield Row("python", "FAIL", found, "featlift needs Python 3.11 or later")
    else:
        yield Row("python", "PASS", found)


def look_at_packages() -> Iterator[Row]:
    """Whether every package is there that featlift requires, and as new as it must be."""
    from packaging.requirements import Requirement

    try:
        required = [Requirement(text) for text in requires("featlift") or ()]
    except PackageNotFoundError:
        fix = "pip install . in its folder, so that what it needs is installed with it"
        yield Row("packages", "WARN", "featlift runs from a folder and is not installed", fix)
        return
    wrong = []
    for each in required:
        if each.marker and not each.marker.evaluate({"extra": ""}):
            continue
        found = _version(each.name)
        if found is None:
            wrong.append(f"{each.name} is missing")
        elif not each.specifier.contains(found, prereleases=True):
            wrong.append(f"{each.name} is {found}, not {each.specifier}")
    if wrong:
        yield Row(
            "packages", "FAIL", "; ".join(wrong), "pip install --upgrade featlift, into an environment of its own"
        )
    else:
        yield Row("packages", "PASS", ", ".join(f"{name} {_version(name) or 'missing'}" for name in _NAMED))


def look_at_timm() -> Iterator[Row]:
    """Whether timm can be imported beside the torch and torchvision that are installed."""
    from featlift.backbones import torchvision_guard

    try:
        torchvision_guard.import_timm()
    except Exception as error:  # compiled packages that do not match fail in many ways
        reason = " ".join(str(error).split())[:200]
        fix = "install torch and torchvision together, from the same index (https://pytorch.org)"
        yield Row("timm", "FAIL", f"cannot be imported: {reason}", fix)
        return
    if torchvision_guard.acted():
        what = "torchvision is built for another torch; featlift works around it, other programs may not"
        yield Row("timm", "PASS", f"imports ({what})")
    else:
        yield Row("timm", "PASS", "imports")


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
