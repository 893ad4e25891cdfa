"""Embeddings and labels as one Parquet file, for pandas, polars, DuckDB and R."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from featlift.atomic_io import write_atomically
from featlift.errors import OptionError, StoreError
from featlift.store.index import EMBEDDING, current_index
from featlift.store.reading import Store

if TYPE_CHECKING:
    import pyarrow as pa


def write_parquet(store: Store, path: Path, cases: Sequence[str] = ()) -> list[str]:
    """Write a row a case: what the index says, its labels, and the embedding as a list of fixed size.

    The names and ranges of the embedding's parts stand in the metadata of that column as JSON (``parts``), the recipe
    of the store in those of the file (``featlift``).

    Args:
        store: which keeps embeddings.
        path: of the file; an older one is replaced.
        cases: ids; empty takes all.

    Returns:
        Ids of cases that are too damaged to be in it.

    Raises:
        OptionError: no such case, or none at all.
        StoreError: the store keeps no embeddings.
        OutputError: the file cannot be written.
    """
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    store.require(EMBEDDING)
    store.require_cases(cases)
    wanted = list(cases) or list(store)
    table = current_index(store.path)
    table = table.filter(pc.is_in(table["id"], pa.array(wanted)))
    if not len(table):
        raise OptionError(f"{store.path}: no volumes to export")
    table = _of_fixed_size(table, store)
    table = table.replace_schema_metadata({"featlift": json.dumps({"recipe": store.recipe})})
    write_atomically(path, lambda draft: pq.write_table(table, draft))
    held = set(table["id"].to_pylist())
    return [case_id for case_id in wanted if case_id not in held]


def _of_fixed_size(table: pa.Table, store: Store) -> pa.Table:
    """The embeddings as the last column, which polars and DuckDB know as an array."""
    import pyarrow as pa

    first = store[table["id"][0].as_py()]
    size = len(first.embedding)
    column = table[EMBEDDING].combine_chunks()
    if len(column.flatten()) != size * len(table):
        raise StoreError(f"{store.path}: embeddings of several lengths; `featlift verify` finds damage")
    parts = {"parts": json.dumps(first.embedding_parts)}
    field = pa.field(EMBEDDING, pa.list_(pa.float32(), size), metadata=parts)
    fixed = pa.FixedSizeListArray.from_arrays(column.flatten(), size)
    return table.drop_columns(EMBEDDING).append_column(field, fixed)
