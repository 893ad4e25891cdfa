"""Regions as one Parquet file: a row a region, with what is known of its case, as probes and searches take vectors."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from featlift.atomic_io import write_atomically
from featlift.errors import OptionError, StoreError
from featlift.evaluation.regions import Region
from featlift.store.index import labels_of
from featlift.store.reading import Store

#: Columns of a region's own.
OWN = (
    *("id", "case", "patient", "region", "name", "voxels", "volume_mm3", "x", "y", "z", "box"),
    *("cells", "smaller_than_a_cell"),
)
VECTORS = ("vector", "trimmed", "deviation")
_PATIENT = "patient"


def write_regions(path: Path, store: Store, found: Sequence[Region], layer: int | None = None) -> None:
    """Write a row a region: where it is, its vectors, and the labels of its case in the index of the store.

    ``patient`` is that of the index, or the case where it has none: what is split is split by it. The recipe of the
    store stands in the file's metadata.

    Args:
        path: of the file; an older one is replaced.
        store: that they come from.
        found: regions, in any order.
        layer: that they were made from; None is the deepest.

    Raises:
        OptionError: there are none, or the index has a column of the same name as one of a region's own.
        OutputError: the file cannot be written.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not found:
        raise OptionError(f"{store.path}: no regions to write")
    known = _known(store)
    columns = list(dict.fromkeys(name for row in known.values() for name in row if name != _PATIENT))
    if taken := [name for name in columns if name in (*OWN, *VECTORS)]:
        raise OptionError(
            f"{store.path}: its index has a column {taken[0]!r}, which is one of a region's own; rename it"
        )
    rows = [_row(region, known.get(region.case, {}), columns) for region in found]
    vectors = pa.list_(pa.float32(), len(found[0].mean))
    fields = dict.fromkeys(VECTORS, vectors) | {"box": pa.list_(pa.float64(), 6)}
    table = pa.Table.from_pylist(rows)
    for name, kind in fields.items():
        table = table.set_column(table.column_names.index(name), name, pa.array([row[name] for row in rows], kind))
    about = {"store": store.name, "recipe": store.recipe, "layer": layer}
    table = table.replace_schema_metadata({"featlift": json.dumps(about)})
    write_atomically(path, lambda draft: pq.write_table(table, draft))


def _known(store: Store) -> Mapping[str, Mapping[str, Any]]:
    try:
        return labels_of(store.path)
    except StoreError:
        return {}


def _row(region: Region, known: Mapping[str, Any], columns: Sequence[str]) -> dict[str, Any]:
    x, y, z = region.centroid or (None, None, None)
    patient = known.get(_PATIENT)
    own = {
        "id": region.id,
        "case": region.case,
        "patient": region.case if patient is None else str(patient),
        "region": region.label,
        "name": region.name or str(region.label),
        "voxels": region.voxels,
        "volume_mm3": region.volume,
        "x": x,
        "y": y,
        "z": z,
        "box": None if region.box is None else [*region.box[0], *region.box[1]],
        "cells": region.cells,
        "smaller_than_a_cell": region.smaller_than_a_cell,
    }
    vectors = {"vector": region.mean, "trimmed": region.trimmed, "deviation": region.deviation}
    return own | {name: known.get(name) for name in columns} | vectors
