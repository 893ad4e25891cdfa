"""What an array takes on disk is known before it is written."""

import numpy as np
import pytest
from zarr.storage import LocalStore

from featlift.store import arrays


@pytest.mark.parametrize("largest", [arrays.LARGEST_SHARD, 300_000, 60_000])
@pytest.mark.parametrize("shape", [(16, 37, 19, 10), (16, 8, 8, 8), (3, 40, 300, 7)])
@pytest.mark.parametrize("dtype", [np.float16, np.int8, np.float32])
@pytest.mark.parametrize("kind", ["dense", "scan", "small"])
def test_bytes_of_an_array(tmp_path, monkeypatch, kind, dtype, shape, largest):
    monkeypatch.setattr(arrays, "LARGEST_SHARD", largest)  # so that small arrays have several shards
    values = np.random.default_rng(0).normal(scale=50, size=shape).astype(dtype)
    if kind == "small":
        arrays.write_small(LocalStore(tmp_path), kind, values, ("a", "b", "c", "d"), {})
    else:
        getattr(arrays, f"write_{kind}")(LocalStore(tmp_path), kind, values, {})
    written = [path for path in (tmp_path / kind / "c").rglob("*") if path.is_file()]
    expected = getattr(arrays, f"{kind}_bytes")(shape, values.itemsize)
    assert sum(path.stat().st_size for path in written) == expected
