"""The native 3D encoders that can be asked for. Imports without torch, so that listing them is instant."""

from __future__ import annotations

import importlib.util
from dataclasses import asdict, dataclass
from importlib.metadata import EntryPoint, entry_points

#: The group of entry points by which packages bring encoders.
GROUP = "featlift.encoders"

#: MONAI's classes that featlift knows the stages of.
MONAI_NAMES = ("SegResNet", "SegResEncoder", "SwinUNETR")

INSTALL = "pip install 'featlift[native]'"
INSTALL_NNUNET = "pip install 'featlift[nnunet]'"


@dataclass(frozen=True)
class Listed:
    """An encoder that can be asked for.

    Attributes:
        name: for ``--model``.
        package: that brings it, with its version if it is a plugin.
        is_here: whether that is installed.
        mode: for ``--mode``.
    """

    name: str
    package: str
    is_here: bool
    mode: str = "native"

    def as_dict(self) -> dict[str, object]:
        """As JSON-ready values."""
        return asdict(self)


def list_encoders() -> list[Listed]:
    """The native encoders, as `featlift models` lists them. Nothing of them is imported."""
    monai = _is_here("monai")
    return [
        *(Listed(f"monai:{name}", "monai", monai) for name in MONAI_NAMES),
        Listed("nnunet:FOLDER", "dynamic-network-architectures", _is_here("dynamic_network_architectures")),
        *(Listed(f"3dme:{which}", "featlift", True) for which in ("FOLDER", "base", "tiny")),
        *(Listed(name, package_of(entry), True) for name, entry in plugins().items()),
    ]


def _is_here(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def plugins() -> dict[str, EntryPoint]:
    """The encoders that installed packages bring, by name; nothing of them is imported."""
    return {entry.name: entry for entry in sorted(entry_points(group=GROUP), key=lambda entry: entry.name)}


def package_of(entry: EntryPoint) -> str:
    """The package that brings an encoder, with its version."""
    return "" if entry.dist is None else f"{entry.dist.name} {entry.dist.version}"
