"""All that a report tells of its stores, gathered with one case in memory at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from featlift.errors import OptionError, StoreError
from featlift.evaluation.classification.embeddings import embeddings_of, input_of
from featlift.pictures.colours import Colours, meaning_of
from featlift.pictures.fitting import fit_colours
from featlift.pictures.report.history import failures_of, runs_of
from featlift.pictures.report.labels import LabelColumn, columns_of
from featlift.pictures.report.maps import Map, maps_of
from featlift.pictures.report.outliers import Outlier, by_embedding, by_geometry, by_intensity, strangest
from featlift.pictures.report.portraits import Portrait, portrait
from featlift.results.result import Result, read_results
from featlift.sample import evenly_spaced
from featlift.store.index import current_index
from featlift.store.layout import saved_in, sha256_of
from featlift.store.reading import Store
from featlift.store.vectors import VectorTable

if TYPE_CHECKING:
    import pyarrow as pa

#: Columns of the index, what they are called and their unit.
GEOMETRY = {
    "spacing_d": ("spacing along D", "mm"),
    "spacing_h": ("spacing along H", "mm"),
    "spacing_w": ("spacing along W", "mm"),
    "depth": ("slices along D", "voxels"),
    "height": ("rows along H", "voxels"),
    "width": ("columns along W", "voxels"),
}


@dataclass(frozen=True, eq=False)
class Cohort:
    """What is known of a cohort.

    Attributes:
        stores: whose features, or files of vectors.
        ids: of all cases, in order.
        geometry: by name, of `GEOMETRY`, a value for each case; NaN where it is unknown.
        labels: columns that cases can be told apart by.
        maps: of the embeddings.
        outliers: every reason that was found.
        portraits: of some of the cases, or all, by id.
        failures: by store, why cases are missing or damaged.
        runs: by store.
        results: of evaluations of these stores.
        others: how many results were of other stores.
    """

    stores: tuple[Store, ...]
    ids: tuple[str, ...]
    geometry: dict[str, NDArray[np.float64]]
    labels: list[LabelColumn]
    maps: list[Map] = field(default_factory=list)
    outliers: list[Outlier] = field(default_factory=list)
    portraits: dict[str, Portrait] = field(default_factory=dict)
    failures: dict[str, dict[str, str]] = field(default_factory=dict)
    runs: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    results: list[Result] = field(default_factory=list)
    others: int = 0

    @property
    def pictured(self) -> list[Store]:
        """The stores that pictures are made of."""
        return _pictured(self.stores)


def gather(
    stores: Sequence[Store],
    labels: str | Path | None = None,
    results: str | Path | None = None,
    pictures: int = 400,
    tell: Callable[[int, int], object] = lambda done, total: None,
    label_names: Mapping[int, str] | None = None,
) -> Cohort:
    """Look at everything that stores hold.

    Args:
        stores: of one cohort, such as its modes; case ids say which cases are the same. Files of vectors lie beside
            them.
        labels: a CSV with ``id`` and further columns, beside those of the index.
        results: a folder of result files.
        pictures: of how many cases a picture is made and intensities are counted. Of more cases an evenly spaced
            sample, and the strangest by their embedding or geometry.
        tell: is called with how many of how many pictures are made.
        label_names: what labels of masks are called in results, rather than as these say.

    Raises:
        OptionError: no cases.
        InputError: no such file of labels or results.
        StoreError: something that is needed of every case is damaged.
    """
    tables = [store.labels if isinstance(store, VectorTable) else current_index(store.path) for store in stores]
    rows = _geometry(tables)
    ids = tuple(sorted(rows))
    if not ids:
        raise OptionError(f"{stores[0].path}: no volumes in it, so nothing to report")
    geometry = {name: np.array([_number(rows[case_id].get(name)) for case_id in ids]) for name in GEOMETRY}
    maps, outliers = [], by_geometry(ids, {GEOMETRY[name][0]: values for name, values in geometry.items()})
    for store, table in zip(stores, tables, strict=True):
        if "embedding" in saved_in(store.recipe):
            held = tuple(table["id"].to_pylist())
            vectors = embeddings_of(store, held, input_of(store))
            maps += maps_of(store.name, held, vectors)
            outliers += by_embedding(held, vectors, store.name if len(stores) > 1 else "")
    pictured = _pictured(stores)
    visible = [case_id for case_id in ids if any(case_id in store for store in pictured)]
    strange = {outlier.id for outlier in strangest(outliers)[0]}
    shown = sorted({*evenly_spaced(visible, pictures), *strange.intersection(visible)})
    runs = {store.name: runs_of(store) for store in stores}
    failures = {store.name: failures_of(store, runs[store.name]) for store in stores}
    portraits = _portraits(pictured, shown, failures, tell)
    spreads = {case_id: seen.intensities for case_id, seen in portraits.items() if seen.intensities is not None}
    outliers += by_intensity(spreads)
    found = read_results([results]) if results is not None else []
    if label_names:
        found = [result.with_label_names(label_names) for result in found]
    recipes = {store.name: store.attributes["recipe_sha256"] for store in stores}
    ours = [result for result in found if recipes.get(result.store) == sha256_of(result.recipe)]
    return Cohort(
        tuple(stores),
        ids,
        geometry,
        columns_of(tables, ids, labels),
        maps,
        outliers,
        portraits,
        failures,
        runs,
        ours,
        len(found) - len(ours),
    )


def _pictured(stores: Sequence[Store]) -> list[Store]:
    """Those that have more than vectors, so that there may be something to see."""
    return [store for store in stores if not isinstance(store, VectorTable)]


def _geometry(tables: Sequence[pa.Table]) -> dict[str, dict[str, Any]]:
    """What the first index that lists a case, and knows of geometry, says of it."""
    rows: dict[str, dict[str, Any]] = {}
    for table in reversed(tables):
        for row in table.select([name for name in ("id", *GEOMETRY) if name in table.column_names]).to_pylist():
            rows[row["id"]] = rows.get(row["id"], {}) | row
    return rows


def _portraits(
    stores: Sequence[Store],
    ids: Sequence[str],
    failures: dict[str, dict[str, str]],
    tell: Callable[[int, int], object],
) -> dict[str, Portrait]:
    """Portraits of cases; what is damaged joins the failures."""
    colours = _colours(stores, failures)
    portraits = {}
    for done, case_id in enumerate(ids, start=1):
        portraits[case_id] = portrait(case_id, stores, colours)
        for store, trouble in portraits[case_id].troubles.items():
            failures[store].setdefault(case_id, trouble)
        tell(done, len(ids))
    return portraits


def _colours(stores: Sequence[Store], failures: dict[str, dict[str, str]]) -> list[Colours | None]:
    """Colours for each store, the same for stores of the same network."""
    with_dense = [store for store in stores if "dense" in saved_in(store.recipe) and len(store)]
    fitted: dict[str, Colours] = {}

    def key(store: Store) -> str:
        return sha256_of([meaning_of(store), max(store.recipe["layers"])])

    for _, alike in groupby(sorted(with_dense, key=key), key=key):
        members = list(alike)
        shared = [case_id for case_id in members[0] if all(case_id in store for store in members)]
        try:
            basis = fit_colours(members, shared)
        except (StoreError, OptionError) as error:  # all are damaged, or there are too few cells, as of one tiny crop
            failures[members[0].name]["all"] = f"no colours: {error}"
        else:
            fitted |= dict.fromkeys([store.name for store in members], basis)
    return [fitted.get(store.name) for store in stores]


def _number(value: float | None) -> float:
    return np.nan if value is None else float(value)
