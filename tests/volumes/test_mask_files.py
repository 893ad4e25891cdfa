"""Masks as other tools write them: the same labels at the same places, whatever the file."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import nrrd
import numpy as np
import pytest
import SimpleITK as sitk

from featlift.errors import InputError, VolumeError
from featlift.volumes import Selection, find_masks, find_scans, read, read_mask
from featlift.volumes.label_names import label_names_in, names_in
from featlift.volumes.masks import labels_on
from tests.support.files import OBLIQUE, RAS_TO_LPS, REVERSED, noise, save

SHAPE = (7, 11, 13)
NAMES = {"kidney_left": 1, "liver": 2, "spleen": 3}


def structures() -> dict[str, np.ndarray]:
    """Three boxes that touch nowhere."""
    found = {name: np.zeros(SHAPE, np.uint8) for name in NAMES}
    found["kidney_left"][1:3, 1:4, 1:5] = 1
    found["liver"][2:6, 5:9, 2:8] = 1
    found["spleen"][1:5, 2:7, 9:12] = 1
    return found


def labels(names: dict[str, int] = NAMES) -> np.ndarray:
    return sum(label * structures()[name].astype(int) for name, label in names.items())


def folder_of_masks(folder: Path, names: tuple[str, ...] = tuple(NAMES), suffix: str = ".nii.gz") -> Path:
    folder.mkdir(parents=True)
    for name in names:
        save(folder / f"{name}{suffix}", structures()[name])
    return folder


def seg_nrrd(path: Path, layers: list[np.ndarray], segments: list[tuple[str, int, int]]) -> Path:
    """As 3D Slicer writes it: several layers are the first axis."""
    header = {
        "space": "left-posterior-superior",
        "kinds": [*(["list"] if len(layers) > 1 else []), "domain", "domain", "domain"],
        "space directions": np.array([*([[np.nan] * 3] if len(layers) > 1 else []), *(OBLIQUE @ REVERSED)[:3, :3].T]),
        "space origin": OBLIQUE[:3, 3],
        "encoding": "gzip",
    }
    for number, (name, value, layer) in enumerate(segments):
        header |= {f"Segment{number}_Name": name, f"Segment{number}_ID": f"Segment_{number + 1}"}
        header |= {f"Segment{number}_LabelValue": str(value), f"Segment{number}_Layer": str(layer)}
    array = np.stack([layer.T for layer in layers]) if len(layers) > 1 else layers[0].T
    nrrd.write(str(path), array.astype(np.uint8), header)
    return path


@pytest.mark.parametrize("tree", ["s1", "s1/segmentations", "segmentations/s1"])
def test_a_folder_with_a_file_for_each_structure(tmp_path, tree):
    folder_of_masks(tmp_path / tree)
    found = find_masks(["s1__ct"], tmp_path)
    assert names_in(found.values()) == {1: "kidney_left", 2: "liver", 3: "spleen"}
    mask = read_mask(found["s1__ct"])
    assert np.array_equal(mask.array, labels())
    assert np.allclose(mask.affine, OBLIQUE, atol=1e-4)


def test_one_name_has_one_label_in_all_cases_whichever_are_asked_for(tmp_path):
    folder_of_masks(tmp_path / "s1", ("liver", "spleen"))
    folder_of_masks(tmp_path / "s2", ("kidney_left", "spleen"))
    both = find_masks(["s1", "s2"], tmp_path)
    assert np.array_equal(read_mask(both["s1"]).array, labels({"liver": 2, "spleen": 3}))
    assert np.array_equal(read_mask(both["s2"]).array, labels({"kidney_left": 1, "spleen": 3}))
    assert find_masks(["s1"], tmp_path) == {"s1": both["s1"]}


def test_names_that_are_given_decide_labels_and_what_is_taken(tmp_path):
    folder_of_masks(tmp_path / "s1")
    folder_of_masks(tmp_path / "s2", ("kidney_left",))
    found = find_masks(["s1", "s2"], tmp_path, names={7: "Spleen", 4: "liver", 9: "brain"})
    assert np.array_equal(read_mask(found["s1"]).array, labels({"liver": 4, "spleen": 7}))
    assert list(found) == ["s1"]  # the other has neither
    with pytest.raises(
        InputError, match="no structure of the masks is called brain: they are kidney_left, liver, spleen; give"
    ):
        find_masks(["s1"], tmp_path, names={1: "brain"})


def test_masks_beside_their_scans_and_the_folder_of_one_case(tmp_path):
    """TotalSegmentator's data set, and what it writes for one scan."""
    folder_of_masks(tmp_path / "s1/segmentations")
    save(tmp_path / "s1/ct.nii.gz", noise())
    assert np.array_equal(read_mask(find_masks(["s1__ct"], tmp_path)["s1__ct"]).array, labels())
    assert np.array_equal(read_mask(find_masks(["any"], tmp_path / "s1/segmentations")["any"]).array, labels())
    assert np.array_equal(read_mask(tmp_path / "s1/segmentations").array, labels())
    (scan,) = find_scans([tmp_path], Selection(masks=tmp_path)).scans
    assert (scan.id, np.array_equal(read_mask(scan.mask).array, labels())) == ("s1__ct", True)
    (tmp_path / "masks.csv").write_text("id,path\nx,s1/segmentations\n")
    assert np.array_equal(read_mask(find_masks(["x"], tmp_path / "masks.csv")["x"]).array, labels())


def test_files_that_are_masks_themselves_stay_so(tmp_path):
    """Also where other masks, which are nobody's, lie beside them; and one in the folder of its case."""
    for name in ("p1/a", "p1/b", "p2/a"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        save(tmp_path / f"{name}.nii", labels().astype(np.uint8))
    assert find_masks(["p1__a", "p2__a"], tmp_path) == {f"p{n}__a": tmp_path / f"p{n}/a.nii" for n in (1, 2)}
    (tmp_path / "p1/b.nii").unlink()
    assert find_masks(["p1", "p2__x"], tmp_path) == {"p1": tmp_path / "p1/a.nii", "p2__x": tmp_path / "p2/a.nii"}


def test_a_voxel_of_several_structures_is_the_smallest_ones(tmp_path):
    organ, tumour = np.zeros(SHAPE, np.uint8), np.zeros(SHAPE, np.uint8)
    organ[1:6, 1:9, 1:9], tumour[2:4, 3:5, 7:11] = 255, 1
    for name, array in (("a_tumour", tumour), ("b_organ", organ)):
        (tmp_path / "s1").mkdir(exist_ok=True)
        save(tmp_path / f"s1/{name}.nii.gz", array)
    want = np.where(tumour, 1, np.where(organ, 2, 0))
    assert np.array_equal(read_mask(find_masks(["s1"], tmp_path)["s1"]).array, want)
    layered = seg_nrrd(tmp_path / "x.seg.nrrd", [organ // 255, tumour], [("organ", 1, 0), ("tumour", 1, 1)])
    assert np.array_equal(read_mask(layered).array, np.where(want == 1, 2, np.where(want == 2, 1, 0)))


def test_structures_that_do_not_go_together(tmp_path):
    folder_of_masks(tmp_path / "s1", ("liver",))
    save(tmp_path / "s1/spleen.nii.gz", structures()["spleen"][:-1])
    with pytest.raises(VolumeError, match=r"spleen.nii.gz lies on another grid than liver.nii.gz"):
        read_mask(tmp_path / "s1")
    save(tmp_path / "s1/spleen.nii.gz", noise())
    with pytest.raises(VolumeError, match=r"spleen.nii.gz is no mask of one structure: it holds values from"):
        read_mask(tmp_path / "s1")


@pytest.mark.parametrize("name", ["1.nii.gz", "c.npy", "raw.nrrd", "vector.nrrd"])
@pytest.mark.parametrize("with_background", [False, True])
def test_one_hot(tmp_path, name, with_background):
    channels = np.stack(list(structures().values()))
    if with_background:
        channels = np.concatenate([channels.max(axis=0, keepdims=True) == 0, channels]).astype(np.uint8)
    if name == "vector.nrrd":  # as SimpleITK stores several values a voxel
        sitk.WriteImage(sitk.GetImageFromArray(np.moveaxis(channels, 0, -1), isVector=True), str(tmp_path / name))
    else:
        save(tmp_path / name, channels)
    mask = read_mask(find_masks(["p"], tmp_path / name)["p"])
    assert np.array_equal(mask.array, labels())
    if name == "1.nii.gz":
        assert np.allclose(mask.affine, OBLIQUE, atol=1e-4)


def test_channels_that_are_not_one_hot(tmp_path):
    liver = structures()["liver"]
    save(tmp_path / "1.nii.gz", np.stack([liver, liver]))
    with pytest.raises(VolumeError, match=f"channels overlap in {liver.sum()} voxels"):
        read_mask(tmp_path / "1.nii.gz")
    save(tmp_path / "2.nii.gz", np.stack([liver, 3 * liver + structures()["spleen"]]))
    with pytest.raises(VolumeError, match="channel 1 is no mask of one structure: it holds values from 1 to 3"):
        read_mask(tmp_path / "2.nii.gz")
    with pytest.raises(VolumeError, match="2 frames"):  # a scan is as it was
        read(tmp_path / "1.nii.gz")


def test_segmentations_of_slicer(tmp_path):
    one = seg_nrrd(tmp_path / "a.seg.nrrd", [labels({"liver": 5, "spleen": 9})], [("liver", 5, 0), ("spleen", 9, 0)])
    found = find_masks(["a"], tmp_path, "*.seg.nrrd")
    assert names_in(found.values()) == {5: "liver", 9: "spleen"}  # the file's own values
    mask = read_mask(found["a"])
    assert np.array_equal(mask.array, labels({"liver": 5, "spleen": 9}))
    assert np.allclose(mask.affine, OBLIQUE, atol=1e-4)
    assert np.array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(one))), mask.array)
    assert find_masks(["a"], tmp_path, "*.seg.nrrd", {5: "Leber"}) == found  # another name for the same label
    # another case has the same structures under other values: names decide
    seg_nrrd(tmp_path / "b.seg.nrrd", [labels({"liver": 9, "spleen": 5})], [("spleen", 5, 0), ("liver", 9, 0)])
    both = find_masks(["a", "b"], tmp_path, "*.seg.nrrd")
    for case_id in ("a", "b"):
        assert np.array_equal(read_mask(both[case_id]).array, labels({"liver": 1, "spleen": 2}))


def test_segments_without_values_each_in_a_layer_of_its_own(tmp_path):
    """As 3D Slicer wrote them before 4.11."""
    layers = [structures()[name] for name in ("spleen", "liver")]
    path = seg_nrrd(tmp_path / "a.seg.nrrd", layers, [("spleen", 1, 0), ("liver", 1, 1)])
    content = path.read_bytes()
    header, voxels = content.split(b"\n\n", 1)
    lines = [line for line in header.split(b"\n") if b"LabelValue" not in line and b"Layer" not in line]
    path.write_bytes(b"\n".join(lines) + b"\n\n" + voxels)
    found = find_masks(["a"], path)["a"]
    assert names_in([found]) == {1: "liver", 2: "spleen"}
    assert np.array_equal(read_mask(found).array, labels({"liver": 1, "spleen": 2}))


def test_a_mask_in_another_orientation_than_its_scan(tmp_path):
    """Turned and flipped by nibabel; its labels lie where the scan has them."""
    for name, structure in structures().items():
        image = nib.Nifti1Image(structure.T, RAS_TO_LPS @ OBLIQUE @ REVERSED, dtype="uint8")
        turned = image.as_reoriented(np.array([[2, -1], [0, 1], [1, -1]]))
        (tmp_path / "s1").mkdir(exist_ok=True)
        nib.save(turned, tmp_path / f"s1/{name}.nii.gz")
    mask = read_mask(find_masks(["s1"], tmp_path)["s1"])
    assert mask.array.shape != SHAPE
    assert np.array_equal(labels_on(mask, SHAPE, OBLIQUE), labels())


def test_totalsegmentators_folder_is_its_multilabel_file(tmp_path, shared):
    """Its own numbers, when its own names say which."""
    path = shared / "totalseg" / "example_seg.nii.gz"
    image, names = nib.load(path), label_names_in(path)
    array = np.asarray(image.dataobj)
    (tmp_path / "s1").mkdir()
    for label in np.unique(array[array > 0]):
        structure = nib.Nifti1Image((array == label).astype(np.uint8), image.affine)
        nib.save(structure, tmp_path / f"s1/{names[int(label)]}.nii.gz")
    mask = read_mask(find_masks(["s1"], tmp_path, names=names)["s1"])
    assert np.array_equal(mask.array, read(path).array)
    assert np.array_equal(mask.affine, read(path).affine)
