"""Magnified planes: the plain pass of a volume enlarged before, in tiles, with cells where their layer says."""

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from featlift import extract_cohort, open_store
from featlift.backbones.footprint import PeakMemory
from featlift.cohort import config_of
from featlift.config import ExtractConfig
from featlift.errors import LiftingError, OptionError, StoreError
from featlift.extraction import lifted_network
from featlift.finetuning.folder import trained_encoder
from featlift.finetuning.plan import FinetunePlan
from featlift.lifting import LiftedBackbone, MagnifiedBackbone, lift
from tests.support.networks import load_backbone
from tests.support.neuropil import neuropil
from tests.support.scans import OBLIQUE, patch_mean_options, write_nifti, write_scan
from tests.support.tiny import TINY, says

TINY_CONFIG = {"model": "vits16", "weights": "random:0", "model_args": TINY, "device": "cpu"}
SLOPE = np.array([0.9, -0.7, 1.1])  # of intensities, for each millimetre along LPS


def volume(*sizes, seed=0):
    return torch.rand(1, 1, *sizes, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("mode", ["2d", "pcg", "pcm"])
def test_a_single_tile_is_the_volume_enlarged_before(tiny_vit, mode):
    lifted = lift(tiny_vit, mode, layers=(1, -1))
    scan = volume(5, 16, 24)
    found, want = (
        MagnifiedBackbone(lifted, 4)(scan),
        lifted(F.interpolate(scan[0], scale_factor=4, mode="bilinear")[None]),
    )
    for index, layer in want.layers.items():
        assert layer.dense.shape == (1, 192, 5, 4, 6)
        assert torch.equal(found.layers[index].dense, layer.dense)
        assert torch.equal(found.layers[index].tokens, layer.tokens)


def test_one_sequence_and_windows_of_depth_are_tiled_alike(golden_backbone, tiny_vit):
    scan = volume(6, 16, 40)
    for lifted in (lift(golden_backbone, "3d"), lift(tiny_vit, "pcg", depth_window=4)):
        encoder = MagnifiedBackbone(lifted, 2, (32, 32))
        features = encoder(scan)
        assert features.dense.shape[2:] == (6, 2, 5)
        assert features.tokens.shape == lifted(volume(6, 16, 32)).tokens.shape
        first, last = (lifted(encoder.magnified(scan[..., part])) for part in (slice(32), slice(8, 40)))
        torch.testing.assert_close(features.dense[..., 0], first.dense[..., 0])
        torch.testing.assert_close(features.dense[..., -1], last.dense[..., -1])
        torch.testing.assert_close(features.tokens, (first.tokens + last.tokens) / 2)  # mirrored tiles weigh the same


@pytest.mark.parametrize(("times", "tile"), [(1, 16), (2, (8, 16)), (4, 8), (4, None)])
def test_cells_are_where_their_layer_says(patch_mean, times, tile):
    """An intensity that is linear in the place comes back as itself at the centre of every inner cell, tiled or not."""
    encoder = MagnifiedBackbone(lift(patch_mean, mode="2d", norm=False), times, tile)
    sizes = (3, 24, 40)
    at = torch.stack(torch.meshgrid(*map(torch.arange, sizes), indexing="ij"), dim=-1).float()
    slope = torch.tensor([0.05, 0.02, 0.01])
    dense = encoder((at @ slope)[None, None]).dense[0, 0]
    (layer,) = encoder.feature_layers
    assert layer.stride == (1, 4 // times, 4 // times)
    assert layer.offset == (0, *(((4 // times) - 1) / 2,) * 2)
    places = zip(layer.offset, layer.stride, dense.shape, strict=True)
    centres = [offset + stride * torch.arange(n).float() for offset, stride, n in places]
    wanted = torch.stack(torch.meshgrid(*centres, indexing="ij"), dim=-1) @ slope
    inner = (slice(None), slice(1, -1), slice(1, -1))
    assert dense.shape == (3, 24 * times // 4, 40 * times // 4)
    # the cells at the ends of a tile see its last voxel twice, and weigh little: a hundredth of a voxel
    torch.testing.assert_close(dense[inner], wanted[inner], atol=2e-6 if times == 1 or tile is None else 2e-4, rtol=0)


def test_cells_of_an_earlier_store_move_by_their_share_of_a_pixel(lite0):
    encoder = MagnifiedBackbone(lift(lite0, "2d", layers="stride16"), 4)
    (offset,) = encoder.recipe()["offsets"]
    (layer,) = encoder.looking_at([offset - 2]).feature_layers
    assert encoder.feature_layers[0].offset == (0, *((offset + 0.5) / 4 - 0.5,) * 2)
    assert layer.offset == (0, *((offset - 1.5) / 4 - 0.5,) * 2)


def test_tiles_are_nearly_the_whole(lite0):
    """Where a network sees less than half a tile, its cells move by a hundredth of their spread in the mean at most."""
    scan = torch.from_numpy(neuropil(0, (2, 96, 96)).raw.astype(np.float32) / 255)[None, None]
    lifted = lift(lite0, "2d", layers=("stride8", "stride16"))
    whole, tiled = (MagnifiedBackbone(lifted, 4, tile)(scan) for tile in (128, 64))
    for (index, want), most in zip(whole.layers.items(), (0.001, 0.1), strict=True):
        apart = (tiled.layers[index].dense - want.dense) / want.dense.std()
        assert 0 < apart.square().mean().sqrt() < most


def test_batches_and_gradients_go_through_tiles(tiny_vit):
    encoder = MagnifiedBackbone(lift(tiny_vit, "2d"), 2, 32)
    scans = torch.cat([volume(2, 32, 48, seed=seed) for seed in (0, 1)]).requires_grad_()
    weights = torch.randn_like(both := encoder(scans).dense)
    torch.testing.assert_close(both[1:], encoder(scans[1:]).dense)
    (both * weights).sum().backward()
    along, step = torch.randn_like(scans), 1e-2
    with torch.no_grad():
        ahead, behind = ((encoder(scans + sign * step * along).dense * weights).sum() for sign in (1, -1))
    assert (scans.grad * along).sum().item() == pytest.approx((ahead - behind).item() / (2 * step), rel=0.02)


def test_no_more_than_one_tile_stands_beside_the_features():
    """Peak memory: what is gathered, one tile enlarged and its features, and what planes at work may take."""
    backbone = load_backbone("vits16", "random:0", depth=2, init_values=0.5)
    encoder = MagnifiedBackbone(lift(backbone, "pcg", memory="12MB"), 4, 32)
    scan = volume(24, 128, 128)
    with torch.no_grad(), PeakMemory() as memory:
        features = encoder(scan)
    enlarged, one_tile = 24 * 128 * 128 * 4, 24 * 8 * 8 * 384 * 4
    assert features.dense.nbytes == 24 * 32 * 32 * 384 * 4
    assert memory.peak < features.dense.nbytes + enlarged + 3 * one_tile + 12e6


def test_the_recipe_has_it_where_it_changes_something():
    config = ExtractConfig().with_values(TINY_CONFIG)
    plain = lifted_network(config.network, config.lifting)
    assert type(plain) is LiftedBackbone
    assert not {"magnify", "tile"} & plain.recipe().keys()
    found = []
    for values in ({"magnify": 4}, {"magnify": 4, "tile": "128"}, {"magnify": 2}, {"tile": "64,96"}):
        other = config.with_values(values)
        encoder = lifted_network(other.network, other.lifting)
        found.append({name: value for name, value in encoder.recipe().items() if name not in plain.recipe()})
        assert encoder.recipe() == {**plain.recipe(), **found[-1]}
    assert found == [
        {"magnify": 4, "tile": [128, 128]},
        {"magnify": 4, "tile": [128, 128]},
        {"magnify": 2, "tile": [256, 256]},
        {"tile": [64, 96]},
    ]


def test_in_a_store_features_lie_where_the_patient_is(featlift, tmp_path):
    """Intensities linear in millimetres, in an oblique CT whose slices lie three pixels apart, through command line."""
    shape = (50, 42, 6)
    indices = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
    ras = indices @ OBLIQUE[:3, :3].T + OBLIQUE[:3, 3]
    write_nifti(tmp_path / "scans/a.nii.gz", (ras * [-1, -1, 1] @ SLOPE).astype(np.float32))
    options = [*patch_mean_options(tmp_path, patch=4), "--mode", "2d", "--layers", "0", "--save-dtype", "float32"]
    options += ["--intensity", "window:-300,300", "--magnify", "2", "--tile", "16"]
    told = json.loads(featlift("check", "scans", *options, "--json").stdout)
    done = featlift("extract", "scans", *options)
    assert done.returncode == 0, done.stderr
    store = open_store("features.zarr")
    case = store["a"]
    assert case.grid["stride"] == [1, 2, 2]
    cells = np.stack(np.meshgrid(*map(np.arange, case.valid_cells), indexing="ij"), axis=-1)
    assert cells.shape[:3] == (6, 21, 25)
    wanted = ((cells @ case.affine[:3, :3].T + case.affine[:3, 3]) @ SLOPE + 300) / 600
    dense = np.asarray(case.dense[0])[tuple(map(slice, case.valid_cells))]
    inner = (slice(None), slice(1, -1), slice(1, -1))
    assert np.abs(dense - wanted)[inner].max() < 2e-4
    on_disk = sum(file.stat().st_size for file in (tmp_path / "features.zarr/volumes").rglob("*") if file.is_file())
    assert told["store_bytes"] == pytest.approx(on_disk, rel=0.1)
    assert "nothing to do" in featlift("extract", "scans", *options).stdout
    weights = options[options.index("--weights") + 1]
    again = featlift("extract", "scans", "--recipe-of", "features.zarr", "--weights", weights)
    assert "nothing to do" in again.stdout
    other = featlift("extract", "scans", *options, "--magnify", "4")
    assert other.returncode == 2
    assert "magnify (store 2, asked 4)" in other.stderr


def test_extraction_from_python_and_back(tmp_path):
    write_scan(tmp_path / "a.nii.gz", shape=(40, 36, 4))
    extract_cohort(tmp_path, tmp_path / "f.zarr", **TINY_CONFIG, mode="pcg", magnify=4, tile=32)
    case = open_store(tmp_path / "f.zarr")["a"]
    assert case.dense.shape[1:] == (4, 9, 10)
    assert case.tokens.shape[:2] == (4, 5)
    config = config_of(tmp_path / "f.zarr")
    assert (config.lifting.magnify, config.lifting.tile) == (4, (32, 32))
    with pytest.raises(StoreError, match=r"tile \(store \[32,32\], asked \[40,40\]\)"):
        extract_cohort(tmp_path, tmp_path / "f.zarr", **TINY_CONFIG, mode="pcg", magnify=4, tile=40)


def test_what_makes_no_sense_is_refused(tiny_vit, lite0):
    for lifted, arguments, words in (
        (lift(tiny_vit), (3,), ("--magnify 3", "stride 16", "1, 2, 4, 8, 16")),
        (lift(tiny_vit), (32,), ("--magnify 32",)),
        (lift(tiny_vit), (0,), ("--magnify 0",)),
        (lift(lite0, layers=("stride2", "stride16")), (4,), ("layer 0", "stride 2", "1, 2,", "--layers")),
        (lift(tiny_vit), (4, 30), ("--tile 30", "multiples of 4 from 16 on", "magnification 4")),
        (lift(tiny_vit), (4, (64, 12)), ("--tile 64,12",)),
        (lift(tiny_vit), (4, (8, 64, 64)), ("--tile 8,64,64", "H,W")),
        (lift(tiny_vit), (1, 0), ("--tile 0", "multiples of 16 from 64 on")),
    ):
        with pytest.raises(OptionError) as refusal:
            MagnifiedBackbone(lifted, *arguments)
        assert says(refusal, *words)
    with pytest.raises(LiftingError, match="multiples of 4"):
        MagnifiedBackbone(lift(tiny_vit), 4)(volume(4, 32, 30))


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (("--magnify", "0"), "--magnify"),
        (("--magnify", "2.5"), "--magnify"),
        (("--magnify", "2", "--tile", "8,64,64"), "--tile D,H,W is of native 3D networks"),
        (("--magnify", "2", "--orientations", "axial,coronal", "--spacing", "1"), "--cell says how fine"),
        (("--magnify", "2", "--mode", "native", "--model", "monai:SegResNet"), "--magnify is of lifted 2D networks"),
        (("--magnify", "3", "--model", "vits16", "--weights", "random:0"), "layer 11 of"),
    ],
)
def test_the_command_line_refuses_in_one_line(featlift, tmp_path, options, word):
    write_scan(tmp_path / "a.nii.gz")
    done = featlift("extract", "a.nii.gz", *options)
    assert done.returncode == 2
    assert word in done.stderr
    assert not (tmp_path / "features.zarr").exists()


def test_fine_tuning_refuses_it():
    for values in ({"magnify": 2}, {"tile": 64}):
        with pytest.raises(OptionError, match="leave --magnify and --tile out"):
            trained_encoder(ExtractConfig().with_values({**TINY_CONFIG, **values}), FinetunePlan(task="classify"))
