"""Heads of affinities on phantoms of neuropil: what they learn, how they go on, what is refused, what is written."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from featlift import open_store
from featlift.cli.main import main
from featlift.errors import OptionError, VolumeError
from featlift.metrics.instances import adapted_rand, overlaps
from featlift.segmentation import (
    AffinitySettings,
    Finding,
    Plan,
    Split,
    open_trained,
    predict_objects,
    train_head,
)
from featlift.segmentation.data.cases import BEYOND
from featlift.segmentation.inference.windows import logits_of, slabs_of
from featlift.segmentation.instances.affinities import LONG_RANGE, affinities, widened
from featlift.segmentation.instances.agglomeration import agglomerate, agglomerate_sections
from featlift.segmentation.instances.fragments import fragments_of
from featlift.segmentation.objects.crops import target_of
from featlift.segmentation.objects.labels import NOTHING, UNKNOWN, objects_of
from featlift.segmentation.objects.survey import survey_objects
from featlift.segmentation.objects.task import AffinityTask, balanced_error
from featlift.training.checkpoint import CHECKPOINT
from featlift.volumes import read_instances
from featlift.volumes.instance_files import write_instances
from featlift.volumes.instances import Instances
from featlift.volumes.regions import Box
from tests.conftest import GOLDEN
from tests.support.neuropil import NEURONS, RAW, neuropil
from tests.support.scans import patch_mean_options, write_nifti

pytest.importorskip("waterz")

SHAPE = (8, 60, 68)  # not of whole cells
SPLIT = Split(["a", "b"], ["v"], ["t"])
SEEDS = {"a": 1, "b": 2, "v": 3, "t": 4}
FIRST_ID = 2**60
CPU = torch.device("cpu")


@pytest.fixture(scope="session")
def tissue(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Phantoms in CREMI's layout with ids that float64 cannot tell apart, masks.csv, and a store of cells of 4 x 4."""
    folder = tmp_path_factory.mktemp("tissue")
    for name, seed in SEEDS.items():
        neuropil(seed, SHAPE, cells=16, organelles=3, first_id=FIRST_ID).write(folder / f"{name}.h5")
    parts = {name: part for part in ("train", "val", "test") for name in getattr(SPLIT, part)}
    rows = "".join(f"{name},{folder / name}.h5::{RAW},{parts[name]}\n" for name in SEEDS)
    (folder / "scans.csv").write_text("id,path,split\n" + rows)
    rows = "".join(f"{name},{folder / name}.h5::{NEURONS}\n" for name in SEEDS)
    (folder / "masks.csv").write_text("id,path\n" + rows)
    extracted(folder / "scans.csv", folder / "em.zarr", folder)
    return folder


def extracted(scans: Path, store: Path, folder: Path) -> Path:
    arguments = ["--mode", "2d", "--layers", "0", "--intensity", "window:0,255", "--workers", "0"]
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("HF_HUB_OFFLINE", "1")
        options = [*patch_mean_options(folder, 4, constant=0.5), *arguments]
        patched.setattr(sys, "argv", ["featlift", "extract", str(scans), "-o", str(store), *options])
        with pytest.raises(SystemExit) as ended:
            main()
    assert ended.value.code == 0
    return store


def masks_of(tissue):
    return {name: f"{tissue / name}.h5::{NEURONS}" for name in SEEDS}


def plan_of(head="linear", **more):
    learning = {"linear": {"rate": 0.05}, "decoder": {"rate": 0.01, "options": {"width": 8, "skip": True}}}
    learning["dino3dra"] = {"rate": 0.003, "features": "none"}
    return Plan(head, **{"patch": (8, 32, 32), "epochs": 6, "affinities": AffinitySettings(), **learning[head], **more})


def train(tissue, folder, plan, split=SPLIT, masks=None):
    return train_head(open_store(tissue / "em.zarr"), masks or masks_of(tissue), split, plan, folder, precision="fp32")


def error_of(tissue, path, name="t"):
    truth = read_instances(f"{tissue / name}.h5::{NEURONS}")
    return adapted_rand(overlaps(truth.array, read_instances(path).array)).error


@pytest.mark.parametrize("head", ["linear", "decoder"])
def test_a_head_learns_and_its_objects_are_better_than_those_of_random_features(tissue, tmp_path, head):
    config = train(tissue, tmp_path / "head", plan_of(head))
    assert config.labels == {}
    assert config.name.startswith(f"{head}-affinities-neighbours")
    assert config.training["error"] < 0.25
    assert 0 < config.objects["threshold"] < 1
    assert config.step == 1
    twin = train(tissue, tmp_path / "twin", plan_of("linear", epochs=1, features="random"))
    assert twin.training["error"] > config.training["error"]
    store, errors = open_store(tissue / "em.zarr"), []
    for name in ("head", "twin"):
        (path,) = predict_objects(store, open_trained(tmp_path / name), tmp_path / f"found-{name}", ["t"])
        errors.append(error_of(tissue, path))
    assert errors[0] < 0.3
    assert errors[1] > errors[0] + 0.2


@pytest.mark.soak
def test_a_unet_learns_affinities_from_intensities_alone(tissue, tmp_path):
    config = train(
        tissue, tmp_path / "head", plan_of("dino3dra", epochs=4, patch=SHAPE), split=Split(["a"], ["v"], ["t"])
    )
    assert config.needs == ["scan"]
    store = open_store(tissue / "em.zarr")
    (path,) = predict_objects(store, open_trained(tmp_path / "head"), tmp_path / "found", ["t"])
    assert error_of(tissue, path) < 0.4


def test_from_training_to_scores_on_the_command_line(featlift, tissue, tmp_path):
    given = ("--masks", tissue / "masks.csv", "--labels", tissue / "scans.csv", "--task", "affinities")
    given = ("segment", "train", tissue / "em.zarr", *given, "--head", "linear", "--rate", "0.05", "--device", "cpu")
    done = featlift(*given, "--patch", "8,32,32", "--epochs", "4", "-o", "head")
    assert done.returncode == 0, done.stderr
    assert "best validation error" in done.stdout
    assert "VOI" in done.stdout
    files = sorted(path.name for path in (tmp_path / "head").iterdir())
    assert files == ["config.json", "curves.csv", "curves.svg", "weights.safetensors"]
    config = json.loads((tmp_path / "head/config.json").read_text())
    assert config["plan"]["affinities"] == {
        "offsets": "neighbours",
        "widen": True,
        "ignore": [],
        "agglomeration": "mean",
    }
    given = ("segment", "predict", tissue / "em.zarr", "--head", "head", "--case", "t", "--device", "cpu")
    places = []
    for form, ending in (("hdf5", ".h5"), ("zarr", ".zarr"), ("nifti", ".nii.gz")):
        done = featlift(*given, "--format", form, "-o", form)
        assert done.returncode == 0, done.stderr
        places.append(read_instances(tmp_path / f"{form}/t{ending}"))
        done = featlift("segment", "score", form, "--masks", tissue / "masks.csv", "--metric", "voi,arand", "-o", "res")
        assert done.returncode == 0, done.stderr
    for found in places:
        np.testing.assert_array_equal(found.array, places[0].array)
        np.testing.assert_allclose(found.resolution, (40, 4, 4), rtol=1e-5)
    (result,) = (json.loads((tmp_path / f"res/{form}-instances.json").read_text()) for form in ("zarr",))
    assert result["cases"][0]["arand"] == pytest.approx(error_of(tissue, tmp_path / "hdf5/t.h5"))
    done = featlift("segment", "score", tissue / "em.zarr", "--masks", tissue / "masks.csv", "--predictions", "hdf5")
    assert done.returncode == 2
    assert "hdf5 holds objects, whose ids are arbitrary" in done.stderr
    done = featlift(*given, "--threshold", "0.05", "-o", "hdf5")
    assert "holds predictions of another kind, which differ in threshold" in done.stderr
    done = featlift(*given, "--threshold", "0.05", "-o", "low")
    assert len(np.unique(read_instances(tmp_path / "low/t.h5").array)) > len(np.unique(places[0].array))
    done = featlift(*given[:5], "--case", "a", "--device", "cpu", "-o", "seen")
    assert "1 of 1 cases were seen in training" in done.stderr
    done = featlift(*given, "--agglomeration", "median", "-o", "median")
    assert "the training chose a threshold for mean; give a --threshold" in done.stderr
    done = featlift(*given, "--agglomeration", "mutex", "--threshold", "0.5", "-o", "mutex")
    assert "train with --offsets long-range" in done.stderr


def test_a_training_that_was_interrupted_ends_as_one_that_was_not(tissue, tmp_path):
    def stop(row, epochs):
        if row["epoch"] == 2:
            raise KeyboardInterrupt

    store, plan = open_store(tissue / "em.zarr"), plan_of("decoder", epochs=3, patch=(8, 60, 68))
    with pytest.raises(KeyboardInterrupt):
        train_head(store, masks_of(tissue), SPLIT, plan, tmp_path / "killed", precision="fp32", told=stop)
    assert (tmp_path / "killed" / CHECKPOINT).exists()
    configs = [train(tissue, tmp_path / name, plan) for name in ("killed", "whole")]
    weights = [(tmp_path / name / "weights.safetensors").read_bytes() for name in ("killed", "whole")]
    assert weights[0] == weights[1]
    assert configs[0].objects == configs[1].objects
    with pytest.raises(OptionError, match="another plan: affinities"):
        train(tissue, tmp_path / "whole", replace(plan, affinities=AffinitySettings(widen=False)))


def test_targets_of_a_crop_are_those_of_the_whole_volume():
    objects = neuropil(5, (7, 60, 64), cells=12).labels.astype(np.uint16) + UNKNOWN
    objects[2:4, 20:30, 30:44] = NOTHING
    for widen in (False, True):
        settings = AffinitySettings("long-range", widen)
        whole = target_of(objects, Box((0, 0, 0), objects.shape), settings)
        np.testing.assert_array_equal(whole == 1, affinities(widened(objects) if widen else objects, LONG_RANGE))
        part = target_of(objects, Box((2, 3, 40), (5, 9, 20)), settings)
        np.testing.assert_array_equal(part, whole[:, 2:7, 3:12, 40:60])
        outside = affinities(np.ones(objects.shape, np.uint8), LONG_RANGE) == 0
        np.testing.assert_array_equal(whole == BEYOND, outside)


def test_pairs_with_an_ignored_end_do_not_count(tissue, tmp_path):
    """Another content of the ignored voxels changes no weight, bit by bit; without --ignore it does."""
    ignored = FIRST_ID + 1000
    masks = [masks_of(tissue), masks_of(tissue)]
    for number, held in enumerate(masks):
        for name in ("a", "b"):
            labels = read_instances(held[name]).array.copy()
            hidden = (slice(2, 5), slice(10, 40), slice(20, 50))
            labels[hidden] = [ignored, ignored + 1][number]
            place = tmp_path / f"{name}{number}.h5"
            held[name] = write_instances(place, Instances(labels, read_instances(held[name]).affine))
    both = AffinitySettings(ignore=(ignored, ignored + 1))
    for number, held in enumerate(masks):
        train(tissue, tmp_path / f"head{number}", plan_of(epochs=1, affinities=both), masks=held)
    weights = [(tmp_path / f"head{number}/weights.safetensors").read_bytes() for number in range(2)]
    assert weights[0] == weights[1]
    store = open_store(tissue / "em.zarr")
    found = objects_of(store["a"], masks[0]["a"], (ignored,))
    assert (found[hidden] == UNKNOWN).all()
    target = target_of(found, Box((0, 0, 0), found.shape), both)
    assert (target[:, 2:5, 10:40, 20:50] == BEYOND).all()
    assert (target[1, 2:5, 40, 20:50] == BEYOND).all()  # its other end is
    assert (objects_of(store["a"], masks[0]["a"])[hidden] > UNKNOWN).all()


def test_the_loss_is_that_of_the_reference():
    arrays, expected = dict(np.load(GOLDEN / "systems/em.npz")), json.loads((GOLDEN / "systems/em.json").read_text())
    shape = arrays["predicted"].shape
    target = np.unpackbits(arrays["affinities_widened"], axis=-1)[..., : shape[-1]]
    logits = torch.logit(torch.from_numpy(arrays["predicted"] / 255.0))[None]
    for channel, error in enumerate(expected["weighted_mse"]):
        part = slice(channel, channel + 1)
        found = balanced_error(logits[:, part], torch.from_numpy(target[None, part].astype(np.int8)))
        assert float(found) == pytest.approx(error, rel=1e-4)
    nothing = torch.full((1, *shape), BEYOND, dtype=torch.int8)
    assert float(balanced_error(logits, nothing)) == 0


def test_slabs_are_the_windows_of_the_whole_and_few_channels_are_the_first(tissue):
    store = open_store(tissue / "em.zarr")
    plan = plan_of("decoder", affinities=AffinitySettings("neighbours"))
    material, objects = survey_objects(store, masks_of(tissue), SPLIT, plan)
    network = AffinityTask(material, objects, plan).network.eval()
    slabs = list(slabs_of(network, material.reader, "t", (3, 32, 68), CPU, channels=2))
    assert len(slabs) > 2
    whole = logits_of(network, material.reader, "t", (3, 32, 68), CPU)
    torch.testing.assert_close(torch.cat(slabs, dim=1), whole[:2])
    assert whole.shape == (3, 8, 60, 68)


def test_agglomeration_slab_by_slab_is_nearly_that_of_the_whole_and_exact_in_one_slab():
    labels = neuropil(6, (12, 72, 80), cells=25).labels
    rng = np.random.default_rng(0)
    predicted = np.clip(0.1 + 0.8 * affinities(widened(labels)) + rng.normal(0, 0.1, (3, *labels.shape)), 0, 1)
    predicted = (255 * predicted).astype(np.uint8)
    (whole,) = agglomerate(predicted, [0.3], fragments_of(predicted))
    thresholds = [0.2, 0.3]
    one, several = (list(agglomerate_sections(predicted, thresholds, slab=slab)) for slab in (labels.size, 15_000))
    assert adapted_rand(overlaps(whole, one[1], ())).error == 0
    assert adapted_rand(overlaps(one[0], several[0], ())).error < 0.1
    errors = [adapted_rand(overlaps(labels, found)).error for found in (one[1], several[1])]
    assert errors[1] == pytest.approx(errors[0], abs=0.05)


def test_the_mutex_watershed_of_long_offsets(tissue, tmp_path):
    pytest.importorskip("mwatershed")
    small = tmp_path / "small"
    for name, seed in SEEDS.items():
        small.mkdir(exist_ok=True)
        neuropil(seed, (6, 40, 44), cells=8, organelles=0).write(small / f"{name}.h5")
    (small / "scans.csv").write_text("id,path\n" + "".join(f"{name},{name}.h5::{RAW}\n" for name in SEEDS))
    extracted(small / "scans.csv", small / "em.zarr", small)
    settings = AffinitySettings("long-range", agglomeration="mutex")
    config = train(small, tmp_path / "head", plan_of(epochs=4, patch=24, affinities=settings))
    assert config.size["classes"] == 12
    assert config.objects["threshold"] in (0.5, 0.6, 0.7, 0.8, 0.9)
    (path,) = predict_objects(open_store(small / "em.zarr"), open_trained(tmp_path / "head"), tmp_path / "out", ["t"])
    assert error_of(small, path) < 0.9
    neuropil(3, (6, 20, 44), cells=6).write(small / "v.h5")
    store = open_store(extracted(small / "scans.csv", small / "cut.zarr", small))
    with pytest.raises(OptionError, match=r"v: the offset \(0, -27, 0\) is larger than the volume of 6 x 20 x 44"):
        train_head(store, masks_of(small), SPLIT, plan_of(affinities=settings), tmp_path / "cut")


def mask_file(folder, labels, resolution=(40.0, 4.0, 4.0)):
    with h5py.File(folder / "bad.h5", "w") as file:
        file.create_dataset(NEURONS, data=labels).attrs["resolution"] = resolution
    return folder / "bad.h5"


@pytest.mark.parametrize(
    ("labels", "resolution", "says"),
    [
        (np.ones((8, 60, 67), np.uint64), (40.0, 4.0, 4.0), "a: labels of 8 x 60 x 67 voxels, a scan of 8 x 60 x 68"),
        (np.ones(SHAPE, np.float32), (40.0, 4.0, 4.0), "a: bad.h5: no ids of objects: its voxels are float32"),
        (np.zeros(SHAPE, np.uint64), (40.0, 4.0, 4.0), "a: no object in its labels"),
        (np.full(SHAPE, 7, np.uint64), (40.0, 4.0, 4.0), r"a: one object \(id 7\) in its labels"),
        (np.arange(np.prod(SHAPE)).reshape(SHAPE), (40.0, 8.0, 8.0), "a: its labels lie elsewhere than its scan"),
    ],
)
def test_masks_that_cannot_be_learnt_are_refused_before_work_starts(tissue, tmp_path, labels, resolution, says):
    masks = {**masks_of(tissue), "a": mask_file(tmp_path, labels, resolution)}
    with pytest.raises(VolumeError, match=says) as refusal:
        train(tissue, tmp_path / "head", plan_of(), masks=masks)
    assert "\n" not in str(refusal.value)
    assert not (tmp_path / "head").exists()
    with pytest.raises(VolumeError, match="a: its labels are the scan itself"):
        train(tissue, tmp_path / "head", plan_of(), masks={**masks, "a": f"{tissue / 'a'}.h5::{RAW}"})


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--task", "affinities", "--head", "subcube"), "--head subcube finds labels"),
        (("--task", "affinities", "--head", "linear", "--label-names", "1=a"), "--label-names are of labels"),
        (("--task", "affinities", "--head", "linear", "--step", "4"), "--step 4 is of labels"),
        (("--task", "affinities", "--head", "linear", "--ignore", "0"), "0 is background"),
        (("--task", "affinities", "--head", "linear", "--patch", "8,8"), "--patch 8,8: give one number, or three"),
        (("--task", "affinities", "--head", "linear", "--agglomeration", "mutex"), "train with --offsets long-range"),
        (("--head", "linear", "--offsets", "long-range"), "--offsets is of affinities"),
        (("--head", "linear", "--no-widen"), "--no-widen is of affinities"),
    ],
)
def test_options_that_do_not_fit_the_task(featlift, tissue, options, says):
    done = featlift("segment", "train", tissue / "em.zarr", "--masks", tissue / "masks.csv", "-o", "head", *options)
    assert done.returncode == 2
    assert says in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_resolution_that_nobody_states_is_asked_for(featlift, tmp_path):
    """Of TIFF-like stacks without geometry; and objects of a scan that was turned lie on the voxels of its file."""
    for name, seed in SEEDS.items():
        phantom = neuropil(seed, (6, 40, 44), cells=8, organelles=0)
        np.save(tmp_path / f"{name}.npy", phantom.raw)
        np.save(tmp_path / f"{name}_ids.npy", phantom.labels)
    (tmp_path / "scans.csv").write_text("id,path\n" + "".join(f"{name},{name}.npy\n" for name in SEEDS))
    store = open_store(extracted(tmp_path / "scans.csv", tmp_path / "em.zarr", tmp_path))
    masks = {name: tmp_path / f"{name}_ids.npy" for name in SEEDS}
    train_head(store, masks, SPLIT, plan_of(epochs=1), tmp_path / "head")
    trained = open_trained(tmp_path / "head")
    with pytest.raises(OptionError, match="t: its scan does not say its resolution: give --resolution d,h,w"):
        predict_objects(store, trained, tmp_path / "out", ["t"])
    (path,) = predict_objects(store, trained, tmp_path / "out", ["t"], Finding(resolution=(29.0, 3.0, 3.0)))
    np.testing.assert_allclose(read_instances(path).resolution, (29, 3, 3))


def test_a_scan_that_was_turned_has_its_objects_on_the_voxels_of_its_file(tmp_path):
    """NIfTI with flipped and permuted axes, in millimetres: ids meet by index with those of the file."""
    affine = np.array([[0, -4e-3, 0, 1.0], [4e-3, 0, 0, 2.0], [0, 0, 40e-3, 3.0], [0, 0, 0, 1.0]])
    for name, seed in SEEDS.items():
        phantom = neuropil(seed, (6, 40, 44), cells=8, organelles=0)
        write_nifti(tmp_path / f"scans/{name}.nii.gz", phantom.raw.T, affine)
        write_nifti(tmp_path / f"masks/{name}.nii.gz", phantom.labels.astype(np.uint16).T, affine)
    store = open_store(extracted(tmp_path / "scans", tmp_path / "em.zarr", tmp_path))
    assert store["t"].scan_shape != (6, 40, 44)
    masks = {name: tmp_path / f"masks/{name}.nii.gz" for name in SEEDS}
    train_head(store, masks, SPLIT, plan_of(epochs=6), tmp_path / "head")
    trained = open_trained(tmp_path / "head")
    with pytest.raises(VolumeError, match=r"t: CREMI's layout has no turned or flipped axes.*--format nifti"):
        predict_objects(store, trained, tmp_path / "out", ["t"])
    (path,) = predict_objects(store, trained, tmp_path / "out", ["t"], Finding(format="nifti"))
    truth, found = read_instances(masks["t"]), read_instances(path)
    np.testing.assert_allclose(found.affine, truth.affine, atol=1e-6)
    assert adapted_rand(overlaps(truth.array, found.array)).error < 0.5
