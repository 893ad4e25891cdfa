"""What stops a training before it begins."""

import shutil

import numpy as np
import pytest

from featlift import open_store
from featlift.segmentation import Plan, Split
from featlift.segmentation.data.survey import survey
from featlift.volumes.nifti import write_nifti as nowhere
from tests.segmentation.conftest import SHAPE, labels_of
from tests.support.scans import OBLIQUE, write_nifti
from tests.support.stores import clouds, write_store


@pytest.fixture
def refuses(featlift, cohort, tmp_path):
    """Train on changed masks; it has to end before there is anything of a head."""
    shutil.copytree(cohort / "labels", tmp_path / "labels")

    def run(*says, store=cohort / "features.zarr", head="linear", options=()):
        labels = [] if "--labels" in options else ["--labels", cohort / "splits.csv"]
        where = ("--masks", "labels", *labels, "--device", "cpu", "-o", "head")
        done = featlift("segment", "train", store, "--head", head, *where, *options)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
        assert all(word in done.stderr for word in says), done.stderr
        assert not (tmp_path / "head").exists()

    return run


def test_masks_that_cannot_be_trained_on_are_named(refuses, cohort, tmp_path):
    mask = tmp_path / "labels/b.nii.gz"
    write_nifti(mask, np.zeros(SHAPE, np.uint8))
    refuses("b: not a mask: it is empty")
    away = OBLIQUE.copy()
    away[:3, 3] += 500
    write_nifti(mask, labels_of("b"), away)
    refuses("b: ", "does not overlap the scan")
    write_nifti(mask, np.random.default_rng(0).normal(size=SHAPE).astype(np.float32))
    refuses("b: not a mask: it holds fractions")
    shutil.copy(cohort / "scans/b.nii.gz", mask)
    refuses("b: its mask is the scan itself")
    mask.write_bytes(b"no scan")
    refuses("b: ")
    mask.unlink()
    refuses("b is to train and has no mask (1 of 3 cases)")


def test_labels_have_to_be_in_the_training_masks(refuses, tmp_path):
    for name, part in (("d", "d"), ("e", "e")):  # validation and test
        labels = labels_of(name)
        labels[0, 0, 0] = 7
        write_nifti(tmp_path / f"labels/{name}.nii.gz", labels)
        refuses(f"label 7 of {part} is in no training mask; those hold 0, 1, 2")
        write_nifti(tmp_path / f"labels/{name}.nii.gz", labels_of(name))
    refuses("label 3 (cyst) is named, but in no training mask", options=("--label-names", "1=one,3=cyst"))
    write_nifti(tmp_path / "labels/d.nii.gz", np.where(labels_of("d") == 2, 0, labels_of("d")).astype(np.uint8))
    refuses("label 2 is in no validation mask")
    tiny = labels_of("a")
    tiny[23, 21, 11] = 3  # under the middle of no predicted voxel
    write_nifti(tmp_path / "labels/a.nii.gz", tiny)
    held = labels_of("d")
    held[12:16, 12:16, 2:10] = 3
    write_nifti(tmp_path / "labels/d.nii.gz", held)
    refuses(
        "label 3 is on no predicted voxel of any training case: give a smaller --step than 4", options=("--step", "4")
    )


def test_options_that_make_no_sense_are_named(refuses, tmp_path):
    refuses("--head 'unet': choose one of linear, decoder, subcube, dino3dra", head="unet")
    refuses("layer 7", "holds 0", options=("--layers", "7"))
    refuses("--step 3", "4, 2, 1", options=("--step", "3"))
    refuses("--skip is no option of the head linear", options=("--skip",))
    refuses("--without 'attention'", head="dino3dra", options=("--without", "attention"))
    refuses("--window '8,8'", head="subcube", options=("--window", "8,8"))
    refuses("--label-names", options=("--label-names", "anterior"))
    refuses("--precision 'fp8'", options=("--precision", "fp8"))
    refuses("folds of", "patients", options=("--folds", "9"))
    (tmp_path / "none.csv").write_text("id,split\na,test\n")
    refuses("0 patients to train on", options=("--labels", tmp_path / "none.csv"))
    (tmp_path / "two.csv").write_text("id,split,patient\na,train,x\nb,test,x\nc,train,y\n")
    refuses("patient x is in two splits", options=("--labels", tmp_path / "two.csv"))


@pytest.mark.parametrize(
    ("kept", "head", "missing"),
    [
        ("scan,slice_mean", "decoder", "dense"),
        ("dense", "dino3dra", "slice_mean"),
        ("dense,slice_mean", "dino3dra", "scan"),
    ],
)
def test_a_store_without_what_a_head_needs_says_how_to_keep_it(tmp_path, kept, head, missing):
    tokens, _ = clouds(4)
    store = write_store(tmp_path / "store.zarr", tokens, save=kept.split(","))
    ids = list(store)
    with pytest.raises(ValueError, match=f"keeps no {missing}, only .*--save .*{missing}"):
        survey(store, {}, Split(ids[:2], ids[2:], []), Plan(head))


def test_a_scan_of_unknown_geometry_and_a_mask_of_another_shape(tmp_path):
    tokens, _ = clouds(4)
    store = write_store(tmp_path / "store.zarr", tokens)
    masks = {}
    for case_id in store:
        masks[case_id] = tmp_path / f"{case_id}.nii.gz"
        nowhere(masks[case_id], np.ones((3, 4, 5), np.uint8), None)
    ids = list(store)
    with pytest.raises(ValueError, match="the mask has 3 x 4 x 5 voxels, the scan 3 x 4 x 4"):
        survey(store, masks, Split(ids[:2], ids[2:], []), Plan("linear"))
    for case_id in store:
        nowhere(masks[case_id], np.arange(48, dtype=np.uint8).reshape(3, 4, 4) % 2, None)
    material = survey(store, masks, Split(ids[:2], ids[2:], []), Plan("linear"))
    assert (material.reader.step, material.size.classes) == (1, 2)
    assert set(material.reader.classes(ids[0]).ravel().tolist()) == {0, 1}
    assert material.mean.shape == (6,)


def test_the_index_says_who_is_in_which_split_if_no_csv_does(featlift, cohort, tmp_path):
    shutil.copytree(cohort / "features.zarr", tmp_path / "store.zarr")
    train = ("segment", "train", "store.zarr", "--masks", cohort / "labels", "--head", "linear", "--device", "cpu")
    assert "no column split" in featlift(*train, "-o", "head").stderr
    assert featlift("index", "store.zarr", "--labels", cohort / "splits.csv").returncode == 0
    done = featlift(*train, "-o", "head", "--epochs", "1", "--label-names", "1=anterior")
    assert done.returncode == 0, done.stderr
    assert "linear: 27 trainable parameters; best validation Dice" in done.stdout
    done = featlift(*train, "-o", "folds", "--epochs", "1", "--folds", "3")  # a and b are one patient, e and f the test
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 3
    assert sorted(path.name for path in (tmp_path / "folds").iterdir()) == ["fold1", "fold2", "fold3"]
    assert set(open_store(tmp_path / "store.zarr")) == set("abcdef")


def test_the_step_is_that_of_the_training_masks_whatever_the_others_are(cohort, tmp_path):
    """Masks of the cases that are tested, and of the one that validates, with voxels four times as large."""
    masks = {name: tmp_path / f"{name}.nii.gz" for name in "abcdef"}
    for name, path in masks.items():
        size = 1 if name == "a" else 4
        write_nifti(path, labels_of(name)[::size, ::size, ::size], OBLIQUE @ np.diag([size, size, size, 1]))
    split = Split(["a"], ["d"], ["b", "c", "e", "f"])
    material = survey(open_store(cohort / "features.zarr"), masks, split, Plan("linear"))
    assert material.reader.step == 2
