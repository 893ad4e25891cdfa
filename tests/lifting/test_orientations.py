"""Three orientations on one grid: passes of the same volume turned, and means of the scan where cells say they are."""

import numpy as np
import pytest
import torch

from featlift import open_store
from featlift.backbones.footprint import PeakMemory
from featlift.config import ExtractConfig
from featlift.errors import LiftingError, OptionError
from featlift.extraction import lifted_network
from featlift.lifting import LiftedBackbone, OrientedBackbone, lift
from tests.support.networks import load_backbone
from tests.support.scans import OBLIQUE, patch_mean_options, write_nifti
from tests.support.tiny import says

ALL = ("axial", "coronal", "sagittal")
AXES = {"axial": (0, 1, 2), "coronal": (1, 0, 2), "sagittal": (2, 0, 1)}


def volume(*sizes, seed=0):
    return torch.rand(1, 1, *sizes, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", ["coronal", "sagittal"])
@pytest.mark.parametrize("mode", ["2d", "pcg"])
def test_an_orientation_is_the_axial_pass_of_the_volume_turned(tiny_vit, name, mode):
    lifted = lift(tiny_vit, mode=mode, layers=(1, -1))
    scan = volume(16, 24, 32)
    found = OrientedBackbone(lifted, [name])(scan)
    axes = AXES[name]
    turned = OrientedBackbone(lifted, ["axial"])(scan.permute(0, 1, *(2 + axis for axis in axes)))
    for index, layer in found.layers.items():
        back = turned.layers[index].dense.permute(0, 1, *(2 + axes.index(axis) for axis in range(3)))
        torch.testing.assert_close(layer.dense, back, atol=2e-5, rtol=1e-4)
        torch.testing.assert_close(layer.tokens, turned.layers[index].tokens, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("cell", [2, 3, 4])
def test_cells_are_where_their_layer_says(patch_mean, cell):
    """An intensity that is linear in the place comes back as itself at the centre of every inner cell."""
    encoder = OrientedBackbone(lift(patch_mean, mode="2d", norm=False), ALL, cell=cell, step=1)
    sizes = [multiple * 4 for multiple in encoder.size_multiple]
    at = torch.stack(torch.meshgrid(*map(torch.arange, sizes), indexing="ij"), dim=-1).float()
    slope = torch.tensor([0.3, 0.5, 0.2]) / max(sizes)
    dense = encoder((at @ slope)[None, None]).dense[0]
    (layer,) = encoder.feature_layers
    places = zip(layer.offset, layer.stride, dense.shape[1:], strict=True)
    centres = [offset + stride * torch.arange(n) for offset, stride, n in places]
    wanted = torch.stack(torch.meshgrid(*centres, indexing="ij"), dim=-1) @ slope
    inner = (slice(2, -2),) * 3
    assert dense.shape == (24, *(size // cell for size in sizes))
    for first in (0, 8, 16):  # the three orientations' means
        torch.testing.assert_close(dense[first][inner], wanted[inner], atol=5e-4, rtol=0)


def test_fusing_by_the_mean_is_the_mean_of_what_concat_holds(tiny_vit):
    lifted = lift(tiny_vit, mode="2d", layers=(0, -1))
    scan = volume(16, 16, 24)
    joined, mean = (OrientedBackbone(lifted, ALL, fuse=fuse)(scan) for fuse in ("concat", "mean"))
    for index, layer in mean.layers.items():
        parts = joined.layers[index].dense.unflatten(1, (3, -1))
        torch.testing.assert_close(layer.dense, parts.mean(dim=1), atol=1e-6, rtol=1e-5)
        tokens = joined.layers[index].tokens.unflatten(-1, (3, -1))
        torch.testing.assert_close(layer.tokens, tokens.mean(dim=-2), atol=1e-6, rtol=1e-5)
    alone = OrientedBackbone(lifted, ["sagittal"])(scan)
    channels = alone.dense.shape[1]
    torch.testing.assert_close(joined.dense[:, 2 * channels :], alone.dense, atol=0, rtol=0)


def test_batches_and_a_cnn_go_through_it(lite0):
    encoder = OrientedBackbone(lift(lite0, mode="pcg", layers="stride16"), ALL, cell=8)
    scans = torch.cat([volume(32, 16, 48, seed=seed).expand(-1, 3, -1, -1, -1) for seed in (0, 1)])
    both = encoder(scans).dense
    assert both.shape == (2, 3 * 112, 4, 2, 6)
    torch.testing.assert_close(both[1:], encoder(scans[1:]).dense, atol=1e-4, rtol=1e-3)


def test_no_more_than_one_pass_stands_beside_the_common_grid():
    """Peak memory: the grid, enlarged planes and features of one pass, and what planes at work may take."""
    backbone = load_backbone("vits16", "random:0", depth=2, init_values=0.5)
    encoder = OrientedBackbone(lift(backbone, "2d", memory="12MB"), ALL)
    scan = volume(96, 96, 96)
    with torch.no_grad(), PeakMemory() as memory:
        features = encoder(scan)
    one_pass = 24 * 12 * 12 * 384 * 4  # every fourth plane, a patch for eight voxels
    enlarged = 24 * 192 * 192 * 4
    assert features.dense.nbytes == 24**3 * 3 * 384 * 4
    assert memory.peak < features.dense.nbytes + 1.2 * one_pass + 1.6 * enlarged + 12e6


def test_gradients_go_through_it(tiny_vit):
    encoder = OrientedBackbone(lift(tiny_vit, mode="pcg"), ("axial", "sagittal"))
    scan = volume(16, 16, 24).requires_grad_()
    along = torch.randn_like(scan)
    weights = torch.randn_like(encoder(scan).dense)
    (encoder(scan).dense * weights).sum().backward()
    with torch.no_grad():
        step = 1e-2
        ahead, behind = ((encoder(scan + sign * step * along).dense * weights).sum() for sign in (1, -1))
    assert (scan.grad * along).sum().item() == pytest.approx((ahead - behind).item() / (2 * step), rel=0.02)


def test_one_orientation_is_the_lifted_backbone_itself():
    config = ExtractConfig().with_values({"model": "vits16", "weights": "random:0", "model_args": {"depth": 2}})
    assert type(lifted_network(config.network, config.lifting)) is LiftedBackbone
    several = config.with_values({"orientations": "axial,coronal", "spacing": 1})
    encoder = lifted_network(several.network, several.lifting)
    assert type(encoder) is OrientedBackbone
    assert {
        "orientations": ["axial", "coronal"],
        "cell": 4,
        "step": 4,
        "fuse": "concat",
    }.items() <= encoder.recipe().items()


def test_in_a_store_features_lie_where_the_patient_is(featlift, tmp_path):
    """Intensities linear in millimetres, in an oblique, anisotropic and flipped scan: cells know their place."""
    shape, slope = (40, 36, 14), np.array([0.9, -0.7, 1.1])
    indices = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
    ras = indices @ OBLIQUE[:3, :3].T + OBLIQUE[:3, 3]
    write_nifti(tmp_path / "scans/a.nii.gz", (ras * [-1, -1, 1] @ slope).astype(np.float32))  # of LPS
    options = [
        *patch_mean_options(tmp_path, patch=4),
        "--mode",
        "2d",
        "--layers",
        "0",
        "--intensity",
        "window:-300,300",
    ]
    options += ["--orientations", "axial,coronal,sagittal", "--spacing", "1", "--save-dtype", "float32"]
    done = featlift("extract", "scans", *options)
    assert done.returncode == 0, done.stderr
    case = open_store("features.zarr")["a"]
    cells = np.stack(np.meshgrid(*map(np.arange, case.valid_cells), indexing="ij"), axis=-1)
    places = cells @ case.affine[:3, :3].T + case.affine[:3, 3]
    wanted = (places @ slope + 300) / 600
    dense = np.asarray(case.dense[:])[:, : cells.shape[0], : cells.shape[1], : cells.shape[2]]
    inner = (slice(2, -2),) * 3
    assert wanted[inner].size > 80
    for first in (0, 8, 16):
        assert np.abs(dense[first] - wanted)[inner].max() < 0.01
    assert case.embedding_parts["patch-mean"] == (24, 48)
    assert case.embedding_parts["cls-mean coronal"] == (8, 16)
    assert case.grid["parts"]["sagittal"] == [16, 24]
    verified = featlift("verify", "features.zarr")
    assert verified.returncode == 0, verified.stderr
    again = featlift("extract", "scans", *options)
    assert "nothing to do" in again.stdout


def test_every_reader_takes_a_store_of_several_orientations(featlift, tmp_path):
    """A bright block in noise: found again by FeatDice, a probe and a head, painted and exported."""
    rng = np.random.default_rng(0)
    splits = {"a": "train", "b": "train", "c": "val", "d": "test"}
    for name in splits:
        labels = np.zeros((24, 24, 12), np.uint8)
        at = rng.integers(2, 8, size=2)
        labels[at[0] : at[0] + 12, at[1] : at[1] + 12, 2:10] = 1
        write_nifti(
            tmp_path / f"scans/{name}.nii.gz", (150 * labels + rng.normal(size=labels.shape)).astype(np.float32)
        )
        write_nifti(tmp_path / f"labels/{name}.nii.gz", labels)
    (tmp_path / "splits.csv").write_text("id,split\n" + "".join(f"{name},{each}\n" for name, each in splits.items()))
    options = [*patch_mean_options(tmp_path, patch=4, constant=0.5), "--mode", "2d", "--layers", "0"]
    options += ["--intensity", "window:-50,250", "--orientations", "axial,sagittal", "--spacing", "0.5", "--cell", "2"]
    labelled = ["--masks", "labels", "--labels", "splits.csv"]
    for command in (
        ["extract", "scans", *options],
        ["featdice", "features.zarr", "--masks", "labels"],
        ["probe", "features.zarr", "--dense", *labelled, "--on", "mask"],
        ["pca", "features.zarr", "--case", "a"],
        ["view", "features.zarr", "-o", "view.html"],
        ["export", "features.zarr", "--to", "nifti"],
        ["segment", "train", "features.zarr", *labelled, "--head", "linear", "-o", "head", "--epochs", "2"],
        ["segment", "predict", "features.zarr", "--head", "head", "-o", "predicted"],
    ):
        done = featlift(*command)
        assert done.returncode == 0, (command, done.stderr, done.stdout)


def test_stores_of_other_orientations_share_no_colours(featlift, tmp_path):
    write_nifti(tmp_path / "a.nii.gz", np.random.default_rng(0).normal(size=(16, 16, 8)).astype(np.float32))
    options = [*patch_mean_options(tmp_path, patch=4), "--mode", "2d", "--layers", "0", "--spacing", "1"]
    assert featlift("extract", "a.nii.gz", "-o", "one.zarr", *options).returncode == 0
    both = ("--orientations", "axial,coronal")
    assert featlift("extract", "a.nii.gz", "-o", "two.zarr", *options, *both).returncode == 0
    done = featlift("pca", "one.zarr", "two.zarr")
    assert done.returncode == 2
    assert "share no colours" in done.stderr
    assert "orientations" in done.stderr


def test_what_makes_no_sense_is_refused(tiny_vit, featlift, tmp_path):
    lifted = lift(tiny_vit, mode="2d")
    for arguments, words in (
        ({"orientations": ("axial", "oblique")}, ("oblique", "sagittal")),
        ({"orientations": ("axial", "axial")}, ("twice",)),
        ({"orientations": ALL, "fuse": "max"}, ("'max'", "concat")),
        ({"orientations": ALL, "cell": 4, "step": 3}, ("step 3", "divisor")),
    ):
        with pytest.raises(LiftingError) as refusal:
            OrientedBackbone(lifted, **arguments)
        assert says(refusal, *words)
    with pytest.raises(LiftingError, match="multiple of 8"):
        OrientedBackbone(lifted, ALL)(volume(16, 20, 16))
    config = ExtractConfig().with_values({"orientations": "axial,sagittal"})
    oblong = (({}, "--spacing MM"), ({"spacing": (1, 1, 2)}, "--spacing MM"), ({"spacing": 1, "size": 64}, "--size"))
    for more, word in oblong:
        with pytest.raises(OptionError, match=word):
            config.with_values(more).check()
    config.with_values({"size": (64, 64, 64)}).check()
