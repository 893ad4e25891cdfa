"""Columns by which cases are told apart: classes, or numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featlift.store.index import label_columns, read_labels

if TYPE_CHECKING:
    import pyarrow as pa

_MOST_CLASSES = 12


@dataclass(frozen=True)
class LabelColumn:
    """Labels of the cases.

    Attributes:
        name: of the column.
        classes: in order; empty for numbers.
        values: for each case the number, or which of the classes; None where nothing is known.
    """

    name: str
    classes: tuple[str, ...]
    values: tuple[float | None, ...]


def columns_of(tables: Sequence[pa.Table], ids: Sequence[str], path: str | Path | None = None) -> list[LabelColumn]:
    """The label columns of the indices of stores, and of a CSV, whose columns come first.

    A column of fractions, or of more than 12 different numbers, is one of numbers; one of up to 12 different values is
    one of classes; of more words it is left out, as names and remarks are.

    Raises:
        InputError: no such CSV, or none of its ids is a case.
    """
    given = [read_labels(Path(path), list(ids))] if path is not None else []
    columns: dict[str, dict[str, Any]] = {}
    for table in [*given, *tables]:
        held = table["id"].to_pylist()
        for name in label_columns(table):
            values = dict(zip(held, table[name].to_pylist(), strict=True))
            columns[name] = values | columns.get(name, {})
    found = [_column(name, [values.get(case_id) for case_id in ids]) for name, values in columns.items()]
    return [column for column in found if column is not None]


def _column(name: str, values: Sequence[Any]) -> LabelColumn | None:
    known = {value for value in values if value not in (None, "")}
    numbers = all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in known)
    if not known or (len(known) > _MOST_CLASSES and not numbers):
        return None
    if numbers and (len(known) > _MOST_CLASSES or any(value != int(value) for value in known)):
        return LabelColumn(name, (), tuple(None if value is None else float(value) for value in values))
    order = sorted(known) if numbers else sorted(known, key=str)
    places = {value: float(place) for place, value in enumerate(order)}
    return LabelColumn(name, tuple(str(value) for value in order), tuple(places.get(value) for value in values))
