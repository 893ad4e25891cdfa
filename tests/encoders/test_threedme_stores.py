"""3DME from a folder, or of a known size, through extraction into a store."""

import json

import numpy as np
import pytest
import torch

from featlift import open_store
from featlift.encoders import load_encoder
from featlift.encoders.threedme import Pretrained, ThreeDME, ThreeDMEConfig, write_encoder
from featlift.errors import InputError, LiftingMemoryError, ModelError, WeightsError
from tests.support.scans import write_nifti

SMALL = {"size": 16, "width": 24, "depth": 2, "heads": 2, "fuse_after": (1, 2), "deformable_heads": 2}
SMALL |= {"convolutions": (4, 6, 8)}
PREPARATION = {"spacing": [1.0, 1.0, 1.0], "intensity": "percentile:1.0,99.0"}


@pytest.fixture
def net(tmp_path):
    """A folder as a pretraining writes it."""
    torch.manual_seed(0)
    network = ThreeDME(ThreeDMEConfig(**SMALL))
    write_encoder(tmp_path / "net", network, Pretrained(network.config.to_json(), PREPARATION))
    return tmp_path / "net"


def scan(path, shape, spacing):
    affine = np.diag([-spacing[0], -spacing[1], spacing[2], 1.0])
    write_nifti(path, np.random.default_rng(0).normal(100, 20, size=shape).astype(np.float32), affine)


def test_a_scan_larger_than_the_crops_lies_in_a_store_with_the_preparation_of_the_pretraining(net, tmp_path, featlift):
    scan(tmp_path / "a.nii.gz", (20, 12, 10), (1.0, 1.0, 2.0))
    options = ("--mode", "native", "--model", "3dme:net", "--layers", "0,-1", "--device", "cpu")
    done = featlift("extract", "a.nii.gz", *options, "--save-dtype", "float32")
    assert done.returncode == 0, done.stderr
    store = open_store(tmp_path / "features.zarr")
    recipe = store.recipe
    assert recipe["model"] == "3dme:net"
    assert recipe["tile"] == [16, 16, 16]
    assert recipe["spacing"] == [1.0, 1.0, 1.0]
    assert recipe["intensity"] == "percentile:1.0,99.0"
    assert recipe["encoder"] == ThreeDMEConfig(**SMALL).to_json()
    case = store["a"]
    assert case.dense.shape == (24, 3, 2, 3)  # 20 x 12 x 20 voxels of 1 mm are d, h, w = 20, 12, 20: 24, 16, 24
    prepared = torch.from_numpy(np.asarray(case.scan[:], np.float32))[None, None]
    assert tuple(prepared.shape[2:]) == (20, 12, 20)
    padded = torch.nn.functional.pad(prepared, (0, 4, 0, 4, 0, 4), mode="replicate")
    want = load_encoder(f"3dme:{net}", layers=(0, -1), device="cpu")(padded).layers[1].dense[0]
    np.testing.assert_allclose(np.asarray(case.dense[:]), want, atol=2e-3)
    refused = featlift("extract", "a.nii.gz", "-o", "other.zarr", *options, "--spacing", "2")
    assert "has its own from its training" in refused.stderr
    twin = featlift("extract", "a.nii.gz", "-o", "twin.zarr", *options, "--weights", "random:1")
    assert twin.returncode == 0, twin.stderr
    assert open_store(tmp_path / "twin.zarr").recipe["spacing"] == [1.0, 1.0, 1.0]


def test_tiny_by_random_weights_extracts_a_small_scan(tmp_path, featlift):
    scan(tmp_path / "a.nii.gz", (18, 24, 16), (1.0, 1.0, 1.0))
    options = ("--mode", "native", "--model", "3dme:tiny", "--weights", "random:0", "--device", "cpu")
    done = featlift("extract", "a.nii.gz", *options)
    assert done.returncode == 0, done.stderr
    case = open_store(tmp_path / "features.zarr")["a"]
    assert case.dense.shape == (192, 2, 3, 3)
    listed = {each["name"]: each for each in json.loads(featlift("models", "--json").stdout)}
    assert {"3dme:FOLDER", "3dme:base", "3dme:tiny"} <= listed.keys()


def test_tiles_end_where_cells_do(net):
    """In a volume of several tiles the middle of a lone tile is what the tile alone gives."""
    encoder = load_encoder(f"3dme:{net}", device="cpu")
    given = torch.rand(1, 1, 16, 16, 32, generator=torch.Generator().manual_seed(0))
    found = encoder(given).dense
    parts = [encoder(given[..., at : at + 16]).dense for at in (0, 8, 16)]
    torch.testing.assert_close(found[..., 0], parts[0][..., 0])
    torch.testing.assert_close(found[..., 3], parts[2][..., 1])
    both = torch.stack([parts[0][..., 1], parts[1][..., 0]])
    torch.testing.assert_close(found[..., 1], both.mean(dim=0))


@pytest.mark.parametrize(
    ("error", "says", "how"),
    [
        (WeightsError, "comes without weights", {"name": "3dme:tiny", "weights": None}),
        (ModelError, "choose one of sum, axes", {"name": "3dme:tiny", "position": "learned"}),
        (ModelError, "no option 'blocks'", {"name": "3dme:tiny", "blocks": 3}),
        (ModelError, "other kinds", {"name": "3dme:tiny", "convolutions": 3}),
        (InputError, "no pretrained 3dme here", {"name": "3dme:nowhere", "weights": None}),
        (ModelError, "the folder says", {"name": "3dme:net", "weights": None, "points": 2}),
        (WeightsError, "lie in its folder", {"name": "3dme:net", "weights": "other.pt"}),
        (LiftingMemoryError, "smaller tiles", {"name": "3dme:tiny", "memory": "1MB"}),
    ],
)
def test_what_is_no_such_encoder_is_refused(net, monkeypatch, error, says, how):
    monkeypatch.chdir(net.parent)
    with pytest.raises(error, match=says):
        load_encoder(device="cpu", **{"weights": "random:0", **how})
