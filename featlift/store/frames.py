"""A store as tables: its index as a data frame, its embeddings as a matrix with labels."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from featlift.errors import OptionError
from featlift.store.index import EMBEDDING, label_columns

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa


class Embeddings(NamedTuple):
    """Embeddings of cases, as scikit-learn takes them.

    Attributes:
        vectors: ``(N, E)`` float32.
        labels: ``(N,)`` of them; None if none were asked for.
        ids: of the N cases.
    """

    vectors: NDArray[np.float32]
    labels: NDArray[Any] | None
    ids: list[str]


def index_frame(index: pa.Table, ids: Sequence[str], embeddings: bool) -> pd.DataFrame:
    """See `Store.to_pandas`."""
    try:
        import pandas as pd
    except ImportError as error:
        raise OptionError("a data frame needs pandas: pip install pandas") from error
    table = _rows(index, ids)
    frame: pd.DataFrame = table.drop_columns(EMBEDDING).to_pandas().set_index("id")
    if not embeddings:
        return frame
    vectors = _vectors(table)
    names = [f"{EMBEDDING}_{channel}" for channel in range(vectors.shape[1])]
    return frame.join(pd.DataFrame(vectors, index=frame.index, columns=names))


def embeddings_of(index: pa.Table, ids: Sequence[str], labels: str | None) -> Embeddings:
    """See `Store.embeddings`."""
    table = _rows(index, ids)
    if labels is None:
        return Embeddings(_vectors(table), None, table["id"].to_pylist())
    _check_columns(table, [labels])
    table = table.filter(table[labels].is_valid())
    return Embeddings(_vectors(table), np.array(table[labels].to_pylist()), table["id"].to_pylist())


def ids_where(index: pa.Table, ids: Sequence[str], wanted: Mapping[str, object]) -> list[str]:
    """See `Store.where`."""
    table = _rows(index, ids)
    _check_columns(table, wanted)
    values = {name: set(map(str, _as_collection(value))) for name, value in wanted.items()}
    rows = table.select(["id", *wanted]).to_pylist()
    return [row["id"] for row in rows if all(str(row[name]) in among for name, among in values.items())]


def _rows(index: pa.Table, ids: Sequence[str]) -> pa.Table:
    """The rows of an index of these cases, in their order."""
    places = {case_id: row for row, case_id in enumerate(index["id"].to_pylist())}
    return index.take([places[case_id] for case_id in ids if case_id in places])


def _vectors(table: pa.Table) -> NDArray[np.float32]:
    rows = table[EMBEDDING].combine_chunks()
    vectors: NDArray[np.float32] = rows.flatten().to_numpy(zero_copy_only=False).reshape(len(table), -1)
    return vectors


def _check_columns(table: pa.Table, names: Collection[str]) -> None:
    if unknown := [name for name in names if name == EMBEDDING or name not in table.column_names]:
        own = ", ".join(name for name in table.column_names if name != EMBEDDING)
        raise OptionError(
            f"no column {unknown[0]!r} in the index: it has {own}"
            + ("" if label_columns(table) else "; `featlift index STORE --labels CSV` adds labels")
        )


def _as_collection(value: object) -> Collection[object]:
    return value if isinstance(value, Collection) and not isinstance(value, str) else [value]
