"""The heads by name."""

from __future__ import annotations

from typing import Any

from featlift.errors import OptionError
from featlift.segmentation.networks.decoder import Decoder
from featlift.segmentation.networks.dino3dra import Dino3dra
from featlift.segmentation.networks.head import Head, Size
from featlift.segmentation.networks.linear import Linear
from featlift.segmentation.networks.subcube import Subcube

HEADS: dict[str, type[Head]] = {"linear": Linear, "decoder": Decoder, "subcube": Subcube, "dino3dra": Dino3dra}


def head_class(name: str, options: dict[str, Any]) -> type[Head]:
    """The class of a head, after making sure that the options are its own.

    Raises:
        OptionError: no such head, or an option that it does not have.
    """
    if name not in HEADS:
        raise OptionError(f"head {name!r}: choose {', '.join(HEADS)}")
    known = HEADS[name].options
    if unknown := [option for option in options if option not in known]:
        raise OptionError(f"--{unknown[0]} is no option of the head {name}; its own are {', '.join(known) or 'none'}")
    return HEADS[name]


def make_head(name: str, size: Size, options: dict[str, Any]) -> Head:
    """A head with fresh weights.

    Raises:
        OptionError: no such head, or an option that it does not have.
    """
    make: Any = head_class(name, options)
    head: Head = make(
        size, **{key: tuple(value) if isinstance(value, list) else value for key, value in options.items()}
    )
    return head
