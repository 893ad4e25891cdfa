"""A trained nnU-Net's folder as an encoder: its own network, intensities, spacing and axes; nothing unsafe is read."""

import copy
import json

import numpy as np
import pytest
import torch

import featlift
from featlift.config import PreparationConfig
from featlift.encoders import load_encoder
from featlift.errors import InputError, LiftingError, ModelError, OptionError, WeightsError
from featlift.extraction.network import preparation_of
from featlift.volumes import Preparation, Volume, prepare
from tests.support.scans import write_nifti
from tests.support.trained_nnunet import CT, network, plans, write_model

pytest.importorskip("dynamic_network_architectures", reason="the networks of nnU-Net are not installed")

ALL = {"layers": (0, 1, 2), "device": "cpu"}
BATCH_NORM = "torch.nn.modules.batchnorm.BatchNorm3d"


def volume(*shape, seed=0):
    return torch.rand(1, 1, *shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("kind", ["PlainConvUNet", "ResidualEncoderUNet"])
def test_features_are_the_skips_of_its_own_network(tmp_path, kind):
    """On CT: clipped to percentiles, minus the mean, by the deviation, as CTNormalization writes it."""
    said = plans(kind=kind)
    net = network(said)
    encoder = load_encoder(f"nnunet:{write_model(tmp_path, said, net)}", **ALL)
    hounsfield = 600 * volume(16, 32, 32) - 250
    low, high = CT["percentile_00_5"], CT["percentile_99_5"]
    with torch.no_grad():
        skips = net.encoder((hounsfield.clip(low, high) - CT["mean"]) / CT["std"])
    window = preparation_of(PreparationConfig(), encoder).intensity.apply(hounsfield[0, 0].numpy())[0]
    found = encoder(torch.from_numpy(window)[None])
    for index, skip in enumerate(skips):
        torch.testing.assert_close(found.layers[index].dense, skip, atol=1e-5, rtol=1e-4)
    assert encoder.tile == (16, 32, 32)


def test_plans_from_before_the_architecture_was_written_out(tmp_path):
    """TotalSegmentator's are; nnU-Net builds the same network of both."""
    said = plans()
    old = copy.deepcopy(said)
    chosen = old["configurations"]["3d_fullres"]
    shape = chosen.pop("architecture")["arch_kwargs"]
    shape["kernel_sizes"], shape["features_per_stage"] = [[1, 3, 3], [3, 3, 3], [3, 3, 3]], [4, 8, 12]
    chosen |= {"UNet_class_name": "PlainConvUNet", "UNet_base_num_features": 4, "unet_max_num_features": 12}
    chosen |= {"conv_kernel_sizes": shape["kernel_sizes"], "pool_op_kernel_sizes": shape["strides"]}
    chosen |= {"n_conv_per_stage_encoder": [1, 2, 1], "n_conv_per_stage_decoder": [1, 1]}
    net = network(said)
    new = load_encoder(f"nnunet:{write_model(tmp_path / 'new', said, net)}", **ALL)
    before = load_encoder(f"nnunet:{write_model(tmp_path / 'old', old, net)}", **ALL)
    given = volume(16, 32, 32)
    for index, layer in new(given).layers.items():
        torch.testing.assert_close(before(given).layers[index].dense, layer.dense)


@pytest.mark.parametrize("kind", ["PlainConvUNet", "ResidualEncoderUNet"])
@pytest.mark.parametrize("order", [[0, 1, 2], [2, 0, 1]])
def test_every_cell_looks_where_its_layer_says(tmp_path, kind, order):
    """An impulse is felt by the cells whose field it lies in, also where nnU-Net changed the order of the axes."""
    said = plans(kind=kind, norm=BATCH_NORM, transpose_forward=order)
    folder = write_model(tmp_path, said)
    encoder = load_encoder(f"nnunet:{folder}", tile=48, **ALL)
    stride = [1, 1, 1]
    for axis, along in zip(order, (2, 4, 4), strict=True):
        stride[axis] = along
    assert encoder.feature_layers[2].stride == tuple(stride)
    for layer in encoder.feature_layers:
        given = volume(48, 48, 48).requires_grad_()
        cell = tuple(48 // step // 2 for step in layer.stride)
        encoder(given).layers[layer.index].dense[(0, slice(None), *cell)].square().sum().backward()
        places = torch.nonzero(given.grad[0, 0])
        middle = (places.min(0).values + places.max(0).values) / 2
        wanted = [o + s * i for o, s, i in zip(layer.offset, layer.stride, cell, strict=True)]
        np.testing.assert_allclose(middle, wanted)


def test_it_sees_a_scan_as_it_was_trained(tmp_path):
    """Spacing, and its order, from the plans; intensities of an MR within its nonzero box, outside of its mask zero."""
    said = plans("ZScoreNormalization", masked=True, transpose_forward=[2, 0, 1])
    encoder = load_encoder(f"nnunet:{write_model(tmp_path, said)}", **ALL)
    how = preparation_of(PreparationConfig(), encoder)
    assert how.spacing == (0.9, 0.8, 2.4)
    assert (how.orient, how.crop, how.resampling) == ("native", "nonzero", "cubic")
    array = np.zeros((20, 24, 28), np.float32)
    array[3:15, 4:20, 6:22] = np.random.default_rng(0).normal(300, 50, (12, 16, 16))
    array[3, 4:10, 6:12] = 0  # a corner of the box that is background
    prepared = prepare(Volume(array, np.diag([0.9, 0.8, 2.4, 1.0])), how)
    inside = array[3:15, 4:20, 6:22]
    values = inside[inside != 0].astype(np.float64)
    wanted = np.where(inside != 0, (inside - values.mean()) / values.std(), 0)
    np.testing.assert_allclose(prepared.scan[0], wanted, atol=1e-4)
    with pytest.raises(OptionError, match=r"--spacing: nnunet:Dataset998_Balls has its own .*leave it out"):
        preparation_of(PreparationConfig(spacing=(1.0, 1.0, 1.0)), encoder)
    plain = Preparation(intensity="zscore").intensity.apply(array)[0]
    np.testing.assert_allclose(plain[0], (array - array.mean()) / array.std(), atol=1e-4)


def test_a_store_says_which_network_it_is_of(tmp_path, featlift):
    folder = write_model(tmp_path, plans())
    for number in range(2):
        noise = np.random.default_rng(number).normal(50, 60, (40, 36, 18))
        write_nifti(tmp_path / "scans" / f"{number}.nii.gz", noise.astype(np.float32))
    options = ("--mode", "native", "--model", f"nnunet:{folder}", "--layers", "0,-1", "--device", "cpu")
    done = featlift("extract", "scans", *options)
    assert done.returncode == 0, done.stderr
    store = featlift_store(tmp_path)
    assert store.recipe["model"] == "nnunet:Dataset998_Balls"
    assert store.recipe["tile"] == [16, 32, 32]
    assert store.recipe["intensity"] == "window:-100.0,200.0"
    assert str(tmp_path) not in json.dumps(store.recipe)
    assert store["0"].layers[2].stride == (2, 4, 4)
    assert featlift("extract", "scans", "--recipe-of", "features.zarr", "--model", f"nnunet:{folder}").returncode == 0
    twin = featlift("extract", "scans", *options, "--weights", "random:0", "-o", "twin.zarr")
    assert twin.returncode == 0, twin.stderr
    three = plans(configuration={"normalization_schemes": ["CTNormalization"] * 3, "use_mask_for_norm": [False] * 3})
    three["foreground_intensity_properties_per_channel"] = dict.fromkeys("012", CT)
    (folder / "plans.json").write_text(json.dumps(three))
    (folder / "dataset.json").write_text(json.dumps({"channel_names": dict.fromkeys("012", "CT")}))
    done = featlift("extract", "scans", *options, "--weights", "random:0", "-o", "three.zarr")
    assert "nnunet:Dataset998_Balls takes 3 channels, the scans have 1: bring the images" in done.stderr
    assert not (tmp_path / "three.zarr").exists()


def featlift_store(folder):
    return featlift.open_store(folder / "features.zarr")


class Foreign:
    """What a checkpoint has no business to hold."""


def test_bad_folders_are_refused_before_anything_runs(tmp_path):
    good = plans()
    folder = write_model(tmp_path, good)
    name = f"nnunet:{folder}"

    def refuses(error, says, model=name, **how):
        with pytest.raises(error, match=says):
            load_encoder(model, **{**ALL, **how})

    refuses(InputError, "with plans.json", model=f"nnunet:{tmp_path / 'none'}")
    refuses(InputError, "no fold_3: give --model-arg fold= one of 0", fold=3)
    refuses(ModelError, "no configuration '3d_lowres'", configuration="3d_lowres")
    refuses(ModelError, "give fold, configuration, checkpoint, axes", folds=1)
    refuses(ModelError, "choose one of file, LPS, RAS", axes="LAS")
    refuses(WeightsError, "checkpoint_best.pth does not exist", checkpoint="checkpoint_best.pth")
    refuses(WeightsError, "its weights lie in its folder", weights="net.pt")
    refuses(OptionError, "takes multiples of 2,4,4", tile=30)
    with pytest.raises(LiftingError, match="a single cell of layer 2"):
        load_encoder(name, **ALL)(volume(2, 4, 4))

    write_model(tmp_path, plans(kind="ResidualEncoderUNet"), network(good))
    refuses(WeightsError, "does not fit the plans of nnunet:Dataset998_Balls: .*without a value")
    write_model(tmp_path, good, beside={"trainer": Foreign()})
    refuses(WeightsError, "Foreign beside its tensors and is not loaded")

    def with_plans(said):
        (folder / "plans.json").write_text(said if isinstance(said, str) else json.dumps(said))

    for changes, says in (
        ({"normalization_schemes": ["MyNormalization"]}, "normalisation MyNormalization is none"),
        ({"patch_size": [64, 64]}, "is flat"),
        ({"spacing": None}, "not as nnU-Net v2 writes it"),
    ):
        with_plans(plans(configuration=changes))
        refuses(ModelError, says, weights="random:0")
    for key, value, says in (
        ("network_class_name", "os.system", r"names os.system: only dynamic_network_architectures.architectures.\*"),
        ("network_class_name", "dynamic_network_architectures.architectures.unet.os", "no network's class"),
        ("conv_op", "subprocess.Popen", "names subprocess.Popen as conv_op"),
        ("conv_op", "torch.nn.modules.conv.Conv2d", "not in 3D"),
        ("n_stages", 7, "cannot be built"),
    ):
        said = plans()
        architecture = said["configurations"]["3d_fullres"]["architecture"]
        (architecture if key == "network_class_name" else architecture["arch_kwargs"])[key] = value
        with_plans(said)
        refuses(ModelError, says, weights="random:0")
    with_plans({"plans_per_stage": {}})
    refuses(ModelError, "not of nnU-Net v2")
    with_plans("no json")
    refuses(ModelError, "no JSON")
    (folder / "plans.json").unlink()
    (folder / "plans.pkl").write_bytes(b"")
    refuses(ModelError, "nnU-Net v1, whose plans are pickles")
    with_plans(good)
    (folder / "dataset.json").write_text(json.dumps({"channel_names": {str(n): "MR" for n in range(4)}}))
    refuses(ModelError, "takes 4 images of a case")
