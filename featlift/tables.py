"""CSV files: read as people have them, with any usual separator, or refused by name; written plainly.

Excel writes ``;`` between columns and a comma into numbers wherever decimals have one, and offers UTF-16 as "Unicode".
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from featlift.atomic_io import write_atomically
from featlift.errors import InputError

if TYPE_CHECKING:
    import pyarrow as pa

_SEPARATORS = (",", ";", "\t")
_NUMBER = re.compile(r"\s*[+-]?\d+(,\d+)?\s*")


@dataclass(frozen=True)
class Table:
    """A CSV.

    Attributes:
        names: of the columns, without blanks around them; those that were looked for as they were asked for.
        rows: the texts of each, as many as there are names.
        lines: where each row ends in the file, counted from 1.
    """

    names: list[str]
    rows: list[list[str]]
    lines: list[int]

    def dicts(self) -> list[dict[str, str]]:
        """The rows by the names of their columns."""
        return [dict(zip(self.names, row, strict=True)) for row in self.rows]

    def typed(self, texts: Iterable[str]) -> pa.Table:
        """An Arrow table: these columns are texts, others what they look like, such as numbers or dates."""
        import pyarrow as pa
        from pyarrow import csv as arrow

        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([self.names, *self.rows])
        return arrow.read_csv(
            io.BytesIO(text.getvalue().encode()),
            parse_options=arrow.ParseOptions(newlines_in_values=True),
            convert_options=arrow.ConvertOptions(column_types=dict.fromkeys(texts, pa.string())),
        )


def read_table(path: Path, names: Iterable[str], wanted: str, called: object = None) -> Table:
    """Read a CSV in UTF-8 whose columns are separated by commas, semicolons or tabs.

    Rows without any value are passed over.

    Args:
        path: the file.
        names: columns that are looked for, in any case. They tell what separates columns.
        wanted: what to give instead of a file that will not do, such as "labels are a CSV with id,label".
        called: what the file is called in errors. Default: its path.

    Raises:
        InputError: it is missing or no such CSV, or a row has fewer or more values than there are columns.
    """
    called = called or path
    try:
        text = _decoded(path.read_bytes())
        separator = _separator(text, names)
        lines = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
        found = [(lines.line_num, row) for row in lines if any(value.strip() for value in row)]
    except FileNotFoundError as error:
        raise InputError(f"{called}: no such file; {wanted}") from error
    except (OSError, ValueError, csv.Error) as error:
        why = getattr(error, "strerror", None) or error
        raise InputError(f"{called}: not a readable CSV in UTF-8 ({why}); {wanted}") from error
    if not found:
        raise InputError(f"{called}: not a readable CSV in UTF-8 (it is empty); {wanted}")
    header = [name.strip() for name in found[0][1]]
    asked = {name.casefold(): name for name in names if name not in header}
    header = [asked.get(name.casefold(), name) for name in header]
    rows = [_row(row, len(header), f"{called}, line {number}") for number, row in found[1:]]
    return Table(header, rows if separator == "," else _with_points(rows), [number for number, _ in found[1:]])


def write_table(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a CSV in UTF-8 with commas; it is all there or not at all.

    Raises:
        OutputError: the place cannot be written.
    """

    def write(draft: Path) -> None:
        with draft.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file, lineterminator="\n").writerows([header, *rows])

    write_atomically(path, write)


def _decoded(content: bytes) -> str:
    header = content.partition(b"\n")[0]
    if content[:2] in (b"\xff\xfe", b"\xfe\xff") or b"\0" in header[:-1]:
        raise ValueError("it is in UTF-16: save it as CSV UTF-8")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ValueError(f"line {line} is in another encoding: save it as CSV UTF-8") from error


def _separator(text: str, names: Iterable[str]) -> str:
    """What separates columns: with it, the header has a name that is looked for; or else the most columns."""
    asked = {name.casefold() for name in names}
    counts = {}
    for separator in _SEPARATORS:
        header = next(csv.reader(io.StringIO(text.lstrip(), newline=""), delimiter=separator), [])
        if asked & {name.strip().casefold() for name in header}:
            return separator
        counts[separator] = len(header)
    return max(_SEPARATORS, key=counts.__getitem__)


def _row(row: list[str], columns: int, where: str) -> list[str]:
    while len(row) > columns and not row[-1]:
        row = row[:-1]
    if len(row) != columns:
        raise InputError(f"{where}: {len(row)} values, but the header names {columns} columns")
    return row


def _with_points(rows: list[list[str]]) -> list[list[str]]:
    """With a point in the numbers of columns where all are numbers and some have a comma."""
    columns = [list(column) for column in zip(*rows, strict=True)]
    for number, column in enumerate(columns):
        if all(_NUMBER.fullmatch(value) for value in column if value):
            columns[number] = [value.replace(",", ".") for value in column]
    return [list(row) for row in zip(*columns, strict=True)]
