"""Scores of registered pairs: known displacements, reference numbers, and results that may be compared."""

import json

import numpy as np
import pytest

from featlift.errors import OptionError, VolumeError
from featlift.evaluation import compare, read_result
from featlift.metrics.scores import dice
from featlift.metrics.surface import surface_distances
from featlift.registration import ConvexAdam, DisplacementField, PairSettings
from featlift.registration.landmarks import landmark_errors, read_landmarks
from featlift.registration.many import register_pairs
from featlift.registration.score_result import registration_result
from featlift.registration.scoring import score_pairs
from featlift.volumes.nifti import write_nifti
from tests.conftest import GOLDEN

AFFINE = np.diag([1.0, 1.0, 1.0, 1.0])[[2, 1, 0, 3]]


@pytest.mark.parametrize("case", "abc")
def test_reference_numbers_of_labels(case):
    arrays = np.load(GOLDEN / "systems" / "surface.npz")
    truth, prediction, spacing = (arrays[f"{case}/{name}"] for name in ("truth", "prediction", "spacing"))
    for expected in json.loads((GOLDEN / "systems" / "surface.json").read_text())[case]:
        both = prediction == expected["label"], truth == expected["label"]
        found = surface_distances(*both, spacing)
        assert dice(*both) == pytest.approx(expected["dice"], abs=1e-5)
        if expected["hd95"] is None:
            assert found.hd95 == found.hd95_pooled == found.asd == np.inf
            continue
        assert found.hd95 == pytest.approx(expected["hd95"], abs=1e-5)
        assert found.hd95_pooled == pytest.approx(expected["hd95_pooled"], abs=1e-5)
        assert found.asd == pytest.approx(expected["asd_symmetric"], abs=1e-5)


@pytest.fixture(scope="module")
def registered(tmp_path_factory):
    """Two pairs of hippocampi, by two settings, with the masks of all."""
    folder = tmp_path_factory.mktemp("registered")
    arrays = np.load(GOLDEN / "systems" / "registration.npz")
    for place in ("scans", "masks"):
        (folder / place).mkdir()
    write_nifti(folder / "scans" / "b.nii.gz", arrays["pair1/fixed"], AFFINE)
    write_nifti(folder / "scans" / "c.nii.gz", arrays["pair1/moving"], AFFINE)
    write_nifti(folder / "masks" / "b.nii.gz", arrays["pair1/fixed_labels"], AFFINE)
    write_nifti(folder / "masks" / "c.nii.gz", arrays["pair1/moving_labels"], AFFINE)
    (folder / "pairs.csv").write_text("fixed,moving\nb,c\nc,b\n")
    for weight in (1.25, 0.6):
        settings = PairSettings(convex_adam=ConvexAdam(cell=4, reach=3, iterations=30, weight=weight))
        register_pairs(folder / "pairs.csv", folder / "scans", folder / f"weight{weight}", settings)
    return folder


def test_scores_of_pairs(registered):
    found = score_pairs(registered / "weight1.25", registered / "masks", unregistered=True)
    assert [score.id for score in found.after] == ["b--c", "c--b"]
    before, after = (
        registration_result(found, scores, scores is found.before) for scores in (found.before, found.after)
    )
    assert after.measures["dice"].mean > before.measures["dice"].mean + 0.05
    assert before.measures["sdlogj"].mean == before.measures["folds"].mean == 0
    assert 0 < after.measures["sdlogj"].mean < 1
    assert after.measures["seconds"].mean > 0
    assert "seconds" not in before.measures
    assert "tre" not in after.measures
    for name in ("hd95", "hd95_pooled", "asd", "dice_1", "dice_2", "asd_2"):
        assert after.measures[name].cases == 2
    arrays = np.load(GOLDEN / "systems" / "registration.npz")
    truth, lay = (arrays[f"pair1/{name}_labels"] == 1 for name in ("fixed", "moving"))
    assert before.cases[0]["dice_1"] == pytest.approx(2 * (truth & lay).sum() / (truth.sum() + lay.sum()))
    only = score_pairs(registered / "weight1.25", registered / "masks", labels=(2,))
    assert only.after[0].labels == {2: found.after[0].labels[2]}


def test_results_stand_side_by_side(registered, featlift):
    for weight, more in ((1.25, ["--unregistered"]), (0.6, [])):
        done = featlift("register", "score", registered / f"weight{weight}", "--masks", registered / "masks", *more)
        assert done.returncode == 0, done.stderr
        assert "Dice of 1" in done.stdout
    lines = featlift(
        "register", "score", registered / "weight1.25", "--masks", registered / "masks", *["--unregistered"]
    )
    assert [line.split()[1] for line in lines.stdout.splitlines()[2:4]] == ["unregistered", "mind"]
    done = featlift("compare", "results")
    assert done.returncode == 0, done.stderr
    assert "settings.convex_adam.weight" in done.stdout
    for row in ("unregistered", "0.6", "1.25"):
        assert row in done.stdout


def test_other_masks_are_not_compared(registered, featlift, tmp_path):
    """Of a pair both masks count, the fixed and the moving one."""
    (tmp_path / "others").mkdir()
    arrays = np.load(GOLDEN / "systems" / "registration.npz")
    write_nifti(tmp_path / "others" / "b.nii.gz", arrays["pair1/fixed_labels"], AFFINE)
    write_nifti(tmp_path / "others" / "c.nii.gz", np.minimum(arrays["pair1/moving_labels"], 1), AFFINE)
    for weight, masks in ((1.25, registered / "masks"), (0.6, "others")):
        done = featlift("register", "score", registered / f"weight{weight}", "--masks", masks, "--labels", 1)
        assert done.returncode == 0, done.stderr
    results = [read_result(path) for path in sorted((tmp_path / "results").glob("*.json"))]
    with pytest.raises(OptionError, match="other masks or labels of b--c"):
        compare(results)


def shifted(affine, shape=(20, 24, 22), step=(2.0, -1.0, 3.0)):
    """A field that moves everything by so many LPS millimetres."""
    vectors = np.broadcast_to(np.array(step, np.float32)[:, None, None, None], (3, *shape)).copy()
    return DisplacementField(vectors, affine)


def test_landmarks_in_millimetres(tmp_path):
    """On an oblique, anisotropic grid: what the field undoes has no error, what it does not has its length."""
    angle = np.deg2rad(25)
    affine = np.eye(4)
    affine[:3, :3] = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    affine[:3, :3] = affine[:3, [2, 1, 0]] * [3.0, 0.8, 0.5]
    affine[:3, 3] = 30, -20, 10
    field = shifted(affine)
    fixed = {str(n): (affine @ [*p, 1])[:3] for n, p in enumerate([(5, 6, 7), (10.5, 12, 3.25), (19, 23, 21)])}
    exact = {name: place + np.array([2, -1, 3]) for name, place in fixed.items()}
    assert landmark_errors(field, fixed, exact) == pytest.approx(0, abs=1e-5)
    apart = landmark_errors(shifted(affine, step=(0, 0, 0)), fixed, {**exact, "more": np.zeros(3)})
    assert apart == pytest.approx(np.sqrt(14), abs=1e-5)
    for name, sign, ras in (("lps", 1, False), ("ras", -1, True)):
        rows = [f"{key},{sign * x},{sign * y},{z}" for key, (x, y, z) in fixed.items()]
        (tmp_path / f"{name}.csv").write_text("\n".join(["id,x,y,z", *rows]) + "\n")
        again = read_landmarks(tmp_path / f"{name}.csv", ras)
        assert all(again[key] == pytest.approx(place) for key, place in fixed.items())
    with pytest.raises(VolumeError, match="--ras"):
        landmark_errors(field, read_landmarks(tmp_path / "ras.csv"), exact)
    with pytest.raises(VolumeError, match="no id in common"):
        landmark_errors(field, fixed, {"other": fixed["0"]})


def test_landmarks_of_pairs(registered, featlift, tmp_path):
    (tmp_path / "points").mkdir()
    for name, rows in {"b": ["1,20,20,20", "2,10,30,25"], "c": ["1,21,20,20", "2,10,30,28"]}.items():
        (tmp_path / "points" / f"{name}.csv").write_text("\n".join(["id,x,y,z", *rows]) + "\n")
    call = ("register", "score", registered / "weight1.25", "--landmarks", "points", "--unregistered")
    done = featlift(*call)
    assert done.returncode == 0, done.stderr
    before = read_result(tmp_path / "results" / "weight1.25-registration-unregistered.json")
    assert before.measures["tre"].mean == pytest.approx(2, abs=1e-4)
    assert "dice" not in before.measures
    assert "TRE mm" in done.stdout
    assert featlift("compare", "results").returncode == 0


def test_two_places_with_the_same_ids(featlift, tmp_path):
    """As CT and MR of one patient: moving scans and masks lie elsewhere, or one mask would be that of both."""
    arrays = np.load(GOLDEN / "systems" / "registration.npz")
    for place, key in {"ct": "fixed", "ct_m": "fixed_labels", "mr": "moving", "mr_m": "moving_labels"}.items():
        (tmp_path / place).mkdir()
        write_nifti(tmp_path / place / "p.nii.gz", arrays[f"pair1/{key}"], AFFINE)
    (tmp_path / "pairs.csv").write_text("fixed,moving\np,p\n")
    quick = ("--search-cell", 4, "--reach", 2, "--one-way", "--iterations", 2)
    done = featlift("register", "run", "ct", "mr", "--pairs", "pairs.csv", "-o", "out", *quick)
    assert done.returncode == 0, done.stderr
    itself = featlift("register", "run", "ct", "--pairs", "pairs.csv", "-o", "other", *quick)
    assert itself.returncode == 2
    assert "paired with itself" in itself.stderr
    alone = featlift("register", "score", "out", "--masks", "ct_m")
    assert alone.returncode == 2
    assert "both scans have one id" in alone.stderr
    done = featlift("register", "score", "out", "--masks", "ct_m", "--moving-masks", "mr_m", "--unregistered")
    assert done.returncode == 0, done.stderr
    before = read_result(tmp_path / "results" / "out-registration-unregistered.json")
    truth, lay = (arrays[f"pair1/{name}_labels"] == 2 for name in ("fixed", "moving"))
    assert before.cases[0]["dice_2"] == pytest.approx(2 * (truth & lay).sum() / (truth.sum() + lay.sum()))


def test_what_cannot_be_scored_in_one_line(registered, featlift, tmp_path):
    arrays = np.load(GOLDEN / "systems" / "registration.npz")
    for place in ("apart", "scans", "bare", "far"):
        (tmp_path / place).mkdir()
    labels = arrays["pair1/fixed_labels"]
    for place, array, affine in (
        ("apart", labels, AFFINE),
        ("scans", arrays["pair1/fixed"], AFFINE),
        ("bare", labels, AFFINE),
        ("far", labels, AFFINE),
    ):
        write_nifti(tmp_path / place / "b.nii.gz", array, affine)
    write_nifti(tmp_path / "apart" / "c.nii.gz", (labels > 0) * np.uint8(9), AFFINE)
    write_nifti(tmp_path / "scans" / "c.nii.gz", np.arange(labels.size, dtype=np.float32).reshape(labels.shape), AFFINE)
    write_nifti(tmp_path / "bare" / "c.nii.gz", labels, None)
    away = AFFINE.copy()
    away[:3, 3] = 500
    write_nifti(tmp_path / "far" / "c.nii.gz", labels, away)
    (tmp_path / "empty").mkdir()
    (tmp_path / "one.csv").write_text("id,path\nb,apart/b.nii.gz\n")
    folder = registered / "weight1.25"
    for call, message in {
        (folder, "--masks", "apart"): "b--c: its masks have no label in common: one holds 1, 2 and the other 9",
        (folder, "--masks", registered / "masks", "--labels", 5): "no label in common: of 5,",
        (folder, "--masks", "scans"): "c.nii.gz is no mask",
        (folder, "--masks", "bare"): "b--c: the mask of the moving scan does not say where it lies",
        (folder, "--masks", "far"): "b--c: nothing of the image comes to lie",
        (folder, "--masks", "one.csv"): "no pair of 2 has masks",
        (folder, "--landmarks", "empty"): "no pair of 2 has masks or landmarks",
        (folder,): "give --masks, --landmarks, or both",
        (folder, "--mask-pattern", "*_m.nii.gz"): "say with --masks",
        ("empty", "--masks", "apart"): "no pair is done here",
        (registered, "--masks", "apart"): "different plans",
    }.items():
        if call[0] == registered:  # the pairs of two runs as those of one
            for number, weight in enumerate(("1.25", "0.6")):
                (tmp_path / "mixed" / str(number)).mkdir(parents=True)
                text = (registered / f"weight{weight}" / "b--c" / "run.json").read_text()
                (tmp_path / "mixed" / str(number) / "run.json").write_text(text)
            call = ("mixed", *call[1:])
        done = featlift("register", "score", *call)
        assert done.returncode == 2, call
        assert message in done.stderr, (call, done.stderr)
        assert done.stderr.count("\n") == 1, done.stderr
    assert not (tmp_path / "results").exists()
