"""Which options belong to lifting, and which to native 3D networks."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from featlift.config.sections import LiftingConfig, NetworkConfig
from featlift.errors import OptionError

#: Options that say how a 2D network sees a volume, or of what 2D networks have.
_OF_LIFTING = (
    "cycle", "orientations", "cell", "step", "fuse", "token_pooling", "norm", "depth_window", "depth_overlap",
    "magnify", "compile", "adapter", "rope_periods", "position_resize",
)  # fmt: skip

#: Prefixes of the kinds of native networks.
KINDS = ("monai:", "nnunet:", "3dme:")


def check_mode(network: NetworkConfig, lifting: LiftingConfig) -> None:
    """Refuse options of lifting with a native network, and the other way round, with an `OptionError`."""
    if lifting.mode != "native":
        if len(lifting.tile) > 2:
            raise OptionError(
                f"--tile D,H,W is of native 3D networks: in mode {lifting.mode} give H,W, --depth-window cuts depth"
            )
        if lifting.orientations != ("axial",) and (lifting.magnify > 1 or lifting.tile):
            raise OptionError("--magnify and --tile take one orientation: of several, --cell says how fine cells are")
        if network.model.startswith(KINDS):
            raise OptionError(f"--model {network.model} is a native 3D network: give --mode native")
        return
    given = [name for name in _OF_LIFTING if _differs(network, name) or _differs(lifting, name)]
    if given:
        flag = "no-norm" if given[0] == "norm" else given[0].replace("_", "-")
        raise OptionError(f"--{flag} is of lifted 2D networks and has no meaning with --mode native: leave it out")


def _differs(section: Any, name: str) -> bool:
    """Whether a section has this option, with another value than its default."""
    return any(each.name == name and getattr(section, name) != each.default for each in fields(section))
