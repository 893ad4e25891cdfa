"""A network that learns to register: it does better than no registration on pairs it never saw, and is kept."""

import csv
import json
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from safetensors.numpy import load_file

from featlift import read
from featlift.errors import OptionError, VolumeError
from featlift.registration import ConvexAdam, convex_adam
from featlift.registration.network.folder import read_network
from featlift.registration.network.plan import NetworkPlan
from featlift.registration.network.running import register_by_network
from featlift.registration.network.subjects import PreparedFiles
from featlift.registration.network.training import train_network
from featlift.registration.network.who import pairing_of
from featlift.volumes import Preparation, Reading, Volume, find_scans
from featlift.volumes.nifti import write_nifti
from tests.registration.blobs import FEW, STRAIGHT, Blobs, blob, pairing, write_cohort
from tests.support.scans import patch_mean_options

CPU = torch.device("cpu")
TEST = [(16, 17), (17, 18), (18, 19), (19, 16)]
QUICK = NetworkPlan(("intensity",), weight=0.3, iterations=120, every=30, batch=2, rate=2e-3, warm_up=10)
SLICES = replace(QUICK, iterations=250, every=50)


def cohort_in(folder):
    scans = {scan.id: scan for scan in find_scans([folder / "scans"]).scans}
    return PreparedFiles(scans, Preparation(), Reading())


def trained_in(folder, plan, listed="cases.csv"):
    cohort = cohort_in(folder)
    return train_network(cohort, pairing_of(folder / listed, cohort.ids), plan, folder / "net")


@pytest.fixture(scope="module")
def volumes(tmp_path_factory):
    """A trained network of volumes beside its scans."""
    folder = write_cohort(tmp_path_factory.mktemp("volumes"))
    trained_in(folder, QUICK)
    return folder


def errors(folder, pairs, flat=None, **how):
    """Millimetres between where the centres of fixed scans are led to and those of the moving ones: before, after."""
    trained = read_network(folder / "net", CPU)
    found = []
    for fixed, moving in pairs:
        (array, affine, centre), (other, other_affine, want) = blob(fixed, flat), blob(moving, flat)
        field = register_by_network(Volume(array, affine), Volume(other, other_affine), trained, **how).field
        at = np.linalg.solve(affine, [*centre, 1])[:3].round().astype(int)
        around = tuple(slice(max(0, index - 1), index + 2) for index in at)
        led = centre + field.vectors[:, *around].mean(axis=(1, 2, 3))
        found.append((np.linalg.norm(centre - want), np.linalg.norm(led - want)))
    return np.array(found)


def test_pairs_that_were_never_seen(volumes):
    before, after = errors(volumes, TEST).T
    assert after.mean() < 0.6 * before.mean()


def test_an_affine_stage_comes_before_the_network(volumes):
    """Blobs that lie apart are brought together first, and the field is of both stages."""
    trained = read_network(volumes / "net", CPU)
    shift = np.eye(4)
    shift[:3, 3] = (60, -40, 25)
    (array, affine, centre), (other, other_affine, want) = blob(16), blob(17)
    pair = Volume(array, affine), Volume(other, shift @ other_affine)
    with pytest.raises(VolumeError, match="do not overlap"):
        register_by_network(*pair, trained)
    found = register_by_network(*pair, trained, affine="moments")
    at = np.linalg.solve(affine, [*centre, 1])[:3].round().astype(int)
    led = centre + found.field.vectors[:, *at]
    assert np.linalg.norm(led - (want + shift[:3, 3])) < 2
    assert found.metrics["mean_mm"] < 10, "of what comes after the affine stage"
    assert np.linalg.norm(found.affine[:3, 3] - shift[:3, 3]) < 10


def test_adam_goes_on_from_the_network(volumes):
    _, network = errors(volumes, TEST).T
    _, adam = errors(volumes, TEST, optimisation=ConvexAdam(iterations=25)).T
    assert adam.mean() < 0.8 * network.mean()


@pytest.mark.parametrize(("flat", "loss"), [(0, "mse"), (2, "lncc")])
def test_slices(tmp_path, flat, loss):
    """Slices are registered within their plane, whatever the plane."""
    config = train_network(Blobs(flat), pairing(), replace(SLICES, loss=loss), tmp_path / "net")
    assert [axis for axis, size in enumerate(config.grid) if size == 1] == [flat]
    before, after = errors(tmp_path, TEST, flat).T
    assert after.mean() < 0.5 * before.mean()
    trained = read_network(tmp_path / "net", CPU)
    one, other = (Volume(*blob(number, flat)[:2]) for number in (16, 17))
    assert np.array_equal(register_by_network(one, other, trained).field.vectors[2 - flat], np.zeros_like(one.array))
    whole = Volume(*blob(1)[:2])
    with pytest.raises(OptionError, match="slices and volumes are not mixed"):
        register_by_network(whole, whole, trained)


def test_slices_among_volumes(tmp_path):
    class Mixed(Blobs):
        def scan(self, case_id):
            return Blobs(0 if case_id == "c03" else None).scan(case_id)

    with pytest.raises(OptionError, match="slices and volumes are not mixed"):
        train_network(Mixed(), pairing(), SLICES, tmp_path / "net")


def test_the_voxels_of_the_fixed_scan_do_not_matter(volumes):
    """The same scan, its axes turned over, has the same field in the patient."""
    trained = read_network(volumes / "net", CPU)
    (array, affine, _), (other, other_affine, _) = blob(16), blob(17)
    moving = Volume(other, other_affine)
    straight = register_by_network(Volume(array, affine), moving, trained).field
    turned = Volume(
        np.ascontiguousarray(array.transpose(2, 0, 1)[:, ::-1]),
        affine[:, [2, 0, 1, 3]] @ np.array([[1, 0, 0, 0], [0, -1, 0, array.shape[0] - 1], [0, 0, 1, 0], [0, 0, 0, 1]]),
    )
    found = register_by_network(turned, moving, trained).field
    assert found.vectors[:, :, ::-1].transpose(0, 2, 3, 1) == pytest.approx(straight.vectors, abs=1e-4)


def test_a_field_to_begin_with():
    rng = np.random.default_rng(0)
    ends = (torch.from_numpy(rng.normal(size=(2, 7, 9, 8))).float() for _ in range(2))
    start = torch.from_numpy(rng.normal(size=(3, 7, 9, 8))).float()
    assert torch.equal(convex_adam(*ends, settings=ConvexAdam(iterations=0), start=start), start)


def test_scans_of_another_size_of_voxels(volumes):
    trained = read_network(volumes / "net", CPU)
    array, affine, _ = blob(16)
    fine = Volume(array, affine @ np.diag([0.4, 0.4, 0.4, 1]))
    with pytest.raises(OptionError, match=r"voxels of 0\.8 mm, and net was trained on scans of 2 mm"):
        register_by_network(fine, fine, trained)


def test_from_files_to_files(featlift, volumes, tmp_path):
    scans = volumes / "scans"
    pair = (scans / "c16.nii.gz", scans / "c17.nii.gz")
    done = featlift("register", "run", *pair, "--method", "net", "--network", volumes / "net", "-o", "out")
    assert done.returncode == 0, done.stderr
    assert "16 x 16 x 16 voxels of 2 x 2 x 2 mm" in done.stdout
    run = json.loads((tmp_path / "out/run.json").read_text())
    assert run["registration"] == "net"
    assert run["settings"]["network"]["name"] == "net"
    assert run["settings"]["convex_adam"]["iterations"] == 0
    field = sitk.ReadImage(str(tmp_path / "out/field.nii.gz"), sitk.sitkVectorFloat64)
    like, moving = (sitk.ReadImage(str(path), sitk.sitkFloat64) for path in pair)
    theirs = sitk.Resample(moving, like, sitk.DisplacementFieldTransform(field), sitk.sitkLinear, 0.0)
    warped, fixed, other = (read(path).array for path in (tmp_path / "out/warped.nii.gz", *pair))
    assert np.abs(warped - sitk.GetArrayFromImage(theirs))[2:-2, 2:-2, 2:-2].max() < 1
    unmoved = sitk.GetArrayFromImage(sitk.Resample(moving, like, sitk.Transform(), sitk.sitkLinear, 0.0))
    assert np.square(warped - fixed).mean() < 0.6 * np.square(unmoved - fixed).mean()
    assert other.shape == moving.GetSize()[::-1]


@pytest.mark.soak
def test_a_killed_training_goes_on_and_ends_as_one_that_was_not(featlift, tmp_path):
    write_cohort(tmp_path)
    given = (
        "register",
        "train",
        "scans",
        "--pairs",
        "pairs.csv",
        "--input",
        "mind,intensity",
        *FEW,
        "--iterations",
        16,
    )
    command = [sys.executable, "-m", "featlift.cli.main", *map(str, given), "-o", "killed"]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    curves = tmp_path / "killed/curves.csv"
    while process.poll() is None and not (curves.exists() and len(curves.read_text().splitlines()) > 3):
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert (tmp_path / "killed/checkpoint.pt").exists()
    assert not (tmp_path / "killed/config.json").exists()
    unready = featlift("register", "run", "scans/c00.nii.gz", "scans/c01.nii.gz", "--method", "net", "-o", "out",
                       "--network", "killed")  # fmt: skip
    assert "no trained network" in unready.stderr
    assert featlift(*given, "-o", "killed").returncode == 0
    done = featlift(*given, "-o", "whole")
    assert done.returncode == 0
    assert "best validation loss" in done.stdout
    killed, whole = (load_file(tmp_path / name / "weights.safetensors") for name in ("killed", "whole"))
    assert all(np.array_equal(killed[key], whole[key]) for key in whole)
    rows = [list(csv.DictReader((tmp_path / name / "curves.csv").open())) for name in ("killed", "whole")]
    assert [row["val_loss"] for row in rows[0]] == [row["val_loss"] for row in rows[1]]
    assert len(rows[0]) == 8
    files = {path.name for path in (tmp_path / "whole").iterdir()}
    assert files == {"config.json", "weights.safetensors", "curves.csv", "curves.svg"}
    config = json.loads((tmp_path / "whole/config.json").read_text())
    best = min(rows[1], key=lambda row: float(row["val_loss"]))
    assert config["training"]["best_epoch"] == int(best["epoch"])
    assert config["test"] == [["c16", "c17"], ["c18", "c19"]]
    again = featlift(*given, "-o", "whole", "--seed", 1)
    assert again.returncode == 2
    assert "another plan: seed" in again.stderr


def test_what_is_seen_at_test_changes_nothing(featlift, tmp_path):
    write_cohort(tmp_path)
    given = ("register", "train", "scans", "--pairs", "pairs.csv", *FEW)
    assert featlift(*given, "-o", "one").returncode == 0
    for name in ("c16", "c19"):
        (tmp_path / f"scans/{name}.nii.gz").write_bytes(b"no scan")
    assert featlift(*given, "-o", "two").returncode == 0
    one, two = (load_file(tmp_path / name / "weights.safetensors") for name in ("one", "two"))
    assert all(np.array_equal(one[name], two[name]) for name in one)


def test_features_of_a_store(featlift, tmp_path):
    write_cohort(tmp_path)
    model = patch_mean_options(tmp_path, constant=1)
    assert featlift("extract", "scans", "-o", "store.zarr", *model, "--mode", "2d", "--device", "cpu").returncode == 0
    given = ("register", "train", "store.zarr", "--pairs", "pairs.csv", "--components", 2, *FEW, "-o", "net")
    done = featlift(*given, "--input", "features,intensity")
    assert done.returncode == 0, done.stderr
    config = json.loads((tmp_path / "net/config.json").read_text())
    assert config["channels"] == 3
    assert config["recipe"]["mode"] == "2d"
    assert (tmp_path / "net/basis.safetensors").exists()
    run = (
        "register",
        "run",
        "scans/c16.nii.gz",
        "scans/c17.nii.gz",
        "--method",
        "net",
        "--network",
        "net",
        "-o",
        "out",
    )
    done = featlift(*run, *model, "--mode", "2d")
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "out/run.json").read_text())["recipe"]["mode"] == "2d"
    for options in ((*model, "--mode", "pcg"), (*model, "--mode", "2d", "--size", 32)):
        done = featlift(*run, *options)
        assert done.returncode == 2
        assert "features of another recipe" in done.stderr
        assert done.stderr.count("\n") == 1


def test_scans_that_were_enlarged_come_to_the_voxels_of_their_files(featlift, tmp_path):
    write_cohort(tmp_path)
    given = ("register", "train", "scans", "--size", 32, "--pairs", "pairs.csv", *FEW, "-o", "net")
    done = featlift(*given)
    assert done.returncode == 0, done.stderr
    config = json.loads((tmp_path / "net/config.json").read_text())
    assert config["scans"][1] < 1.1  # 2 mm on 15 or 16 voxels became 32
    assert config["spacing"] == pytest.approx(2)


def test_bad_input_in_one_line(featlift, volumes, tmp_path):
    write_cohort(tmp_path)
    far = STRAIGHT.copy()
    far[:3, 3] = 900
    (tmp_path / "apart").mkdir()
    for name in ("c00", "c01", "c12", "c13"):
        write_nifti(tmp_path / f"apart/{name}.nii.gz", blob(1)[0], far if name == "c01" else STRAIGHT)
    (tmp_path / "four.csv").write_text("fixed,moving,split\nc00,c01,train\nc12,c13,val\n")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken/config.json").write_text("{")
    train, run = ("register", "train"), ("register", "run", "scans/c00.nii.gz", "scans/c01.nii.gz", "-o", "out")
    net = volumes / "net"
    for call, message in {
        (*train, "scans", "--pairs", "none.csv", "-o", "net"): "no such file",
        (*train, "scans", "--pairs", "cases.csv", "--input", "features", "-o", "net"): "come from a store",
        (
            *train,
            "scans",
            "--pairs",
            "cases.csv",
            "--input",
            "wrong",
            "-o",
            "net",
        ): "choose one of features, mind, intensity",
        (*train, "scans", "--pairs", "cases.csv", "--warm-up", 20_000, "-o", "net"): "warm-up 20000",
        (*train, "apart", "--pairs", "four.csv", *FEW, "-o", "net"): "c00 and c01 do not overlap",
        (*train, "scans", "--pairs", "cases.csv", *FEW, "--rate", 1e9, "-o", "net"): "training has diverged",
        (*run, "--method", "net"): "belong together",
        (*run, "--network", net): "belong together",
        (*run, "--method", "net", "--network", "nowhere"): "no trained network",
        (*run, "--method", "net", "--network", "broken"): "not readable",
        (*run, "--method", "net", "--network", net, "--features", "both"): "the network says what it sees",
        (*run, "--method", "net", "--network", net, "--grid-mm", 3): "the network says what it sees",
    }.items():
        done = featlift(*call)
        assert done.returncode == 2, (call, done.stdout, done.stderr)
        assert done.stderr.count("\n") == 1, done.stderr
        assert message in done.stderr, (call, done.stderr)
    assert not (tmp_path / "net/config.json").exists()
    assert not (tmp_path / "out/run.json").exists()
