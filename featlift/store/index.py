"""The index: one row a case in one Parquet file, with labels. Features are never rewritten to relabel."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featlift.atomic_io import as_output_error
from featlift.errors import InputError, RemoteError, StoreError
from featlift.store.backend import StoreBackend, Where
from featlift.store.backends import backend_of
from featlift.store.case import open_case
from featlift.store.claims import Claims
from featlift.store.contents import check_store, complete_cases
from featlift.store.layout import DAMAGED_INDEX, INDEX
from featlift.store.sealing import is_as_written, sealed
from featlift.tables import read_table
from featlift.volumes.scan import known_id

if TYPE_CHECKING:
    import pyarrow as pa

#: Columns that come from the volumes; every other one is a label and is kept.
_OWN = ("id", "source", "source_sha256", "modality", "depth", "height", "width", "spacing_d", "spacing_h", "spacing_w")
EMBEDDING = "embedding"


def read_index(path: Where) -> pa.Table:
    """The index of a store as an Arrow table.

    Raises:
        StoreError: it is missing or broken; `featlift index` writes it anew.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    place = backend_of(path)
    try:
        content = place.read(INDEX)
        # `read_table` would import pandas where it is there; without threads: one of Arrow's that still holds the bytes
        # when the process ends would abort it
        table = pq.ParquetFile(pa.BufferReader(content)).read(use_threads=False)
        is_sealed = is_as_written(content)
    except RemoteError:
        raise
    except Exception as error:  # Arrow raises many kinds
        raise StoreError(f"{place}: no readable {INDEX}; run `featlift index {place}`") from error
    if not is_sealed or not _is_index(table):
        raise StoreError(f"{place}: {INDEX} is not what was written; run `featlift index {place}`")
    return table


def _is_index(table: pa.Table) -> bool:
    """Whether it has the index's own columns, and one row for each id."""
    import pyarrow as pa

    named = set(table.column_names)
    if len(named) < table.num_columns or not {*_OWN, EMBEDDING} <= named or table["id"].type != pa.string():
        return False
    return table["id"].null_count == 0 and len(table["id"].unique()) == len(table)


def is_damaged(path: Where) -> bool:
    """Whether there is an index that is not what was written; without one, as before the first run ended, False."""
    try:
        backend_of(path).changed(INDEX)
        read_index(path)
    except FileNotFoundError:
        return False
    except StoreError:
        return True
    return False


def rebuild_index(path: Where, labels: str | Path | Mapping[str, Mapping[str, Any]] | None = None) -> int:
    """Write the index anew from the volumes, keeping label columns it has and adding others.

    An index that is damaged is kept aside, as ``index.damaged.parquet``: its labels are not to be trusted, nor are they
    anywhere else.

    Args:
        path: the store.
        labels: a CSV with a column ``id`` and further columns, or the labels of each id.

    Returns:
        How many cases it lists.

    Raises:
        InputError: the CSV is missing or has no usable ``id`` column.
    """
    place = backend_of(path)
    with Claims(path) as claims, claims.turn("/index"):  # else a job that began before another could end after it
        table = _of_volumes(path, labels)
        content = sealed(table)
        with as_output_error(place):
            if is_damaged(path):
                _keep_aside(place)
            place.write(INDEX, lambda draft: draft.write_bytes(content))
    return len(table)


def _keep_aside(place: StoreBackend) -> None:
    try:
        damaged = place.read(INDEX)
    except OSError:  # not even a file
        return
    place.write(DAMAGED_INDEX, lambda draft: draft.write_bytes(damaged))


def current_index(path: Where) -> pa.Table:
    """The index as `rebuild_index` would write it; nothing is written. Volumes are only read if it is out of date."""
    return read_index(path) if index_is_current(path) else _of_volumes(path, None)


def labels_of(path: Where) -> dict[str, dict[str, Any]]:
    """The labels of each case that the index of a store lists.

    Raises:
        StoreError: it is missing or broken.
    """
    table = read_index(path)
    return {row.pop("id"): row for row in table.select(["id", *label_columns(table)]).to_pylist()}


def _with_labels(table: pa.Table, extra: pa.Table) -> pa.Table:
    """Add the label columns of `extra`; where both have a column, its values win for the ids that it names."""
    import pyarrow as pa

    rows = {case_id: row for row, case_id in enumerate(extra["id"].to_pylist())}
    for name in extra.column_names:
        if name in (*_OWN, EMBEDDING):
            continue
        values = extra[name].to_pylist()
        known = table[name].to_pylist() if name in table.column_names else [None] * len(table)
        ids = table["id"].to_pylist()
        merged = [values[rows[i]] if i in rows else old for i, old in zip(ids, known, strict=True)]
        try:
            column = pa.array(merged)
        except (pa.ArrowInvalid, pa.ArrowTypeError):  # numbers here, words there
            column = pa.array([None if value is None else str(value) for value in merged])
        if name in table.column_names:
            table = table.set_column(table.column_names.index(name), name, column)
        else:
            table = table.append_column(name, column)
    return table


def label_columns(table: pa.Table) -> list[str]:
    """The columns of an index that are labels."""
    return [name for name in table.column_names if name not in (*_OWN, EMBEDDING)]


def check_label_names(names: Iterable[str], where: str) -> None:
    """Refuse labels that are called as columns of the index's own.

    Raises:
        InputError: a name is taken.
    """
    if taken := set(names) & {*_OWN[1:], EMBEDDING}:
        raise InputError(f"{where}: the index has columns named {', '.join(sorted(taken))} of its own; rename them")


def read_labels(path: Path, ids: list[str]) -> pa.Table:
    """A CSV with a column ``id`` and further columns, which may name other cases too.

    Args:
        path: the file.
        ids: the cases of the store. An id may have the extension of its scan.

    Raises:
        InputError: it is missing, has no usable ``id`` column, or names none of the cases `ids`.
    """
    import pyarrow as pa

    read = read_table(path, ["id"], "labels are a CSV with id and further columns")
    if len(set(read.names)) < len(read.names):
        raise InputError(f"{path}: a column stands in it twice ({', '.join(read.names)})")
    check_label_names(read.names, str(path))
    if "id" not in read.names:
        raise InputError(f"{path}: no column named id; it has {', '.join(read.names)}")
    table = read.typed(["id"])
    known = set(ids)
    given = [known_id(name, known) for name in table["id"].to_pylist()]
    if len(set(given)) < len(given):
        raise InputError(f"{path}: an id stands in it twice")
    if not set(given) & set(ids):
        raise InputError(f"{path}: none of its {len(given)} ids is a case of the store, such as {', '.join(ids[:2])}")
    return table.set_column(read.names.index("id"), "id", pa.array(given, pa.string()))


def index_is_current(path: Where) -> bool:
    """Whether the index lists just the volumes that are there, and is younger than each of them."""
    try:
        ids = read_index(path)["id"].to_pylist()
        written = backend_of(path).changed(INDEX)
    except (StoreError, KeyError):
        return False
    volumes = backend_of(path).complete()
    return ids == list(volumes) and all(changed <= written for changed in volumes.values())


def _of_volumes(path: Where, labels: str | Path | Mapping[str, Mapping[str, Any]] | None) -> pa.Table:
    import pyarrow as pa

    check_store(path)
    rows = [row for case_id in complete_cases(path) if (row := _row(path, case_id)) is not None]
    table = pa.Table.from_pylist(rows, schema=_schema(pa))
    ids = table["id"].to_pylist()
    given = read_labels(Path(labels), ids) if isinstance(labels, (str, Path)) else _table(labels or {})
    for extra in (_old_labels(path), given):
        if extra is not None:
            table = _with_labels(table, extra)
    return table


def _row(store: Where, case_id: str) -> dict[str, Any] | None:
    """What the index says of a case; None for one too damaged to read, which `verify` tells of."""
    try:
        case = open_case(store, case_id)
        depth, height, width = case.attributes["shape"]
        return {
            "id": case.id,
            "source": case.attributes["source"]["name"],
            "source_sha256": case.attributes["source"]["sha256"],
            "modality": case.attributes["modality"],
            "depth": depth,
            "height": height,
            "width": width,
            **dict(zip(_OWN[-3:], case.attributes["spacing"] or (None, None, None), strict=True)),
            EMBEDDING: case.embedding if EMBEDDING in case.saved else None,
        }
    except RemoteError:
        raise
    except StoreError:
        return None


def _schema(pa: Any) -> Any:
    kinds = {"depth": pa.int32(), "height": pa.int32(), "width": pa.int32()}
    kinds |= {name: pa.float64() for name in _OWN[-3:]}
    fields = [pa.field(name, kinds.get(name, pa.string())) for name in _OWN]
    return pa.schema([*fields, pa.field(EMBEDDING, pa.list_(pa.float32()))])


def _old_labels(path: Where) -> pa.Table | None:
    try:
        return read_index(path)
    except StoreError:
        return None


def _table(labels: Mapping[str, Mapping[str, Any]]) -> pa.Table | None:
    import pyarrow as pa

    names = dict.fromkeys(name for given in labels.values() for name in given)
    columns = {name: [given.get(name) for given in labels.values()] for name in names}
    return pa.table({"id": list(labels), **columns}) if labels else None
