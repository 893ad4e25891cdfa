"""Features lie where the scan lies: proved on features that can be read as intensities."""

import nibabel as nib
import numpy as np
import pytest
from scipy.ndimage import binary_erosion

from featlift import open_store, read
from tests.support.scans import OBLIQUE, patch_mean_options, write_nifti
from tests.support.thinned import every

RAS_TO_LPS = np.array([-1, -1, 1])
FLIPPED = OBLIQUE @ np.diag([-1.0, 1, -1, 1])
SAGITTAL = OBLIQUE[:, [2, 0, 1, 3]]
SHEARED = OBLIQUE @ np.array([[1, 0.2, 0, 0], [0, 1, 0.1, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
SLOPE = np.array([3.0, -2.0, 1.5])


def world(affine, indices):
    """LPS millimetres of (N, 3) NIfTI indices, by nibabel's own convention."""
    return nib.affines.apply_affine(affine, indices) * RAS_TO_LPS


def ramp(affine, shape):
    """A scan whose value is linear in the patient: 500 + SLOPE . (x, y, z)."""
    indices = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
    return (500 + world(affine, indices) @ SLOPE).astype(np.float32)


@pytest.mark.parametrize(
    "options",
    every(2, [[], ["--spacing", "1.5"], ["--size", "64"], ["--size", "9,40,44"], ["--depth-stride", "2"]]),
    ids=" ".join,
)
@pytest.mark.parametrize("orient", ["LPS", "native"])
@pytest.mark.parametrize(
    "affine", [OBLIQUE, FLIPPED, SAGITTAL, SHEARED], ids=["oblique", "flipped", "sagittal", "sheared"]
)
def test_a_ramp_in_the_patient_is_the_same_ramp_in_the_features(featlift, tmp_path, affine, orient, options):
    """The mean of a linear field over any patch is its value at the patch's centre, so any slip of the grid shows."""
    shape = (33, 30, 26)
    scan = ramp(affine, shape)
    write_nifti(tmp_path / "ramp.nii.gz", scan, affine)
    window = f"window:{scan.min() - 1},{scan.max() + 1}"
    done = featlift("extract", "ramp.nii.gz", "--mode", "pcg", "--intensity", window, "--orient", orient, *options,
                    *patch_mean_options(tmp_path))  # fmt: skip
    assert done.returncode == 0, done.stderr
    case = open_store(tmp_path / "features.zarr")["ramp"]
    given = read(tmp_path / "ramp.nii.gz")
    assert case.attributes["shape_read"] == list(given.array.shape)
    np.testing.assert_array_equal(case.attributes["affine_read"], given.affine)
    inside = np.random.default_rng(0).uniform(0.3, 0.7, size=(200, 3)) * np.array(shape)
    points = world(affine, inside)
    got = case.sample(points)[:, 0] * (np.ptp(scan) + 2) + scan.min() - 1
    want = 500 + points @ SLOPE
    one_voxel = np.abs(SLOPE @ affine[:3, :3]).min()
    assert np.abs(got - want).max() < 0.25 * one_voxel
    assert abs((got - want).mean()) < 0.05 * one_voxel


def organs_of(labels, least, inside=2):
    """Voxel indices of each organ, so many voxels away from its surface that patches there hold nothing else."""
    for label in np.unique(labels)[1:]:
        voxels = np.argwhere(binary_erosion(labels == label, iterations=inside))
        if len(voxels) >= least:
            yield int(label), voxels


def flip(image, axis):
    """The same patient with one array axis stored the other way round."""
    turn = np.eye(4)
    turn[axis, axis], turn[axis, 3] = -1, image.shape[axis] - 1
    return nib.Nifti1Image(np.flip(np.asarray(image.dataobj), axis), image.affine @ turn)


@pytest.mark.parametrize("copy", ["as it is", "flipped", "oblique"])
def test_organs_keep_their_hu(featlift, tmp_path, shared, copy):
    """HU under organ masks, read from `dense` through its affine, are the HU of the scan."""
    image = nib.load(shared / "totalseg" / "example_ct_sm.nii.gz")
    labels = np.asarray(nib.load(shared / "totalseg" / "example_seg.nii.gz").dataobj)
    scan, affine = np.asarray(image.dataobj), image.affine
    stored = {"as it is": image, "flipped": flip(image, 1), "oblique": image}[copy]
    if copy == "oblique":  # the patient tilted in the scanner: same voxels, another affine
        affine = OBLIQUE @ np.diag([1 / 0.81, 1 / 0.96, 1 / 2.45, 1.0]) @ np.diag([3.0, 3.0, 3.0, 1.0])
        stored = nib.Nifti1Image(scan, affine)
    nib.save(stored, tmp_path / "ct.nii.gz")
    done = featlift(
        "extract", "ct.nii.gz", "--mode", "2d", "--intensity", "ct:-1024,1200", *patch_mean_options(tmp_path)
    )
    assert done.returncode == 0, done.stderr
    case = open_store(tmp_path / "features.zarr")["ct"]
    compared = 0
    for label, voxels in organs_of(labels, least=200):
        got = case.sample(world(affine, voxels))[:, 0] * 2224 - 1024
        want = scan[tuple(voxels.T)]
        if want.std() < 20:  # soft tissue, not bowel or bone, whose parts no mean describes
            assert abs(got.mean() - want.mean()) < 2, f"organ {label}"
            compared += 1
    assert compared >= 6


@pytest.mark.soak
def test_oblique_t2_under_the_parcellation_of_another_grid(featlift, tmp_path, shared):
    """Scan and parcellation meet only through their affines."""
    scan = nib.load(shared / "oblique_t2" / "t2.nii.gz")
    parcels = nib.load(shared / "oblique_t2" / "t1_seg_gif.nii.gz")
    done = featlift("extract", shared / "oblique_t2" / "t2.nii.gz", "--mode", "pcg", "--intensity", "window:0,1000",
                    *patch_mean_options(tmp_path, patch=4))  # fmt: skip
    assert done.returncode == 0, done.stderr
    case = open_store(tmp_path / "features.zarr")["t2"]
    array = scan.get_fdata()
    got, want = [], []
    for _, voxels in organs_of(np.asarray(parcels.dataobj), least=1500, inside=4):
        points = nib.affines.apply_affine(parcels.affine, voxels)
        indices = np.rint(nib.affines.apply_affine(np.linalg.inv(scan.affine), points)).astype(int)
        within = ((indices >= 4) & (indices < np.array(scan.shape) - 4) | [False, False, True]).all(axis=1)
        within &= (indices[:, 2] >= 0) & (indices[:, 2] < scan.shape[2])
        if within.sum() < 500:
            continue
        values = array[tuple(indices[within].T)]
        if values.std() < 0.15 * values.mean():
            got.append(case.sample(points[within] * RAS_TO_LPS)[:, 0].mean() * 1000)
            want.append(values.mean())
    assert len(want) >= 4
    assert np.ptp(want) > 20
    np.testing.assert_allclose(got, want, rtol=0.05)


def test_padding_is_recorded_and_left_out_of_every_mean(featlift, tmp_path):
    """A scan that ends in a bright edge: padded cells repeat it and would pull every mean up."""
    scan = np.zeros((21, 18, 4), np.float32)
    scan[20:] = scan[:, 17:] = 1000
    write_nifti(tmp_path / "edge.nii.gz", scan, np.diag([-1.0, -1, 1, 1]))
    done = featlift("extract", "edge.nii.gz", "--intensity", "window:0,1000", *patch_mean_options(tmp_path, patch=4))
    assert done.returncode == 0, done.stderr
    case = open_store(tmp_path / "features.zarr")["edge"]
    assert case.attributes["padding"]["after"] == [0, 2, 3]
    assert case.scan.shape == (4, 18, 21)
    assert case.dense.shape == (8, 4, 5, 6)
    assert case.valid_cells == (4, 5, 5)  # the last column of cells is a quarter scan, the last row a half
    dense = case.dense[0]
    np.testing.assert_allclose(case.slice_mean[:, 0], dense[:, :5, :5].mean(axis=(1, 2)), atol=1e-3)
    assert dense.astype(float).mean() > 1.2 * case.slice_mean[:, 0].mean()
    low, high = case.embedding_parts["patch-mean"]
    np.testing.assert_allclose(case.embedding[low:high], case.slice_mean[:].mean(axis=0), atol=1e-6)


def test_unknown_geometry_is_null(tmp_path):
    from featlift.volumes import Preparation, Volume, prepare

    prepared = prepare(Volume(np.random.default_rng(0).normal(size=(3, 4, 4)).astype(np.float32)), Preparation())
    assert prepared.affine is None
