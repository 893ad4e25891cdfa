"""Segmentations and their scores: where they lie, what they are compared with, what is refused."""

import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from featlift import find_masks, open_store, read
from featlift.evaluation import dice, read_result, surface_distances
from featlift.segmentation import Plan, Split, open_trained, predict, train_head
from tests.segmentation.conftest import SHAPE, SPLITS, labels_of
from tests.support.scans import OBLIQUE, patch_mean_options, write_nifti
from tests.test_fixtures import FIXTURES, OPTIONS


@pytest.fixture(scope="session")
def head(cohort, tmp_path_factory):
    """A linear head that knows brightness."""
    store = open_store(cohort / "features.zarr")
    split = Split(["a", "b", "c"], ["d"], ["e", "f"])
    plan = Plan("linear", epochs=40, rate=0.1, batch=1)
    folder = tmp_path_factory.mktemp("head")
    names = {1: "anterior", 2: "posterior"}
    config = train_head(store, find_masks(store, cohort / "labels"), split, plan, folder / "head", names)
    assert config.labels == {"0": "background", "1": "anterior", "2": "posterior"}
    return folder / "head"


def predicted(featlift, cohort, head, *more, folder="masks"):
    given = ("--head", head, "-o", folder, "--device", "cpu", *more)
    done = featlift("segment", "predict", cohort / "features.zarr", *given)
    assert done.returncode == 0, done.stderr
    return done


def test_segmentations_of_oblique_flipped_scans_lie_on_their_structures(featlift, cohort, head, tmp_path):
    """On the stored scan's own grid: each label's voxels, in the millimetres of the patient, are within the mask."""
    predicted(featlift, cohort, head, "--grid", "stored")
    assert json.loads((tmp_path / "masks/predictions.json").read_text())["grid"] == "scan"
    for name in "ef":
        image = nib.load(tmp_path / f"masks/{name}.nii.gz")
        case = open_store(cohort / "features.zarr")[name]
        assert image.shape == case.scan_shape[::-1]
        found, truth = np.asarray(image.dataobj), labels_of(name)
        for label in (1, 2):
            points = nib.affines.apply_affine(image.affine, np.argwhere(found == label))  # mm
            voxels = np.round(nib.affines.apply_affine(np.linalg.inv(OBLIQUE), points)).astype(int)
            inside = (voxels >= 0).all(axis=1) & (voxels < truth.shape).all(axis=1)
            right = truth[tuple(voxels[inside].T)] == label
            assert right.mean() > 0.7  # not more: cells are blocks of voxels, and the rim of 2 is as bright as 1
            assert len(np.unique(voxels[inside][right], axis=0)) > 0.7 * (truth == label).sum()
        points = nib.affines.apply_affine(image.affine, np.argwhere(found))
        middle = nib.affines.apply_affine(np.linalg.inv(OBLIQUE), points).mean(axis=0)
        # along j the bright block, which is at one end, grows by more than the other
        np.testing.assert_allclose((middle - np.argwhere(truth).mean(axis=0))[[0, 2]], 0, atol=0.2)


@pytest.mark.parametrize("like", [True, False])
def test_they_have_the_voxels_of_the_file(featlift, cohort, head, tmp_path, like):
    options = ("--like", cohort / "scans") if like else ()
    done = predicted(featlift, cohort, head, *options, "--split", "test", "--labels", cohort / "splits.csv")
    assert done.stderr == ""
    assert json.loads((tmp_path / "masks/predictions.json").read_text())["grid"] == "image"
    assert sorted(path.name for path in (tmp_path / "masks").glob("*.nii.gz")) == ["e.nii.gz", "f.nii.gz"]
    for name in "ef":
        image, truth = nib.load(tmp_path / f"masks/{name}.nii.gz"), nib.load(cohort / f"labels/{name}.nii.gz")
        # written with axes as read, which may be reversed in memory: the voxels are the same ones
        np.testing.assert_allclose(image.affine, truth.affine, atol=1e-4)
        assert image.shape == truth.shape
        assert image.get_data_dtype() == np.uint8
        for label in (1, 2):
            assert dice(np.asarray(image.dataobj) == label, np.asarray(truth.dataobj) == label) > 0.7


def extracted(featlift, cohort, scans, *more, store="other.zarr"):
    """Scans as the cohort's were, so that its head knows the features."""
    options = [*patch_mean_options(cohort, 4, constant=0.5), "--mode", "2d", "--layers", "0", "--size", "48"]
    done = featlift("extract", scans, "-o", store, *options, "--intensity", "window:-50,250", *more)
    assert done.returncode == 0, done.stderr
    return store


def head_of(head, store):
    """The same for a store of other volumes with the same features: ``head``."""
    config = json.loads((head / "config.json").read_text()) | {"recipe": open_store(store).recipe}
    shutil.copytree(head, "head")
    Path("head/config.json").write_text(json.dumps(config))


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("grid", [("--grid", "input"), ("--like", "scans")])
def test_a_structure_is_found_up_to_the_faces_and_corners_of_its_scan(featlift, cohort, head, tmp_path, grid, flip):
    """All of the scan is as bright as label 2, but for a dark block in its middle; its voxels are finer than cells."""
    affine = OBLIQUE @ np.diag([-1, 1, -1, 1]) if flip else OBLIQUE
    labels = np.full((80, 68, 12), 2, np.uint8)
    labels[28:52, 24:44, 2:10] = 0
    write_nifti(tmp_path / "scans/x.nii.gz", 100 * labels.astype(np.float32), affine)
    extracted(featlift, cohort, "scans")
    done = featlift("segment", "predict", "other.zarr", "--head", head, "-o", "masks", *grid)
    assert done.returncode == 0, done.stderr
    found = np.asarray(nib.load(tmp_path / "masks/x.nii.gz").dataobj)
    rim = np.ones(labels.shape, bool)
    rim[1:-1, 1:-1, 1:-1] = False
    assert (found[rim] == 2).all()
    assert (found[36:44, 32:36, 4:8] == 0).all()


def test_what_a_crop_left_out_is_background_to_its_very_edge(featlift, cohort, head, tmp_path):
    """A bright body in the dark: only voxels centred in the box that was kept are of the body."""
    scan = np.full(SHAPE, -50, np.float32)
    scan[4:20, 4:18] = 200
    scan[10:14, 8:14, 4:8] = -49
    write_nifti(tmp_path / "scans/x.nii.gz", scan, np.diag([1.0, 1, 2, 1]))
    extracted(featlift, cohort, "scans", "--crop", "body:0")
    head_of(head, "other.zarr")
    done = featlift("segment", "predict", "other.zarr", "--head", "head", "-o", "masks")
    assert done.returncode == 0, done.stderr
    found = np.asarray(nib.load(tmp_path / "masks/x.nii.gz").dataobj)
    box = open_store("other.zarr")["x"].attributes["box"]
    assert box["shape"] == [12, 14, 16]
    body = np.zeros(SHAPE, bool)
    body[4:20, 4:18] = True
    assert not found[~body].any()
    body[5:19, 5:17, 1:-1] = False
    assert (found[body] == 2).all()


def test_where_the_files_voxels_are_not_known_the_stored_grid_is_kept_and_said(featlift, tmp_path):
    """A store from before they were recorded, and its predictions, which go on; then with a volume made anew."""
    shutil.copytree(FIXTURES, tmp_path, dirs_exist_ok=True)
    call = ("segment", "predict", "layers.zarr", "--head", "head", "-o")
    done = featlift(*call, "predictions", "--case", "d")
    (told,) = [line for line in done.stderr.splitlines() if line.startswith("featlift: ")]
    assert told.startswith("featlift: 1 of 1 cases keep the grid of the stored scan")
    assert "--like SCANS" in told
    notes = json.loads(Path("predictions/predictions.json").read_text())
    assert (notes["grid"], notes["cases"], notes["on_stored_grid"]) == ("scan", ["d", "e", "f"], [])
    assert nib.load("predictions/d.nii.gz").shape == open_store("layers.zarr")["d"].scan_shape[::-1]
    shutil.rmtree("layers.zarr/volumes/e")
    assert featlift("extract", "scans", "-o", "layers.zarr", *OPTIONS["layers.zarr"]).returncode == 0
    assert "--like SCANS" not in featlift(*call, "mixed", "--case", "e").stderr
    assert "1 of 2 cases keep" in featlift(*call, "mixed", "--case", "f", "--case", "e").stderr
    notes = json.loads(Path("mixed/predictions.json").read_text())
    assert (notes["grid"], notes["cases"], notes["on_stored_grid"]) == ("image", ["e", "f"], ["f"])
    assert nib.load("mixed/e.nii.gz").shape == nib.load("scans/e.nii.gz").shape
    for folder in ("mixed", "predictions"):
        done = featlift("segment", "score", "layers.zarr", "--masks", "labels", "--predictions", folder)
        assert done.returncode == 0, done.stderr


def test_a_region_keeps_its_own_grid(featlift, cohort, head, tmp_path):
    x, y, z = nib.affines.apply_affine(OBLIQUE, np.array(SHAPE) / 2)
    (tmp_path / "points.csv").write_text(f"id,x,y,z\ne,{-x},{-y},{z}\n")
    extracted(featlift, cohort, cohort / "scans/e.nii.gz", "--roi", "points.csv", "--roi-mm", "12")
    head_of(head, "other.zarr")
    done = featlift("segment", "predict", "other.zarr", "--head", "head", "-o", "masks")
    assert "--like SCANS" in done.stderr
    case = open_store("other.zarr")["e__roi1"]
    assert nib.load("masks/e__roi1.nii.gz").shape == case.scan_shape[::-1]
    done = featlift("segment", "predict", "other.zarr", "--head", "head", "-o", "whole", "--like", cohort / "scans")
    found = np.asarray(nib.load("whole/e__roi1.nii.gz").dataobj)
    assert found.shape == SHAPE
    assert 0 < (found > 0).sum() < (labels_of("e") > 0).sum()


def test_scores_are_those_of_the_files(featlift, cohort, head, tmp_path):
    predicted(featlift, cohort, head, "--like", cohort / "scans")
    score = ("segment", "score", cohort / "features.zarr", "--predictions", "masks", "--masks", cohort / "labels")
    done = featlift(*score)
    assert done.returncode == 0, done.stderr
    assert "4 of 6 cases were seen in training: a, b, c, d" in done.stderr
    result = read_result(tmp_path / "results/features-segment-linear.json")
    assert [case["id"] for case in result.cases] == ["e", "f"]
    assert (result.kind, result.protocol["head"], result.left_out) == ("segment", "linear", ["a", "b", "c", "d"])
    assert result.details["train"] == ["a", "b", "c", "d"]
    for case in result.cases:
        image, truth = (
            nib.load(tmp_path / f"masks/{case['id']}.nii.gz"),
            nib.load(cohort / f"labels/{case['id']}.nii.gz"),
        )
        for label in (1, 2):
            found, mask = np.asarray(image.dataobj) == label, np.asarray(truth.dataobj) == label
            scores = case["labels"][str(label)]
            assert scores["dice"] == pytest.approx(dice(found, mask))
            assert scores["failure_rate"] == 0
            sizes = found.sum(), mask.sum()
            assert scores["volume_similarity"] == pytest.approx(1 - abs(int(sizes[0]) - int(sizes[1])) / sum(sizes))
            distances = surface_distances(found, mask, truth.header.get_zooms())
            assert scores["hd95"] == pytest.approx(distances.hd95, rel=1e-4)
            assert scores["asd"] == pytest.approx(distances.asd, rel=1e-4)
        assert case["dice"] == pytest.approx(np.mean([case["labels"][name]["dice"] for name in "12"]))
    assert result.measures["dice"].mean == pytest.approx(np.mean([case["dice"] for case in result.cases]))
    assert "volume similarity" in done.stdout


def test_two_heads_stand_side_by_side_even_if_one_finds_nothing(featlift, cohort, head, tmp_path):
    store = open_store(cohort / "features.zarr")
    other = Plan("linear", features="random", epochs=1)
    split = Split(["a", "b", "c"], ["d"], ["e", "f"])
    train_head(store, find_masks(store, cohort / "labels"), split, other, tmp_path / "random")
    predicted(featlift, cohort, head, folder="one")
    predicted(featlift, cohort, "random", folder="two")
    for path in (tmp_path / "two").glob("*.nii.gz"):
        image = nib.load(path)
        nib.save(nib.Nifti1Image(np.zeros(image.shape, np.uint8), image.affine), path)
    score = ("segment", "score", cohort / "features.zarr", "--masks", cohort / "labels")
    done = featlift(*score, "--predictions", "one", "--predictions", "two")
    assert done.returncode == 0, done.stderr
    assert "linear-random" in done.stdout
    done = featlift("compare", "results")
    assert done.returncode == 0, done.stderr
    (row,) = [line for line in done.stdout.splitlines() if "linear-random | features" in line]
    assert row.split(" | ")[4:] == ["0.000 ± 0.000", "- |"], row  # its Dice; no HD95


def test_a_store_of_another_recipe_is_refused_with_the_differing_fields(featlift, cohort, head, tmp_path):
    recipe = open_store(cohort / "features.zarr").recipe
    config = json.loads((head / "config.json").read_text())
    (tmp_path / "other").mkdir()
    (tmp_path / "other/weights.safetensors").write_bytes((head / "weights.safetensors").read_bytes())
    config["recipe"] = recipe | {"mode": "pcg", "size": [64]}
    (tmp_path / "other/config.json").write_text(json.dumps(config))
    done = featlift("segment", "predict", cohort / "features.zarr", "--head", "other", "-o", "masks")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    for words in ('mode (head "pcg", store "2d")', "size (head [64], store [48])"):
        assert words in done.stderr
    assert "weights_sha256" not in done.stderr
    assert not (tmp_path / "masks").exists()


def test_a_case_is_segmented_by_the_fold_that_did_not_see_it_and_a_new_one_by_all(cohort, tmp_path):
    store = open_store(cohort / "features.zarr")
    masks = find_masks(store, cohort / "labels")
    for number, split in enumerate((Split(["a", "b"], ["c"], ["d"]), Split(["a", "d"], ["c"], ["b"])), start=1):
        train_head(store, masks, split, Plan("linear", epochs=number), tmp_path / f"alone{number}")
        train_head(store, masks, split, Plan("linear", epochs=1), tmp_path / f"cv/fold{number}")
    trained = open_trained(tmp_path / "cv")
    predict(store, trained, tmp_path / "cv-masks", ["b", "d", "e"], precision="fp32")
    first = open_trained(tmp_path / "cv/fold1")
    predict(store, first, tmp_path / "masks1", ["b", "d", "e"], precision="fp32")
    same = {
        name: (read(tmp_path / f"cv-masks/{name}.nii.gz").array == read(tmp_path / f"masks1/{name}.nii.gz").array).all()
        for name in "bd"
    }
    assert same["d"]  # of fold 1
    notes = json.loads((tmp_path / "cv-masks/predictions.json").read_text())
    assert (notes["seen"], notes["head"], notes["trained"]) == ([], "linear-2folds", ["a", "b", "c", "d"])
    assert json.loads((tmp_path / "masks1/predictions.json").read_text())["seen"] == ["b"]
    (tmp_path / "cv/fold2").rename(tmp_path / "gone")
    (tmp_path / "alone2").rename(tmp_path / "cv/fold2")
    with pytest.raises(ValueError, match="was trained otherwise"):
        open_trained(tmp_path / "cv")


def test_what_cannot_be_segmented_or_scored_is_said(featlift, cohort, head, tmp_path):
    store = cohort / "features.zarr"

    def refuses(*arguments, says):
        done = featlift("segment", *arguments)
        assert done.returncode == 2
        assert says in done.stderr.splitlines()[-1], done.stderr

    predict_ = ("predict", store, "--head", head, "-o", "masks")
    refuses("predict", store, "--head", "nowhere", "-o", "masks", says="no trained head here")
    refuses(*predict_, "--like", tmp_path, says="a.nii.gz: no such scan")
    refuses(*predict_, "--split", "train", "--labels", tmp_path / "none.csv", says="no such file")
    refuses(*predict_, "--labels", cohort / "splits.csv", says="give --split too")
    score = ("score", store, "--predictions", "masks", "--masks", cohort / "labels")
    refuses(*score, says="no predictions.json here")
    predicted(featlift, cohort, head, "--split", "train", "--labels", cohort / "splits.csv")
    refuses(*score, says="the head was trained on all of these cases")
    predicted(featlift, cohort, head)
    write_nifti(tmp_path / "labels/e.nii.gz", labels_of("e") * 3)
    refuses(*score[:-1], tmp_path / "labels", says="e: label 3 of its mask was not trained on; 0, 1, 2 were")
    (tmp_path / "masks/e.nii.gz").unlink()
    refuses(*score, says="e: ")


def test_a_structure_that_was_not_found_has_no_distance_and_failed(featlift, cohort, head, tmp_path):
    predicted(featlift, cohort, head, "--like", cohort / "scans")
    for name in SPLITS:
        found = nib.load(tmp_path / f"masks/{name}.nii.gz")
        array = np.asarray(found.dataobj).copy()
        array[array == 2] = 0
        if name == "f":
            array[:] = 0
        nib.save(nib.Nifti1Image(array, found.affine), tmp_path / f"masks/{name}.nii.gz")
    done = featlift(
        "segment", "score", cohort / "features.zarr", "--predictions", "masks", "--masks", cohort / "labels"
    )
    assert done.returncode == 0, done.stderr
    assert "2 of 2 cases have no HD95 and ASD" in done.stderr
    result = read_result(tmp_path / "results/features-segment-linear.json")
    e, f = result.cases
    assert e["labels"]["2"] == {"dice": 0.0, "volume_similarity": 0.0, "failure_rate": 1.0, "hd95": None, "asd": None}
    assert (e["failure_rate"], f["failure_rate"]) == (0.5, 1.0)
    assert (e["hd95"], result.measures["hd95_1"].cases, result.measures["dice_1"].cases) == (None, 1, 2)


def test_what_lies_beyond_the_scan_does_not_count(featlift, cohort, head, tmp_path):
    """A mask six voxels longer than the scan, with structures there: the scores are those of the shorter one."""
    predicted(featlift, cohort, head)
    score = ("segment", "score", cohort / "features.zarr", "--predictions", "masks", "--masks")
    assert featlift(*score, cohort / "labels").returncode == 0
    for name in "ef":
        longer = np.pad(labels_of(name), ((6, 0), (0, 0), (0, 0)))
        longer[:4] = 2
        shift = np.eye(4)
        shift[0, 3] = -6
        write_nifti(tmp_path / f"longer/{name}.nii.gz", longer, OBLIQUE @ shift)
    assert featlift(*score, tmp_path / "longer", "-o", "again").returncode == 0
    first, again = (read_result(tmp_path / f"{place}/features-segment-linear.json") for place in ("results", "again"))
    for one, other in zip(first.cases, again.cases, strict=True):
        assert one["labels"].keys() == other["labels"].keys()
        for label, scores in one["labels"].items():
            assert other["labels"][label] == pytest.approx(scores, rel=1e-4)


def test_a_folder_holds_the_predictions_of_one_head(featlift, cohort, head, tmp_path):
    store = cohort / "features.zarr"
    call = ("segment", "predict", store, "--head", head, "-o", "masks")
    assert featlift(*call, "--case", "e").returncode == 0
    assert featlift(*call, "--case", "f").returncode == 0
    assert json.loads((tmp_path / "masks/predictions.json").read_text())["cases"] == ["e", "f"]
    before = {path.name: path.read_bytes() for path in (tmp_path / "masks").iterdir()}
    opened = open_store(store)
    masks = find_masks(opened, cohort / "labels")
    other = train_head(
        opened, masks, Split(["a", "b"], ["c"], []), Plan("linear", epochs=1, seed=3), tmp_path / "other"
    )
    assert other.name == "linear-seed3"
    for options in (("--head", tmp_path / "other"), ("--head", head, "--grid", "stored")):
        done = featlift("segment", "predict", store, *options, "--case", "e", "-o", "masks")
        assert done.returncode == 2
        assert "masks holds predictions of another kind, which differ in" in done.stderr
    assert {path.name: path.read_bytes() for path in (tmp_path / "masks").iterdir()} == before


def test_real_crops_are_segmented_on_the_voxels_of_their_files(featlift, cohort, shared, tmp_path):
    """Whatever was done to them on the way: enlarged, cropped to the body, some slices only."""
    names = ["hippocampus_001", "hippocampus_004", "hippocampus_003"]
    for name in names:
        for folder in ("images", "labels"):
            (tmp_path / folder).mkdir(exist_ok=True)
            shutil.copy(shared / f"hippocampus/{folder}/{name}.nii.gz", tmp_path / folder)
    (tmp_path / "splits.csv").write_text(
        "id,split\n" + "".join(f"{name},{split}\n" for name, split in zip(names, ("train", "val", "test"), strict=True))
    )
    options = [*patch_mean_options(tmp_path, 4, constant=0.5), "--mode", "2d", "--layers", "0"]
    more = ["--size", "100", "--crop", "body:2", "--depth-stride", "2"]
    assert featlift("extract", "images", *options, *more).returncode == 0
    head = ("--head", "linear", "--labels", "splits.csv", "--epochs", "2", "-o", "head", "--device", "cpu")
    done = featlift("segment", "train", "features.zarr", "--masks", "labels", *head)
    assert done.returncode == 0, done.stderr
    done = featlift("segment", "predict", "features.zarr", "--head", "head", "-o", "masks", "--device", "cpu")
    assert done.returncode == 0, done.stderr
    for name in names:
        image, found = nib.load(f"images/{name}.nii.gz"), nib.load(f"masks/{name}.nii.gz")
        assert found.shape == image.shape
        np.testing.assert_allclose(found.affine, image.affine, atol=1e-5)
    assert featlift("segment", "score", "features.zarr", "--predictions", "masks", "--masks", "labels").returncode == 0
