"""Intensities of a scan to [0, 1], in one channel or three."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from functools import cached_property
from itertools import cycle

import numpy as np
from numpy.typing import NDArray

from featlift.errors import OptionError, VolumeError

Window = tuple[float, float]

#: Usual CT windows, in HU: level -600 width 1500, 40/400, 400/1800, 40/80.
CT_WINDOWS = {"lung": (-1350.0, 150.0), "soft": (-160.0, 240.0), "bone": (-500.0, 1300.0), "brain": (0.0, 80.0)}

_FLAT = 1e-8  # nnU-Net's least standard deviation

_FORMS = (
    "percentile:0.5,99.5, minmax, zscore, none, window:LO,HI, ct:LO,HI, ct:lung|soft|bone|brain, "
    "or three windows as channels: ct:lung+soft+bone"
)


@dataclass(frozen=True)
class Intensity:
    """How intensities become [0, 1], written as on the command line.

    ``percentile:LO,HI`` maps these percentiles of the volume to 0 and 1; ``minmax`` its extremes; ``window:LO,HI`` and
    ``ct:...`` fixed values (HU for ct). ``zscore`` makes the mean 0 and a standard deviation 1 and clips nothing,
    ``zscore:nonzero`` those of what is not background, which stays 0. ``none`` takes the values as they are. Three of
    them, separated by ``;``, are for the three channels of a volume that has as many; one is for each.

    Raises:
        OptionError: the text is none of these.
    """

    spec: str = "percentile:0.5,99.5"

    def __post_init__(self) -> None:
        rules = self._rules
        if len(rules) != 1 and (len(rules) != 3 or any(len(rule.windows) == 3 for rule in rules)):
            raise OptionError(f"intensity {self.spec!r}: give one for all channels, or one for each of three")

    @cached_property
    def _rules(self) -> list[_Rule]:
        return [_rule(spec.strip()) for spec in self.spec.split(";")]

    @property
    def canonical(self) -> str:
        """The same in one spelling: windows by their values, so that a name's values are on record too."""
        return ";".join(rule.canonical for rule in self._rules)

    def channels_of(self, count: int) -> int:
        """How many channels a volume of `count` becomes.

        Raises:
            VolumeError: the rules are not for so many.
        """
        if count > 1 and any(len(rule.windows) == 3 for rule in self._rules):
            raise VolumeError(f"it has {count} channels already, so {self.spec} cannot make three of one")
        if count == 1 and len(self._rules) == 3:
            raise VolumeError(f"it has one channel, but {self.spec} is for three")
        return self.channels if count == 1 else count

    @property
    def channels(self) -> int:
        """How many channels it makes of a volume that has one."""
        return max(1, len(self._rules[0].windows))

    def apply(
        self, array: NDArray[np.float32], whole: NDArray[np.float32] | None = None
    ) -> tuple[NDArray[np.float32], list[Window]]:
        """Map ``(D, H, W)`` or the channels ``(3, D, H, W)`` to ``(channels, D, H, W)`` in [0, 1].

        Args:
            array: the volume, or a part of it.
            whole: the volume that `array` is a part of: its percentiles and extremes count.

        Returns:
            The channels, and for each the values that became 0 and 1 (none for ``none``).

        Raises:
            VolumeError: the volume is constant, its percentiles coincide, it lies outside the window, or it has not as
                many channels as the rules.
        """
        parts = array[None] if array.ndim == 3 else array
        wholes = parts if whole is None else whole[None] if whole.ndim == 3 else whole
        rules = self._rules
        self.channels_of(len(parts))
        seen = [
            (rule, part, window)
            for rule, part, measured in zip(cycle(rules), parts, wholes, strict=False)
            for window in rule.windows_of(measured)
        ]
        channels = np.empty((len(seen), *array.shape[-3:]), np.float32)
        for channel, (rule, part, window) in zip(channels, seen, strict=True):
            _scale(part, window, channel, rule.kind != "zscore")
            if rule.of_foreground:
                channel[~foreground(part)] = 0
        windows = [window for _, _, window in seen if window is not None]
        if windows and channels.min() == channels.max():
            raise VolumeError(
                f"its values, {parts.min():g} to {parts.max():g}, lie on one side of {self.spec}: "
                "choose another --intensity"
            )
        return channels, windows


@dataclass(frozen=True)
class _Rule:
    """One of the forms: ``percentile``, ``window``, ``minmax``, ``zscore`` or ``none``, with its numbers."""

    kind: str
    windows: tuple[Window, ...] = ()
    of_foreground: bool = False

    @property
    def canonical(self) -> str:
        if self.of_foreground:
            return f"{self.kind}:nonzero"
        return ":".join([self.kind, *(["+".join(f"{low},{high}" for low, high in self.windows)] * bool(self.windows))])

    def windows_of(self, channel: NDArray[np.float32]) -> list[Window | None]:
        """The values of a channel ``(D, H, W)`` that become 0 and 1; None for values that stay."""
        minimum, maximum = float(channel.min()), float(channel.max())
        if minimum == maximum:
            raise VolumeError(f"every voxel is {minimum:g}: there is nothing to see")
        if self.kind == "window":
            return list(self.windows)
        if self.kind == "minmax":
            return [(minimum, maximum)]
        if self.kind == "none":
            return [None]
        if self.kind == "zscore":
            values = channel[foreground(channel)] if self.of_foreground else channel
            mean = float(values.mean(dtype=np.float64))
            return [(mean, mean + max(float(values.std(dtype=np.float64)), _FLAT))]
        low, high = (float(value) for value in np.percentile(channel, self.windows[0]))
        if low == high:
            raise VolumeError(
                f"its percentiles {self.windows[0][0]:g} and {self.windows[0][1]:g} are both {low:g}: "
                "use --intensity minmax or window:LO,HI"
            )
        return [(low, high)]


def _rule(spec: str) -> _Rule:
    kind, _, values = spec.partition(":")
    if spec in ("minmax", "none", "zscore"):
        return _Rule(spec)
    if spec == "zscore:nonzero":
        return _Rule("zscore", of_foreground=True)
    names = values.split("+")
    if kind == "ct" and set(names) <= CT_WINDOWS.keys():
        if len(names) not in (1, 3):
            raise OptionError(f"intensity {spec!r}: give one window, or three for the three channels")
        return _Rule("window", tuple(CT_WINDOWS[name] for name in names))
    windows = _windows(values)
    if kind not in ("percentile", "window", "ct") or len(windows) not in ((1,) if kind == "percentile" else (1, 3)):
        raise OptionError(f"intensity {spec!r}: give one of {_FORMS}")
    if kind == "percentile" and not 0 <= windows[0][0] < windows[0][1] <= 100:
        raise OptionError(f"intensity {spec!r}: percentiles lie between 0 and 100")
    return _Rule("percentile" if kind == "percentile" else "window", windows)


def _windows(text: str) -> tuple[Window, ...]:
    """Windows as they are written, ``LO,HI`` or ``LO,HI+LO,HI+LO,HI``; none if they make no sense."""
    try:
        pairs = [[float(value) for value in pair.split(",")] for pair in re.split(r"(?<=[\d.])\+", text)]  # not of 1e+9
        windows = tuple((low, high) for low, high in pairs)
    except ValueError:
        return ()
    return windows if all(0 < high - low < math.inf for low, high in windows) else ()


def foreground(channel: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Which voxels of ``(D, H, W)`` are not zero, holes in them filled, as nnU-Net tells them from the background."""
    from scipy.ndimage import binary_fill_holes

    filled: NDArray[np.bool_] = binary_fill_holes(channel != 0)
    return filled


def _scale(part: NDArray[np.float32], window: Window | None, into: NDArray[np.float32], clips: bool) -> None:
    if window is None:
        into[...] = part
        return
    low, high = window
    for scaled, values in zip(into, part, strict=True):  # slice by slice: float64 takes twice the room
        found = (values.astype(np.float64) - low) / (high - low)
        scaled[...] = np.clip(found, 0, 1) if clips else found
