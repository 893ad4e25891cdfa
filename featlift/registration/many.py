"""Many pairs, one after the other: what is done is skipped, and what cannot be is told before work starts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from featlift.atomic_io import check_writable
from featlift.config import ExtractConfig
from featlift.errors import FeatliftError, OptionError, OutputError, StoreError
from featlift.names import file_names
from featlift.progress import Progress, counted
from featlift.registration.affine import AffineStage
from featlift.registration.cohorts import Cohort, End, StoreCohort, open_cohort
from featlift.registration.files import FIELD, INVERSE, WARPED, check_settings, read_run, register_pair, runs_in
from featlift.registration.pair_list import CasePair, of_pair, of_split, read_pairs
from featlift.registration.pairs import check_pair
from featlift.registration.plan import SHARED, Plan, flattened
from featlift.registration.settings import PairSettings
from featlift.store import Store
from featlift.store.layout import differing_fields
from featlift.timing import timed

_LONGEST_NAME = 255  # bytes, of a folder


@dataclass(frozen=True)
class RegisteredPairs:
    """What became of pairs, by their ids.

    Attributes:
        done: registered now.
        skipped: that were done before, with the same settings and files.
        failed: why others could not be.
        warped: whether warped scans are written.
    """

    done: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    warped: bool = True


def register_pairs(
    pairs: str | Path,
    fixed: str | Path,
    folder: str | Path,
    settings: PairSettings,
    config: ExtractConfig | None = None,
    *,
    moving: str | Path | None = None,
    images: str | Path | None = None,
    split: str | None = None,
    inverse: bool = False,
    network: str | Path | None = None,
    progress: Progress | None = None,
    notify: Callable[[str], object] | None = None,
) -> RegisteredPairs:
    """Register the pairs of a CSV, each into ``folder/<fixed>--<moving>/``, see `register_files`.

    Args:
        pairs: a CSV, see `read_pairs`.
        fixed: where the fixed scans are: a store of features, which are taken as they are, or a folder or manifest.
        folder: for the pairs.
        settings: how.
        config: which scans; the device; and where features are made of scans, by which network.
        moving: where the moving scans are; None takes those of `fixed`.
        images: of stores, where the scans are that they were made from: MIND and warped scans need them.
        split: only pairs of this split.
        inverse: write inverse fields as well.
        network: see `register_files`.
        progress: told of the pairs.
        notify: see `register`.

    Raises:
        InputError: a file, folder or id that is not there, or no pair.
        OptionError: a scan with itself, a pair twice, a layer that is not there, or a folder of another plan.
        StoreError: stores of different recipes, without dense features, or damaged.
        VolumeError: a geometry that is not known, or scans that do not overlap.
        ModelError: no such model or device.
        OutputError: the folder cannot be written.
    """
    folder, config = Path(folder), config or ExtractConfig()
    config.check()
    check_settings(settings, network)
    cohort = open_cohort(fixed, config, images)
    other = cohort if moving is None or str(moving) == str(fixed) else open_cohort(moving, config, images)
    store = _store_of(cohort, other)
    if settings.body == "masks":
        raise OptionError("body masks: they are of one pair; for many, otsu finds bodies")
    if store is not None and images is None and (settings.needs_scans or network is not None):
        raise OptionError(
            "MIND, networks, bodies and affine stages need the scans that a store was made from: give --images, or "
            "--features model"
        )
    listed = read_pairs(pairs, cohort, other)
    names = _folder_names(listed)
    wanted = {pair.id: pair for pair in of_split(listed, split)}
    _check_grids(wanted.values(), cohort, other, settings.affine)
    check_writable(folder)
    plan = Plan.of(settings, config, store, network)
    _check_plan(folder, plan)
    found = RegisteredPairs(warped=store is None or images is not None)
    kept = (FIELD, *[WARPED] * found.warped, *[INVERSE] * inverse)
    todo: list[str] = []
    for pair in wanted.values():
        done = _is_done(folder / names[pair.id], kept, pair, cohort, other)
        (found.skipped if done else todo).append(pair.id)
    end: End | None = None
    for pair_id in counted(todo, "pairs", progress):
        pair, seconds = wanted[pair_id], dict[str, float]()
        try:
            with timed(seconds, "read"):
                if end is None or end.id != pair.fixed:
                    end = None  # not two of them at once
                    end = cohort.load(pair.fixed)
                moved = other.load(pair.moving)
            register_pair(end, moved, folder / names[pair_id], plan, seconds, inverse=inverse, notify=notify)
            found.done.append(pair_id)
        except OutputError:
            raise
        except FeatliftError as error:
            found.failed[pair_id] = str(error)
    return found


def _store_of(fixed: Cohort, moving: Cohort) -> Store | None:
    """The store whose features are compared, and with them those of the other; None for scans."""
    if not isinstance(fixed, StoreCohort) or not isinstance(moving, StoreCohort):
        if isinstance(fixed, StoreCohort) or isinstance(moving, StoreCohort):
            raise OptionError("one of the two is a store and the other holds scans: give two stores, or scans twice")
        return None
    if differences := differing_fields(fixed.store.recipe, moving.store.recipe, fixed.store.name, moving.store.name):
        raise StoreError(f"the stores have different recipes, so their features do not meet: {'; '.join(differences)}")
    return fixed.store


def _folder_names(pairs: Sequence[CasePair]) -> dict[str, str]:
    """What the folder of each pair is called; of all pairs of a CSV, whichever are registered now."""
    names = file_names(pair.id for pair in pairs)
    longest = max(names.values(), key=lambda name: len(name.encode()))
    if len(longest.encode()) > _LONGEST_NAME:
        raise OptionError(f"{longest}: its folder would have more than {_LONGEST_NAME} bytes: shorten the case ids")
    return names


def _check_grids(pairs: Iterable[CasePair], fixed: Cohort, moving: Cohort, affine: AffineStage) -> None:
    """Refuse by their headers what cannot be registered."""
    of_fixed, of_moving = cache(fixed.grid), cache(moving.grid)
    for pair in pairs:
        with of_pair(pair.id):
            check_pair(of_fixed(pair.fixed), of_moving(pair.moving), affine)


def _check_plan(folder: Path, plan: Plan) -> None:
    """Refuse a folder in which pairs were registered otherwise."""
    asked = flattened(plan.as_json())
    for run in runs_in(folder).values():
        if differences := differing_fields(flattened({name: run.get(name) for name in SHARED}), asked, "there"):
            raise OptionError(f"{folder} holds pairs of another plan: {'; '.join(differences)}. Give another -o")


def _is_done(folder: Path, kept: Sequence[str], pair: CasePair, fixed: Cohort, moving: Cohort) -> bool:
    """Whether a pair was registered from the files as they are now, and these of its own are there."""
    run = read_run(folder)
    if run is None or not all((folder / name).exists() for name in kept):
        return False
    now = {"fixed": fixed.identity(pair.fixed), "moving": moving.identity(pair.moving)}
    return all(run[name] | identity == run[name] for name, identity in now.items())
