"""MONAI's networks as encoders: where their cells are, whole and in tiles, which weights fit, and what is refused."""

import numpy as np
import pytest
import torch
from monai.networks.nets.segresnet import SegResNet
from monai.networks.nets.swin_unetr import SwinUNETR
from safetensors.torch import save_file

import featlift
from featlift.encoders import load_encoder
from featlift.encoders.axes import Axes
from featlift.errors import LiftingError, LiftingMemoryError, ModelError, OptionError, WeightsError
from featlift.lifting.tiles import in_tiles
from tests.support.scans import write_scan

BATCH = {"norm": "BATCH", "init_filters": 4, "blocks_down": (1, 1, 1)}
SWIN = {"feature_size": 12, "window_size": 2, "num_heads": (1, 1, 1, 1), "depths": (1, 1, 1, 1)}
#: A window of one cell sees its patch alone: nothing but the patches says where a cell looks.
ALONE = {**SWIN, "window_size": 1}


def volume(*shape, seed=0):
    return torch.rand(1, 1, *shape, generator=torch.Generator().manual_seed(seed))


def seen_by(encoder, index, cell, shape):
    """The voxels (D, H, W) that a cell in the middle of a layer hears of."""
    given = volume(*shape).requires_grad_()
    found = encoder(given).layers[index].dense
    found[(0, slice(None), *cell)].square().sum().backward()
    return given.grad[0, 0] != 0


@pytest.mark.parametrize(
    ("name", "arguments", "shape"),
    [
        ("monai:SegResNet", BATCH, (48, 40, 40)),
        ("monai:SegResEncoder", {**BATCH, "norm": "batch"}, (48, 40, 40)),
        (
            "monai:SegResEncoder",
            {**BATCH, "norm": "batch", "anisotropic_scales": ((1, 2, 2), (2, 2, 2), (2, 2, 2))},
            (48, 40, 40),
        ),
        ("monai:SwinUNETR", ALONE, (64, 32, 32)),
    ],
)
def test_every_cell_looks_where_its_layer_says(name, arguments, shape):
    """An impulse is felt by the cells whose field it lies in; the middle of that field is offset + stride i."""
    deepest = 4 if "Swin" in name else 2
    encoder = load_encoder(name, "random:0", layers=tuple(range(deepest + 1)), device="cpu", **arguments)
    for layer in encoder.feature_layers:
        cell = [size // stride // 2 for size, stride in zip(shape, layer.stride, strict=True)]
        places = torch.nonzero(seen_by(encoder, layer.index, cell, shape))
        middle = (places.min(0).values + places.max(0).values) / 2
        wanted = [o + s * i for o, s, i in zip(layer.offset, layer.stride, cell, strict=True)]
        np.testing.assert_allclose(middle, wanted, atol=1e-6)


def test_features_are_those_of_monai(tmp_path):
    """The way down of MONAI's own forward pass, with the weights of a file in which the decoder stands too."""
    torch.manual_seed(3)
    network = SegResNet(init_filters=8, blocks_down=(1, 1, 2), blocks_up=(1, 1)).eval()
    save_file(network.state_dict(), tmp_path / "net.safetensors")
    torch.save({"state_dict": {f"module.{k}": v for k, v in network.state_dict().items()}}, tmp_path / "net.pt")
    swin = SwinUNETR(1, 2, **SWIN).eval()
    torch.save(swin.state_dict(), tmp_path / "swin.pt")
    given = volume(32, 32, 64)
    with torch.no_grad():
        of_segresnet, of_swin = network.encode(given)[1], swin.swinViT(given, True)
    for file in ("net.safetensors", "net.pt"):
        arguments = {"init_filters": 8, "blocks_down": (1, 1, 2), "blocks_up": (1, 1)}
        encoder = load_encoder("monai:SegResNet", tmp_path / file, layers=(0, 1, 2), device="cpu", **arguments)
        for index, layer in encoder(given).layers.items():
            torch.testing.assert_close(layer.dense, of_segresnet[index])
    encoder = load_encoder("monai:SwinUNETR", tmp_path / "swin.pt", layers=(0, 2, 4), device="cpu", **SWIN)
    for index, layer in encoder(given).layers.items():
        torch.testing.assert_close(layer.dense, of_swin[index])


def test_tiles_are_the_whole_within_the_tolerance():
    """Where tiles end they see zeros, at weights so low that no cell moves by more than a hundredth of the features'
    spread; of the deepest layer each cell sees more than a tile, and a few hundredths remain in the mean."""
    given = volume(64, 48, 40)
    whole = load_encoder("monai:SegResNet", "random:0", layers=(0, 1, 2), device="cpu", **BATCH)
    tiled = load_encoder("monai:SegResNet", "random:0", layers=(0, 1, 2), device="cpu", tile=(32, 32, 40), **BATCH)
    assert tiled.recipe()["tile"] == [32, 32, 40]
    for index, layer in whole(given).layers.items():
        theirs = tiled(given).layers[index].dense
        assert theirs.shape == layer.dense.shape
        apart = (theirs - layer.dense).abs() / layer.dense.std()
        assert 0 < apart.square().mean().sqrt() < (0.03 if index == 2 else 0.001)
        assert apart.max() < (0.3 if index == 2 else 0.01)


def test_tiles_of_what_sees_no_neighbours_are_the_whole():
    """Every cell of every tile lands where it belongs, also where tiles do not divide the volume."""
    given = volume(64, 40, 24)
    encoder = load_encoder("monai:SwinUNETR", "random:0", layers=(0, 1, 2), device="cpu", **ALONE)
    whole = {index: layer.dense for index, layer in encoder(given).layers.items()}
    layers, step = encoder.feature_layers, encoder.size_multiple
    assert step == (8, 8, 8)
    found = in_tiles(encoder._encode, given, (24, 16, 48), step, layers, torch.device("cpu"))
    for index, layer in found.layers.items():
        torch.testing.assert_close(layer.dense, whole[index], atol=1e-5, rtol=1e-4)


def test_axes_of_another_order_and_direction_put_features_back():
    """What sees no neighbours gives the same at a place, whichever way the network's axes run."""
    axes = Axes((2, 0, 1), (False, True, True))
    given = volume(3, 4, 5)
    torch.testing.assert_close(axes.of_volume(axes.to_network(given)), given)
    assert axes.to_network(given).shape[2:] == (5, 3, 4)
    encoder = load_encoder("monai:SegResNet", "random:0", layers=(1,), device="cpu", **BATCH)
    encoder.axes, (plain,) = axes, encoder.feature_layers
    layer = axes.layer(plain)
    places = torch.nonzero(seen_by(encoder, 1, (10, 10, 10), (40, 40, 40)))
    middle = (places.min(0).values + places.max(0).values) / 2
    np.testing.assert_allclose(middle, [o + s * 10 for o, s in zip(layer.offset, layer.stride, strict=True)])
    assert layer.offset == (0, 1, 1)


@pytest.mark.parametrize(
    ("error", "says", "how"),
    [
        (ModelError, "choose one of monai:SegResNet", {"name": "monai:UNet"}),
        (ModelError, "did you mean monai:SegResNet", {"name": "SegResNet"}),
        (ModelError, "cannot be built with these --model-arg", {"model_arg": 3}),
        (ModelError, "in three dimensions", {"spatial_dims": 2}),
        (WeightsError, "comes without weights", {"weights": None}),
        (
            WeightsError,
            "does not fit monai:SegResNet: .* of another shape",
            {"weights": "other"},
        ),
        (WeightsError, "not of this network", {"weights": "swin"}),
        (WeightsError, "not loaded, because unpickling", {"weights": "pickle"}),
        (LiftingError, "layers 0 to 2", {"layers": (3,)}),
        (OptionError, "takes multiples of 4,4,4", {"tile": 30}),
        (OptionError, "more than one cell", {"tile": 4}),
        (OptionError, "give voxels for all axes", {"tile": (8, 8)}),
        (
            LiftingMemoryError,
            r"64x64x64 voxels at once take about .* MiB, there are .*--tile",
            {"tile": 64, "memory": "1MB"},
        ),
    ],
)
def test_bad_input_is_refused_before_anything_runs(tmp_path, error, says, how):
    torch.save(SegResNet(init_filters=16, blocks_down=(1, 1, 1)).state_dict(), tmp_path / "other")
    torch.save(SwinUNETR(1, 2, **SWIN).state_dict(), tmp_path / "swin")
    torch.save({"weights": torch.zeros(1), "of": ModelError}, tmp_path / "pickle")
    how = {"name": "monai:SegResNet", "weights": "random:0", **how}
    if how["weights"] in ("other", "swin", "pickle"):
        how["weights"] = tmp_path / how["weights"]
    with pytest.raises(error, match=says):
        load_encoder(device="cpu", **{"blocks_down": (1, 1, 1), **how})


def test_a_volume_that_does_not_fit_is_refused_by_itself():
    encoder = load_encoder("monai:SegResNet", "random:0", memory="1MB", device="cpu", **BATCH)
    assert encoder(volume(16, 16, 16)).dense.shape == (1, 16, 4, 4, 4)
    with pytest.raises(LiftingMemoryError, match="64x64x64 voxels at once"):
        encoder(volume(64, 64, 64))
    with pytest.raises(LiftingError, match="a single cell of layer 2"):
        encoder(volume(4, 4, 4))
    with pytest.raises(LiftingError, match="has 3 channels, monai:SegResNet takes 1"):
        encoder(volume(16, 16, 16).expand(1, 3, 16, 16, 16))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--mode", "native", "--cycle", "HW"), "--cycle is of lifted 2D networks"),
        (("--mode", "native", "--token-pooling", "direct"), "--token-pooling is of lifted"),
        (("--mode", "native", "--orientations", "axial,coronal"), "--orientations is of lifted"),
        (("--mode", "native", "--no-norm"), "--no-norm is of lifted"),
        (("--tile", "32,32,32"), "--tile D,H,W is of native"),
        (("--mode", "2d"), "give --mode native"),
    ],
)
def test_options_of_the_other_kind_are_refused(tmp_path, featlift, options, says):
    write_scan(tmp_path / "a.nii.gz")
    model = () if "--tile" in options else ("--model", "monai:SegResNet", "--weights", "random:0")
    done = featlift("extract", "a.nii.gz", *model, *options)
    assert done.returncode == 2
    assert says in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "features.zarr").exists()


def test_a_store_that_is_gone_on_with_has_one_recipe(tmp_path, featlift):
    write_scan(tmp_path / "scans" / "a.nii.gz")
    options = ("--mode", "native", "--model", "monai:SegResNet", "--weights", "random:0", "--device", "cpu")
    options = (*options, *(f"--model-arg={key}={value}" for key, value in BATCH.items()), "--layers", "0,-1")
    assert featlift("extract", "scans", *options).returncode == 0
    write_scan(tmp_path / "scans" / "b.nii.gz", seed=1)
    done = featlift("extract", "scans", "--recipe-of", "features.zarr", "--weights", "random:0", "--device", "cpu")
    assert done.returncode == 0, done.stderr
    store = featlift_store(tmp_path)
    assert sorted(store) == ["a", "b"]
    assert store.recipe["mode"] == "native"
    assert store.recipe["layers"] == [0, 2]
    for other in (("--tile", "8"), ("--model-arg", "init_filters=8")):
        done = featlift("extract", "scans", *options, *other)
        assert done.returncode != 0
        assert "recipe" in done.stderr
    done = featlift("check", "scans", *options)
    assert done.returncode == 0, done.stderr


def featlift_store(folder):
    return featlift.open_store(folder / "features.zarr")
