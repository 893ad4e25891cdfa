"""The index: one row a case in one Parquet file, with labels. Features are never rewritten to relabel."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from featlift.errors import InputError, StoreError
from featlift.store.durable import write_atomically
from featlift.store.layout import INDEX, METADATA, STAGING, VOLUMES
from featlift.store.reading import complete_cases, open_store

if TYPE_CHECKING:
    import pyarrow as pa

#: Columns that come from the volumes; every other one is a label and is kept.
_OWN = ("id", "source", "source_sha256", "modality", "depth", "height", "width", "spacing_d", "spacing_h", "spacing_w")
_EMBEDDING = "embedding"


def read_index(path: str | Path) -> pa.Table:
    """The index of a store as an Arrow table.

    Raises:
        StoreError: it is missing or broken; `featlift index` writes it anew.
    """
    import pyarrow.parquet as pq

    try:
        return pq.read_table(Path(path) / INDEX)
    except Exception as error:  # Arrow raises many kinds
        raise StoreError(f"{path}: no readable {INDEX}; run `featlift index {path}`") from error


def rebuild_index(path: str | Path, labels: str | Path | None = None) -> int:
    """Write the index anew from the volumes, keeping label columns it has and adding those of a CSV.

    Args:
        path: the store.
        labels: a CSV with a column ``id`` and further columns.

    Returns:
        How many cases it lists.

    Raises:
        InputError: the CSV is missing or has no usable ``id`` column.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    store = open_store(path)
    rows = [_row(store[case_id]) for case_id in store]
    table = pa.Table.from_pylist(rows, schema=_schema(pa))
    for extra in (_old_labels(Path(path)), _csv(Path(labels)) if labels else None):
        if extra is None:
            continue
        place = {case_id: row for row, case_id in enumerate(extra["id"].to_pylist())}
        take = pa.array([place.get(case_id) for case_id in table["id"].to_pylist()], pa.int64())
        for name in extra.column_names:
            if name not in (*_OWN, _EMBEDDING):
                column = extra[name].take(take)
                known = table.column_names
                table = (
                    table.set_column(known.index(name), name, column)
                    if name in known
                    else table.append_column(name, column)
                )
    write_atomically(Path(path) / INDEX, lambda draft: pq.write_table(table, draft), Path(path) / STAGING)
    return len(rows)


def index_is_current(path: Path) -> bool:
    """Whether the index lists just the volumes that are there, and is younger than each of them."""
    try:
        ids = read_index(path)["id"].to_pylist()
        written = (path / INDEX).stat().st_mtime_ns
    except (StoreError, KeyError):
        return False
    groups = [path / VOLUMES / case_id / METADATA for case_id in complete_cases(path)]
    return ids == [group.parent.name for group in groups] and all(g.stat().st_mtime_ns <= written for g in groups)


def _row(case: Any) -> dict[str, Any]:
    depth, height, width = case.attributes["shape"]
    spacing = case.attributes["spacing"] or (None, None, None)
    return {
        "id": case.id,
        "source": case.attributes["source"]["name"],
        "source_sha256": case.attributes["source"]["sha256"],
        "modality": case.attributes["modality"],
        "depth": depth,
        "height": height,
        "width": width,
        **dict(zip(_OWN[-3:], spacing, strict=True)),
        _EMBEDDING: case.embedding,
    }


def _schema(pa: Any) -> Any:
    kinds = {"depth": pa.int32(), "height": pa.int32(), "width": pa.int32()}
    kinds |= {name: pa.float64() for name in _OWN[-3:]}
    fields = [pa.field(name, kinds.get(name, pa.string())) for name in _OWN]
    return pa.schema([*fields, pa.field(_EMBEDDING, pa.list_(pa.float32()))])


def _old_labels(path: Path) -> pa.Table | None:
    try:
        return read_index(path)
    except StoreError:
        return None


def _csv(path: Path) -> pa.Table:
    import pyarrow as pa
    import pyarrow.csv

    try:
        table = pyarrow.csv.read_csv(path, convert_options=pyarrow.csv.ConvertOptions(column_types={"id": pa.string()}))
    except (OSError, pa.ArrowInvalid) as error:
        raise InputError(f"{path}: not a readable CSV ({error})") from error
    if "id" not in table.column_names:
        raise InputError(f"{path}: no column named id; it has {', '.join(table.column_names)}")
    if len(set(table["id"].to_pylist())) < len(table):
        raise InputError(f"{path}: an id stands in it twice")
    return table
