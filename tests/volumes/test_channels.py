"""Three images as the channels of one volume, each voxel where the patient has it."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from nibabel.affines import apply_affine

from featlift.errors import VolumeError
from featlift.volumes import Preparation, Reading, Scan, Selection, Source, find_scans, prepare
from featlift.volumes.channels import read_scan
from featlift.volumes.grid import on_grid
from featlift.volumes.opening import identity
from tests.support.files import OBLIQUE, itk_image, noise, save

STRAIGHT = np.array([[0, 0, 0.7, -12], [0, 0.9, 0, 40], [3, 0, 0, -301], [0, 0, 0, 1.0]])


def scan_of(*files: Path) -> Scan:
    return Scan("a", "a", tuple(Source(file) for file in files))


def ramp(shape: tuple[int, int, int], affine: np.ndarray) -> np.ndarray:
    """What rises evenly through the patient."""
    indices = np.indices(shape).reshape(3, -1).T
    return (apply_affine(affine, indices) @ [1, -2, 0.5]).reshape(shape).astype(np.float32)


def nifti(folder: Path, name: str, array: np.ndarray, affine: np.ndarray | None) -> Path:
    (folder / name).mkdir()
    if affine is None:
        np.save(folder / name / "c.npy", array)
        return folder / name / "c.npy"
    return save(folder / name / "1.nii", array, affine)


def test_frames_of_one_file(tmp_path):
    four = np.stack([noise(), noise() + 1, noise()[::-1]])
    path = save(tmp_path / "1.nii.gz", four)
    [scan] = find_scans([path], Selection(channels=("2", "0", "0"))).scans
    volume = read_scan(scan)
    assert (scan.id, volume.array.dtype) == ("1", np.float32)
    np.testing.assert_array_equal(volume.array, four[[2, 0, 0]])
    np.testing.assert_allclose(volume.affine, OBLIQUE, atol=1e-4)
    with pytest.raises(VolumeError, match=r"^1\.nii\.gz: no frame 3: it has 3"):
        read_scan(find_scans([path], Selection(channels=("0", "1", "3"))).scans[0])


def test_three_files_on_one_grid(tmp_path):
    files = [nifti(tmp_path, str(number), noise() + number, OBLIQUE) for number in range(3)]
    volume = read_scan(scan_of(*files))
    np.testing.assert_array_equal(volume.array, np.stack([noise(), noise() + 1, noise() + 2]))
    np.testing.assert_allclose(volume.affine, OBLIQUE, atol=1e-4)
    assert volume.source == identity([Source(file) for file in files])


def test_the_order_of_the_files_is_part_of_what_a_volume_was_read_from(tmp_path):
    """Channels that change places are other features."""
    files = [Source(nifti(tmp_path, str(number), noise() + number, OBLIQUE)) for number in range(3)]
    orders = [files, files[::-1], [files[0], files[0], files[1]], [files[0], files[1], files[1]]]
    assert len({identity(order)["sha256"] for order in orders}) == 4


def test_one_scan_is_no_channels(tmp_path):
    path = save(tmp_path / "1.nii", noise())
    assert read_scan(scan_of(path)).array.shape == noise().shape


@pytest.mark.parametrize("affine", [STRAIGHT, OBLIQUE])
def test_a_file_on_another_grid_is_brought_onto_the_first(tmp_path, affine):
    """Another spacing, other axes, another field of view; inside it a ramp stays that ramp."""
    other = affine @ np.array([[0, 0.4, 0, -1], [0, 0, -0.5, 12], [0.8, 0, 0, -2], [0, 0, 0, 1]])
    first, second = ramp((7, 11, 13), affine), ramp((25, 20, 9), other)
    files = [nifti(tmp_path, "first", first, affine), nifti(tmp_path, "second", second, other)]
    volume = read_scan(scan_of(files[0], files[1], files[0]))
    indices = np.indices(first.shape).reshape(3, -1).T
    there = apply_affine(np.linalg.inv(other) @ affine, indices)
    inside = ((there > 0) & (there < np.array(second.shape) - 1)).all(1).reshape(first.shape)
    assert 0.1 < inside.mean() < 1
    np.testing.assert_allclose(volume.array[1][inside], first[inside], rtol=1e-4, atol=1e-2)
    np.testing.assert_array_equal(volume.array[0], volume.array[2])
    beyond = ((there < -1) | (there > second.shape)).any(1).reshape(first.shape)
    assert (volume.array[1][beyond] == second.min()).all()  # darker than anything in it
    np.testing.assert_allclose(volume.affine, affine, atol=1e-4)


def test_a_coarser_file_keeps_its_values_up_to_its_outer_edges(tmp_path):
    """Voxels twice as large that cover the same place, all 5 but one: nothing darker comes in from beyond."""
    coarse = np.full((4, 5, 6), 5, np.float32)
    coarse[2, 2, 2] = 1
    twice = OBLIQUE @ np.array([[2, 0, 0, 0.5], [0, 2, 0, 0.5], [0, 0, 2, 0.5], [0, 0, 0, 1]])
    files = [nifti(tmp_path, "first", noise((8, 10, 12)), OBLIQUE), nifti(tmp_path, "second", coarse, twice)]
    values = read_scan(scan_of(files[0], files[1], files[1])).array[1]
    rim = np.ones((8, 10, 12), bool)
    rim[1:-1, 1:-1, 1:-1] = False
    np.testing.assert_allclose(values[rim], 5)
    assert values.min() < 4


def test_linear_interpolation_agrees_with_itk(tmp_path):
    other = OBLIQUE @ np.array([[0.7, 0.1, 0, 1], [-0.1, 0.6, 0, 2], [0, 0, 1.3, -2], [0, 0, 0, 1]])
    other[:3, :3] = np.linalg.qr(other[:3, :3])[0] @ np.diag([2.1, 0.5, 0.9])  # ITK holds no shear
    first, second = noise((9, 20, 22), "float32"), noise((14, 40, 30), "float32")
    images = [nifti(tmp_path, "first", first, OBLIQUE), nifti(tmp_path, "second", second, other)]
    volume = read_scan(scan_of(images[0], images[1], images[1]))
    fixed, moving = itk_image(first, OBLIQUE), itk_image(second, other)
    resampled = sitk.GetArrayFromImage(sitk.Resample(moving, fixed, sitk.Transform(), sitk.sitkLinear, -1.0))
    there = apply_affine(np.linalg.inv(other) @ OBLIQUE, np.indices(first.shape).reshape(3, -1).T)
    inside = ((there > 0.01) & (there < np.array(second.shape) - 1.01)).all(1).reshape(first.shape)
    assert inside.sum() > 300
    np.testing.assert_allclose(volume.array[1][inside], resampled[inside], atol=0.02)
    assert np.corrcoef(volume.array[1][inside], np.roll(resampled, 1, 2)[inside])[0, 1] < 0.9


def test_the_nearest_neighbour_agrees_with_itk():
    other = STRAIGHT @ np.diag([0.4, 1.7, 1.3, 1])
    labels = noise((14, 8, 9))
    values = on_grid(labels, other, (7, 11, 13), STRAIGHT, order=0, fill_value=-1)
    fixed, moving = itk_image(noise(), STRAIGHT), itk_image(labels, other)
    want = sitk.GetArrayFromImage(sitk.Resample(moving, fixed, sitk.Transform(), sitk.sitkNearestNeighbor, -1.0))
    there = apply_affine(np.linalg.inv(other) @ STRAIGHT, np.indices((7, 11, 13)).reshape(3, -1).T)
    clear = (np.abs(there - np.floor(there) - 0.5) > 1e-6).all(1) & (there > 0).all(1)
    clear = (clear & (there < np.array(labels.shape) - 1).all(1)).reshape(7, 11, 13)
    assert clear.mean() > 0.15
    np.testing.assert_array_equal(values[clear], want[clear])


def test_real_images_of_two_grids(shared):
    """An oblique T2 and the parcellation of its T1, which meet through their affines only."""
    t2, parcels = shared / "oblique_t2/t2.nii.gz", shared / "oblique_t2/t1_seg_gif.nii.gz"
    volume = read_scan(scan_of(t2, parcels, t2))
    assert volume.array.shape == (3, 26, 320, 320)
    fixed, moving = sitk.ReadImage(t2), sitk.ReadImage(parcels, sitk.sitkFloat32)
    want = sitk.GetArrayFromImage(sitk.Resample(moving, fixed, sitk.Transform(), sitk.sitkLinear, 0.0))
    inside = want > 0
    assert inside.mean() > 0.1
    assert np.mean(np.abs(volume.array[1][inside] - want[inside]) < 0.05) > 0.999


def test_files_that_do_not_overlap(tmp_path):
    far = OBLIQUE.copy()
    far[:3, 3] += 500
    files = [nifti(tmp_path, str(number), noise(), where) for number, where in enumerate((OBLIQUE, OBLIQUE, far))]
    with pytest.raises(VolumeError, match=r"^channel 2 does not overlap channel 0: are they of one patient\?$"):
        read_scan(scan_of(*files))


@pytest.mark.parametrize("unknown", [0, 1])
def test_a_file_that_does_not_say_where_it_lies(tmp_path, unknown):
    affines = [OBLIQUE, OBLIQUE]
    affines[unknown] = None
    files = [nifti(tmp_path, str(number), noise() + number, affine) for number, affine in enumerate(affines)]
    np.testing.assert_array_equal(read_scan(scan_of(*files, files[0])).array, [noise(), noise() + 1, noise()])
    shapes = [noise(), noise((7, 11, 14))]
    files = [nifti(tmp_path, f"other{n}", shapes[n], affine) for n, affine in enumerate(affines)]
    with pytest.raises(
        VolumeError, match="channel 1 has another shape than channel 0, and one does not say where it lies"
    ):
        read_scan(scan_of(*files, files[0]))


def test_headers_that_differ_by_rounding_are_one_grid(tmp_path):
    """NIfTI holds float32, NRRD text: micrometres between them are no reason to interpolate."""
    (tmp_path / "a").mkdir()
    files = [
        save(tmp_path / "1.nii", noise()),
        save(tmp_path / "raw.nrrd", noise() + 1),
        save(tmp_path / "a/2.nii", noise()),
    ]
    shifted = OBLIQUE.copy()
    shifted[0, 3] += 0.4e-3
    files[2] = nifti(tmp_path, "shifted", noise() + 2, shifted)
    np.testing.assert_array_equal(read_scan(scan_of(*files)).array, [noise(), noise() + 1, noise() + 2])


def test_one_of_them_cannot_be_read(tmp_path):
    files = [nifti(tmp_path, str(number), noise(), OBLIQUE) for number in range(2)]
    (tmp_path / "bad.nii").write_text("no scan")
    with pytest.raises(VolumeError, match=r"^bad\.nii: not a NIfTI file"):
        read_scan(scan_of(*files, tmp_path / "bad.nii"))
    with pytest.raises(VolumeError, match="1,001 voxels, more than the 1,000 allowed"):
        read_scan(scan_of(*files, files[0]), Reading(max_voxels=1000))


def test_each_channel_has_an_intensity_of_its_own(tmp_path):
    files = [nifti(tmp_path, str(number), noise(dtype="float32") * 10**number, OBLIQUE) for number in range(3)]
    volume = read_scan(scan_of(*files))
    prepared = prepare(volume, Preparation(intensity="minmax;window:0,500;percentile:0,100", orient="native"))
    assert prepared.scan.shape == (3, *noise().shape)
    low, high = float(noise().min()), float(noise().max())
    assert prepared.windows == [(low, high), (0, 500), (low * 100, high * 100)]
    np.testing.assert_allclose(prepared.scan[0], (noise() - low) / (high - low), atol=1e-6)
    np.testing.assert_allclose(prepared.scan[1], np.clip(noise() * 10 / 500, 0, 1), atol=1e-6)
    np.testing.assert_allclose(prepared.scan[2], prepared.scan[0], atol=1e-6)
    same = prepare(volume, Preparation(intensity="minmax", orient="native"))
    for channel in same.scan:
        np.testing.assert_allclose(channel, prepared.scan[0], atol=1e-6)


def test_channels_are_prepared_as_one_volume(tmp_path):
    """Orientation, crop, region, slices and grid are those of each channel alone."""
    flipped = OBLIQUE @ np.array([[-1, 0, 0, 7], [0, 1, 0, 0], [0, 0, -1, 9], [0, 0, 0, 1]])
    files = [nifti(tmp_path, str(number), noise((8, 9, 10), "float32") ** (number + 1), flipped) for number in range(3)]
    volume = read_scan(scan_of(*files))
    centre = tuple((flipped @ [4, 4, 5, 1])[:3])
    for how, where in [
        (Preparation(size=(6,), depth_stride=2), None),
        (Preparation(crop="body:1", spacing=2), None),
        (Preparation(roi_mm=9, nan_to=0), centre),
    ]:
        prepared = prepare(volume, how, where)
        for number, file in enumerate(files if not how.crop else files[:1]):
            alone = prepare(read_scan(scan_of(file)), how, where)
            np.testing.assert_allclose(prepared.scan[number], alone.scan[0], atol=1e-6)
            np.testing.assert_allclose(prepared.affine, alone.affine)
            assert prepared.windows[number] == alone.windows[0]
    assert nib.aff2axcodes(np.diag([-1, -1, 1, 1]) @ prepared.affine[:, [2, 1, 0, 3]]) == ("L", "P", "S")
