"""Whatever a scan comes in, the store holds the same; and what a scan is a part of, it says."""

import csv
import json
import os
import shutil

import h5py
import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
import zarr

import featlift as package
from featlift import Preparation, find_masks, lift, open_store
from featlift.errors import VolumeError
from featlift.store import read_index
from featlift.store.layout import sha256_of
from featlift.volumes.volume import scaled
from tests.support import series as dicom
from tests.support.networks import load_backbone
from tests.support.scans import OBLIQUE, patch_mean_options, write_nifti, write_scan

LPS_TO_RAS = np.diag([-1.0, -1, 1, 1])
REVERSED = np.eye(4)[[2, 1, 0, 3]]
STEPS = (2.5, *dicom.SPACING)  # mm between slices, rows, columns

#: (d, h, w) to LPS millimetres, without a rotation: OME-Zarr cannot say one, HDF5 nothing at all.
STRAIGHT = np.zeros((4, 4))
STRAIGHT[[2, 1, 0], [0, 1, 2]] = STEPS
STRAIGHT[:3, 3], STRAIGHT[3, 3] = dicom.FIRST, 1


@pytest.fixture
def options(tmp_path):
    return [*patch_mean_options(tmp_path, patch=4), "--mode", "2d", "--layers", "0"]


def write_sitk(path, array):
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(STEPS[::-1])
    image.SetOrigin(dicom.FIRST)
    sitk.WriteImage(image, str(path))


def write_ome(path, array):
    group = zarr.create_group(path, zarr_format=3)
    group.create_array("0", data=array, chunks=(2, 8, 8))
    axes = [{"name": name, "type": "space", "unit": "millimeter"} for name in "zyx"]
    steps = [
        {"type": "scale", "scale": list(STEPS)},
        {"type": "translation", "translation": list(dicom.FIRST[::-1])},
    ]
    datasets = [{"path": "0", "coordinateTransformations": steps}]
    group.attrs["ome"] = {"version": "0.5", "multiscales": [{"axes": axes, "datasets": datasets}]}


def write_everywhere(folder, array):
    """The same scan in every format, LPS; DICOM as the written slices have it."""
    folder.mkdir()
    ras = LPS_TO_RAS @ STRAIGHT @ REVERSED
    nib.save(nib.Nifti1Image(array.T, ras), folder / "nifti.nii.gz")
    nib.save(nib.Nifti1Pair(array.T, ras), folder / "pair.hdr")
    for name in ("nrrd.nrrd", "detached.nhdr", "mha.mha", "mhd.mhd"):
        write_sitk(folder / name, array)
    dicom.save(folder / "dicom", dicom.slices())
    np.save(folder / "numpy.npy", array)
    np.savez_compressed(folder / "zipped.npz", scan=array)
    with h5py.File(folder / "hdf5.h5", "w") as file:
        file["images/ct"] = array
    zarr.create_array(folder / "array.zarr", data=array, chunks=(3, 6, 6))
    write_ome(folder / "ome.ome.zarr", array)


def test_the_same_scan_in_every_format_gives_the_same_features(featlift, tmp_path, options):
    write_everywhere(tmp_path / "scans", dicom.expected().astype(np.int16))
    done = featlift("extract", "scans", "--size", "24,20", *options)
    assert done.returncode == 0, done.stderr
    store = open_store(tmp_path / "features.zarr")
    assert len(store) == 12
    nifti = store["nifti"]
    for case_id, case in store.items():
        np.testing.assert_array_equal(case.scan[:], nifti.scan[:], err_msg=case_id)
        np.testing.assert_array_equal(case.dense[:], nifti.dense[:], err_msg=case_id)
        if case_id in ("numpy", "zipped", "hdf5", "array"):
            assert case.affine is None
        else:
            np.testing.assert_allclose(case.affine, nifti.affine, atol=1e-4, err_msg=case_id)
    modalities = dict(zip(*(read_index(store.path)[name].to_pylist() for name in ("id", "modality")), strict=True))
    assert {case_id for case_id, modality in modalities.items() if modality == "CT"} == {
        case_id for case_id in store if case_id.startswith("dicom__")
    }


def test_dicom_of_a_pacs(featlift, tmp_path, options):
    """A tree with a scout, a defect and two good series, one of them in a .zip: what is no scan is said, not failed."""
    study = tmp_path / "export" / "study"
    dicom.save(study / "good", dicom.slices())
    dicom.save(study / "gap", [one for number, one in enumerate(dicom.slices(8)) if number != 4])
    scout = dicom.slices(1)
    scout[0].ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    dicom.save(study, scout, name="SCOUT{}")
    dicom.save(tmp_path / "packed", dicom.slices())
    dicom.zipped(tmp_path / "packed").rename(study / "packed.zip")
    done = featlift("extract", "export", *options)
    assert done.returncode == 1
    assert "skipped  study/SCOUT0: localizer" in done.stderr
    assert "1 slice missing" in done.stderr.splitlines()[-1]
    store = open_store(tmp_path / "features.zarr")
    assert [case_id.rpartition("__")[0] for case_id in store] == ["study__good", "study__packed"]
    record = json.loads(next((store.path / "runs").iterdir()).read_text())
    assert record["no_scans"] == {"study/SCOUT0": "localizer"}
    assert list(record["failures"]) == [line.split()[0] for line in done.stderr.splitlines()[-1:]]
    for file in store.path.rglob("*.json"):
        dicom.assert_private(file.read_text().replace("\n", ""), tmp_path / "export")
    done = featlift("extract", "export", "--allow-irregular", *options)
    assert done.returncode == 0, done.stderr
    (gap,) = (case for case_id, case in open_store(store.path).items() if case_id.startswith("study__gap"))
    assert gap.dense.shape[1] == 8
    assert gap.attributes["notes"]["resampled"]["because"] == "1 slice missing"
    assert "nothing to do" in featlift("extract", "export", "--allow-irregular", *options).stdout


def test_a_damaged_zip_fails_and_the_rest_goes_on(featlift, tmp_path, options):
    dicom.save(tmp_path / "export/good", dicom.slices())
    (tmp_path / "export/bad.zip").write_bytes(b"PK but no more")
    (tmp_path / "export/notes.zip").write_bytes(b"PK\x05\x06" + bytes(18))  # an empty one
    done = featlift("extract", "export", *options)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].split(maxsplit=1) == [
        "bad",
        "bad.zip: not a .zip that can be read: pack it again",
    ]
    assert "skipped  notes.zip: a .zip without DICOM files" in done.stderr
    assert len(open_store(tmp_path / "features.zarr")) == 1


def test_medmnist_keeps_split_and_label_in_the_index(featlift, tmp_path, options):
    rng = np.random.default_rng(0)
    arrays = {}
    for split, count in {"train": 3, "val": 1, "test": 2}.items():
        arrays[f"{split}_images"] = rng.integers(0, 255, (count, 8, 8, 8), np.uint8)
        arrays[f"{split}_labels"] = rng.integers(0, 9, (count, 1), np.uint8)
    np.savez_compressed(tmp_path / "organ.npz", **arrays)
    assert featlift("extract", "organ.npz", "--intensity", "window:0,255", *options).returncode == 0
    store = open_store(tmp_path / "features.zarr")
    rows = {row["id"]: row for row in read_index(store.path).to_pylist()}
    assert sorted(rows) == [f"organ__{split}__{n}" for split, n in (("test", 0), ("test", 1), ("train", 0), ("train", 1), ("train", 2), ("val", 0))]  # fmt: skip  # noqa: E501
    for case_id, row in rows.items():
        _, split, number = case_id.split("__")
        assert (row["split"], row["label"]) == (split, int(arrays[f"{split}_labels"][int(number), 0]))
        voxels = arrays[f"{split}_images"][int(number)]
        np.testing.assert_array_equal(store[case_id].scan[:], (voxels / 255).astype(np.float16))


def write_manifest(path, rows):
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def test_a_manifest_names_cases_channels_and_labels(featlift, tmp_path, options):
    for seed, name in enumerate(("t1", "t2", "flair")):
        write_scan(tmp_path / "data" / f"{name}.nii.gz", seed)
    rows = [
        {"id": "p1", "t1": "data/t1.nii.gz", "t2": "data/t2.nii.gz", "flair": "data/flair.nii.gz", "grade": 3},
        {"id": "p2", "t1": "data/t2.nii.gz", "t2": "data/t1.nii.gz", "flair": "data/t1.nii.gz", "grade": 1},
    ]
    write_manifest(tmp_path / "cohort.csv", rows)
    command = ("extract", "cohort.csv", "--channels", "t1,t2,flair", *options)
    done = featlift(*command, "--intensity", "minmax;window:-500,500;percentile:1,99")
    assert done.returncode == 0, done.stderr
    store = open_store(tmp_path / "features.zarr")
    assert store["p1"].scan.shape[0] == 3
    by_hand = [
        package.prepare(package.read(tmp_path / "data" / f"{name}.nii.gz"), Preparation(intensity=how)).scan[0]
        for name, how in (("t1", "minmax"), ("t2", "window:-500,500"), ("flair", "percentile:1,99"))
    ]
    np.testing.assert_array_equal(store["p1"].scan[:], np.stack(by_hand).astype(np.float16))
    assert read_index(store.path)["grade"].to_pylist() == [3, 1]
    before = store.path.joinpath("volumes/p1/zarr.json").stat().st_mtime_ns
    write_manifest(tmp_path / "cohort.csv", [{**row, "grade": 7} for row in rows])
    done = featlift(*command, "--intensity", "minmax;window:-500,500;percentile:1,99")
    assert "nothing to do" in done.stdout
    assert read_index(store.path)["grade"].to_pylist() == [7, 7]
    assert store.path.joinpath("volumes/p1/zarr.json").stat().st_mtime_ns == before
    write_manifest(tmp_path / "cohort.csv", [{**row, "t1": row["t2"], "t2": row["t1"]} for row in rows])
    done = featlift(*command, "--intensity", "minmax;window:-500,500;percentile:1,99")
    assert "2 in the store are made again" in done.stderr  # channels that changed places
    write_manifest(tmp_path / "cohort.csv", [{**row, "modality": "MR"} for row in rows])
    done = featlift(*command, "--intensity", "minmax;window:-500,500;percentile:1,99")
    assert done.returncode == 2
    assert "columns named modality of its own" in done.stderr


def test_channels_on_other_grids_end_as_in_the_rest_of_their_store(featlift, tmp_path, options):
    """A new store says that they go up to their edges; one from before, whose recipe does not, goes on without."""
    write_scan(tmp_path / "fine.nii.gz", shape=(12, 12, 6))
    coarse = np.full((6, 6, 3), 5, np.int16)
    coarse[2:4, 2:4, 1] = 1
    write_nifti(tmp_path / "coarse.nii.gz", coarse, scaled(OBLIQUE, (2, 2, 2), (0.5, 0.5, 0.5)))
    row = {"id": "p1", "t1": "fine.nii.gz", "t2": "coarse.nii.gz", "flair": "coarse.nii.gz"}
    write_manifest(tmp_path / "cohort.csv", [row])
    call = ("extract", "cohort.csv", "--channels", "t1,t2,flair", "--intensity", "window:0,5", *options)
    assert featlift(*call).returncode == 0
    store = open_store(tmp_path / "features.zarr")
    assert store.recipe["channels"] == "edge"
    assert (store["p1"].scan[1, 0] == 1).all()
    metadata = tmp_path / "features.zarr/zarr.json"
    group = json.loads(metadata.read_text())
    ours = group["attributes"]["featlift"]
    del ours["recipe"]["channels"]
    ours["recipe_sha256"] = sha256_of(ours["recipe"])
    metadata.write_text(json.dumps(group))
    shutil.rmtree(tmp_path / "features.zarr/volumes/p1")
    assert featlift(*call).returncode == 0
    store = open_store(tmp_path / "features.zarr")
    assert "channels" not in store.recipe
    assert (store["p1"].scan[1, 0] < 1).all()
    frames = np.random.default_rng(0).integers(0, 99, (12, 12, 5, 3)).astype(np.int16)
    write_nifti(tmp_path / "frames.nii.gz", frames)
    assert featlift("extract", "frames.nii.gz", "--channels", "0,1,2", "-o", "frames.zarr", *options).returncode == 0
    assert "channels" not in open_store(tmp_path / "frames.zarr").recipe


def test_every_frame_is_a_case_and_another_frame_another_source(featlift, tmp_path, options):
    rng = np.random.default_rng(0)
    write_nifti(tmp_path / "dyn.nii.gz", rng.integers(0, 99, (12, 12, 5, 3)).astype(np.int16))
    done = featlift("extract", "dyn.nii.gz", *options)
    assert done.returncode == 1
    assert "3 frames: choose with --frame N" in done.stderr
    assert featlift("extract", "dyn.nii.gz", "--frame", "all", *options).returncode == 0
    store = open_store(tmp_path / "features.zarr")
    assert list(store) == ["dyn__frame0", "dyn__frame1", "dyn__frame2"]
    for frame in (1, 2):
        assert featlift("extract", "dyn.nii.gz", "--frame", frame, *options).returncode == 0
        assert "nothing to do" in featlift("extract", "dyn.nii.gz", "--frame", frame, *options).stdout
        np.testing.assert_array_equal(open_store(store.path)["dyn"].dense[:], store[f"dyn__frame{frame}"].dense[:])


@pytest.mark.parametrize("orient", ["LPS", "native"])
def test_a_case_for_each_lesion_where_the_lesion_is(featlift, tmp_path, options, orient):
    """Lesions brighter than the rest: the centre of each region is, wherever it lies, at the border too."""
    scan, mask = np.full((30, 26, 16), 10, np.int16), np.zeros((30, 26, 16), np.uint8)
    for where in ((8, 8, 8), (29, 25, 1), (20, 9, 12)):
        box = tuple(slice(max(0, n - 2), n + 3) for n in where)
        scan[box], mask[box] = 100, 1
    scan += np.random.default_rng(0).integers(0, 3, scan.shape).astype(np.int16)
    write_nifti(tmp_path / "scans/p_image.nii.gz", scan, OBLIQUE)
    padded = np.pad(mask, ((3, 1), (0, 2), (4, 0)))  # a mask on a grid of its own
    moved = OBLIQUE @ np.array([[1, 0, 0, -3], [0, 1, 0, 0], [0, 0, 1, -4], [0, 0, 0, 1]])
    write_nifti(tmp_path / "scans/p_label.nii.gz", padded, moved)
    done = featlift("extract", "scans", "--mask-pattern", "*_label.nii.gz", "--roi", "masks", "--roi-mm", "11,9,9",
                    "--intensity", "window:10,100", "--orient", orient, *options)  # fmt: skip
    assert done.returncode == 0, done.stderr
    store = open_store(tmp_path / "features.zarr")
    assert list(store) == ["p_image__roi1", "p_image__roi2", "p_image__roi3"]
    for case in store.values():
        centre = np.array([case.attributes["selection"]["centre"]])
        assert case.sample(centre, order=0)[0, 0] > 0.3  # what is around it is below 0.04
        index = np.linalg.solve(case.scan_affine, [*centre[0], 1])[:3]
        np.testing.assert_allclose(index, (np.array(case.scan.shape) - 1) / 2, atol=0.51)
        assert case.scan[tuple(np.round(index).astype(int))] > 0.9
    (tmp_path / "labels").mkdir()
    (tmp_path / "scans/p_label.nii.gz").rename(tmp_path / "labels/p.nii.gz")
    for masks in ("labels", "labels/p.nii.gz"):
        done = featlift("extract", "scans", "--roi", masks, "--roi-mm", "11,9,9", "--intensity", "window:10,100",
                        "--orient", orient, *options)  # fmt: skip
        assert "3 volumes complete" in done.stdout
    points = [store[case_id].attributes["selection"]["centre"] for case_id in store]
    write_manifest(tmp_path / "points.csv", [dict(zip(("id", "x", "y", "z"), ("p", *point), strict=True)) for point in points])  # fmt: skip  # noqa: E501
    done = featlift("extract", "scans", "--roi", "points.csv", "--roi-mm", "11,9,9",
                    "--intensity", "window:10,100", "--orient", orient, *options, "-o", "points.zarr")  # fmt: skip
    assert done.returncode == 0, done.stderr
    for case_id, case in open_store(tmp_path / "points.zarr").items():
        np.testing.assert_array_equal(case.dense[:], store[case_id].dense[:])


def test_ids_that_cannot_be_are_failures_of_their_scans(featlift, tmp_path, options):
    """Too long, unprintable, kept by Zarr: the others are extracted; told in the end, the record and the report."""
    names = {
        "good.nii.gz": "",
        f"{'d' * 120}/{'e' * 120}.nii.gz": "case id would be longer than 200 bytes",
        "new\nline.nii.gz": "a name that cannot be printed",
        os.fsdecode(b"caf\xe9.nii.gz"): "a name that cannot be printed, or is not in UTF-8",
        "zarr.json.nii.gz": "a name that Zarr keeps to itself",
    }
    for name in names:
        write_scan(tmp_path / "scans" / name)
    done = featlift("extract", "scans", *options)
    assert (done.returncode, "1 extracted, 4 failed" in done.stdout) == (1, True)
    assert list(open_store(tmp_path / "features.zarr")) == ["good"]
    (record,) = (json.loads(path.read_text()) for path in (tmp_path / "features.zarr/runs").iterdir())
    assert record["volumes"] == {"done": 1, "skipped": 0, "failed": 4}
    for name, says in names.items():
        shown = name if name.isprintable() else repr(name)[1:-1]
        assert says in record["failures"].get(shown, "")
        assert says in done.stderr
    again = featlift("extract", "scans", *options)
    assert (again.returncode, "0 extracted, 1 complete before, 4 failed" in again.stdout) == (1, True)
    assert featlift("extract", "scans", *options, "--shard", "2/2").returncode == 0  # the first shard tells of them
    assert featlift("report", "features.zarr").returncode == 0
    assert "case id would be longer than 200 bytes" in (tmp_path / "report.html").read_text()
    write_manifest(tmp_path / "list.csv", [{"id": "a/b", "path": "scans/good.nii.gz"}])
    done = featlift("extract", "list.csv", *options)
    assert (done.returncode, done.stderr) == (
        2,
        "featlift: scans/good.nii.gz: id 'a/b' cannot be the name of a folder\n",
    )


def test_masks_beside_scans_are_not_lifted_and_a_store_that_has_some_goes_on(featlift, tmp_path, options):
    """By name, in `check` as in `extract`; what was lifted before stays."""
    for name in ("ct", "liver", "ct_seg", "segmentations/spleen"):
        write_scan(tmp_path / f"scans/{name}.nii.gz")
    assert featlift("extract", "scans", "--glob", "*", *options).returncode == 0  # as before there was a rule
    before = set(open_store(tmp_path / "features.zarr"))
    assert len(before) == 4
    write_scan(tmp_path / "scans/late.nii.gz")
    write_scan(tmp_path / "scans/late_seg.nii.gz")
    done = featlift("extract", "scans", *options)
    assert (done.returncode, "1 extracted, 1 complete before, 0 failed" in done.stdout) == (0, True)
    notice = "4 of 6 files are left out as masks, by their names (such as ct_seg.nii.gz)"
    assert f"featlift: {notice}" in done.stderr
    store = open_store(tmp_path / "features.zarr")
    assert set(store) == {*before, "late"}
    assert set(read_index(store.path)["id"].to_pylist()) == {*before, "late"}
    records = [json.loads(record.read_text()) for record in (store.path / "runs").iterdir()]
    assert ["late_seg.nii.gz" in record["no_scans"] for record in records].count(True) == 1
    checked = json.loads(featlift("check", "scans", "--model", "efficientnet-lite0", "--json").stdout)
    assert any(each["what"].startswith(notice) for each in checked["findings"])
    assert sorted(row["id"] for row in checked["cases"]) == ["ct", "late"]


def test_an_array_is_no_scan_and_python_says_what_is(tiny_vit):
    with pytest.raises(VolumeError, match=r"ndarray: give a path, or featlift.Volume\(array, affine\)"):
        package.extract(np.zeros((2, 16, 16), np.float32), lift(tiny_vit))


def test_python_gives_what_the_store_holds(featlift, tmp_path, options):
    write_scan(tmp_path / "a.nii.gz")
    assert featlift("extract", "a.nii.gz", "--crop", "body:2", "--depth-stride", 2, *options).returncode == 0
    store = open_store(tmp_path / "features.zarr")
    arguments = {"img_size": 32, "patch_size": 4, "embed_dim": 8, "depth": 1, "num_heads": 1}
    backbone = load_backbone("vit_tiny_patch16_224", tmp_path / "patch_mean.safetensors", **arguments)
    lifted = lift(backbone, mode="2d", layers=(0,), norm=False)
    for given in (tmp_path / "a.nii.gz", package.read(tmp_path / "a.nii.gz")):
        case = package.extract(given, lifted, store.recipe)
        for name in ("dense", "tokens", "slice_mean", "scan"):
            np.testing.assert_array_equal(getattr(case, name)[:], getattr(store["a"], name)[:])
        np.testing.assert_array_equal(case.embedding, store["a"].embedding)
        np.testing.assert_array_equal(case.affine, store["a"].affine)
        assert case.attributes["box"] == store["a"].attributes["box"]
    by_name = package.extract(
        tmp_path / "a.nii.gz",
        "vit_tiny_patch16_224",
        Preparation(crop="body:2", depth_stride=2),
        weights=tmp_path / "patch_mean.safetensors",
        loading=arguments,
        mode="2d",
        layers=(0,),
        norm=False,
        precision="fp32",
    )
    np.testing.assert_array_equal(by_name.dense[:], store["a"].dense[:])


def test_resample_like_meets_another_image_of_the_patient(featlift, tmp_path, options):
    """Features that are intensities, on a grid turned otherwise: there they are as SimpleITK brings the scan there."""
    write_scan(tmp_path / "a.nii.gz", shape=(40, 36, 12))
    turned = write_nifti(
        tmp_path / "b.nii.gz", np.zeros((20, 22, 9), np.uint8), OBLIQUE[:, [1, 0, 2, 3]] @ np.diag([1.3, 1.1, 0.8, 1])
    )
    assert featlift("extract", "a.nii.gz", *options).returncode == 0
    case = open_store(tmp_path / "features.zarr")["a"]
    features = case.resample_like(turned)
    assert features.shape == (8, 9, 22, 20)
    np.testing.assert_array_equal(case.resample_like(turned, channels=slice(2, 3)), features[2:3])
    volume = package.read(turned)
    indices = np.stack(np.meshgrid(*map(np.arange, volume.array.shape), indexing="ij"), axis=-1).reshape(-1, 3)
    points = nib.affines.apply_affine(volume.affine, indices)
    np.testing.assert_allclose(features.reshape(8, -1).T, case.sample(points), atol=1e-5)


def test_patches_for_people_who_train_heads(featlift, tmp_path, options):
    """Features, scan and mask of a patch are of one place: here all three say the same."""
    import torch

    labels = np.zeros((40, 36, 12), np.uint8)
    labels[20:33, 10:21, 3:9] = 1
    scan = (labels * 100 + np.random.default_rng(0).integers(0, 2, labels.shape)).astype(np.int16)
    for name in ("a", "b"):
        write_nifti(tmp_path / f"scans/{name}.nii.gz", scan)
        write_nifti(tmp_path / f"labels/{name}.nii.gz", labels)
    assert featlift("extract", "scans", "--intensity", "window:0,101", *options).returncode == 0
    store = open_store(tmp_path / "features.zarr")
    masks = find_masks(store, tmp_path / "labels")
    assert {case_id: path.name for case_id, path in masks.items()} == {"a": "a.nii.gz", "b": "b.nii.gz"}
    patches = package.FeaturePatches(store, (4, 3, 5), masks, per_case=20, foreground=0.5)
    assert len(patches) == 40
    labelled, places = 0, set()
    for item in torch.utils.data.DataLoader(patches, batch_size=None, num_workers=1):
        assert item["features"].shape == (8, 4, 3, 5)
        assert item["scan"].shape == item["mask"].shape == (4, 12, 20)
        inside = item["mask"] >= 0
        np.testing.assert_array_equal((item["scan"] > 0.5)[inside], (item["mask"] == 1)[inside])
        means = item["scan"].unflatten(1, (3, 4)).unflatten(3, (5, 4)).mean(dim=(2, 4))
        np.testing.assert_allclose(item["features"][0], means, atol=2e-3)
        labelled += bool((item["mask"] == 1).any())
        places.add((item["id"], *map(int, item["start"])))
    assert labelled >= 15
    assert len(places) > 25
    first = patches[3]["start"]
    assert patches[3]["start"] == first
    patches.set_epoch(1)
    assert any(patches[n]["start"] != first for n in range(3, 6))
    whole = package.FeaturePatches(store, masks=masks)
    assert whole[1]["features"].shape == store["b"].dense.shape
    np.testing.assert_array_equal(whole[1]["mask"].shape[0], 12)


def test_patches_larger_than_the_scan_say_what_is_beyond(featlift, tmp_path, options):
    write_scan(tmp_path / "scans/a.nii.gz")
    ones = np.ones((40, 36, 6), np.uint8)
    write_nifti(tmp_path / "labels/a.nii.gz", ones)
    assert featlift("extract", "scans", *options).returncode == 0
    store = open_store(tmp_path / "features.zarr")
    item = package.FeaturePatches(store, (8, 12, 12), find_masks(store, tmp_path / "labels"))[0]
    assert item["features"].shape == (8, 8, 12, 12)
    assert int((item["mask"] == 1).sum()) == ones.size
    assert int((item["mask"] == -1).sum()) == 8 * 48 * 48 - ones.size
    assert not item["features"][:, 6:].any()
