"""From a volume as read to what the backbone sees."""

from __future__ import annotations

import numpy as np
import pytest
from nibabel.affines import apply_affine

from featlift.errors import VolumeError
from featlift.volumes import Preparation, Volume, prepare, read
from featlift.volumes.intensity import Intensity
from tests.volumes.files import OBLIQUE, noise

MINMAX = Intensity("minmax")


def scan(affine: np.ndarray | None = OBLIQUE) -> Volume:
    return Volume(noise((8, 10, 12), "float32"), affine)


def test_by_default_only_intensities_change():
    volume = scan()
    prepared = prepare(volume)
    assert prepared.shape == prepared.shape_read == (8, 10, 12)
    np.testing.assert_array_equal(prepared.affine, OBLIQUE)
    scaled, windows = Intensity().apply(volume.array)
    np.testing.assert_array_equal(prepared.scan, scaled)
    assert prepared.windows == windows


def test_the_volume_given_is_not_changed():
    volume = scan()
    volume.array[0, 0, 0] = np.nan
    before, affine = volume.array.copy(), volume.affine.copy()
    prepare(volume, Preparation(nan_to=0, size=(6,), spacing=(1.0,)))
    np.testing.assert_array_equal(volume.array, before)
    np.testing.assert_array_equal(volume.affine, affine)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity(bad):
    volume = scan()
    volume.array[:2, 0, 0] = bad
    with pytest.raises(VolumeError, match=r"2 voxels are NaN or infinite: give --nan-to"):
        prepare(volume)
    replaced = volume.array.copy()
    replaced[:2, 0, 0] = -50
    prepared = prepare(volume, Preparation(intensity=MINMAX, nan_to=-50))
    np.testing.assert_array_equal(prepared.scan, MINMAX.apply(replaced)[0])
    assert (prepared.scan[0, :2, 0, 0] == 0).all()


def test_orientation():
    flipped = OBLIQUE @ np.array([[-1, 0, 0, 7], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    volume = Volume(scan().array[::-1], flipped)
    lps, native = (prepare(volume, Preparation(orient=orient)) for orient in ("LPS", "native"))
    np.testing.assert_allclose(lps.affine, OBLIQUE)
    np.testing.assert_array_equal(lps.scan, prepare(scan()).scan)
    np.testing.assert_array_equal(native.affine, flipped)
    np.testing.assert_array_equal(native.scan, lps.scan[:, ::-1])


def test_shape_read_is_that_of_the_file():
    """Before resampling and before its axes are put in order."""
    volume = Volume(scan().array.transpose(2, 0, 1), OBLIQUE[:, [2, 0, 1, 3]])
    prepared = prepare(volume, Preparation(size=(4, 5, 6)))
    assert prepared.shape_read == (12, 8, 10)
    assert prepared.shape == (4, 5, 6)


def test_spacing_is_of_the_axes_after_orientation():
    volume = Volume(scan().array.transpose(2, 0, 1), OBLIQUE[:, [2, 0, 1, 3]])  # stored (w, d, h)
    prepared = prepare(volume, Preparation(spacing=(1.5, 0.0, 0.0)))
    assert prepared.shape == (16, 10, 12)
    np.testing.assert_allclose(np.linalg.norm(prepared.affine[:3, :3], axis=0), (1.5, 0.9, 0.7))


def test_an_unknown_affine_stays_unknown():
    prepared = prepare(scan(None), Preparation(size=(6,)))
    assert prepared.affine is None
    assert prepared.shape == (8, 5, 6)
    with pytest.raises(VolumeError, match="spacing is unknown"):
        prepare(scan(None), Preparation(spacing=(1.0,)))


def test_three_channels():
    prepared = prepare(scan(), Preparation(intensity=Intensity("ct:lung+soft+bone"), size=(6,)))
    assert prepared.scan.shape == (3, 8, 5, 6)
    assert prepared.shape == (8, 5, 6)
    assert len(prepared.windows) == 3


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"orient": "RAS"}, "choose one of LPS, native"),
        ({"spacing": (1.0, 1.0)}, "spacing"),
        ({"spacing": (1.0,) * 4}, "spacing"),
        ({"spacing": (-1.0,)}, "spacing"),
        ({"spacing": (np.nan,)}, "spacing"),
        ({"spacing": (np.inf, 1.0, 1.0)}, "spacing"),
        ({"size": (0,)}, "size"),
        ({"size": (-5, 5)}, "size"),
        ({"size": (1, 2, 3, 4)}, "size"),
        ({"nan_to": np.nan}, "nan-to"),
        ({"nan_to": -np.inf}, "nan-to"),
        ({"nan_to": 1e39}, "nan-to"),
    ],
)
def test_what_makes_no_sense_is_refused_before_any_volume(options, match):
    with pytest.raises(ValueError, match=match):
        Preparation(**options)


def test_a_real_scan(shared):
    """A head of 25 slices of 6.5 mm, resampled to 2 mm: its lesion is where it was."""
    volume, label = (read(shared / f"lesions/brain1_{kind}.nrrd") for kind in ("image", "label"))
    prepared = prepare(volume, Preparation(spacing=(2.0,)))
    assert prepared.shape == (81, 100, 100)
    assert prepared.shape_read == (25, 256, 256)
    np.testing.assert_allclose(np.linalg.norm(prepared.affine[:3, :3], axis=0), (2, 2, 2), rtol=0.01)
    lesion = np.argwhere(label.array)
    there = apply_affine(np.linalg.inv(prepared.affine) @ label.affine, lesion)
    [(low, high)] = prepared.windows
    before = np.clip((volume.array[tuple(lesion.T)] - low) / (high - low), 0, 1)
    after = prepared.scan[0][tuple(np.rint(there).astype(int).T)]
    assert np.corrcoef(before, after)[0, 1] > 0.85  # one voxel aside: less than 0.8
    assert abs(after.mean() - before.mean()) < 0.01
