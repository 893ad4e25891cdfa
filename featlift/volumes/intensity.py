"""Intensities of a scan to [0, 1], in one channel or three."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from featlift.errors import OptionError, VolumeError

#: Usual CT windows, in HU: level -600 width 1500, 40/400, 400/1800, 40/80.
CT_WINDOWS = {"lung": (-1350.0, 150.0), "soft": (-160.0, 240.0), "bone": (-500.0, 1300.0), "brain": (0.0, 80.0)}

_FORMS = (
    "percentile:0.5,99.5, minmax, none, window:LO,HI, ct:LO,HI, ct:lung|soft|bone|brain, "
    "or three windows as channels: ct:lung+soft+bone"
)


@dataclass(frozen=True)
class Intensity:
    """How intensities become [0, 1], written as on the command line.

    ``percentile:LO,HI`` maps these percentiles of the volume to 0 and 1; ``minmax`` its extremes; ``window:LO,HI`` and
    ``ct:...`` fixed values (HU for ct); ``none`` takes the values as they are.

    Raises:
        OptionError: the text is none of these.
    """

    spec: str = "percentile:0.5,99.5"

    def __post_init__(self) -> None:
        self._windows  # noqa: B018  reject a wrong text now, not at the first volume

    @cached_property
    def _windows(self) -> tuple[tuple[float, float], ...]:
        kind, _, values = self.spec.partition(":")
        if self.spec in ("minmax", "none"):
            return ()
        names = values.split("+")
        if kind == "ct" and set(names) <= CT_WINDOWS.keys():
            if len(names) not in (1, 3):
                raise OptionError(f"intensity {self.spec!r}: give one window, or three for the three channels")
            return tuple(CT_WINDOWS[name] for name in names)
        try:
            low, high = (float(value) for value in values.split(","))
        except ValueError:
            low = high = 0.0
        if kind not in ("percentile", "window", "ct") or not 0 < high - low < math.inf:
            raise OptionError(f"intensity {self.spec!r}: give one of {_FORMS}")
        if kind == "percentile" and not 0 <= low < high <= 100:
            raise OptionError(f"intensity {self.spec!r}: percentiles lie between 0 and 100")
        return ((low, high),)

    @property
    def canonical(self) -> str:
        """The same in one spelling: windows by their values, so that a name's values are on record too."""
        if not self._windows:
            return self.spec
        kind = "percentile" if self.spec.startswith("percentile") else "window"
        return f"{kind}:{'+'.join(f'{low},{high}' for low, high in self._windows)}"

    @property
    def channels(self) -> int:
        """How many channels `apply` returns."""
        return max(1, len(self._windows))

    def apply(self, array: NDArray[np.float32]) -> tuple[NDArray[np.float32], list[tuple[float, float]]]:
        """Map ``(D, H, W)`` to ``(channels, D, H, W)`` in [0, 1].

        Returns:
            The channels, and for each the values that became 0 and 1 (none for ``none``).

        Raises:
            VolumeError: the volume is constant, its percentiles coincide, or it lies outside the window.
        """
        minimum, maximum = float(array.min()), float(array.max())
        if minimum == maximum:
            raise VolumeError(f"every voxel is {minimum:g}: there is nothing to see")
        kind = self.spec.partition(":")[0]
        if kind == "none":
            return array[None], []
        windows = list(self._windows) or [(minimum, maximum)]
        if kind == "percentile":
            low, high = (float(value) for value in np.percentile(array, self._windows[0]))
            if low == high:
                raise VolumeError(
                    f"its percentiles {self._windows[0][0]:g} and {self._windows[0][1]:g} are both {low:g}: "
                    "use --intensity minmax or window:LO,HI"
                )
            windows = [(low, high)]
        scaled = np.empty((len(windows), *array.shape), np.float32)
        for channel, (low, high) in zip(scaled, windows, strict=True):
            for scaled_slice, values in zip(channel, array, strict=True):
                np.clip((values.astype(np.float64) - low) / (high - low), 0, 1, out=scaled_slice, casting="same_kind")
        if scaled.min() == scaled.max():
            raise VolumeError(
                f"its values, {minimum:g} to {maximum:g}, lie on one side of {self.spec}: choose another --intensity"
            )
        return scaled, windows
