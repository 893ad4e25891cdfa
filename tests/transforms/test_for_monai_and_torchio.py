"""Images through MONAI's and TorchIO's own pipelines: what is bright in the scan is bright at the same place."""

import pickle

import nibabel as nib
import numpy as np
import pytest
import torch
import torchio as tio
from monai.data import DataLoader, Dataset
from monai.transforms import Compose, EnsureChannelFirstd, LoadImaged, ResampleToMatchd

from featlift.errors import OptionError, VolumeError
from featlift.transforms import LiftedFeaturesd, LiftFeatures
from tests.support.scans import OBLIQUE, PATCH_MEAN_MODEL, patch_mean_options, write_nifti

SHAPE = (40, 36, 12)
BLOCK = (slice(8, 12), slice(20, 24), slice(4, 8))  # whole patches of 2 x 2 in every plane
TURNED = np.array([[0, 0.4, 2.2, 10.0], [-0.8, 0, 0, 30.0], [0, 0.8, -1.1, 5.0], [0, 0, 0, 1.0]])  # other axes, oblique
AFFINES = {"sheared": OBLIQUE, "turned": TURNED}


@pytest.fixture
def options(tmp_path):
    """Of a network whose first feature is the intensity of a patch."""
    flags = patch_mean_options(tmp_path, 2, 0.5)
    arguments = dict(flag.split("=") for flag in flags if "=" in flag)
    return {
        "model": PATCH_MEAN_MODEL,
        "weights": str(tmp_path / "patch_mean.safetensors"),
        "model_args": {name: int(value) for name, value in arguments.items()},
        "mode": "2d",
        "norm": False,
        "precision": "fp32",
        "intensity": "window:10,100",
        "orient": "native",
    }


@pytest.fixture(params=list(AFFINES))
def scan(request, tmp_path):
    array = np.full(SHAPE, 10, np.float32)
    array[BLOCK] = 100
    return write_nifti(tmp_path / "scan.nii.gz", array, AFFINES[request.param])


def centre(values, affine):
    """The middle of what is bright, in RAS millimetres."""
    places = np.argwhere(values > 0.5)
    return (affine @ np.append(np.average(places, axis=0, weights=values[values > 0.5]), 1))[:3]


def expected(scan):
    image = nib.load(scan)
    return centre(image.get_fdata() / 100, image.affine)


def monai_pipeline(options, *further):
    first = [LoadImaged(["image"]), EnsureChannelFirstd(["image"])]
    return Compose([*first, LiftedFeaturesd(["image"], **options), *further])


@pytest.mark.parametrize("orient", ["native", "LPS"])
def test_monai_features_lie_where_the_scan_does(scan, options, orient):
    item = monai_pipeline({**options, "orient": orient})({"image": scan})
    features = item["image"]
    assert features.shape[0] == 8
    assert np.prod(features.shape[1:]) == np.prod(SHAPE) / 4
    np.testing.assert_allclose(centre(features[0].numpy(), features.affine.numpy()), expected(scan), atol=0.02)


def test_monai_brings_a_mask_onto_the_features(scan, options, tmp_path):
    """By its own resampling, which goes by the affines."""
    array = np.asarray(nib.load(scan).dataobj)
    mask = write_nifti(tmp_path / "mask.nii.gz", (array > 50).astype(np.uint8), nib.load(scan).affine)
    loading = [LoadImaged(["image", "mask"]), EnsureChannelFirstd(["image", "mask"])]
    matched = ResampleToMatchd(["mask"], key_dst="image", mode="nearest")
    item = Compose([*loading, LiftedFeaturesd("image", **options), matched])({"image": scan, "mask": mask})
    assert item["mask"].shape[1:] == item["image"].shape[1:]
    np.testing.assert_array_equal(item["mask"][0].numpy() > 0, item["image"][0].numpy() > 0.5)


def test_monai_workers_and_batches(scan, options):
    loader = DataLoader(Dataset([{"image": scan}] * 3, monai_pipeline(options)), batch_size=3, num_workers=1)
    batch = next(iter(loader))["image"]
    assert batch.shape == (3, 8, 20, 18, 12)
    assert torch.equal(batch[0], batch[2])


@pytest.mark.parametrize("orient", ["native", "LPS"])
def test_torchio_features_lie_where_the_scan_does(scan, options, orient):
    array = torch.from_numpy((nib.load(scan).get_fdata() > 50).astype(np.uint8))[None]
    subject = tio.Subject(
        t1=tio.ScalarImage(scan),
        other=tio.ScalarImage(scan),
        mask=tio.LabelMap(tensor=array, affine=nib.load(scan).affine),
    )
    lift = LiftFeatures({**options, "orient": orient}, include=["t1"], keep={"t1": "scan"})
    lifted = tio.Compose([tio.ToCanonical(), tio.Clamp(out_min=0, out_max=90), lift])(subject)
    features = lifted.t1
    assert features.shape[0] == 8
    np.testing.assert_allclose(centre(features.data[0].numpy(), features.affine), expected(scan), atol=0.02)
    assert lifted.scan.shape == lifted.other.shape == lifted.mask.shape != features.shape
    assert "LiftFeatures" in str(lifted.history)
    matched = tio.Resample("t1", image_interpolation="nearest", include=["mask"])(lifted).mask
    assert matched.shape[1:] == features.shape[1:]
    assert float((matched.data[0].bool() == (features.data[0] > 0.5)).float().mean()) > 0.99


def test_they_agree_and_travel_as_their_options(scan, options):
    by_monai = monai_pipeline(options)
    by_monai({"image": scan})
    content = pickle.dumps(by_monai)
    assert len(content) < 20_000  # without the network
    features = pickle.loads(content)({"image": scan})["image"]
    image = LiftFeatures(options)(tio.ScalarImage(scan))
    np.testing.assert_array_equal(features.numpy(), image.data.numpy())
    np.testing.assert_allclose(features.affine.numpy(), image.affine, atol=1e-9)


def test_three_channels_and_what_is_refused(scan, options):
    image = tio.ScalarImage(scan)
    three = tio.ScalarImage(tensor=image.data.repeat(3, 1, 1, 1), affine=image.affine)
    lift = LiftFeatures(options)
    np.testing.assert_allclose(lift(three).data, lift(image).data, atol=1e-2)
    with pytest.raises(VolumeError, match=r"give \(1, i, j, k\)"):
        lift(tio.ScalarImage(tensor=image.data.repeat(2, 1, 1, 1), affine=image.affine))
    with pytest.raises(OptionError, match="no such option"):
        LiftFeatures({"modle": "vits16"})
    with pytest.raises(OptionError, match="image is no MetaTensor"):
        LiftedFeaturesd("image", **options)({"image": torch.zeros(1, 4, 4, 4)})
