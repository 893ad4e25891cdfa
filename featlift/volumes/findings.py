"""What a survey of a cohort adds up to: what would fail, what looks like a mistake, and what to do about each."""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from featlift.volumes.preparation import Preparation
from featlift.volumes.scan import DiscoveredScans
from featlift.volumes.source import Skipped
from featlift.volumes.survey import Surveyed

Level = Literal["FAIL", "WARN", "NOTE"]

_UNLIKELY = 5.0  # times the cohort's median: a spacing that is more, or less than its part, is rather a wrong header
_FEWEST = 3  # scans that have a median to speak of
_SPREAD = 1.5  # times: spacings that differ by more show one organ at several sizes
_ANISOTROPIC = 3.0  # times the spacing in plane
_FEW_CELLS = 8  # a side: less than half of what a ViT of patches of 16 was trained on
_LONG_PLANE = 16_384  # tokens of one plane: attention over them costs as much as 16 planes of 4,096


@dataclass(frozen=True)
class Finding:
    """Something that a cohort's owner wants to know.

    Attributes:
        level: ``FAIL`` for scans that `extract` would refuse, ``WARN`` for what is rather a mistake, ``NOTE``.
        what: it is, in a sentence without a full stop.
        fix: what to do, where the sentence does not say it.
        ids: cases that it is about; empty if it is about all.
    """

    level: Level
    what: str
    fix: str = ""
    ids: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class SurveyPlan:
    """What the scans are looked at for.

    Attributes:
        preparation: what happens before lifting.
        mode: of lifting.
        stride: pixels a cell of the deepest layer; None if it is not known.
        depth_window: of lifting.
        tile: voxels (H, W) that are lifted at a time; None for whole planes.
        wants_masks: whether masks were asked for.
    """

    preparation: Preparation
    mode: str
    stride: int | None = None
    depth_window: int | None = None
    tile: tuple[int, int] | None = None
    wants_masks: bool = False


def findings(
    found: DiscoveredScans,
    refused: Sequence[Skipped],
    rows: Sequence[Surveyed],
    plan: SurveyPlan,
    besides: Sequence[Finding] = (),
) -> list[Finding]:
    """Judge a cohort.

    Args:
        found: what the inputs hold.
        refused: what `find_scans` could give no id.
        rows: of the survey.
        plan: what the scans are looked at for.
        besides: what else there is to say.

    Returns:
        Failures first, then what is rather a mistake, then what is only worth knowing.
    """
    judges: tuple[Callable[[Sequence[Surveyed], SurveyPlan], Iterable[Finding]], ...] = (
        _failures,
        _geometry,
        _spacings,
        _intensities,
        _modalities,
        _sizes,
        _masks,
    )
    twice = [Finding("FAIL", each.reason) for each in refused]
    notices = [Finding("WARN", notice) for notice in found.notices if not notice.endswith("have no mask")]  # said below
    everything = [*twice, *besides, *(finding for judge in judges for finding in judge(rows, plan)), *notices]
    return sorted(everything, key=lambda finding: ("FAIL", "WARN", "NOTE").index(finding.level))


def _failures(rows: Sequence[Surveyed], plan: SurveyPlan) -> Iterator[Finding]:
    """Scans that would fail, those of one reason together: their messages say what to do."""
    alike: dict[str, list[Surveyed]] = defaultdict(list)
    for row in rows:
        if row.failure:
            alike[re.sub(r"[\d.,]+", "#", row.failure)].append(row)
    for same in sorted(alike.values(), key=len, reverse=True):
        says_how = ":" in same[0].failure
        mend = "make it readable for you" if "Permission denied" in same[0].failure else "copy it again"
        fix = "" if says_how else f"{mend}, or leave it out with --exclude"
        yield Finding("FAIL", same[0].failure, fix, [row.id for row in same])


def _geometry(rows: Sequence[Surveyed], plan: SurveyPlan) -> Iterator[Finding]:
    usable = [row for row in rows if row.shape]
    unknown = [row.id for row in usable if row.orientation is None]
    orientations = Counter(row.orientation for row in usable if row.orientation)
    if unknown and orientations:
        yield Finding(
            "WARN",
            f"{len(unknown)} of {len(usable)} scans do not say where they lie: they stay as in their files, among "
            "others that are brought to one orientation",
            "convert them to a format that says it (NIfTI, NRRD), or give --orient native if all lie alike",
            unknown,
        )
    elif unknown:
        yield Finding(
            "NOTE",
            "no scan says where it lies: features have no place in millimetres, and no axis is turned",
            "nothing, if all lie alike; --size in place of --spacing",
        )
    if plan.preparation.orient == "native" and len(orientations) > 1:
        listed = ", ".join(f"{name} {count}" for name, count in orientations.most_common())
        yield Finding("WARN", f"with --orient native the backbone sees several orientations ({listed})", "--orient LPS")


def _spacings(rows: Sequence[Surveyed], plan: SurveyPlan) -> Iterator[Finding]:
    known = [row for row in rows if row.spacing]
    unlikely: set[str] = set()
    if len(known) >= _FEWEST:
        spacings = np.array([row.spacing for row in known])
        times = np.exp(np.abs(np.log(spacings / np.median(spacings, axis=0)))).max(axis=1)
        unlikely = {row.id for row, factor in zip(known, times, strict=True) if factor > _UNLIKELY}
    if unlikely:
        worst = next(row.spacing for row in known if row.spacing and row.id in unlikely)
        yield Finding(
            "WARN",
            f"{len(unlikely)} of {len(known)} scans have a spacing more than {_UNLIKELY:g} times off the median, "
            f"such as {_times(worst)} mm",
            "look at their headers",
            sorted(unlikely),
        )
    lifted = np.array([row.lifted_spacing for row in known if row.lifted_spacing and row.id not in unlikely])
    if len(lifted) < 2 or plan.preparation.size:
        return  # a size makes spacings differ on purpose
    lowest, highest = lifted.min(axis=0), lifted.max(axis=0)
    if (highest > _SPREAD * lowest).any():
        yield Finding(
            "NOTE",
            f"spacings that reach the backbone differ: {_times(lowest)} to {_times(highest)} mm (D x H x W), so that a "
            "cell stands for more of one patient than of another",
            "--spacing brings all to one",
        )


def _intensities(rows: Sequence[Surveyed], plan: SurveyPlan) -> Iterator[Finding]:
    spec = plan.preparation.intensity.spec
    wants_hu = "ct:" in spec
    if wants_hu and (others := [row.id for row in rows if row.modality not in (None, "CT")]):
        what = f"--intensity {spec} is for CT in HU, and {len(others)} of {len(rows)} scans are not CT"
        yield Finding("WARN", what, "lift them apart, with another --intensity", others)
    cts = [row for row in rows if row.maximum is not None and (row.modality == "CT" or (wants_hu and not row.modality))]
    not_hu = [row for row in cts if row.minimum is not None and row.minimum >= 0]
    if not_hu:
        one = not_hu[0]
        yield Finding(
            "WARN",
            f"{len(not_hu)} of {len(cts)} CTs whose voxels were read hold no value below 0, as HU of air would be "
            f"({one.id}: {one.minimum:g} to {one.maximum:g})",
            "convert them with their rescale slope and intercept, or use --intensity percentile:0.5,99.5",
            [row.id for row in not_hu],
        )
    ct = [row.id for row in rows if row.modality == "CT"]
    if ct and ("percentile" in spec or "minmax" in spec):
        yield Finding(
            "NOTE",
            f"{len(ct)} of {len(rows)} scans are CT, and {spec} scales each by its own values",
            "--intensity ct:soft (or lung, bone, brain) keeps HU comparable",
        )
    if spec == "none":
        beyond = [row.id for row in rows if row.maximum is not None and not 0 <= _lowest(row) <= row.maximum <= 1]
        if beyond:
            what = f"--intensity none, but {len(beyond)} of {len(rows)} scans go beyond [0, 1]"
            yield Finding("WARN", what, "another --intensity", beyond)


def _modalities(rows: Sequence[Surveyed], plan: SurveyPlan) -> Iterator[Finding]:
    counted = Counter(row.modality for row in rows if row.modality)
    if len(counted) > 1:
        listed = ", ".join(f"{name} {count}" for name, count in counted.most_common())
        yield Finding(
            "WARN", f"several modalities ({listed}) with one --intensity", "a store for each: --glob, or a manifest"
        )


def _sizes(rows: Sequence[Surveyed], plan: SurveyPlan) -> Iterator[Finding]:
    lifted = [(row, row.lifted_shape) for row in rows if row.lifted_shape and not row.failure]
    if plan.stride:
        cells = {row.id: (shape[0], *(math.ceil(n / plan.stride) for n in shape[1:])) for row, shape in lifted}
        if few := {name: each for name, each in cells.items() if max(each[1:]) < _FEW_CELLS}:
            fewest = _times(min(few.values(), key=math.prod)[1:])
            yield Finding(
                "WARN",
                f"{len(few)} of {len(lifted)} scans are less than {_FEW_CELLS} cells across in plane, down to {fewest}",
                "--size 224 enlarges them, --layers takes a layer of a smaller stride",
                list(few),
            )
        if plan.mode != "native":
            yield from _long_planes(cells, plan)
    flat = [row.id for row, _ in lifted if row.lifted_spacing and _anisotropy(row.lifted_spacing) > _ANISOTROPIC]
    if flat and plan.mode not in ("2d", "native"):
        yield Finding(
            "NOTE",
            f"{len(flat)} of {len(lifted)} scans have slices more than {_ANISOTROPIC:g} times as far apart as pixels: "
            "DW and DH planes see them squeezed",
            "compare with --mode 2d, or --spacing to even it out",
            flat,
        )


def _long_planes(cells: dict[str, tuple[int, ...]], plan: SurveyPlan) -> Iterator[Finding]:
    """Planes whose attention will take long, for its cost is quadratic."""
    tokens = {}
    for name, (depth, h, w) in cells.items():
        depth = min(depth, plan.depth_window or depth)
        if plan.tile and plan.stride:
            h, w = (min(cells, side // plan.stride) for cells, side in zip((h, w), plan.tile, strict=True))
        sides = {"2d": h * w, "3d": depth * h * w}
        tokens[name] = sides.get(plan.mode, max(h * w, depth * max(h, w)))
    if long := [name for name, count in tokens.items() if count > _LONG_PLANE]:
        what = "sequences" if plan.mode == "3d" else "planes"
        yield Finding(
            "NOTE",
            f"{len(long)} of {len(cells)} scans have {what} of up to {max(tokens.values()):,} tokens, and time grows "
            "with their square",
            "--tile, --spacing or --size" if plan.mode == "2d" else "--depth-window 128, --tile, --spacing or --size",
            long,
        )


def _masks(rows: Sequence[Surveyed], plan: SurveyPlan) -> Iterator[Finding]:
    masks = sum(bool(row.mask) for row in rows)
    for problem, ids in _by_problem(rows):
        yield Finding("WARN", f"{len(ids)} of {masks} masks are of no use: {problem}", "correct or leave them out", ids)
    without = [row.id for row in rows if not row.mask]
    if without and (plan.wants_masks or masks):
        yield Finding("WARN", f"{len(without)} of {len(rows)} scans have no mask", "name masks as their scans", without)
    if others := [row.id for row in rows if row.mask == "another grid"]:
        what = f"{len(others)} of {masks} masks lie on another grid than their scan"
        yield Finding("NOTE", what, "nothing: labels are brought over", others)


def _by_problem(rows: Sequence[Surveyed]) -> list[tuple[str, list[str]]]:
    alike: dict[str, list[str]] = defaultdict(list)
    for row in rows:
        if row.mask_problem:
            alike[row.mask_problem].append(row.id)
    return list(alike.items())


def _lowest(row: Surveyed) -> float:
    return -math.inf if row.minimum is None else row.minimum


def _anisotropy(spacing: tuple[float, float, float]) -> float:
    return spacing[0] / max(spacing[1:])


def _times(values: Iterable[float]) -> str:
    return " x ".join(f"{value:.4g}" for value in values)


def totals(rows: Sequence[Surveyed]) -> dict[str, Any]:
    """The cohort in numbers, as JSON values: what it consists of, and its range along each axis."""
    values = [(row.minimum, row.maximum) for row in rows if row.minimum is not None and row.maximum is not None]
    return {
        "scans": len(rows),
        "would_fail": sum(bool(row.failure) for row in rows),
        "voxels_read": sum(row.not_finite is not None for row in rows),
        "formats": _counted(row.format for row in rows),
        "modalities": _counted(row.modality or "unknown" for row in rows if row.shape),
        "orientations": _counted(row.orientation or "unknown" for row in rows if row.shape),
        "shape": _range([row.shape for row in rows if row.shape]),
        "spacing": _range([row.spacing for row in rows if row.spacing]),
        "lifted_shape": _range([row.lifted_shape for row in rows if row.lifted_shape]),
        "values": [min(low for low, _ in values), max(high for _, high in values)] if values else None,
    }


def _counted(names: Iterable[str]) -> dict[str, int]:
    return dict(Counter(names).most_common())


def _range(values: Sequence[tuple[float, ...]]) -> dict[str, list[float]] | None:
    if not values:
        return None
    table = np.array(values)
    return {
        "min": table.min(axis=0).tolist(),
        "median": np.median(table, axis=0).tolist(),
        "max": table.max(axis=0).tolist(),
    }
