"""OME-Zarr images lie where their metadata says, at every level."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from featlift.errors import VolumeError
from featlift.volumes import Selection, find_scans, prepare, read
from tests.support.files import noise

SPACE = [{"name": name, "type": "space", "unit": "millimeter"} for name in "zyx"]
TIME = {"name": "t", "type": "time", "unit": "second"}
CHANNEL = {"name": "c", "type": "channel"}
VERSIONS = ["0.4", "0.5"]


def scale(*values: float) -> dict[str, Any]:
    return {"type": "scale", "scale": list(values)}


def translation(*values: float) -> dict[str, Any]:
    return {"type": "translation", "translation": list(values)}


def ome(path: Path, version: str = "0.5", axes: Any = SPACE, array: np.ndarray | None = None, **image: Any) -> Path:
    """Write an image of two levels; more of its metadata, or other metadata, by name."""
    array = noise() if array is None else array
    group = zarr.open_group(path, mode="w", zarr_format=3 if version == "0.5" else 2)
    group.create_array("0", data=array)
    group.create_array("1", data=array[..., ::2, ::2])
    ones = [1.0] * (len(axes) - 3)
    levels = [
        {"path": "0", "coordinateTransformations": [scale(*ones, 3, 0.9, 0.7)]},
        {"path": "1", "coordinateTransformations": [scale(*ones, 3, 1.8, 1.4), translation(*ones, 0, 0.45, 0.35)]},
    ]
    multiscales = [{"axes": axes, "datasets": levels, "name": "scan", **image}]
    if version == "0.5":
        group.attrs["ome"] = {"version": "0.5", "multiscales": multiscales}
    else:
        group.attrs["multiscales"] = [{"version": "0.4", **multiscales[0]}]
    return path


def level(path: str, *transforms: dict[str, Any]) -> dict[str, Any]:
    return {"path": path, "coordinateTransformations": list(transforms)}


def affine(spacing: tuple[float, ...], origin: tuple[float, ...]) -> np.ndarray:
    """Of z, y, x and their millimetres."""
    matrix = np.zeros((4, 4))
    matrix[[2, 1, 0], [0, 1, 2]] = spacing
    matrix[[2, 1, 0, 3], 3] = *origin, 1
    return matrix


@pytest.mark.parametrize("version", VERSIONS)
def test_the_finest_level_and_its_scale(tmp_path, version):
    volume = read(ome(tmp_path / "a.zarr", version))
    np.testing.assert_array_equal(volume.array, noise())
    np.testing.assert_allclose(volume.affine, affine((3, 0.9, 0.7), (0, 0, 0)))


@pytest.mark.parametrize("version", VERSIONS)
def test_another_level_is_read_by_its_name(tmp_path, version):
    path = ome(tmp_path / "a.zarr", version)
    for volume in (read(path, key="1"), read(f"{path}::/1")):
        np.testing.assert_array_equal(volume.array, noise()[:, ::2, ::2])
        np.testing.assert_allclose(volume.affine, affine((3, 1.8, 1.4), (0, 0.45, 0.35)))
    np.testing.assert_array_equal(read(path, key="0").affine, read(path).affine)


@pytest.mark.parametrize("version", VERSIONS)
def test_translations_scales_and_those_of_all_levels_one_after_the_other(tmp_path, version):
    """The level's: (i * 2 + 10), then the image's: * 3 + 100."""
    path = ome(
        tmp_path / "a.zarr",
        version,
        datasets=[level("0", scale(2, 2, 2), translation(10, 20, 30), {"type": "identity"})],
        coordinateTransformations=[scale(3, 3, 1), translation(100, 0, 0)],
    )
    np.testing.assert_allclose(read(path).affine, affine((6, 6, 2), (130, 60, 30)))


@pytest.mark.parametrize(
    ("unit", "millimetres"),
    [("micrometer", 1e-3), ("nanometer", 1e-6), ("centimeter", 10), ("meter", 1000), (None, 1), ("cubit", 1)],
)
def test_units(tmp_path, unit, millimetres):
    axes = [{key: value for key, value in {**axis, "unit": unit}.items() if value} for axis in SPACE]
    path = ome(tmp_path / "a.zarr", axes=axes, datasets=[level("0", scale(3, 2, 1), translation(30, 20, 10))])
    np.testing.assert_allclose(read(path).affine[:3], millimetres * affine((3, 2, 1), (30, 20, 10))[:3])


def test_units_may_differ_from_axis_to_axis(tmp_path):
    axes = [{**SPACE[0], "unit": "micrometer"}, *SPACE[1:]]
    path = ome(tmp_path / "a.zarr", axes=axes, datasets=[level("0", scale(5000, 2, 1))])
    np.testing.assert_allclose(read(path).spacing, (5, 2, 1))


def oriented(*values: str) -> list[dict[str, Any]]:
    """Axes with an anatomical orientation, as RFC-4 writes it."""
    return [
        {**axis, "orientation": {"type": "anatomical", "value": value}}
        for axis, value in zip(SPACE, values, strict=True)
    ]


def test_anatomical_orientation_along_lps_changes_nothing(tmp_path):
    axes = oriented("inferior-to-superior", "anterior-to-posterior", "right-to-left")
    np.testing.assert_array_equal(
        read(ome(tmp_path / "a.zarr", axes=axes)).affine, read(ome(tmp_path / "b.zarr")).affine
    )


def test_anatomical_orientation_against_lps(tmp_path):
    """As a NIfTI in RAS is converted: x to the right of the patient is left in LPS, y to the front is back."""
    axes = oriented("inferior-to-superior", "posterior-to-anterior", "left-to-right")
    path = ome(tmp_path / "a.zarr", axes=axes, datasets=[level("0", scale(3, 2, 1), translation(30, 20, 10))])
    np.testing.assert_allclose(read(path).affine, np.diag([-1, -1, 1, 1]) @ affine((3, 2, 1), (30, 20, 10)))


def test_anatomical_orientation_tells_which_axis_of_the_patient_an_axis_follows(tmp_path):
    """A sagittal acquisition: z from right to left, y from superior to inferior, x from anterior to posterior."""
    axes = oriented("right-to-left", "superior-to-inferior", "anterior-to-posterior")
    path = ome(tmp_path / "a.zarr", axes=axes, datasets=[level("0", scale(3, 2, 1), translation(30, 20, 10))])
    volume = read(path)
    np.testing.assert_array_equal(volume.affine, [[3, 0, 0, 30], [0, 0, 1, 10], [0, -2, 0, -20], [0, 0, 0, 1]])
    assert prepare(volume).shape == (11, 13, 7)  # D, H, W follow the patient


def test_two_axes_along_one_of_the_patient(tmp_path):
    path = ome(tmp_path / "a.zarr", axes=oriented("right-to-left", "left-to-right", "anterior-to-posterior"))
    with pytest.raises(VolumeError, match="affine is not invertible"):
        read(path)


@pytest.mark.parametrize("version", VERSIONS)
def test_time_points_and_channels_are_frames(tmp_path, version):
    array = np.stack([noise(), noise() + 1])[None]
    path = ome(tmp_path / "a.zarr", version, [TIME, CHANNEL, *SPACE], array)
    with pytest.raises(VolumeError, match="2 frames: choose with --frame N"):
        read(path)
    np.testing.assert_array_equal(read(path, frame=1).array, noise() + 1)
    np.testing.assert_allclose(read(path, frame=1).affine, affine((3, 0.9, 0.7), (0, 0, 0)))
    found = find_scans([tmp_path], Selection(frame="all")).scans
    assert [scan.id for scan in found] == ["a__frame0", "a__frame1"]


def test_the_only_time_point_and_channel_are_none(tmp_path):
    path = ome(tmp_path / "a.zarr", axes=[TIME, CHANNEL, *SPACE], array=noise()[None, None])
    np.testing.assert_array_equal(read(path).array, noise())


def test_time_points_of_channels(tmp_path):
    path = ome(tmp_path / "a.zarr", axes=[TIME, CHANNEL, *SPACE], array=np.stack([[noise()] * 2] * 3))
    with pytest.raises(VolumeError, match="5 dimensions"):
        read(path)


@pytest.mark.parametrize(
    ("axes", "shape"), [(SPACE[::-1], (7, 11, 13)), ([*SPACE, CHANNEL], (7, 11, 13, 2)), (SPACE[1:], (11, 13))]
)
def test_other_orders_of_axes_are_refused(tmp_path, axes, shape):
    path = ome(tmp_path / "a.zarr", axes=axes, array=noise(shape))
    with pytest.raises(VolumeError, match=r"its axes are .*: the last three must be z, y, x"):
        read(path)


@pytest.mark.parametrize(
    ("image", "trouble"),
    [
        ({"datasets": [level("nowhere", scale(1, 1, 1))]}, "no array 'nowhere' in it"),
        ({"datasets": [level("../a", scale(1, 1, 1))]}, "no array '../a' in it"),
        ({"datasets": [level("0", scale(0, 1, 1))]}, "affine is not invertible"),
        ({"datasets": [level("0", scale(1, 1))]}, "damaged Zarr header"),
        ({"datasets": [level("0", {"type": "scale", "scale": ["a", "b", "c"]})]}, "damaged Zarr header"),
        ({"datasets": [level("0", {"type": "affine", "affine": [1, 0, 0]})]}, "transformation of type 'affine'"),
        ({"datasets": [{"path": "0"}]}, "no field 'coordinateTransformations'"),
        ({"datasets": 3}, "damaged Zarr header"),
        ({"axes": ["z", "y", "x"]}, "damaged Zarr header"),
    ],
    ids=str,
)
def test_metadata_that_makes_no_sense(tmp_path, image, trouble):
    with pytest.raises(VolumeError, match=trouble) as caught:
        read(ome(tmp_path / "a.zarr", **image))
    assert "\n" not in str(caught.value)


def test_levels_in_folders_and_labels_beside_them(tmp_path):
    """Labels are images of their own, in a group of their own."""
    path = ome(tmp_path / "a.zarr", datasets=[level("scale0/image", scale(3, 2, 1))])
    group = zarr.open_group(path)
    group.create_array("scale0/image", data=noise() + 1)
    group.create_group("labels")
    ome(path / "labels" / "lesion", array=(noise() > 50).astype("uint8"))
    volume = read(path)
    np.testing.assert_array_equal(volume.array, noise() + 1)
    np.testing.assert_allclose(volume.affine, affine((3, 2, 1), (0, 0, 0)))
    labels = read(path, key="labels/lesion/1")
    np.testing.assert_array_equal(labels.array, (noise() > 50)[:, ::2, ::2])
    np.testing.assert_allclose(labels.affine, affine((3, 1.8, 1.4), (0, 0.45, 0.35)))


def test_several_images_in_one_store(tmp_path):
    """As bioformats2raw writes them."""
    zarr.open_group(tmp_path / "a.zarr", mode="w")
    for image in ("0", "1"):
        ome(tmp_path / "a.zarr" / image, array=noise() + int(image))
    with pytest.raises(VolumeError, match=r"4 arrays that could be the scan .*0/0 \(7 x 11 x 13\)"):
        read(tmp_path / "a.zarr")
    volume = read(tmp_path / "a.zarr", key="1/0")
    np.testing.assert_array_equal(volume.array, noise() + 1)
    np.testing.assert_allclose(volume.affine, affine((3, 0.9, 0.7), (0, 0, 0)))


def test_arrays_of_a_group_that_is_no_image_have_no_place(tmp_path):
    zarr.open_group(tmp_path / "a.zarr", mode="w").create_array("x", data=noise())
    assert read(tmp_path / "a.zarr").affine is None
