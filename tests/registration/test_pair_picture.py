"""The picture of a pair: the grid is straight where nothing is displaced, and bends where something is."""

import numpy as np
import pytest
from PIL import Image

from featlift.registration import DisplacementField
from featlift.registration.picture import write_picture
from featlift.volumes.volume import Volume

AFFINE = np.array([[0.0, 0, 1.0, -20], [0, 1.0, 0, 5], [2.0, 0, 0, 40], [0, 0, 0, 1]])  # LPS


def straight(path):
    """Share of the grid's pixels that lie in rows or columns with many of them."""
    red, green, blue = np.moveaxis(np.asarray(Image.open(path).convert("RGB"), int), -1, 0)
    lines = (blue - red > 90) & (green > 90)
    assert lines.sum() > 1000
    across, down = lines.sum(axis=1), lines.sum(axis=0)
    long = (across > 0.5 * across.max())[:, None] | (down > 0.5 * down.max())[None]
    return (lines & long).sum() / lines.sum()


@pytest.mark.parametrize("depth", [16, 1])
def test_the_grid_bends_with_the_field(tmp_path, depth):
    rng = np.random.default_rng(0)
    shape = (depth, 32, 40)
    scan = Volume(rng.random(shape).astype(np.float32), AFFINE)
    places = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"))
    bent = 3 * np.sin(places[[1, 2, 1]] / 4).astype(np.float32)
    if depth == 1:
        bent[0] = 0
    found = {}
    for name, displacement in (("none", np.zeros_like(bent)), ("bent", bent)):
        field = DisplacementField.of_voxels(displacement, AFFINE)
        path = tmp_path / f"{name}.png"
        write_picture(path, scan, scan, scan.array, field, "a scan onto itself")
        found[name] = straight(path)
    assert found["none"] > 0.98
    assert found["bent"] < found["none"] - 0.05
