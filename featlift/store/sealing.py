"""A Parquet file that carries a checksum of itself: in its metadata, which any reader of Parquet shows."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa

_FIELD = b"featlift_sha256"
_OPEN = hashlib.sha256(_FIELD).hexdigest().encode()  # stands where the checksum will, while that is computed


def sealed(table: pa.Table) -> bytes:
    """The bytes of a Parquet file whose metadata hold the SHA-256 of all of it, computed with `_OPEN` in its place."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    metadata = {**(table.schema.metadata or {}), _FIELD: _OPEN}
    into = pa.BufferOutputStream()
    pq.write_table(table.replace_schema_metadata(metadata), into)
    content: bytes = into.getvalue().to_pybytes()
    return _with(content, _OPEN, hashlib.sha256(content).hexdigest().encode())


def is_as_written(content: bytes) -> bool:
    """Whether the bytes of a Parquet file are what `sealed` made; True of a file from before there was a checksum.

    Raises one of many errors of Arrow's if it is no Parquet file.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    file = pq.ParquetFile(pa.BufferReader(content))
    digest = (file.metadata.metadata or {}).get(_FIELD)
    if digest is None:
        return _FIELD not in (file.schema_arrow.metadata or {})  # where it is written once more
    return bool(hashlib.sha256(_with(content, digest, _OPEN)).hexdigest().encode() == digest)


def _with(content: bytes, old: bytes, new: bytes) -> bytes:
    """The metadata are at the end, so it is the last place that counts."""
    at = content.rfind(old)
    return content if at < 0 else content[:at] + new + content[at + len(old) :]
