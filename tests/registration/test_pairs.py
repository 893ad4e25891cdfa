"""Two scans in spaces of their own: a known warp is undone, and ITK makes of our field what we do."""

from functools import partial

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from scipy.ndimage import map_coordinates

import featlift
from featlift.errors import OptionError, VolumeError
from featlift.registration import ConvexAdam, DisplacementField, PairSettings, register
from featlift.registration.features import TYPICAL, at_typical_distance, principal_features, typical_distance
from featlift.volumes import Volume
from featlift.volumes.nifti import write_nifti
from tests.conftest import GOLDEN

STRAIGHT = np.diag([1.0, 1.0, 1.0, 1.0])[[2, 1, 0, 3]]  # d runs along z


def turned(affine, degrees):
    """The grid turned about its own origin, around an axis that is none of the patient's."""
    x, y, z = np.array([1, 2, 2]) / 3
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    angle = np.deg2rad(degrees)
    rotation = np.eye(4)
    rotation[:3, :3] += np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross
    return rotation @ affine


def placed(affine, shape, centre):
    """The same directions, the middle voxel at a place in the patient."""
    moved = affine.copy()
    moved[:3, 3] = centre - affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return moved


@pytest.fixture(scope="module")
def moving():
    """A hippocampus in millimetres, somewhere in the patient."""
    array = np.load(GOLDEN / "systems" / "registration.npz")["pair0/fixed"].astype(np.float32)
    return Volume(array, placed(STRAIGHT, array.shape, np.array([-30.3, 20.1, 10.7])))


def warp(points):
    """A smooth step of up to 2 mm at places ``(3, N)`` in millimetres."""
    x, y, z = points / 40 * 2 * np.pi
    return np.stack(
        [1.8 * np.sin(0.6 * y + 0.4 * z), -1.53 * np.cos(0.5 * x - 0.5 * z), 1.6 * np.sin(0.4 * x + 0.6 * y)]
    )


def places(shape, affine):
    indices = np.indices(shape, float).reshape(3, -1)
    return affine[:3, :3] @ indices + affine[:3, 3:]


def warped(moving, shape, affine):
    """The scan that `warp` leads to the moving one, on a grid of its own."""
    points = places(shape, affine)
    there = np.linalg.inv(moving.affine) @ np.vstack([points + warp(points), np.ones(points.shape[1])])
    values = map_coordinates(moving.array, there[:3], order=3, mode="nearest").reshape(shape)
    return Volume(values.clip(0, 255).astype(np.float32), affine)


def middle(volume):
    return (volume.affine @ [*((np.array(volume.array.shape) - 1) / 2), 1])[:3]


GRIDS = {
    "same": ((40, 56, 40), STRAIGHT),
    "flipped": ((40, 38, 54), STRAIGHT[:, [0, 2, 1, 3]] @ np.diag([-1.0, 1, -1, 1])),
    "oblique": ((36, 52, 36), turned(STRAIGHT @ np.diag([1.0, -1, 1, 1]), 25)),
    "thick": ((20, 54, 38), turned(STRAIGHT @ np.diag([2.0, 1, 1, 1]), 10)),
}


def errors(field, moving):
    """Millimetres between where the field and the warp lead, at places well inside both scans."""
    points = places(field.shape, field.affine)
    vectors = field.vectors.reshape(3, -1)
    at = np.linalg.inv(moving.affine) @ np.vstack([points + warp(points), np.ones(points.shape[1])])
    size = np.array(moving.array.shape)[:, None]
    within = ((at[:3] > 6) & (at[:3] < size - 7)).all(axis=0)
    middle = np.zeros(field.shape, bool)
    middle[tuple(slice(n // 8, -(n // 8)) for n in field.shape)] = True
    return np.linalg.norm(vectors - warp(points), axis=0)[within & middle.ravel()]


@pytest.fixture(scope="module", params=GRIDS)
def pair(request, moving):
    shape, directions = GRIDS[request.param]
    return warped(moving, shape, placed(directions, shape, middle(moving)))


def test_a_known_warp_is_undone(pair, moving):
    found = register(pair, moving)
    error = errors(found.field, moving)
    assert len(error) > 5000
    assert error.mean() <= 0.5
    assert found.field.shape == pair.array.shape
    assert found.metrics["folds"] == 0
    assert found.metrics["mean_mm"] == pytest.approx(1.9, abs=0.4)


def sitk_warped(folder, field, moving, like):
    """The moving scan through SimpleITK, from files."""
    field.write(folder / "field.nii.gz")
    write_nifti(folder / "moving.nii.gz", moving.array, moving.affine)
    write_nifti(folder / "like.nii.gz", like.array, like.affine)
    vectors = sitk.ReadImage(str(folder / "field.nii.gz"), sitk.sitkVectorFloat64)
    transform = sitk.DisplacementFieldTransform(vectors)
    scan, onto = (sitk.ReadImage(str(folder / name)) for name in ("moving.nii.gz", "like.nii.gz"))
    return sitk.GetArrayFromImage(sitk.Resample(scan, onto, transform, sitk.sitkLinear, 0.0))


def smooth_field(volume):
    points = places(volume.array.shape, volume.affine)
    return DisplacementField(warp(points).reshape(3, *volume.array.shape).astype(np.float32), volume.affine)


def test_simpleitk_applies_the_field_alike(pair, moving, tmp_path):
    field = smooth_field(pair)
    ours = field.warp(moving, pair.array.shape, pair.affine)
    theirs = sitk_warped(tmp_path, field, moving, pair)
    assert np.abs(ours - theirs).max() < 1e-3


def test_a_field_comes_back_from_its_file(pair, tmp_path):
    field = smooth_field(pair)
    field.write(tmp_path / "field.nii.gz")
    back = DisplacementField.read(tmp_path / "field.nii.gz")
    assert np.array_equal(back.vectors, field.vectors)
    assert back.affine == pytest.approx(field.affine, abs=1e-4)
    assert DisplacementField.of_voxels(back.in_voxels, back.affine).vectors == pytest.approx(field.vectors, abs=1e-4)


def test_labels_take_the_nearest(moving):
    labels = Volume((moving.array > 128).astype(np.float32) * 7, moving.affine)
    field = smooth_field(moving)
    found = field.warp(labels, moving.array.shape, moving.affine, order=0)
    assert set(np.unique(found)) == {0, 7}
    soft = field.warp(labels, moving.array.shape, moving.affine)
    assert ((found == 7) == (soft > 3.5))[4:-4, 4:-4, 4:-4].mean() > 0.95


def test_a_field_on_a_finer_grid_than_its_own(moving, tmp_path):
    """ITK interpolates the field as we do, and displaces nothing beyond it."""
    coarse = Volume(moving.array[5:30:2, 8:50:2, 8:36:2], moving.affine @ np.diag([2.0, 2, 2, 1]))
    coarse.affine[:3, 3] = (moving.affine @ [5.1, 8.2, 8.3, 1])[:3]
    field = smooth_field(coarse)
    ours = field.warp(moving, moving.array.shape, moving.affine)
    assert np.abs(ours - sitk_warped(tmp_path, field, moving, moving)).max() < 1e-3


@pytest.fixture(scope="module")
def extract(tiny_vit):
    """Features of a tiny network, of scans enlarged so that there are enough cells."""
    preparation = featlift.Preparation(size=(96, 96, 96))
    return partial(featlift.extract, model=featlift.lift(tiny_vit, mode="2d"), preparation=preparation)


def test_features_of_a_network(extract, moving):
    shape, directions = GRIDS["oblique"]
    fixed = warped(moving, shape, placed(directions, shape, middle(moving)))
    for features in ("model", "both"):
        found = register(fixed, moving, PairSettings(features, convex_adam=ConvexAdam(iterations=20)), extract)
        assert found.field.shape == fixed.array.shape
        assert np.isfinite(found.field.vectors).all()
    assert errors(found.field, moving).mean() < 1.5, "MIND still sees to it"


def test_the_scale_of_features_does_not_matter(extract, moving):
    case = extract(moving)
    fixed, other = principal_features(case, case, 8)
    assert fixed.shape == (8, *case.valid_cells)
    assert np.array_equal(fixed, other)
    one, two = torch.from_numpy(fixed), torch.from_numpy(np.flip(other, 1).copy())
    for scale in (1, 1000):
        assert typical_distance(*at_typical_distance(one * scale, two * scale)) == pytest.approx(TYPICAL, rel=1e-4)
    pairs = torch.cdist(one.flatten(1).T.double(), two.flatten(1).T.double()).square().mean()
    assert typical_distance(one, two) == pytest.approx(float(pairs), rel=1e-4)


def test_uncentred_features_differ_by_a_constant(extract, moving):
    case = extract(moving)
    centred, as_they_are = (principal_features(case, case, 8, centred)[0] for centred in (True, False))
    apart = (as_they_are - centred).reshape(8, -1)
    assert np.ptp(apart, axis=1) == pytest.approx(0, abs=1e-3)
    assert np.abs(apart).max() > 0.1
    with pytest.raises(OptionError, match="ask for fewer"):
        principal_features(case, case, 10**6)


def test_slices(moving):
    """One slice is a volume of one: it is registered within its plane."""
    one = Volume(moving.array[20:21], moving.affine)
    other = Volume(np.roll(moving.array[20:21], (2, -1), (1, 2)), moving.affine)
    found = register(one, other)
    inner = found.field.in_voxels[:, 0, 10:-10, 10:-10]
    assert inner[0] == pytest.approx(0, abs=1e-6)
    assert inner.mean(axis=(1, 2)) == pytest.approx([0, 2, -1], abs=0.4)


def test_a_coarser_grid(moving):
    found = register(moving, moving, PairSettings(spacing=2))
    assert found.grid == (20, 28, 20)
    assert found.field.shape == (40, 56, 40)


def test_what_cannot_be_registered(moving):
    nowhere = Volume(moving.array, None)
    far = Volume(moving.array, placed(STRAIGHT, moving.array.shape, np.array([500.0, 0, 0])))
    broken = Volume(np.where(moving.array > 250, np.nan, moving.array).astype(np.float32), moving.affine)
    coloured = Volume(np.stack([moving.array] * 3), moving.affine)
    for fixed, other, message in (
        (nowhere, moving, "fixed scan does not say"),
        (moving, nowhere, "moving scan does not say"),
        (moving, far, "do not overlap"),
        (moving, broken, "NaN"),
        (coloured, moving, "3 channels"),
    ):
        with pytest.raises(VolumeError, match=message):
            register(fixed, other)
    with pytest.raises(OptionError, match="give a model"):
        register(moving, moving, PairSettings("both"))
    field = smooth_field(moving)
    with pytest.raises(VolumeError, match="another fixed scan"):
        field.warp(moving, far.array.shape, far.affine)
    with pytest.raises(VolumeError, match="moving scan of this field"):
        field.warp(far, moving.array.shape, moving.affine)


def test_files_that_are_no_fields(moving, tmp_path):
    write_nifti(tmp_path / "scan.nii.gz", moving.array, moving.affine)
    with pytest.raises(VolumeError, match="no displacement field"):
        DisplacementField.read(tmp_path / "scan.nii.gz")
    write_nifti(tmp_path / "nowhere.nii.gz", np.zeros((3, 1, 4, 5, 6), np.float32), None, "vector")
    with pytest.raises(VolumeError, match="where it lies"):
        DisplacementField.read(tmp_path / "nowhere.nii.gz")
