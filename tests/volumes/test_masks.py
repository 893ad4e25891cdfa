"""Each scan finds its mask, and no other's; labels lie where the patient has them."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from featlift.errors import InputError, VolumeError
from featlift.volumes import Selection, Volume, find_masks, find_scans, read
from featlift.volumes.discovery.pairing import pair, shared_part
from featlift.volumes.masks import labels_on
from tests.support.files import OBLIQUE, noise, save


def tree(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return folder


def masks(inputs: list[Path], root: Path, **selection: object) -> dict[str, str | None]:
    """The path of each scan's mask."""
    scans = find_scans(inputs, Selection(**selection)).scans
    return {scan.id: scan.mask and scan.mask.path.relative_to(root).as_posix() for scan in scans}


@pytest.mark.parametrize(
    ("ids", "given", "want"),
    [
        (["a", "b"], ["a", "b", "c"], {"a": "a", "b": "b"}),
        (["lung1_image", "ct__1a2b"], ["lung1", "ct"], {"lung1_image": "lung1", "ct__1a2b": "ct"}),
        (["p1_2_t1"], ["p1", "p1_2"], {"p1_2_t1": "p1_2"}),  # the longest
        (["p10", "p1.x"], ["p1"], {"p1.x": "p1"}),  # p1 is another patient than p10
        (["p1", "p1_later"], ["p1"], {"p1": "p1"}),  # whoever has it by name has it alone
        (["p1_a", "p1_b"], ["p1"], {"p1_a": "p1", "p1_b": "p1"}),
        (["a"], ["a_seg"], {}),
        ([], ["a"], {}),
    ],
)
def test_pairs_by_id_and_by_how_it_begins(ids, given, want):
    assert pair(ids, {name: name for name in given}) == want


@pytest.mark.parametrize(
    ("name", "pattern", "want"),
    [
        ("lung1_label.nrrd", "*_label.nrrd", "lung1"),
        ("p1/lung1_label.nrrd", "*_label.nrrd", "p1/lung1"),
        ("p1/lung1_label.nii.gz", "*_label*", "p1/lung1"),
        ("p1/lung1_label.nii.gz", "*_label.*", "p1/lung1"),
        ("x.y_label.nrrd", "*_label.nrrd", "x.y"),
        ("x.seg.nrrd", "*.seg.nrrd", "x"),
        ("mask_x.nii", "mask_*.nii", "x"),
        ("labelsTr/h_001.nii.gz", "labelsTr/*", "h_001"),
        ("labelsTr/sub/h_001.nii.gz", "labelsTr/*", "sub/h_001"),
        ("p1/labels/ct.nii", "*/labels/*", "p1/ct"),
        ("p1/seg.nii.gz", "seg.nii.gz", "p1"),
        ("labels2/x.nii", "labels?/*", "x"),
        ("p1/seg.nii.gz", "*/seg.nii.gz", "p1"),
        ("p1/x.nii", "*", "p1/x"),
        ("case.nii.gz", "[a-d]*.nii.gz", "case"),  # not understood: all of it
    ],
)
def test_what_a_mask_shares_with_its_scan(name, pattern, want):
    assert shared_part(name, pattern) == want


def test_scans_and_masks_in_one_folder(tmp_path):
    tree(tmp_path, "a_image.nrrd", "a_label.nrrd", "p/b_image.nrrd", "p/b_label.nrrd", "c_image.nrrd")
    found = find_scans([tmp_path], Selection(mask_pattern="*_label.nrrd"))
    assert masks([tmp_path], tmp_path, mask_pattern="*_label.nrrd") == {
        "a_image": "a_label.nrrd",
        "c_image": None,
        "p__b_image": "p/b_label.nrrd",
    }
    assert found.notices == ["1 of 3 scans have no mask"]


def test_a_mask_in_the_folder_of_each_patient(tmp_path):
    """Two scans of a patient have the same mask."""
    tree(tmp_path, *(f"{patient}/{name}.nii.gz" for patient in ("p1", "p10", "p2") for name in ("t1", "t2", "seg")))
    for pattern in ("seg.nii.gz", "*/seg.nii.gz", "seg.*"):
        assert masks([tmp_path], tmp_path, mask_pattern=pattern) == {
            f"{patient}__{name}": f"{patient}/seg.nii.gz" for patient in ("p1", "p10", "p2") for name in ("t1", "t2")
        }


def test_folders_of_images_and_of_labels(tmp_path):
    """As the Decathlon and nnU-Net have them, the channels of nnU-Net sharing a mask."""
    tree(tmp_path, *(f"imagesTr/h_{number}_{channel}.nii.gz" for number in range(3) for channel in ("0000", "0001")))
    tree(tmp_path, "labelsTr/h_0.nii.gz", "labelsTr/h_1.nii.gz", "labelsTr/h_7.nii.gz")
    want = {
        f"imagesTr__h_{number}_{channel}": f"labelsTr/h_{number}.nii.gz" if number < 2 else None
        for number in range(3)
        for channel in ("0000", "0001")
    }
    found = find_scans([tmp_path], Selection(mask_pattern="labelsTr/*"))
    assert masks([tmp_path], tmp_path, mask_pattern="labelsTr/*") == want
    assert found.notices == ["1 of 3 masks belong to no scan by their names", "2 of 6 scans have no mask"]
    for inputs in (tmp_path, tmp_path / "imagesTr"):  # the folder of the masks may lie among the scans
        given = masks([inputs], tmp_path, masks=tmp_path / "labelsTr")
        assert {case_id.removeprefix("imagesTr__"): mask for case_id, mask in given.items()} == {
            case_id.removeprefix("imagesTr__"): mask for case_id, mask in want.items()
        }


def test_patients_of_the_same_file_names_keep_their_own_masks(tmp_path):
    tree(tmp_path, "images/p1/t1.nii", "images/p2/t1.nii", "labels/p2/t1.nii")
    want = {"images__p1__t1": None, "images__p2__t1": "labels/p2/t1.nii"}
    assert masks([tmp_path], tmp_path, mask_pattern="labels/*") == want
    assert masks([tmp_path], tmp_path, masks=tmp_path / "labels") == want
    tree(tmp_path / "b", *(f"p{number}/{kind}/ct.nii" for number in range(2) for kind in ("images", "labels")))
    assert masks([tmp_path / "b"], tmp_path / "b", mask_pattern="*/labels/*") == {
        f"p{number}__images__ct": f"p{number}/labels/ct.nii" for number in range(2)
    }


def test_a_mask_that_could_be_of_two_patients(tmp_path):
    tree(tmp_path, "images/p1/t1.nii", "images/p2/t1.nii", "labels/t1.nii")
    assert masks([tmp_path], tmp_path, mask_pattern="labels/*") == {"images__p1__t1": None, "images__p2__t1": None}
    tree(tmp_path / "b", "p1/t1.nii", "p2/t1.nii", "labels/t1.nii")
    with pytest.raises(
        InputError, match=r"labels/t1\.nii could be the mask of p1/t1\.nii or p2/t1\.nii: say whose it is in a CSV"
    ):
        find_scans([tmp_path / "b"], Selection(mask_pattern="labels/*"))


def test_the_mask_of_one_scan_is_not_that_of_another_by_chance(tmp_path):
    tree(tmp_path, "t1.nii", "p1/t1.nii", "t1_seg.nii")
    assert masks([tmp_path], tmp_path, mask_pattern="*_seg.nii") == {"t1": "t1_seg.nii", "p1__t1": None}


def test_a_scan_that_could_have_two_masks(tmp_path):
    tree(tmp_path, "a/b/x.nii", "labels/a/x.nii", "labels/b/x.nii")
    with pytest.raises(
        InputError, match=r"a/b/x\.nii could have the mask .*labels/./x\.nii or .*: say whose it is in a CSV"
    ):
        find_scans([tmp_path], Selection(mask_pattern="labels/*"))


def test_two_masks_of_one_name(tmp_path):
    tree(tmp_path, "x.nii", "x_label.nii", "x_LABEL.nrrd", "x_label.mha")
    with pytest.raises(InputError, match="two scans with the id x_label"):
        find_scans([tmp_path], Selection(mask_pattern="*_label.*"))
    tree(tmp_path / "b", "x.nii", "labels1/x.nii", "labels2/x.nii")
    with pytest.raises(InputError, match=r"two masks for x: .*labels1/x\.nii and .*labels2/x\.nii; exclude one"):
        find_scans([tmp_path / "b"], Selection(mask_pattern="labels?/*"))
    assert masks([tmp_path / "b"], tmp_path, mask_pattern="labels?/*", exclude=["labels1/*"]) == {
        "x": "b/labels2/x.nii"
    }


def test_a_pattern_within_a_folder_of_masks(tmp_path):
    tree(tmp_path, "images/a.nii", "images/b.nii", "masks/a_tumour.nii", "masks/a_liver.nii", "masks/b_tumour.nii")
    assert masks([tmp_path / "images"], tmp_path, masks=tmp_path / "masks", mask_pattern="*_tumour.nii") == {
        "a": "masks/a_tumour.nii",
        "b": "masks/b_tumour.nii",
    }


def test_the_only_mask_of_the_only_scan_may_have_any_name(tmp_path):
    tree(tmp_path, "ct.nii", "organs.nii")
    given = masks([tmp_path / "ct.nii"], tmp_path, masks=tmp_path / "organs.nii")
    assert given == {"ct": "organs.nii"}


def test_nothing_but_masks(tmp_path):
    tree(tmp_path, "a_label.nii", "b_label.nii")
    with pytest.raises(InputError, match=r"nothing but masks: all 2 files are some by --mask-pattern \*_label\.nii"):
        find_scans([tmp_path], Selection(mask_pattern="*_label.nii"))
    with pytest.raises(InputError, match="nothing but masks: all 2 files are some by --masks /"):
        find_scans([tmp_path], Selection(masks=tmp_path))
    with pytest.raises(InputError, match=r"nothing but masks, by their names \(such as a_label\.nii\): .* --glob '\*'"):
        find_scans([tmp_path])
    assert set(masks([tmp_path], tmp_path, glob=["*"])) == {"a_label", "b_label"}  # so they are scans


CALLED_SO = [
    *("x_label.nii", "x_seg.nii.gz", "labels/x.nii", "labelsTr/x.nii", "gt/p/x.nii", "x-mask.nrrd", "mask.nii"),
    *("X_SEG.nii", "roi.nii", "x.seg.nrrd", "x_segmentation.nii", "segs/x.nii", "x_seg_2.nii"),
]


@pytest.mark.parametrize("name", CALLED_SO)
def test_files_that_are_called_as_masks_are(tmp_path, name):
    """They are scans where no other lies beside them, or below the folder that theirs is in; which is told."""
    tree(tmp_path, "scan.nii", f"alone/{name}")
    found = find_scans([tmp_path])
    assert len(found.scans) == 2
    assert found.notices == [
        f"1 of 2 scans are called as masks are (such as alone/{name}): "
        "--exclude leaves them out, --mask-pattern pairs them with their scans"
    ]
    for choice in ({"glob": ["*"]}, {"exclude": ["nothing"]}):  # whoever chooses by name knows
        assert find_scans([tmp_path], Selection(**choice)).notices == []


@pytest.mark.parametrize("name", [*CALLED_SO, "liver.nii.gz", "rib_left_10.nii.gz", "segmentations/liver.nii.gz"])
def test_masks_beside_a_scan_are_left_out(tmp_path, name):
    """With a notice; not where the scans are chosen by a glob, given as files, or listed."""
    tree(tmp_path, "p1/ct.nii", f"p1/{name}", "p2/ct.nii")
    for exclude in ((), ("nothing",)):
        found = find_scans([tmp_path], Selection(exclude=exclude))
        assert [scan.name for scan in found.scans] == ["p1/ct.nii", "p2/ct.nii"]
        assert found.notices == [
            f"1 of 3 files are left out as masks, by their names (such as p1/{name}): "
            "--glob '*' takes them as scans, --mask-pattern pairs them with theirs"
        ]
        assert [(each.name, each.reason) for each in found.skipped] == [(f"p1/{name}", "a mask, by its name")]
    assert len(find_scans([tmp_path], Selection(glob=["*.n*"])).scans) == 3
    assert len(find_scans([tmp_path / "p1", tmp_path / "p1" / name]).scans) == 2
    (tmp_path / "list.csv").write_text(f"id,path\na,p1/ct.nii\nb,p1/{name}\n")
    assert len(find_scans([tmp_path / "list.csv"]).scans) == 2


def test_what_other_masks_lie_about_is_left_out_too(tmp_path):
    """Where one of the organs is paired, the others are not lifted as scans."""
    tree(tmp_path, "p1/ct.nii", *(f"p1/segmentations/{name}.nii" for name in ("liver", "spleen", "rib_left_1")))
    found = find_scans([tmp_path], Selection(mask_pattern="*/segmentations/liver.nii"))
    assert [scan.name for scan in found.scans] == ["p1/ct.nii"]
    assert [each.name for each in found.skipped] == [
        f"p1/segmentations/{name}.nii" for name in ("rib_left_1", "spleen")
    ]


@pytest.mark.parametrize(
    "names",
    [
        ["liver.nii.gz"],
        ["liver.nii.gz", "spleen.nii.gz"],  # nothing beside them is a scan
        ["p1/liver.nii.gz", "ct.nii.gz"],
        ["ct.nii", "no_mask/a.nii", "seg_study/b.nii"],  # a folder has to be called so, not just to have such a word
        ["ct.nii", "liver_1.nii", "brainstem.nii", "my_liver.nii"],
    ],
)
def test_scans_that_are_called_as_organs_are(tmp_path, names):
    tree(tmp_path, *names)
    found = find_scans([tmp_path])
    assert (sorted(scan.name for scan in found.scans), found.skipped) == (sorted(names), [])


def test_a_scan_called_as_an_organ_keeps_its_own_mask_out(tmp_path):
    tree(tmp_path, "brain.nii.gz", "brain_seg.nii.gz")
    assert [scan.id for scan in find_scans([tmp_path]).scans] == ["brain"]


def test_organs_in_a_folder_of_any_name(tmp_path):
    """As TotalSegmentator writes where it is told to."""
    tree(tmp_path, "p1/ct.nii.gz", "p1/out/liver.nii.gz", "p1/out/aorta.nii.gz", "p1/late/liver.nii.gz")
    assert [scan.name for scan in find_scans([tmp_path]).scans] == ["p1/ct.nii.gz", "p1/late/liver.nii.gz"]


def test_a_real_folder_of_scans_and_masks(shared, tmp_path):
    """DICOM says what it is, whatever its folder is called."""
    ids = [scan.id for scan in find_scans([shared / "totalseg"]).scans]
    assert [case_id.partition("__")[0] for case_id in ids] == ["example_ct_dicom", "example_ct_sm", "example_mr_sm"]
    tree(tmp_path, "a.nii")
    for name in ("liver", "segmentations"):
        shutil.copytree(shared / "totalseg/example_ct_dicom", tmp_path / name / "series")
    assert len(find_scans([tmp_path]).scans) == 3


@pytest.mark.parametrize(
    "name", ["segment.nii", "labelled.nii", "masked.nii", "gto.nii", "heroin.nii", "unlabeled.nii"]
)
def test_files_that_are_not(tmp_path, name):
    tree(tmp_path, name)
    assert find_scans([tmp_path]).notices == []


def test_masks_that_are_not_there(tmp_path):
    tree(tmp_path, "a.nii")
    with pytest.raises(InputError, match="nowhere: no such file or folder"):
        find_scans([tmp_path], Selection(masks=tmp_path / "nowhere"))
    found = find_scans([tmp_path], Selection(mask_pattern="*_label.nii"))
    assert found.notices == ["1 of 1 scans have no mask"]


def test_masks_of_the_cases_of_a_store(tmp_path):
    tree(tmp_path, "a_label.nii", "p1/b_label.nii", "p1/other.nii")
    want = {"a": tmp_path / "a_label.nii", "p1__b__roi1": tmp_path / "p1/b_label.nii"}
    assert find_masks(["a", "p1__b__roi1", "c"], tmp_path, "*_label.nii") == want
    assert find_masks(["p1__other"], tmp_path) == {"p1__other": tmp_path / "p1/other.nii"}


def test_real_lesions(shared):
    given = masks([shared / "lesions"], shared / "lesions", mask_pattern="*_label.nrrd")
    assert given == {f"{name}_image": f"{name}_label.nrrd" for name in ("brain1", "breast1", "lung1")}


def test_real_hippocampi(shared):
    folder = shared / "hippocampus"
    given = masks([folder / "images"], folder, masks=folder / "labels")
    assert len(given) == 200
    assert all(mask == f"labels/{case_id}.nii.gz" for case_id, mask in given.items())
    assert masks([folder], folder, mask_pattern="labels/*", glob=["*.nii.gz"]) == {
        f"images__{case_id}": mask for case_id, mask in given.items()
    }


# where the labels lie


def volume(array: np.ndarray, affine: np.ndarray | None = OBLIQUE) -> Volume:
    return Volume(array.astype(np.float32), affine)


MASK = (noise((8, 10, 12)) > 80) * np.arange(1, 13)


def test_labels_on_the_same_grid():
    labels = labels_on(volume(MASK), MASK.shape, OBLIQUE)
    assert labels.dtype == np.int32
    np.testing.assert_array_equal(labels, MASK)


@pytest.mark.parametrize(
    ("order", "flips"), [((2, 0, 1), (1, -1, 1)), ((1, 0, 2), (-1, -1, -1)), ((0, 2, 1), (1, 1, -1))]
)
def test_labels_stored_with_other_axes(order, flips):
    """A mask that another tool wrote in another order means the same voxels."""
    to_old = np.zeros((4, 4))
    to_old[3, 3] = 1
    for new, (old, flip) in enumerate(zip(order, flips, strict=True)):
        to_old[old, new], to_old[old, 3] = flip, MASK.shape[old] - 1 if flip < 0 else 0
    other = MASK.transpose(order)[tuple(slice(None, None, flip) for flip in flips)]
    np.testing.assert_array_equal(labels_on(volume(other, OBLIQUE @ to_old), MASK.shape, OBLIQUE), MASK)


def test_labels_beyond_the_mask_are_0():
    shift = np.eye(4)
    shift[:3, 3] = 2, -3, 4
    labels = labels_on(volume(MASK), MASK.shape, OBLIQUE @ shift)
    want = np.zeros_like(MASK)
    want[:6, 3:, :8] = MASK[2:, :7, 4:]
    np.testing.assert_array_equal(labels, want)


def itk_nearest(mask: Path, scan: Path) -> np.ndarray:
    moving, fixed = sitk.ReadImage(mask), sitk.ReadImage(scan)
    return sitk.GetArrayFromImage(sitk.Resample(moving, fixed, sitk.Transform(), sitk.sitkNearestNeighbor, 0))


def test_a_real_oblique_scan_and_its_parcellation_agree_with_itk(shared):
    """On the border between two voxels both are nearest: a few in a million."""
    mask, scan = shared / "oblique_t2/t1_seg_gif.nii.gz", shared / "oblique_t2/t2.nii.gz"
    target = read(scan)
    labels = labels_on(read(mask), target.array.shape, target.affine)
    want = itk_nearest(mask, scan)
    assert len(np.unique(want)) > 100
    assert (labels != want).mean() < 1e-4
    assert (labels != np.roll(want, 1, axis=2)).mean() > 0.01  # and one voxel aside it would show


@pytest.mark.parametrize("case", ["brain1", "breast1", "lung1"])
def test_real_lesions_on_their_scans(shared, case):
    scan, mask = (read(shared / f"lesions/{case}_{kind}.nrrd") for kind in ("image", "label"))
    np.testing.assert_array_equal(labels_on(mask, scan.array.shape, scan.affine), mask.array)


def test_real_organs_on_a_scan_stored_in_another_order(shared):
    """Liver, spleen and aorta of a CT have their densities under the labels, brought from another grid."""
    scan, mask = read(shared / "totalseg/example_ct_dicom"), read(shared / "totalseg/example_seg_dicom.nii.gz")
    labels = labels_on(mask, scan.array.shape, scan.affine)
    assert not np.array_equal(labels, mask.array)  # the mask is stored flipped
    for label, density in {1: 80, 5: 93, 52: 151}.items():
        assert np.median(scan.array[labels == label]) == density
        assert (np.abs(scan.array[labels == label] - density) < 50).mean() > 0.75
        assert (np.abs(scan.array[mask.array == label] - density) < 50).mean() < 0.65  # by index


def test_no_overlap():
    far = OBLIQUE.copy()
    far[:3, 3] += 1000
    with pytest.raises(VolumeError, match="the mask does not overlap the scan: are they of one patient"):
        labels_on(volume(MASK, far), MASK.shape, OBLIQUE)


@pytest.mark.parametrize(("of_mask", "of_scan"), [(None, OBLIQUE), (OBLIQUE, None), (None, None)])
def test_where_one_says_nothing_of_its_place_voxels_meet_by_index(of_mask, of_scan):
    np.testing.assert_array_equal(labels_on(volume(MASK, of_mask), MASK.shape, of_scan), MASK)
    with pytest.raises(
        VolumeError, match="the mask has 8 x 10 x 12 voxels, the scan 8 x 10 x 13, and one of them does not"
    ):
        labels_on(volume(MASK, of_mask), (8, 10, 13), of_scan)


@pytest.mark.parametrize(
    ("array", "match"),
    [
        (MASK * 0, "not a mask: it is empty"),
        (MASK + 0.5, "not a mask: it holds fractions"),
        (np.where(MASK == 1, np.nan, MASK), "not a mask: it holds fractions"),
        (np.where(MASK == 1, np.inf, MASK), "or numbers too large for labels"),
        (np.where(MASK == 1, 1 << 24, MASK), "or numbers too large for labels"),  # its neighbours are the same float32
    ],
)
def test_what_is_no_mask(array, match):
    with pytest.raises(VolumeError, match=match):
        labels_on(volume(array), MASK.shape, OBLIQUE)


def test_a_mask_read_from_a_file(tmp_path):
    path = save(tmp_path / "raw.nrrd", MASK.astype("uint8"))
    np.testing.assert_array_equal(labels_on(read(path), MASK.shape, OBLIQUE), MASK)
