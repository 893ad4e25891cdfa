"""FeatDice of stores, from masks on any grid to tables. The network sees intensities, so every score is known."""

import csv
import json
import shutil

import h5py
import nibabel as nib
import numpy as np
import pytest
import torch
import torch.nn.functional as F

import featlift as package
from featlift import find_masks, open_store
from featlift.errors import OptionError
from featlift.evaluation import (
    CellGrid,
    Protocol,
    dice,
    featdice,
    lesion_at,
    read_result,
    segment_by_prototypes,
    table,
)
from featlift.results.columns import columns_of
from featlift.store import CaseData, LayerData, case_in_memory
from featlift.volumes import Volume
from tests.support.scans import OBLIQUE, patch_mean_options, write_nifti, write_scan
from tests.test_fixtures import FIXTURES

#: (i, j, k) of lesions of 5 x 5 x 5 voxels; the first two are neighbours.
LESIONS = ((8, 8, 8), (15, 8, 8), (24, 20, 9))
SHAPE = (30, 26, 16)


def options(folder, patch=1):
    return [*patch_mean_options(folder, patch, constant=0.5), "--mode", "2d", "--layers", "0"]


def lesions(where=LESIONS):
    mask = np.zeros(SHAPE, np.uint8)
    for place in where:
        mask[tuple(slice(n - 2, n + 3) for n in place)] = 1
    return mask


def write_on_another_grid(path, mask):
    """A mask that starts elsewhere and is turned: it meets its scan through the affines only."""
    padded = np.pad(mask, ((3, 1), (0, 2), (4, 0)))
    moved = OBLIQUE @ np.array([[1, 0, 0, -3], [0, 1, 0, 0], [0, 0, 1, -4], [0, 0, 0, 1]])
    turned = np.eye(4)[[1, 0, 2, 3]]
    return write_nifti(path, padded.transpose(1, 0, 2), moved @ turned)


@pytest.fixture
def patients(tmp_path):
    """Scans whose lesions are bright, with masks."""
    for name in ("p1", "p2"):
        mask = lesions(LESIONS if name == "p1" else LESIONS[2:])
        write_nifti(tmp_path / f"scans/{name}.nii.gz", (10 + 90 * mask.astype(np.int16)))
        write_on_another_grid(tmp_path / f"labels/{name}.nii.gz", mask)
    return tmp_path


def rows(path):
    with path.open(newline="") as file:
        return {row["id"]: row for row in csv.DictReader(file)}


@pytest.mark.parametrize("orient", ["LPS", "native"])
def test_each_region_is_scored_by_its_own_lesion(featlift, patients, orient):
    """Neighbours look alike, so of two lesions in a crop the prediction holds both, but the mask only one."""
    done = featlift("extract", "scans", "--roi", "labels", "--roi-mm", "24,15,15", "--intensity", "window:10,100",
                    "--orient", orient, *options(patients))  # fmt: skip
    assert done.returncode == 0, done.stderr
    done = featlift("featdice", "features.zarr", "--masks", "labels", "--save-maps", "maps")
    assert done.returncode == 0, done.stderr
    assert "protocol centre" in done.stdout
    scores = rows(patients / "results/features-featdice-centre.csv")
    assert list(scores) == ["p1__roi1", "p1__roi2", "p1__roi3", "p2__roi1"]
    store = open_store(patients / "features.zarr")
    volume = package.read(patients / "labels/p1.nii.gz")
    for case_id, row in scores.items():
        case = store[case_id]
        bright = np.count_nonzero(case.scan[:] > 0.5)
        centre = case.attributes["selection"]["centre"]
        own = Volume(lesion_at(volume, centre).array, volume.affine)
        assert own.array.sum() == 125
        if case_id.startswith("p1"):
            inside = package.volumes.masks.labels_on(own, case.scan.shape, case.scan_affine)
            expected = 2 * inside.sum() / (inside.sum() + bright)
            assert float(row["dice"]) == pytest.approx(expected)
            assert (expected < 0.75) == (case_id in ("p1__roi1", "p1__roi2"))
        else:
            assert (float(row["dice"]), float(row["auroc"])) == (1, 1)
        prediction = package.read(patients / f"maps/features-centre/{case_id}__prediction.nii.gz")
        np.testing.assert_allclose(prediction.affine, case.scan_affine, atol=1e-4)
        np.testing.assert_array_equal(prediction.array, case.scan[:] > 0.5)
    done = featlift("featdice", "features.zarr", "--masks", "labels", "--centre", "lesion")
    assert rows(patients / "results/features-featdice-centre-lesion.csv") == scores


def test_maps_lie_over_the_scan_in_other_programs(featlift, patients):
    """Through the affines in the files, the prediction in a cropped, reoriented scan is the lesion in its file."""
    assert featlift("extract", "scans/p2.nii.gz", "--crop", "body:3", *options(patients)).returncode == 0
    done = featlift("featdice", "features.zarr", "--masks", "labels", "--save-maps", "maps")
    assert done.returncode == 0, done.stderr
    assert "1.000" in done.stdout
    folder = patients / "maps/features-prototype-nearest-centre"
    assert sorted(path.name for path in folder.iterdir()) == [
        "p2__map0.nii.gz",
        "p2__map1.nii.gz",
        "p2__prediction.nii.gz",
    ]
    scan, prediction = nib.load(patients / "scans/p2.nii.gz"), nib.load(folder / "p2__prediction.nii.gz")
    assert prediction.shape != scan.shape
    inverse = np.linalg.inv(scan.affine) @ prediction.affine
    voxels = np.argwhere(prediction.get_fdata() > 0)
    at = np.round(nib.affines.apply_affine(inverse, voxels)).astype(int)
    np.testing.assert_array_equal(np.sort(np.ravel_multi_index(at.T, SHAPE)), np.flatnonzero(lesions(LESIONS[2:])))


def test_scans_of_unknown_geometry_meet_their_masks_by_index(featlift, tmp_path):
    mask = lesions(LESIONS[1:])
    for folder, array in (("scans", 10 + 90.0 * mask), ("labels", 2 * mask)):
        (tmp_path / folder).mkdir()
        np.save(tmp_path / folder / "p.npy", array.astype(np.float32))
    assert featlift("extract", "scans", *options(tmp_path)).returncode == 0
    assert featlift("featdice", "features.zarr", "--masks", "labels", "--save-maps", "maps").returncode == 0
    row = rows(tmp_path / "results/features-featdice-prototype-nearest-centre.csv")["p"]
    assert float(row["dice"]) == float(row["dice_2"]) == 1
    saved = package.read(tmp_path / "maps/features-prototype-nearest-centre/p__prediction.nii.gz")
    assert saved.affine is None
    np.testing.assert_array_equal(saved.array, 2 * mask)
    assert featlift("extract", "scans", "-o", "small.zarr", "--size", "20", *options(tmp_path)).returncode == 0
    done = featlift("featdice", "small.zarr", "--masks", "labels")
    assert done.returncode == 1
    assert "one of them does not say where it lies" in done.stderr


@pytest.mark.parametrize(("nearest", "mode"), [("centre", "nearest-exact"), ("corner", "nearest")])
def test_prototypes_on_padded_cells_are_torchs_on_the_others(featlift, tmp_path, nearest, mode):
    """A scan that ends within a patch: every number again, by torch, from the cells that are scan."""
    write_scan(tmp_path / "scans/a.nii.gz", shape=(40, 34, 6))
    labels = np.zeros((40, 34, 6), np.uint8)
    labels[4:22, 6:30, 1:5], labels[24:36, 2:20, 2:6] = 1, 3
    write_nifti(tmp_path / "labels/a.nii.gz", labels)
    assert featlift("extract", "scans", *options(tmp_path, patch=8)).returncode == 0
    case = open_store(tmp_path / "features.zarr")["a"]
    assert case.dense.shape[1:] != case.valid_cells
    masks = {"a": tmp_path / "labels/a.nii.gz"}
    (scores,) = featdice(tmp_path / "features.zarr", masks, Protocol(nearest=nearest))
    assert list(scores.labels) == [1, 3]
    mask = package.volumes.masks.labels_on(
        package.read(tmp_path / "labels/a.nii.gz"), case.scan.shape, case.scan_affine
    )
    d, h, w = case.valid_cells
    features = torch.from_numpy(case.dense[:, :d, :h, :w].astype(np.float32))
    whole = tuple(n * s for n, s in zip(case.valid_cells, case.stride, strict=True))
    beyond = [(0, max(0, n - m)) for n, m in zip(whole, mask.shape, strict=True)]
    extended = np.pad(mask, beyond)[tuple(slice(n) for n in whole)]
    on_cells = F.interpolate(torch.from_numpy(extended)[None, None].float(), (d, h, w), mode=mode)[0, 0]
    maps = []
    for label in (0, 1, 3):
        prototype = features[:, on_cells == label].mean(dim=1)
        cosine = F.cosine_similarity(features, prototype[:, None, None, None], dim=0)
        up = F.interpolate(cosine[None, None], whole, mode="trilinear", align_corners=False)[0, 0].numpy()
        maps.append(np.pad(up, [(0, max(0, n - m)) for n, m in zip(mask.shape, whole, strict=True)], mode="edge"))
    winner = np.array([0, 1, 3])[np.argmax(maps, axis=0)][tuple(slice(n) for n in mask.shape)]
    for label, score in scores.labels.items():
        assert score.dice == pytest.approx(dice(winner == label, mask == label), abs=1e-3)  # ties


@pytest.mark.parametrize("name", ["centre", "prototype"])
def test_padded_cells_take_part_in_nothing(name):
    rng = np.random.default_rng(0)
    dense, mask = rng.normal(size=(5, 4, 4, 4)), np.zeros((4, 24, 20), np.float32)
    mask[1:3, 8:20, 4:14] = 1
    affine = np.eye(4)[[2, 1, 0, 3]]
    grid = {"layer": 0, "stride": [1, 8, 8], "offset": [0, 3.5, 3.5], "valid": [4, 3, 3], "affine": None}
    attributes = {"affine": affine.tolist(), "shape": list(mask.shape), "selection": {"centre": None}, "source": {}}
    found = []
    for beyond in (0, 1e4):
        dense[:, :, 3:], dense[:, :, :, 3:] = beyond, beyond
        layer = LayerData(0, dense, np.zeros((4, 0, 5)), np.zeros((4, 5), np.float32), grid)
        case = case_in_memory(CaseData("a", np.zeros(mask.shape), [layer], np.zeros(5, np.float32), {}, (), attributes))
        found.append(package.evaluation.score_case(case, Volume(mask, affine), Protocol(name)))
    assert found[0] == found[1]


def test_what_cannot_be_scored_is_named_and_the_rest_goes_on(featlift, patients):
    for name in ("empty", "far", "lonely", "itself", "damaged"):
        write_scan(patients / f"scans/{name}.nii.gz", shape=(20, 18, 6))
    write_nifti(patients / "labels/empty.nii.gz", np.zeros((20, 18, 6), np.uint8))
    away = OBLIQUE.copy()
    away[:3, 3] += 500
    write_nifti(patients / "labels/far.nii.gz", np.ones((20, 18, 6), np.uint8), away)
    (patients / "labels/itself.nii.gz").write_bytes((patients / "scans/itself.nii.gz").read_bytes())
    (patients / "labels/damaged.nii.gz").write_bytes(b"\x1f\x8b dear colleague")
    assert featlift("extract", "scans", *options(patients)).returncode == 0
    done = featlift("featdice", "features.zarr", "--masks", "labels")
    assert done.returncode == 1
    assert "1 of 7 cases have no mask: lonely" in done.stderr
    reasons = {line.split()[1]: line for line in done.stderr.splitlines()[-4:]}
    for name, says in {"damaged": "gz", "empty": "it is empty", "far": "does not overlap", "itself": "the scan itself"}.items():  # fmt: skip  # noqa: E501
        assert says in reasons[name]
    result = json.loads((patients / "results/features-featdice-prototype-nearest-centre.json").read_text())
    assert [case["id"] for case in result["cases"]] == ["p1", "p2"]
    assert sorted(result["failed"]) == ["damaged", "empty", "far", "itself"]
    assert result["left_out"] == ["lonely"]
    assert "Traceback" not in done.stderr


def test_the_table_comes_back_from_the_files_alone(featlift, patients):
    for name in ("first", "second"):
        assert featlift("extract", "scans", "-o", f"{name}.zarr", *options(patients)).returncode == 0
    done = featlift("featdice", "first.zarr", "second.zarr", "--masks", "labels", "--seed", "7", "-o", "there")
    assert done.returncode == 0, done.stderr
    files = sorted((patients / "there").iterdir())
    assert [file.name for file in files] == [
        f"{name}-featdice-prototype-nearest-centre.{suffix}"
        for name in ("first", "second")
        for suffix in ("csv", "json")
    ]
    results = [read_result(file) for file in files if file.suffix == ".json"]
    assert table(results) in done.stdout
    assert results[0].bootstrap["seed"] == 7
    assert results[0].recipe == open_store(patients / "first.zarr").recipe
    assert len(results[0].cases[0]["mask_sha256"]) == 64
    for file in files:
        assert str(patients) not in file.read_text()
    assert results[0].measures["dice"].mean == np.mean([float(row["dice"]) for row in rows(files[0]).values()])


def test_labels_are_called_by_their_names(featlift, patients):
    assert featlift("extract", "scans", *options(patients)).returncode == 0
    for path in (patients / "labels").glob("*.nii.gz"):
        image = nib.load(path)
        mask = np.asarray(image.dataobj).copy()
        mask[tuple(np.argwhere(mask)[0])] = 2
        nib.save(nib.Nifti1Image(mask, image.affine), path)
    done = featlift("featdice", "features.zarr", "--masks", "labels", "--label-names", "1=liver")
    assert "Dice of liver" in done.stdout
    assert "Dice of 2" in done.stdout
    done = featlift("featdice", "features.zarr", "--masks", "labels", "--label-names", "liver")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)


def test_where_a_threshold_would_find_more_the_options_that_decide_are_named(featlift, tmp_path):
    """After the table, in one line; of two regions no interval is given."""
    shutil.copytree(FIXTURES, tmp_path, dirs_exist_ok=True)
    done = featlift("featdice", "regions.zarr", "--masks", "labels")
    assert done.stdout.startswith("FeatDice, protocol centre; no 95 % intervals of fewer than 10 cases\n")
    assert "[" not in done.stdout
    says = "featlift: regions.zarr: Dice is far below best-threshold Dice: "
    says += "--threshold (here 0.9) decides what is predicted"
    assert done.stderr.splitlines()[-1] == f"{says}, --centre lesion another prototype"
    done = featlift("featdice", "regions.zarr", "--masks", "labels", "--centre", "lesion")
    assert done.stderr.splitlines()[-1] == says
    assert "far below" not in featlift("featdice", "layers.zarr", "--masks", "labels").stderr
    write_scan(tmp_path / "noise/a.nii.gz", shape=(40, 34, 6))
    write_nifti(tmp_path / "blocks/a.nii.gz", np.pad(np.ones((2, 2, 2), np.uint8), ((9, 29), (9, 23), (2, 2))))
    assert featlift("extract", "noise", *options(tmp_path)).returncode == 0
    done = featlift("featdice", "features.zarr", "--masks", "blocks")
    assert "look at another --layer" in done.stderr.splitlines()[-1]
    done = featlift("featdice", "features.zarr", "--masks", "blocks", "--nearest", "corner")
    assert done.stderr.splitlines()[-1].endswith("--nearest centre reads labels where cells lie")


def test_uncentred_scores_are_those_of_the_reconstructed_features(featlift, tmp_path):
    shutil.copytree(FIXTURES, tmp_path, dirs_exist_ok=True)
    done = featlift("featdice", "reduced.zarr", "--masks", "labels", "--uncentred")
    assert done.returncode == 0, done.stderr
    result = read_result("results/reduced-featdice-prototype-nearest-centre-uncentred.json")
    assert result.protocol["uncentred"] is True
    store = open_store("reduced.zarr")
    projection = store.basis.projections[1]
    for case, scores in zip(store.values(), result.cases, strict=True):
        d, h, w = case.valid_cells
        whole = np.tensordot(projection.components.T, case.dense[:, :d, :h, :w].astype(np.float32), axes=1)
        whole += projection.mean[:, None, None, None]
        mask = package.read(f"labels/{case.id}.nii.gz")
        labels = package.volumes.masks.labels_on(mask, case.scan_shape, case.scan_affine)
        found = segment_by_prototypes(whole, labels, CellGrid((d, h, w), case.scan_shape, case.stride, case.offset))
        want = [dice(found.prediction == label, labels == label) for label in (1, 2)]
        assert scores["dice"] == pytest.approx(np.mean(want), abs=2e-3)  # ties
    done = featlift("featdice", "reduced.zarr", "--masks", "labels")
    assert "uncentred" not in read_result("results/reduced-featdice-prototype-nearest-centre.json").protocol


def test_a_result_names_its_reading_and_one_from_before_is_the_released_one(featlift, tmp_path):
    shutil.copytree(FIXTURES, tmp_path, dirs_exist_ok=True)
    for options in ([], ["--nearest", "corner"]):
        done = featlift("featdice", "layers.zarr", "--masks", "labels", *options)
        assert done.returncode == 0, done.stderr
    names = ["prototype", "prototype-nearest-corner", "prototype-nearest-centre"]
    before, corner, centre = (read_result(f"results/layers-featdice-{name}.json") for name in names)
    assert (corner.protocol["nearest"], centre.protocol["nearest"]) == ("corner", "centre")
    assert before.protocol == corner.protocol
    assert [case["id"] for case in before.cases] == [case["id"] for case in corner.cases]
    [column] = columns_of([before, corner])
    assert column.results == [before, corner]
    with pytest.raises(OptionError, match="nearest=c"):
        columns_of([before, centre])


def test_masks_from_a_list(featlift, patients):
    """Of masks, or the manifest the scans came from; with other names than the scans'."""
    assert featlift("extract", "scans", *options(patients)).returncode == 0
    store = patients / "features.zarr"
    (patients / "labels").rename(patients / "other")
    (patients / "other/p1.nii.gz").rename(patients / "other/p1_segmentation.nii.gz")
    (patients / "masks.csv").write_text("id,path,by\np1,other/p1_segmentation.nii.gz,Ada\np2,other/p2.nii.gz,Ben\n")
    (patients / "cohort.csv").write_text(
        "id,path,mask\np1,scans/p1.nii.gz,other/p1_segmentation.nii.gz\np2,scans/p2.nii.gz,\n"
    )
    assert featlift("featdice", store, "--masks", "masks.csv").returncode == 0
    done = featlift("featdice", store, "--masks", "cohort.csv", "-o", "fewer")
    assert done.returncode == 0
    assert "1 of 2 cases have no mask: p2" in done.stderr
    both, one = (
        rows(patients / f"{folder}/features-featdice-prototype-nearest-centre.csv") for folder in ("results", "fewer")
    )
    assert one == {"p1": both["p1"]}
    done = featlift("featdice", store, "--masks", "other", "--mask-pattern", "*_segmentation.nii.gz", "-o", "fewer")
    assert rows(patients / "fewer/features-featdice-prototype-nearest-centre.csv") == one


def test_parts_of_a_scan_have_its_mask(tmp_path):
    for name in ("lung", "p1__roi2", "dyn", "cine"):
        write_nifti(tmp_path / f"labelsTr/{name}.nii.gz", np.ones((2, 2, 2), np.uint8))
    ids = ["lung_image__roi12", "imagesTr__cine__frame3", "dyn__frame0__roi1", "p1__roi1", "p1__roi2", "lungs"]
    found = find_masks(ids, tmp_path / "labelsTr")
    assert {case_id: path.name for case_id, path in found.items()} == {
        "lung_image__roi12": "lung.nii.gz",
        "dyn__frame0__roi1": "dyn.nii.gz",
        "p1__roi2": "p1__roi2.nii.gz",
        "imagesTr__cine__frame3": "cine.nii.gz",
    }
    one = find_masks(["scan__roi1", "scan__roi2"], tmp_path / "labelsTr/dyn.nii.gz")
    assert {path.name for path in one.values()} == {"dyn.nii.gz"}
    np.savez(tmp_path / "two.npz", a=np.zeros((2, 2, 2)), b=np.ones((2, 2, 2)))
    (tmp_path / "list.csv").write_text("id,path\nx,two.npz::b\n")
    assert package.read(find_masks(["x"], tmp_path / "list.csv")["x"]).array.all()


WRONG_CALLS = {
    "no masks at all": (["--masks", "elsewhere"], "none for any of the 2 cases"),
    "no such folder": (["--masks", "nowhere"], "no such file or folder"),
    "other protocol": (["--masks", "labels", "--protocol", "knn"], "choose one of centre, prototype"),
    "other centre": (["--masks", "labels", "--protocol", "centre", "--centre", "mean"], "choose one of grid, lesion"),
    "other neighbour": (["--masks", "labels", "--nearest", "linear"], "choose one of corner, centre"),
    "threshold": (["--masks", "labels", "--protocol", "centre", "--threshold", "90"], "from 0 to below 1"),
    "threshold of the other": (["--masks", "labels", "--threshold", "0.5"], "belong to the protocol centre"),
    "layer": (["--masks", "labels", "--layer", "3"], "features.zarr holds 0"),
    "the same store twice": (["features.zarr", "--masks", "labels"], "two stores of one name"),
}


def test_wrong_calls(featlift, patients):
    assert featlift("extract", "scans", *options(patients)).returncode == 0
    write_nifti(patients / "elsewhere/q.nii.gz", np.ones((2, 2, 2), np.uint8))
    for kind, (wrong, says) in WRONG_CALLS.items():
        done = featlift("featdice", "features.zarr", *wrong)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1), kind
        assert says in done.stderr, kind
    assert not (patients / "results").exists()
    with pytest.raises(OptionError, match="no case of"):
        featdice(patients / "features.zarr", {"q": patients / "elsewhere/q.nii.gz"})
    (patients / "results").write_text("a file is in the way")
    done = featlift("featdice", "features.zarr", "--masks", "labels")
    assert (done.returncode, "cannot write results" in done.stderr) == (2, True)


def test_a_point_of_a_list_means_the_lesion_at_it_or_nearest(tmp_path):
    mask = package.read(write_on_another_grid(tmp_path / "m.nii.gz", lesions()))
    to_lps = np.diag([-1, -1, 1, 1]) @ OBLIQUE
    for i, j, k in LESIONS:
        for point in ((i + 1, j + 1, k + 2), (i, j, k + 4)):
            found = lesion_at(mask, nib.affines.apply_affine(to_lps, point)).array
            assert found.sum() == 125
            middle = nib.affines.apply_affine(mask.affine, np.argwhere(found).mean(axis=0))
            np.testing.assert_allclose(middle, nib.affines.apply_affine(to_lps, (i, j, k)), atol=1e-3)


def test_a_region_around_a_hollow_lesion_means_that_lesion(tmp_path):
    """Its box has its centre beside it, nearer to another lesion."""
    hollow = np.zeros(SHAPE, np.uint8)
    hollow[4:20, 4:20, 4] = hollow[4:20, 4, 4:10] = 1
    small = np.zeros(SHAPE, np.uint8)
    small[11:13, 11:13, 7] = 1
    mask = package.read(write_on_another_grid(tmp_path / "m.nii.gz", hollow + small))
    centres = package.volumes.regions.centres_of_lesions(mask)
    assert sorted(int(lesion_at(mask, centre).array.sum()) for centre in centres) == [small.sum(), hollow.sum()]


def test_scan_and_mask_in_one_file(featlift, tmp_path):
    """Arrays of one HDF5 file are not taken for each other; a mask that is the scan itself still is."""
    rng = np.random.default_rng(0)
    mask = np.zeros((6, 32, 32), np.uint8)
    mask[2:4, 8:20, 8:20] = 1
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["raw"] = (100 * mask + rng.normal(0, 5, mask.shape)).astype(np.float32)
        file["mask"] = mask
    (tmp_path / "scans.csv").write_text("id,path\na,a.h5::raw\n")
    (tmp_path / "masks.csv").write_text("id,path\na,a.h5::mask\n")
    done = featlift(
        "extract", "scans.csv", *patch_mean_options(tmp_path, constant=1), "--mode", "2d", "--device", "cpu"
    )
    assert done.returncode == 0, done.stderr
    assert open_store(tmp_path / "features.zarr")["a"].attributes["source"]["key"] == "raw"
    done = featlift("featdice", "features.zarr", "--masks", "masks.csv")
    assert (done.returncode, done.stderr.count("itself")) == (0, 0), done.stderr
    done = featlift("featdice", "features.zarr", "--masks", "scans.csv")
    assert (done.returncode, "the scan itself" in done.stderr) == (1, True), done.stderr
