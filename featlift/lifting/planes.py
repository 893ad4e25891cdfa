"""The planes of a volume, and the cycle in which blocks visit them (PlaneCycle, arXiv 2603.04165, section 3)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from einops import rearrange
from torch import Tensor

from featlift.errors import LiftingError

#: The three planes of the paper, and the whole volume as one plane of D*H rows: its flattened 3D baseline.
Plane = Literal["HW", "DW", "DH", "DHW"]
Cycle = tuple[Plane, ...]

#: The paper's order: half of the blocks stay in the plane the network was trained in.
DEFAULT_CYCLE: Cycle = ("HW", "DW", "DH", "HW")

#: Volume -> planes. The axis named first after b is the plane axis P; the other two are the plane's rows and columns.
_PLANES = {
    "HW": ("b d h w c", "b d h w c"),
    "DW": ("b d h w c", "b h d w c"),
    "DH": ("b d h w c", "b w d h c"),
    "DHW": ("b d h w c", "b 1 (d h) w c"),
}


def to_planes(x: Tensor, plane: Plane) -> Tensor:
    """View a volume ``(B, D, H, W, C)`` as its planes ``(B, P, R, S, C)``. No copy: writing to it writes to `x`."""
    volume, planes = _PLANES[plane]
    return rearrange(x, f"{volume} -> {planes}")


def from_planes(x: Tensor, plane: Plane, depth: int) -> Tensor:
    """View planes ``(B, P, R, S, C)`` as the volume ``(B, D, H, W, C)`` of that depth again."""
    volume, planes = _PLANES[plane]
    return rearrange(x, f"{planes} -> {volume}", d=depth)


def parse_cycle(cycle: str | Sequence[str]) -> Cycle:
    """Read a cycle such as ``"HW,DW,DH,HW"``.

    Raises:
        LiftingError: a name that is no plane, or no plane at all.
    """
    names = [name.strip().upper() for name in (cycle.split(",") if isinstance(cycle, str) else cycle)]
    unknown = [name for name in names if name not in ("HW", "DW", "DH")]
    if unknown or not names:
        raise LiftingError(
            f"cycle {','.join(names)!r}: {unknown[0] if unknown else 'nothing'!r} is no plane, "
            "give a sequence of HW, DW and DH such as HW,DW,DH,HW"
        )
    return tuple(names)  # type: ignore[arg-type]
