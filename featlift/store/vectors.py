"""Vectors that another program made, one a case, held as a store of embeddings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from featlift.checksums import sha256_of_file
from featlift.errors import InputError
from featlift.store.case import Case
from featlift.store.case_data import CaseData, LayerData
from featlift.store.index import EMBEDDING
from featlift.store.layout import sha256_of
from featlift.store.reading import Store
from featlift.store.volume_files import case_in_memory
from featlift.tables import read_table

if TYPE_CHECKING:
    import pyarrow as pa

#: Files of vectors, by their endings.
SUFFIXES = (".csv", ".parquet")

_ONE_VOXEL: dict[str, Any] = {
    "shape": [1, 1, 1],
    "affine": None,
    "source": {},
    "windows": [],
    "padding": {"after": [0, 0, 0], "mode": "edge"},
}
_ID, _NAMES = "id", ("vector", "embedding")
_LABELS = ("label", "split", "patient")  # of a CSV, whose other columns are channels
_WANTED = "vectors are a Parquet with id,vector, or a CSV with id and a column for each channel"


class VectorTable(Store):
    """A Parquet or CSV of id and vector, for all that works on embeddings. It has no voxels, tokens or index.

    A case has one slice, and its vector is that slice's mean patch token, so that probes of slices take it too.

    Attributes:
        labels: an Arrow table of ``id`` and what else the file says of each case: the other columns of a Parquet,
            lists left out; of a CSV label, split and patient.

    Raises:
        InputError: no such file, no ids, one twice, or vectors that are no finite numbers of one length.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.name = self.path.stem
        ids, self._vectors, self.labels = _read(self.path)
        self._ids = dict.fromkeys(ids)
        self._rows = {case_id: row for row, case_id in enumerate(ids)}
        recipe = {"model": self.path.stem, "mode": "vectors", "layers": [0], "save": ["slice_mean", "embedding"]}
        recipe |= {"vectors_sha256": sha256_of_file(self.path)}
        self.attributes: dict[str, Any] = {"recipe": recipe, "recipe_sha256": sha256_of(recipe)}

    def _case(self, case_id: str) -> Case:
        vector = self._vectors[self._rows[case_id]]
        attributes = {"layer": 0, "stride": [1, 1, 1], "offset": [0, 0, 0], "valid": [1, 1, 1], "affine": None}
        layer = LayerData(0, None, None, vector[None], attributes)
        return case_in_memory(
            CaseData(case_id, None, [layer], vector, {"patch-mean": [0, len(vector)]}, (), _ONE_VOXEL)
        )

    def _index(self) -> pa.Table:
        import pyarrow as pa

        vectors = pa.array(list(self._vectors), pa.list_(pa.float32()))
        return self.labels.append_column(EMBEDDING, vectors)

    def vectors_of(self, ids: Sequence[str]) -> NDArray[np.float32]:
        """The vectors ``(N, E)`` of these cases."""
        return self._vectors[[self._rows[case_id] for case_id in ids]]

    def __iter__(self) -> Iterator[str]:
        return iter(self._ids)


_Rows = tuple[list[str], NDArray[np.float32], "pa.Table"]


def _read(path: Path) -> _Rows:
    ids, vectors, labels = _of_parquet(path) if path.suffix == ".parquet" else _of_csv(path)
    if not ids:
        raise InputError(f"{path}: no rows; {_WANTED}")
    seen: set[str] = set()
    for case_id in ids:
        if not case_id or case_id in seen:
            raise InputError(f"{path}: {f'id {case_id} stands twice' if case_id else 'a row has no id'}")
        seen.add(case_id)
    if bad := int((~np.isfinite(vectors)).any(axis=1).sum()):
        raise InputError(f"{path}: {bad} of {len(ids)} vectors hold NaN or infinities: leave these cases out")
    return ids, vectors, labels


def _of_parquet(path: Path) -> _Rows:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or 'it cannot be read'}; {_WANTED}") from error
    except pa.ArrowException as error:
        raise InputError(f"{path}: no Parquet ({error}); {_WANTED}") from error
    name = next((name for name in _NAMES if name in table.column_names), None)
    if _ID not in table.column_names or name is None:
        raise InputError(f"{path}: it has {', '.join(table.column_names)}; {_WANTED}")
    ids = [str(each) for each in table[_ID].to_pylist()]
    others = [other for other in table.column_names if other not in (_ID, name)]
    labels = {other: table[other] for other in others if not pa.types.is_nested(table.schema.field(other).type)}
    return ids, _matrix(table[name], path), pa.table({_ID: ids, **labels})


def _matrix(column: pa.ChunkedArray, path: Path) -> NDArray[np.float32]:
    try:
        rows = [np.asarray(row, dtype=np.float32) for row in column.to_pylist()]
    except (TypeError, ValueError) as error:
        raise InputError(f"{path}: its vectors are no lists of numbers; {_WANTED}") from error
    if len({row.shape for row in rows}) > 1 or any(row.ndim != 1 or not row.size for row in rows):
        raise InputError(f"{path}: its vectors have several lengths, or none; {_WANTED}")
    return np.stack(rows) if rows else np.empty((0, 0), np.float32)


def _of_csv(path: Path) -> _Rows:
    import pyarrow as pa

    table = read_table(path, (_ID, *_LABELS), _WANTED)
    channels = [name for name in table.names if name not in (_ID, *_LABELS)]
    if _ID not in table.names or not channels or len(set(table.names)) < len(table.names):
        raise InputError(f"{path}: it has {', '.join(table.names[:8])}; {_WANTED}")
    rows = table.dicts()
    try:
        numbers = [[float(row[name]) for name in channels] for row in rows]
    except ValueError as error:
        raise InputError(f"{path}: {error}; {_WANTED}, all of them numbers") from error
    vectors = np.array(numbers, dtype=np.float32).reshape(len(numbers), len(channels))
    told = {name: [row[name].strip() for row in rows] for name in table.names if name not in channels}
    return told[_ID], vectors, pa.table(told)
