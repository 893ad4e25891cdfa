"""Arrays on disk: what they take is known before they are written, and Zarr reads them as its own."""

import numpy as np
import pytest
import zarr

from featlift.errors import VolumeError
from featlift.store import arrays


@pytest.mark.parametrize("largest", [arrays.LARGEST_SHARD, 300_000, 60_000])
@pytest.mark.parametrize("shape", [(16, 37, 19, 10), (16, 8, 8, 8), (3, 40, 300, 7)])
@pytest.mark.parametrize("dtype", [np.float16, np.int8, np.float32])
@pytest.mark.parametrize("kind", ["dense", "scan", "small"])
def test_bytes_of_an_array(tmp_path, monkeypatch, kind, dtype, shape, largest):
    monkeypatch.setattr(arrays, "LARGEST_SHARD", largest)  # so that small arrays have several shards
    values = np.random.default_rng(0).normal(scale=50, size=shape).astype(dtype)
    names = [("a", "b", "c", "d")] if kind == "small" else []
    getattr(arrays, f"write_{kind}")(arrays.put_into(tmp_path), kind, values, *names, {"of": "ours"})
    written = [path for path in (tmp_path / kind / "c").rglob("*") if path.is_file()]
    expected = getattr(arrays, f"{kind}_bytes")(shape, values.itemsize)
    assert sum(path.stat().st_size for path in written) == expected
    array = zarr.open_array(tmp_path / kind)
    assert array.attrs.asdict() == {"of": "ours"}
    assert np.array_equal(array[...], values)
    assert np.array_equal(array[1:3, 5:8, 2:5, 1:3], values[1:3, 5:8, 2:5, 1:3])

    ours = {path.relative_to(tmp_path / kind): path.stat().st_size for path in written}
    array[...] = values + 1  # by Zarr, in their place
    theirs = [path for path in (tmp_path / kind / "c").rglob("*") if path.is_file()]
    assert {path.relative_to(tmp_path / kind): path.stat().st_size for path in theirs} == ours


@pytest.mark.parametrize("kind", ["dense", "scan", "small"])
def test_a_flipped_bit_is_seen_by_zarr(tmp_path, kind):
    values = np.random.default_rng(0).normal(size=(4, 9, 10, 11)).astype(np.float32)
    names = [("a", "b", "c", "d")] if kind == "small" else []
    getattr(arrays, f"write_{kind}")(arrays.put_into(tmp_path), kind, values, *names, {})
    (file,) = [path for path in (tmp_path / kind / "c").rglob("*") if path.is_file()]
    content = bytearray(file.read_bytes())
    content[100] ^= 1
    file.write_bytes(content)
    with pytest.raises(ValueError, match="checksum"):
        zarr.open_array(tmp_path / kind)[...]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("at", [0, 5, -1])
def test_what_float16_cannot_hold_is_seen_by_its_bits(value, at):
    values = np.array([65504, -65504, 0, -0.0, 6e-8, -6e-8, 1, -1], np.float16)
    assert arrays.as_float16(values, "these", "do") is values
    values[at] = value
    with pytest.raises(VolumeError, match="these hold values"):
        arrays.as_float16(values, "these", "do")
