"""From a volume as read to what the backbone sees."""

from __future__ import annotations

import json

import numpy as np
import pytest
from nibabel.affines import apply_affine

from featlift.errors import OptionError, VolumeError
from featlift.volumes import Preparation, Volume, prepare, read
from featlift.volumes.intensity import Intensity
from featlift.volumes.regions import centres_of_lesions
from featlift.volumes.volume import spacing_of
from tests.support.files import OBLIQUE, noise

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
    np.testing.assert_array_equal(prepared.affine_read, volume.affine)


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


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"crop": "tumour"}, "crop 'tumour': give body, body:MM with the margin to leave, or nonzero"),
        ({"crop": "body:"}, "crop 'body:'"),
        ({"crop": "body:-1"}, "crop 'body:-1'"),
        ({"crop": ""}, "crop ''"),
        ({"roi_mm": (1.0, 1.0)}, "roi-mm"),
        ({"roi_mm": 0}, "roi-mm"),
        ({"roi_mm": (np.nan,)}, "roi-mm"),
        ({"roi_mm": 1e9}, "roi-mm"),
        ({"crop": "body", "roi_mm": 50}, "a region of interest is a crop already, give one of them"),
        ({"depth_stride": 0}, "depth-stride 0: give 1 for every slice, 2 for every second one"),
        ({"depth_stride": -1}, "depth-stride -1"),
        ({"intensity": "max"}, "intensity 'max': give one of"),
    ],
)
def test_parts_that_make_no_sense_are_refused_before_any_volume(options, match):
    with pytest.raises(ValueError, match=match):
        Preparation(**options)


def test_what_people_write():
    plain = Preparation(intensity="ct:soft", size=448, spacing=1, roi_mm=[50, 60, 70])
    assert plain == Preparation(
        intensity=Intensity("ct:soft"), size=(448,), spacing=(1.0, 1.0, 1.0), roi_mm=(50.0, 60.0, 70.0)
    )
    assert Preparation(size=[4, 5], spacing=np.array([1, 2, 3])) == Preparation(size=(4, 5), spacing=(1.0, 2.0, 3.0))
    assert Preparation(spacing=1).as_recipe() == Preparation(spacing=(1.0, 1.0, 1.0)).as_recipe()


SETTINGS = [
    {},
    {"orient": "native", "nan_to": -1024.0},
    {"intensity": "ct:lung+soft+bone", "size": (6,)},
    {"intensity": "window:-3e-05,1e+20"},
    {"intensity": "percentile:1,99", "spacing": (1.0, 0.0, 2.5), "size": (0, 7, 0)},
    {"crop": "body"},
    {"crop": "body:2.5", "depth_stride": 3, "spacing": (1.1,)},
    {"roi_mm": (9.0, 7.0, 5.0), "depth_stride": 2},
    {"roi_mm": (4,), "size": (5, 6, 7), "intensity": "minmax"},
]


@pytest.mark.parametrize("options", SETTINGS, ids=str)
def test_a_recipe_gives_the_preparation_back(options):
    how = Preparation(**options)
    recipe = json.loads(json.dumps(how.as_recipe()))
    again = Preparation.from_recipe(recipe)
    assert again.as_recipe() == how.as_recipe() == recipe
    volume = scan()
    volume.array[3:6, 2:8, 1:9] += 200
    volume.array[0, 0, 0] = np.nan if how.nan_to is not None else 0
    centre = tuple(apply_affine(OBLIQUE, (4, 5, 6))) if how.roi_mm else None
    given, recorded = prepare(volume, how, centre), prepare(volume, {**recipe, "model": "another field"}, centre)
    np.testing.assert_array_equal(given.scan, recorded.scan)
    np.testing.assert_array_equal(given.affine, recorded.affine)
    assert (given.windows, given.box, given.shape_read) == (recorded.windows, recorded.box, recorded.shape_read)


def test_a_recipe_of_a_store_from_before_there_were_regions():
    recipe = Preparation(size=6).as_recipe()
    for name in ("crop", "roi_mm", "depth_stride"):
        del recipe[name]
    assert Preparation.from_recipe(recipe) == Preparation(size=6)


@pytest.mark.parametrize("stride", [1, 2, 3, 7, 8, 99])
def test_every_nth_slice_stays_in_its_place(stride):
    prepared = prepare(scan(), Preparation(depth_stride=stride, intensity="none"))
    np.testing.assert_array_equal(prepared.scan[0], scan().array[::stride])
    np.testing.assert_allclose(prepared.affine @ (1, 2, 3, 1), OBLIQUE @ (stride, 2, 3, 1))
    assert prepared.shape_read == (8, 10, 12)
    unknown = prepare(scan(None), Preparation(depth_stride=stride, intensity="none"))
    assert unknown.affine is None


def test_slices_are_counted_after_orienting_and_before_resampling():
    volume = Volume(scan().array.transpose(2, 0, 1), OBLIQUE[:, [2, 0, 1, 3]])  # stored (w, d, h)
    prepared = prepare(volume, Preparation(depth_stride=4, intensity="none"))
    np.testing.assert_array_equal(prepared.scan[0], scan().array[::4])
    resampled = prepare(volume, Preparation(depth_stride=4, size=(5, 0, 0), intensity="none"))
    assert resampled.shape == (5, 10, 12)


def body() -> Volume:
    """Bright within, nearly dark around, an outlier in a corner."""
    array = np.random.default_rng(0).normal(0, 1, (20, 30, 40)).astype(np.float32)
    array[5:15, 8:22, 10:30] += np.linspace(50, 150, 20)
    array[0, 0, 0] = 5000
    return Volume(array, OBLIQUE)


@pytest.mark.parametrize("intensity", ["percentile:0.5,99.5", "minmax", "window:0,100"])
def test_the_values_of_a_crop_are_those_of_the_whole_scan(intensity):
    whole, cropped = (prepare(body(), Preparation(intensity=intensity, crop=crop)) for crop in (None, "body:0"))
    assert whole.box is None
    assert (cropped.box.start, cropped.box.shape) == ((5, 8, 10), (10, 14, 20))
    assert cropped.windows == whole.windows
    np.testing.assert_array_equal(cropped.scan, whole.scan[:, 5:15, 8:22, 10:30])
    np.testing.assert_allclose(cropped.affine @ (1, 2, 3, 1), OBLIQUE @ (6, 10, 13, 1))
    assert cropped.shape_read == (20, 30, 40)


def test_the_margin_of_a_crop():
    assert prepare(body(), Preparation(crop="body:3")).box.start == (4, 5, 6)  # 3 x 0.9 x 0.7 mm
    assert prepare(body(), Preparation(crop="body")).shape == (16, 30, 40)  # 10 mm
    assert prepare(Volume(body().array), Preparation(crop="body:1")).box.start == (4, 7, 9)


def test_a_crop_is_of_the_oriented_volume():
    flipped = Volume(
        body().array[::-1, :, ::-1], OBLIQUE @ np.array([[-1, 0, 0, 19], [0, 1, 0, 0], [0, 0, -1, 39], [0, 0, 0, 1]])
    )
    straight, turned = (prepare(volume, Preparation(crop="body:0")) for volume in (body(), flipped))
    np.testing.assert_array_equal(straight.scan, turned.scan)
    np.testing.assert_allclose(straight.affine, turned.affine, atol=1e-9)
    assert straight.box == turned.box


def test_a_region_around_a_point():
    """15 x 4.5 x 3.5 mm: 5 slices, 5 rows, 5 columns."""
    how = Preparation(roi_mm=(15.0, 4.5, 3.5))
    centre = tuple(apply_affine(OBLIQUE, (10, 15, 20)))
    whole, region = prepare(body()), prepare(body(), how, centre)
    assert (region.box.start, region.box.shape) == ((8, 13, 18), (5, 5, 5))
    assert region.windows == whole.windows
    np.testing.assert_array_equal(region.scan, whole.scan[:, 8:13, 13:18, 18:23])
    np.testing.assert_allclose(apply_affine(region.affine, (2, 2, 2)), centre)


def test_a_region_that_reaches_beyond_the_scan():
    """It has its full size, the outermost voxels repeated."""
    centre = tuple(apply_affine(OBLIQUE, (0, 29, 20)))
    region = prepare(body(), Preparation(roi_mm=(15.0, 4.5, 3.5), intensity="none"), centre)
    assert (region.box.start, region.shape) == ((-2, 27, 18), (5, 5, 5))
    np.testing.assert_array_equal(region.scan[0, 0], region.scan[0, 2])
    np.testing.assert_array_equal(region.scan[0, 2:, :3], body().array[:3, 27:, 18:23])
    np.testing.assert_array_equal(region.scan[0, :, 3], region.scan[0, :, 2])
    np.testing.assert_allclose(apply_affine(region.affine, (2, 2, 2)), centre)


def test_a_region_needs_a_centre_and_a_size():
    with pytest.raises(OptionError, match="needs a centre and a size"):
        prepare(body(), Preparation(), (0.0, 0.0, 0.0))
    with pytest.raises(OptionError, match="needs a centre and a size"):  # not all of the scan instead
        prepare(body(), Preparation(roi_mm=9))
    with pytest.raises(VolumeError, match=r"the region's centre \(0\.0, 0\.0, 0\.0; LPS mm\) lies outside the scan"):
        prepare(body(), Preparation(roi_mm=9), (0.0, 0.0, 0.0))
    with pytest.raises(VolumeError, match="its geometry is unknown"):
        prepare(Volume(body().array), Preparation(roi_mm=9), (0.0, 0.0, 0.0))


def test_regions_on_a_finer_grid():
    """First cut, then resampled: the region keeps its millimetres."""
    centre = tuple(apply_affine(OBLIQUE, (10, 15, 20)))
    region = prepare(body(), Preparation(roi_mm=9, spacing=0.5), centre)
    assert region.shape == (18, 18, 18)
    np.testing.assert_allclose(apply_affine(region.affine, [(17 / 2,) * 3]), [centre], atol=1)


def test_real_lesions_lie_in_their_regions(shared):
    """Whatever way the scan is stored, the voxels that the mask marks are in the box of 60 mm, each in its place."""
    for case in ("breast1", "lung1"):
        volume, label = (read(shared / f"lesions/{case}_{kind}.nrrd") for kind in ("image", "label"))
        [centre] = centres_of_lesions(label)
        region = prepare(volume, Preparation(roi_mm=60, intensity="none"), centre)
        assert np.abs(np.array(region.shape) * spacing_of(region.affine) - 60).max() < 3
        there = apply_affine(np.linalg.inv(region.affine) @ label.affine, np.argwhere(label.array))
        np.testing.assert_allclose(there, np.rint(there), atol=1e-6)
        np.testing.assert_array_equal(
            region.scan[0][tuple(np.rint(there).astype(int).T)], volume.array[label.array > 0]
        )


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
