"""`Grid`: where the slices of a stack lie, whether that is a regular grid, and what is wrong with it if not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from featlift.volumes.dicom.likeness import normal_of
from featlift.volumes.dicom.slices import Slice
from featlift.volumes.volume import Affine

_ONE_DECIMAL = 0.06  # mm: positions are often written with one decimal, so 0.05 off, and a little for the arithmetic


@dataclass(frozen=True)
class Defect:
    """Why the slices of a stack make no regular grid.

    Attributes:
        name: in a few words.
        message: with places and numbers.
    """

    name: str
    message: str


@dataclass(frozen=True, eq=False)
class Grid:
    """Where the slices of one stack lie.

    Attributes:
        stack: at least two slices that are alike, ordered along their normal.
        heights: (n,) mm along the normal.
        shifts: (n, 2) mm that each is shifted against the first, down columns and along rows.
    """

    stack: Sequence[Slice]
    heights: NDArray[np.float64]
    shifts: NDArray[np.float64]

    @classmethod
    def of(cls, stack: Sequence[Slice]) -> Grid:
        """Measure a stack."""
        positions = np.stack([one.position for one in stack])
        along_rows, down_columns = stack[0].orientation
        in_plane = np.stack([down_columns, along_rows], axis=1)
        return cls(stack, positions @ normal_of(stack[0].orientation), (positions - positions[0]) @ in_plane)

    @property
    def steps(self) -> NDArray[np.float64]:
        """(n - 1,) mm from slice to slice."""
        return np.diff(self.heights)

    @property
    def usual_step(self) -> float:
        """The median step, mm; of an even number the lower one, which is less likely to be a gap."""
        return float(np.quantile(self.steps, 0.5, method="lower"))

    @property
    def is_tilted(self) -> bool:
        """Whether a slice is shifted in plane by more than half a pixel; less is left to the affine."""
        return bool((np.abs(self.shifts) > 0.5 * np.array(self.stack[0].spacing)).any())

    @property
    def regular_count(self) -> int:
        """Slices from the first to the last at about the usual step."""
        return 1 + max(1, int(np.round(self.steps / self.usual_step).sum()))

    def affine(self, count: int, *, upright: bool) -> Affine:
        """Of `count` slices at equal steps from the first to the last; `upright`, along the normal.

        PS3.3 C.7.6.2.1.1, equation C.7.6.2.1-1, with the slice as third index.
        """
        first, last = self.stack[0], self.stack[-1]
        along_rows, down_columns = first.orientation
        whole = normal_of(first.orientation) * np.ptp(self.heights) if upright else last.position - first.position
        affine = np.eye(4)
        affine[:3, 0] = whole / (count - 1)
        affine[:3, 1] = down_columns * first.spacing[0]
        affine[:3, 2] = along_rows * first.spacing[1]
        affine[:3, 3] = first.position
        return affine

    def defects(self) -> Iterator[Defect]:
        """All that keeps the stack from being a regular grid."""
        if self.is_tilted:
            yield self._tilt()
        if self._wander(np.arange(len(self.stack))) > self._tolerance:
            yield self._gaps() or self._irregularity()

    @property
    def _tolerance(self) -> float:
        """Mm that a slice may sit off the regular grid: a hundredth of the step, or what rounding positions explains.

        Where steps are so small that the rounding is a good part of them, no more than a tenth of a step.
        """
        step = self.usual_step
        return max(0.01 * step, min(_ONE_DECIMAL, 0.1 * step))

    def _wander(self, index: NDArray[np.int64]) -> float:
        """Mm that slices sit off the evenly spaced grid that suits them best, given their places in it."""
        off = self.heights - np.polyval(np.polyfit(index, self.heights, 1), index)
        return float(np.ptp(off)) / 2

    def _gaps(self) -> Defect | None:
        """Missing slices, if that alone makes the grid regular."""
        strides = np.round(self.steps / self.usual_step).astype(np.int64)
        if strides.min() < 1 or strides.max() < 2:
            return None
        if self._wander(np.concatenate([[0], np.cumsum(strides)])) > self._tolerance:
            return None
        missing = int(strides.sum()) - len(strides)
        places = [f"{stride - 1} {self._between(at)}" for at, stride in enumerate(strides) if stride > 1]
        more = f" and {len(places) - 3} more gaps" if len(places) > 3 else ""
        name = f"{missing} slice{'s' * (missing > 1)} missing"
        return Defect(name, f"{name}: {', '.join(places[:3])}{more}, where steps are {self.usual_step:.2f} mm")

    def _irregularity(self) -> Defect:
        worst = int(np.argmax(np.abs(self.steps - self.usual_step)))
        low, high = self.steps.min(), self.steps.max()
        steps = f"steps of {low:.2f} to {high:.2f} mm (median {self.usual_step:.2f})"
        return Defect("irregular spacing", f"irregular spacing: {steps}, the worst {self._between(worst)}")

    def _tilt(self) -> Defect:
        slopes, _ = np.polyfit(self.heights, self.shifts, 1)
        off = self.shifts - self.shifts[0] - np.outer(self.heights - self.heights[0], slopes)
        largest = float(np.linalg.norm(self.shifts, axis=1).max())
        over = f"by {largest:.2f} mm in plane over {np.ptp(self.heights):.2f} mm"
        if (np.ptp(off, axis=0) / 2 > 0.5 * np.array(self.stack[0].spacing)).any():
            return Defect("slices shifted in plane", f"slices shifted against each other, {over}")
        name = f"gantry tilt of {np.degrees(np.arctan(np.linalg.norm(slopes))):.1f} degrees"
        return Defect(name, f"{name}: slices drift {over}")

    def _between(self, at: int) -> str:
        """Where a step is."""
        low, high = self.heights[at : at + 2]
        labels = f"{self.stack[at].label} and {self.stack[at + 1].label}"
        return f"between {low:.2f} and {high:.2f} mm ({labels})"
