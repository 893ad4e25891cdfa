"""What ITK does not check in a MHA file.

ITK hands out whatever was decoded when the compressed data of a MetaImage is damaged ("Uncompress failed", on standard
error, is all it says), and reports a truncated one as a missing file. Both are seen here before ITK reads.
"""

from __future__ import annotations

import math
import zlib
from pathlib import Path

from featlift.errors import VolumeError

_BYTES = {"CHAR": 1, "UCHAR": 1, "SHORT": 2, "USHORT": 2, "INT": 4, "UINT": 4, "FLOAT": 4, "DOUBLE": 8}
_LONGEST_HEADER = 1 << 20


def check_mha(path: Path) -> None:
    """Check that a MHA file has a header and all the data it promises.

    Raises:
        VolumeError: it has not.
    """
    from isal import isal_zlib

    with path.open("rb") as file:
        fields = {}
        while "ElementDataFile" not in fields:
            line = file.readline(_LONGEST_HEADER)
            name, equals, value = line.decode("latin-1").partition("=")
            if not equals or file.tell() > _LONGEST_HEADER:
                raise VolumeError(f"not a MHA file (no MetaImage header before byte {file.tell():,})")
            fields[name.strip()] = value.strip()
        if fields["ElementDataFile"].upper() != "LOCAL" or "DimSize" not in fields:
            raise VolumeError("not a MHA file with its data inside (ElementDataFile = LOCAL)")
        try:
            voxels = math.prod(int(n) for n in fields["DimSize"].split())
            values = voxels * int(fields.get("ElementNumberOfChannels", 1))
        except ValueError as error:
            raise VolumeError(f"not a MHA file (DimSize = {fields['DimSize'][:40]})") from error
        size = _BYTES.get(fields.get("ElementType", "").removeprefix("MET_"))
        promised = values * size if size else None
        data = file.read()
    if fields.get("CompressedData", "False").lower() == "true":
        stream = isal_zlib.decompressobj()
        try:
            held = len(stream.decompress(data, promised or 0))
            complete = stream.eof or bool(stream.decompress(stream.unconsumed_tail, 1) == b"" and stream.eof)
        except (zlib.error, isal_zlib.error) as error:
            raise VolumeError(f"damaged compressed data ({error}): copy it again") from error
        if not complete:
            raise VolumeError("truncated: its compressed data has no end; copy it again")
    else:
        held = len(data)
    if promised is not None and held < promised:
        raise VolumeError(f"truncated: {held} bytes of data where its header promises {promised}; copy it again")
