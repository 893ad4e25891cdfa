"""The body, boxes around lesions and points: every voxel that is kept stays in its place."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nibabel.affines import apply_affine
from scipy import ndimage

from featlift.demo import copy_brain
from featlift.errors import InputError, VolumeError
from featlift.volumes import Selection, Volume, find_scans, read
from featlift.volumes.orientation import orient_lps
from featlift.volumes.regions import Box, body_box, box_around, centres_of_lesions, cut
from tests.support.files import OBLIQUE, noise, save

SHAPE = (6, 7, 8)
ARRAY = np.arange(np.prod(SHAPE), dtype=np.float32).reshape(SHAPE)  # every value once


@st.composite
def boxes(draw: st.DrawFn) -> Box:
    """Boxes of which some lies in the volume."""
    start = tuple(draw(st.integers(-9, size - 1)) for size in SHAPE)
    shape = tuple(draw(st.integers(max(1, 1 - first), 20)) for first in start)
    return Box(start, shape)


@settings(max_examples=300, deadline=None)
@given(boxes())
def test_what_is_cut_out_stays_in_its_place(box):
    """Beyond the volume the nearest voxel of it is repeated."""
    part, affine = cut(ARRAY, OBLIQUE, box)
    assert part.shape == box.shape
    indices = np.indices(box.shape).reshape(3, -1).T
    before = indices + box.start
    np.testing.assert_allclose(apply_affine(affine, indices), apply_affine(OBLIQUE, before), atol=1e-9)
    nearest = np.clip(before, 0, np.array(SHAPE) - 1)
    np.testing.assert_array_equal(part.ravel(), ARRAY[tuple(nearest.T)])


@settings(max_examples=100, deadline=None)
@given(boxes(), st.floats(-9, 9))
def test_beyond_the_volume_may_stand_a_value(box, value):
    part, affine = cut(ARRAY, None, box, fill_value=value)
    assert affine is None
    before = (np.indices(box.shape).reshape(3, -1).T + box.start).T
    inside = ((before >= 0) & (before < np.array(SHAPE)[:, None])).all(0)
    np.testing.assert_array_equal(part.ravel()[inside], ARRAY[tuple(before[:, inside])])
    assert (part.ravel()[~inside] == np.float32(value)).all()


def test_channels_are_cut_alike():
    three = np.stack([ARRAY, ARRAY + 1, ARRAY + 2])
    box = Box((-1, 2, 3), (4, 4, 9))
    part, affine = cut(three, OBLIQUE, box)
    for channel, want in zip(three, part, strict=True):
        np.testing.assert_array_equal(cut(channel, OBLIQUE, box)[0], want)
    np.testing.assert_array_equal(affine, cut(ARRAY, OBLIQUE, box)[1])


def test_what_lies_within_is_not_copied():
    part, _ = cut(ARRAY, None, Box((1, 2, 3), (2, 3, 4)))
    assert np.shares_memory(part, ARRAY)


# the body


def is_inside(box: Box, bright: np.ndarray) -> float:
    """The part of these voxels that a box holds."""
    return float(bright[tuple(slice(s, s + n) for s, n in zip(box.start, box.shape, strict=True))].sum() / bright.sum())


@pytest.mark.parametrize("margin", [0, 1, 2.4, 1000])
def test_a_body_by_hand(margin):
    """3 x 0.9 x 0.7 mm: 10 slices from the 5th, 20 rows from the 8th, 12 columns from the 30th."""
    array = np.random.default_rng(0).normal(0, 1, (30, 40, 50)).astype(np.float32)
    array[5:15, 8:28, 30:42] += 100
    box = body_box(array, OBLIQUE, margin)
    d, h, w = (round(margin / mm) for mm in (3, 0.9, 0.7))
    start = max(0, 5 - d), max(0, 8 - h), max(0, 30 - w)
    stop = min(30, 15 + d), min(40, 28 + h), min(50, 42 + w)
    assert box == Box(start, tuple(b - a for a, b in zip(start, stop, strict=True)))
    assert body_box(array, None, 2) == Box((3, 6, 28), (14, 24, 16))  # 1 mm where nothing is known


def test_the_largest_piece_is_the_body():
    """Not the table under it, not a marker beside it."""
    array = np.zeros((20, 60, 60), np.float32)
    array[2:18, 10:40, 10:50] = 50
    array[:, 50:52, :] = 60
    array[5:8, 2:5, 2:5] = 1000
    assert body_box(array, None, 0) == Box((2, 10, 10), (16, 30, 40))


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_a_body_looked_for_on_a_coarse_grid_is_all_in_its_box(data):
    """Even where its edge lies between two of the voxels that are looked at."""
    shape = (5, 300, 400)
    start = [data.draw(st.integers(0, size // 2)) for size in shape]
    size = [data.draw(st.integers(least, 200)) for least in (3, 60, 60)]  # one of half a percent is an outlier
    array = np.zeros(shape, np.float32)
    where = tuple(slice(a, a + n) for a, n in zip(start, size, strict=True))
    array[where] = 1
    box = body_box(array, None, 0)
    for axis, (first, length) in enumerate(zip(start, size, strict=True)):
        last = min(shape[axis], first + length)
        assert box.start[axis] <= first
        assert box.start[axis] + box.shape[axis] >= last
        assert box.shape[axis] <= last - first + 2 * 4  # and not much around it


@pytest.mark.parametrize("value", [0, -1024])
def test_where_there_is_no_body_all_is_kept(value):
    array = np.full((5, 6, 7), value, np.float32)
    assert body_box(array, None, 0) == Box((0, 0, 0), (5, 6, 7))
    array[2, 3, 4] = 1  # a single voxel is an outlier
    assert body_box(np.pad(array, 10, mode="edge"), None, 0) == Box((0, 0, 0), (25, 26, 27))


def test_the_head_of_the_mni152_template(tmp_path):
    """1 mm, with air around the head: the box holds it and drops the air."""
    copy_brain(tmp_path)
    volume = read(tmp_path / "scans/brain.nii.gz")
    array, affine = orient_lps(volume.array, volume.affine)
    padded = np.pad(array, 20)
    box = body_box(padded, affine, 0)
    brain = padded > 0.3 * padded.max()
    assert is_inside(box, brain) > 0.9999
    assert np.prod(box.shape) < 0.6 * padded.size
    with_margin = body_box(padded, affine, 10)
    assert all(a == b - 10 for a, b in zip(with_margin.start, box.start, strict=True))


@pytest.mark.parametrize(
    "name", ["totalseg/example_ct_sm.nii.gz", "lesions/lung1_image.nrrd", "totalseg/example_ct_dicom"]
)
def test_the_body_in_a_real_ct(shared, name):
    """All of it that is denser than water and in one piece, the table left out as far as air lies between."""
    volume = read(shared / name)
    array, affine = orient_lps(volume.array, volume.affine)
    box = body_box(array, affine, 0)
    pieces, _ = ndimage.label(ndimage.binary_opening(array > 0, iterations=2))
    body = pieces == np.bincount(pieces.ravel())[1:].argmax() + 1
    assert is_inside(box, body) > 0.999
    around = body_box(array, affine, 10)
    assert is_inside(around, body) == 1
    assert np.prod(around.shape) < array.size


# boxes around points


def test_a_box_around_a_voxel_by_hand():
    """9 mm of 3 mm slices are 3, 4.5 mm of 0.9 mm rows 5, 0.7 mm one column."""
    centre = tuple((OBLIQUE @ [10, 20, 30, 1])[:3])
    assert box_around((40, 40, 40), OBLIQUE, centre, (9, 4.5, 0.7)) == Box((9, 18, 30), (3, 5, 1))
    assert box_around((40, 40, 40), OBLIQUE, centre, (0.1, 0.1, 0.1)) == Box((10, 20, 30), (1, 1, 1))


@settings(max_examples=200, deadline=None)
@given(
    index=st.tuples(*(st.floats(-0.49, size - 0.51) for size in (30, 40, 50))),
    size=st.tuples(*[st.floats(1, 99)] * 3),
)
def test_a_box_around_a_point_has_it_in_its_middle(index, size):
    centre = (OBLIQUE @ [*index, 1])[:3]
    box = box_around((30, 40, 50), OBLIQUE, tuple(centre), size)
    middle = np.array(box.start) + (np.array(box.shape) - 1) / 2
    assert (np.abs(middle - index) <= 0.5 + 1e-9).all()
    assert (np.abs(np.array(box.shape) - np.array(size) / (3, 0.9, 0.7)) <= 1).all()
    part, affine = cut(np.zeros((30, 40, 50), np.float32), OBLIQUE, box)  # some of it is in the volume
    assert part.shape == box.shape
    np.testing.assert_allclose((affine @ [*(np.array(index) - box.start), 1])[:3], centre, atol=1e-9)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("beyond", [-0.6, 0.6])
def test_a_centre_outside_the_scan(axis, beyond):
    index = np.array([3.0, 4, 5])
    index[axis] = beyond if beyond < 0 else (7, 11, 13)[axis] - 1 + beyond
    centre = tuple((OBLIQUE @ [*index, 1])[:3])
    with pytest.raises(VolumeError, match=r"the region's centre \(.*; LPS mm\) lies outside the scan: .* or in RAS\?"):
        box_around((7, 11, 13), OBLIQUE, centre, (5, 5, 5))


@pytest.mark.parametrize("centre", [(np.nan, 0, 0), (0, np.inf, 0), (1e300, 0, 0)])
def test_a_centre_that_is_no_place(centre):
    with pytest.raises(VolumeError, match="lies outside the scan"):
        box_around((7, 11, 13), np.eye(4), centre, (5, 5, 5))


def test_a_box_needs_a_geometry():
    with pytest.raises(VolumeError, match="its geometry is unknown, so a region in millimetres has no place in it"):
        box_around((7, 11, 13), None, (0, 0, 0), (5, 5, 5))


# lesions


def by_scipy(mask: Volume) -> list[np.ndarray]:
    pieces, count = ndimage.label(mask.array > 0)
    centres = []
    for number in range(1, count + 1):
        where = np.argwhere(pieces == number)
        centres.append(apply_affine(mask.affine, (where.min(0) + where.max(0)) / 2))
    return centres


@pytest.mark.parametrize(("case", "count"), [("brain1", 2), ("breast1", 1), ("lung1", 1)])
def test_real_lesions(shared, case, count):
    mask = read(shared / f"lesions/{case}_label.nrrd")
    centres = centres_of_lesions(mask)
    assert len(centres) == count
    np.testing.assert_allclose(centres, by_scipy(mask), atol=1e-6)
    voxels = apply_affine(mask.affine, np.argwhere(mask.array))
    assert (voxels.min(0) < np.min(centres, axis=0)).all()
    assert (np.max(centres, axis=0) < voxels.max(0)).all()


def test_many_lesions_whatever_their_labels():
    array = (noise((12, 13, 14)) > 90) * noise((12, 13, 14))
    mask = Volume(array.astype(np.float32), OBLIQUE)
    centres = centres_of_lesions(mask)
    assert len(centres) > 20
    np.testing.assert_allclose(centres, by_scipy(mask), atol=1e-9)


def test_no_lesion_and_no_place():
    assert centres_of_lesions(Volume(np.zeros((5, 6, 7), np.float32), OBLIQUE)) == []
    with pytest.raises(VolumeError, match="the mask does not say where it lies"):
        centres_of_lesions(Volume(np.ones((5, 6, 7), np.float32)))


# cases of regions


def two_lesions(folder: Path) -> Path:
    array = np.zeros((7, 11, 13), "uint8")
    array[1:3, 2:5, 3] = 1
    array[5, 8:10, 9:12] = 2
    save(folder / "raw.nrrd", noise()).rename(folder / "a.nrrd")
    save(folder / "raw.nrrd", array).rename(folder / "a_label.nrrd")
    save(folder / "raw.nrrd", noise()).rename(folder / "b.nrrd")
    return folder


LESIONS = [tuple((OBLIQUE @ [*index, 1])[:3]) for index in [(1.5, 3, 3), (5, 8.5, 10)]]


def test_a_case_for_each_lesion_of_a_mask(tmp_path):
    found = find_scans([two_lesions(tmp_path)], Selection(mask_pattern="*_label.nrrd", roi="masks"))
    assert [scan.id for scan in found.scans] == ["a__roi1", "a__roi2"]
    np.testing.assert_allclose([scan.centre for scan in found.scans], LESIONS, atol=1e-4)
    assert {scan.sources[0].path.name for scan in found.scans} == {"a.nrrd"}
    assert [(each.name, each.reason) for each in found.skipped] == [("b.nrrd", "it has no mask")]


def test_a_case_for_each_lesion_of_a_folder_of_masks(tmp_path):
    (tmp_path / "masks").mkdir()
    (two_lesions(tmp_path) / "a_label.nrrd").rename(tmp_path / "masks/a.nrrd")
    found = find_scans([tmp_path], Selection(roi=str(tmp_path / "masks")))
    assert [scan.id for scan in found.scans] == ["a__roi1", "a__roi2"]
    np.testing.assert_allclose([scan.centre for scan in found.scans], LESIONS, atol=1e-4)


@pytest.mark.parametrize(
    ("mask", "match"),
    [
        (b"not a mask", r"^the mask of a: a_label\.nrrd: not a NRRD file"),
        (None, r"^the mask of a: .*the mask does not say where it lies"),
    ],
)
def test_a_mask_that_cannot_be_read(tmp_path, mask, match):
    path = two_lesions(tmp_path) / "a_label.nrrd"
    path.write_bytes(mask or path.read_bytes().replace(b"space: left-posterior-superior", b"space dimension: 3"))
    with pytest.raises(InputError, match=match) as caught:
        find_scans([tmp_path], Selection(mask_pattern="*_label.nrrd", roi="masks"))
    assert "\n" not in str(caught.value)


def test_no_region_at_all(tmp_path):
    save(tmp_path / "raw.nrrd", noise())
    with pytest.raises(InputError, match=r"^--roi masks: no region for any scan \(it has no mask\)$"):
        find_scans([tmp_path], Selection(roi="masks"))
    two_lesions(tmp_path)
    save(tmp_path / "zlib.mha", np.zeros((7, 11, 13), "uint8")).rename(tmp_path / "b_label.mha")
    with pytest.raises(InputError, match=r"no region for any scan \(its mask is empty\)$"):
        find_scans([tmp_path], Selection(mask_pattern="*_label.mha", glob=["b*"], roi="masks"))


def points(folder: Path, text: str, encoding: str = "utf-8") -> str:
    (folder / "points.csv").write_bytes(text.encode(encoding))
    return str(folder / "points.csv")


def test_a_case_for_each_point(tmp_path):
    two_lesions(tmp_path)
    text = "size,id,z,y,x\n3,a,1,2,3\n9,b,4,5,6\n9, a ,-1e-1,8.5,9\n"
    found = find_scans([tmp_path], Selection(exclude=["*_label*"], roi=points(tmp_path, text)))
    assert [(scan.id, scan.centre) for scan in found.scans] == [
        ("a__roi1", (3, 2, 1)),
        ("a__roi2", (9, 8.5, -0.1)),
        ("b__roi1", (6, 5, 4)),
    ]
    assert found.skipped == []


def test_points_of_scans_that_begin_with_the_id(tmp_path):
    two_lesions(tmp_path)
    np.save(tmp_path / "b.npy", np.zeros((2, 5, 6, 7)))
    (tmp_path / "b.nrrd").unlink()
    text = points(tmp_path, "id,x,y,z\nb,4,5,6\n")
    found = find_scans([tmp_path], Selection(glob=["*.npy", "a.nrrd"], frame="all", roi=text))
    assert [scan.id for scan in found.scans] == ["b__frame0__roi1", "b__frame1__roi1"]
    assert [(each.name, each.reason) for each in found.skipped] == [("a.nrrd", "no point is given for it")]


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", r"points\.csv: not a readable CSV in UTF-8 \(it is empty\); give masks, or a CSV with id, x, y, z"),
        ("id,x,y,z\n", r"no region for any scan \(no point is given for it\)"),
        ("id,x,y\na,1,2\n", "no column 'z'; give id, x, y, z"),
        ("x,y,z\n1,2,3\n", "no column 'id'; give id, x, y, z"),
        ("id|x|y|z\na|1|2|3\n", "no column 'id'"),
        ("id,x,y,z\na,1,2,3\nc,1,2,3\n", "no scan of the id c, such as a"),
        ("id,x,y,z\na,1,2,3\n,1,2,3\n", "no scan of the id , such as a"),
        ("id,x,y,z\na,1,2,3\na,1,2,left\n", r"points\.csv, line 3: 1, 2, left is no place; give x, y, z in LPS mm"),
        ("id,x,y,z\na,1,2,\n", r"points\.csv, line 2: 1, 2,  is no place"),
        ("id,x,y,z\na,1,2\n", r"points\.csv, line 2: 3 values, but the header names 4 columns"),
        ("id,x,y,z\na,1,2,nan\n", r"points\.csv, line 2: 1, 2, nan is no place"),
        ("id,x,y,z\na,1,inf,2\n", r"points\.csv, line 2: 1, inf, 2 is no place"),
        ("id,x,y,z\na,1,1e999,2\n", r"points\.csv, line 2: 1, 1e999, 2 is no place"),
        ('id,x,y,z\na,1,"2,3\n', "points.csv"),
    ],
)
def test_what_is_wrong_with_a_list_of_points(tmp_path, text, match):
    two_lesions(tmp_path)
    with pytest.raises(InputError, match=match) as caught:
        find_scans([tmp_path], Selection(exclude=["*_label*"], roi=points(tmp_path, text)))
    assert "\n" not in str(caught.value)


def test_a_list_of_points_that_cannot_be_read(tmp_path):
    two_lesions(tmp_path)
    for encoding in ("utf-16", "latin-1"):
        with pytest.raises(InputError, match=r"points\.csv: not a readable CSV in UTF-8 .*; give .* id, x, y, z"):
            find_scans([tmp_path], Selection(roi=points(tmp_path, "id,x,y,z\né,1,2,3\n", encoding)))
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(InputError, match=r"folder\.csv: not a readable CSV in UTF-8"):
        find_scans([tmp_path], Selection(roi=str(tmp_path / "folder.csv")))
    with pytest.raises(InputError, match=r"^--roi .*nowhere\.csv: no such file; give masks, or a CSV"):
        find_scans([tmp_path], Selection(roi=str(tmp_path / "nowhere.csv")))
    with pytest.raises(InputError, match="nowhere: no such file or folder"):
        find_scans([tmp_path], Selection(roi=str(tmp_path / "nowhere")))


def test_the_byte_order_mark_of_excel(tmp_path):
    two_lesions(tmp_path)
    text = points(tmp_path, "id,x,y,z\r\na,1,2,3\r\n", "utf-8-sig")
    assert [scan.id for scan in find_scans([tmp_path], Selection(glob=["a.nrrd"], roi=text)).scans] == ["a__roi1"]


def test_real_lesions_as_cases(shared):
    found = find_scans([shared / "lesions"], Selection(mask_pattern="*_label.nrrd", roi="masks"))
    assert [scan.id for scan in found.scans] == [
        *("brain1_image__roi1", "brain1_image__roi2", "breast1_image__roi1", "lung1_image__roi1")
    ]
    for scan in found.scans[2:]:
        volume, mask = read(scan.sources[0].path), read(scan.mask.path)
        box = box_around(volume.array.shape, volume.affine, scan.centre, (40, 40, 40))
        assert cut(mask.array, mask.affine, box)[0].sum() == mask.array.sum()
