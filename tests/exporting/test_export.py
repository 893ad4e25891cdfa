"""Exports read back by the programs they are for: what is bright in the scan is bright at the same place."""

import json
import subprocess
import sys

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

import featlift as package
from featlift import open_store
from featlift.pictures.colours import Colours, meaning_of
from featlift.store.principal import Projection
from tests.support.scans import patch_mean_options, write_nifti, write_scan

SHAPE = (40, 36, 12)
BLOCK = (slice(8, 12), slice(20, 24), slice(4, 8))  # whole patches of 2 x 2 in every plane
LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def rigid(angle, flips=(1, 1, 1), order=(0, 1, 2)):
    """A RAS affine that ITK can hold: turned about two axes, anisotropic, its axes flipped and in another order."""
    cos, sin = np.cos(angle), np.sin(angle)
    about_x = np.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]])
    about_z = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = (about_z @ about_x)[:, list(order)] * np.multiply(flips, (0.8, 0.9, 2.5))
    affine[:3, 3] = 40, -60, 15
    return affine


AFFINES = {
    "oblique": rigid(0.3),
    "flipped": rigid(0.0, flips=(-1, 1, -1)),
    "sagittal": rigid(0.2, flips=(1, -1, 1), order=(1, 2, 0)),
}


def centre_in_lps(affine):
    middle = [(part.start + part.stop - 1) / 2 for part in BLOCK]
    return (LPS @ affine @ [*middle, 1])[:3]


def extract(featlift, folder, affine, *options, shape=SHAPE, patch=2):
    scan = np.full(shape, 10, np.int16)
    scan[BLOCK] = 100
    write_nifti(folder / "scans/p.nii.gz", scan, affine)
    done = featlift("extract", "scans", *patch_mean_options(folder, patch, 0.5), "--mode", "2d", "--intensity",
                    "window:10,100", *options)  # fmt: skip
    assert done.returncode == 0, done.stderr
    return open_store(folder / "features.zarr")


def write_colours(path, store):
    """Colours whose red is the intensity, and whose green and blue are nothing."""
    channels = store[next(iter(store))].dense.shape[0]
    components = np.zeros((3, channels), np.float32)
    components[0, 0] = components[1, 2] = components[2, 3] = 1
    basis = Projection(np.zeros(channels, np.float32), components, 1.0)
    about = {"meaning": meaning_of(store), "layer": max(store.recipe["layers"])}
    Colours(basis, np.zeros(3, np.float32), np.ones(3, np.float32), about=about).write(path)


def centroid(values, to_lps):
    """The middle of what is bright, in LPS millimetres; `to_lps` takes indices of `values`."""
    indices = np.argwhere(values > 0)
    points = np.array([to_lps(index) for index in indices])
    return np.average(points, axis=0, weights=values[values > 0].astype(float))


def by_nibabel(path, number):
    image = nib.load(path)
    values = np.asanyarray(image.dataobj)
    values = values["RGB"[number]] if values.dtype.names else values[..., number]
    return centroid(values, lambda index: (LPS @ image.affine @ [*index, 1])[:3])


def by_itk(path, number):
    image = sitk.ReadImage(str(path))
    if image.GetDimension() == 4:
        image = image[..., number]
    values = sitk.GetArrayFromImage(image)
    values = values[..., number] if values.ndim == 4 else values
    return centroid(values, lambda index: image.TransformIndexToPhysicalPoint([int(n) for n in index[::-1]]))


@pytest.mark.parametrize("orient", ["LPS", "native"])
@pytest.mark.parametrize("name", list(AFFINES))
def test_what_is_bright_lies_where_it_is(featlift, tmp_path, name, orient):
    affine = AFFINES[name]
    store = extract(featlift, tmp_path, affine, "--orient", orient)
    write_colours(tmp_path / "colours.safetensors", store)
    for to, ending, readers in (("nifti", "nii.gz", (by_nibabel, by_itk)), ("nrrd", "nrrd", (by_itk,))):
        for on in ("scan", "cells"):
            call = ["export", "features.zarr", "--to", to, "--on", on]
            coloured = featlift(*call, "--colours", "colours.safetensors", "-o", f"{to}-{on}")
            chosen = featlift(*call, "--channels", "0,2", "-o", f"{to}-{on}-channels")
            assert (coloured.returncode, chosen.returncode) == (0, 0), coloured.stderr + chosen.stderr
            for read in readers:
                for file in (f"{to}-{on}/p__colours.{ending}", f"{to}-{on}-channels/p__channels.{ending}"):
                    np.testing.assert_allclose(read(tmp_path / file, 0), centre_in_lps(affine), atol=0.02, err_msg=file)
    assert nib.load(tmp_path / "nifti-scan/p__colours.nii.gz").get_data_dtype().names == ("R", "G", "B")
    assert sitk.ReadImage(str(tmp_path / "nrrd-scan/p__colours.nrrd")).GetPixelIDTypeAsString() == (
        "vector of 8-bit unsigned integer"
    )
    assert nib.load(tmp_path / "nifti-scan/p__colours.nii.gz").shape == store["p"].scan_shape[::-1]


def test_one_channel_is_a_volume_and_more_are_all_there(featlift, tmp_path):
    case = extract(featlift, tmp_path, AFFINES["oblique"])["p"]
    for channels, shape in (("0", ()), ("1,0", (2,))):
        for to in ("nifti", "nrrd"):
            folder = f"{to}-{channels}"
            done = featlift(
                "export", "features.zarr", "--to", to, "--on", "cells", "--channels", channels, "-o", folder
            )
            assert done.returncode == 0, done.stderr
        d, h, w = case.valid_cells
        held = case.dense[:, :d, :h, :w].astype(np.float32)[[int(each) for each in channels.split(",")]]
        nifti = np.asanyarray(nib.load(tmp_path / f"nifti-{channels}/p__channels.nii.gz").dataobj)
        nrrd = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / f"nrrd-{channels}/p__channels.nrrd")))
        assert nifti.shape == (w, h, d, *shape)
        np.testing.assert_array_equal(nifti.T.reshape(held.shape), held)
        np.testing.assert_array_equal(np.moveaxis(nrrd.reshape(d, h, w, -1), -1, 0), held)


def test_colours_are_fitted_kept_and_those_of_the_features(featlift, tmp_path):
    """Every voxel again by another interpolation, scipy's through the affines; the second run fits nothing."""
    for name in ("a", "b"):
        write_scan(tmp_path / f"scans/{name}.nii.gz", seed=ord(name))
    options = ["--model", "vit_tiny_patch16_224", "--weights", "random:0", "--model-arg", "img_size=32",
               "--model-arg", "patch_size=4", "--model-arg", "embed_dim=16", "--model-arg", "num_heads=1"]  # fmt: skip
    done = featlift("extract", "scans", "--mode", "2d", "--layers", "1", *options)
    assert done.returncode == 0, done.stderr
    assert featlift("export", "features.zarr", "--to", "nifti", "--case", "a").returncode == 0
    basis = (tmp_path / "features-nifti/colours.safetensors").read_bytes()
    done = featlift("export", "features.zarr", "--to", "nifti")
    assert "1 written, 1 already there, 0 failed" in done.stdout
    assert (tmp_path / "features-nifti/colours.safetensors").read_bytes() == basis
    colours = Colours.read(tmp_path / "features-nifti/colours.safetensors")
    for case_id, case in open_store(tmp_path / "features.zarr").items():
        d, h, w = case.valid_cells
        assert case.dense.shape[1:] == (d, h, w)  # else scipy would see the padding
        features = case.resample_like(package.volumes.Volume(np.zeros(case.scan_shape, np.float32), case.scan_affine))
        expected = colours.rgb(colours.project(features)).astype(int)
        image = np.asanyarray(nib.load(tmp_path / f"features-nifti/{case_id}__colours.nii.gz").dataobj)
        found = np.stack([image[channel].T for channel in "RGB"], axis=-1).astype(int)
        inside = found.any(axis=-1)
        assert inside.mean() > 0.3
        assert np.abs(found - expected)[inside].max() <= 1
        assert len(np.unique(found[inside], axis=0)) > 100


def test_unknown_geometry_stays_unknown(featlift, tmp_path):
    (tmp_path / "scans").mkdir()
    scan = np.full(SHAPE[::-1], 10, np.float32)
    scan[tuple(reversed(BLOCK))] = 100
    np.save(tmp_path / "scans/p.npy", scan)
    options = [*patch_mean_options(tmp_path, 2, 0.5), "--mode", "2d", "--intensity", "window:10,100"]
    assert featlift("extract", "scans", *options).returncode == 0
    for to in ("nifti", "nrrd", "npy"):
        assert featlift("export", "features.zarr", "--to", to, "--channels", "0").returncode == 0
    for file in ("features-nifti/p__channels.nii.gz", "features-nrrd/p__channels.nrrd"):
        volume = package.read(tmp_path / file)
        assert volume.affine is None
        np.testing.assert_array_equal(
            np.argwhere(volume.array == 1).mean(axis=0), np.argwhere(scan == 100).mean(axis=0)
        )
    about = json.loads((tmp_path / "features-npy/p__features.json").read_text())
    assert (about["affine_lps_mm"], about["scan_affine_lps_mm"]) == (None, None)


@pytest.mark.parametrize("dtype", ["float16", "int8"])
def test_arrays_are_the_features_and_say_where_they_lie(featlift, tmp_path, dtype):
    affine = AFFINES["oblique"]
    store = extract(
        featlift, tmp_path, affine, "--save-dtype", dtype, "--orient", "native", shape=(41, 35, 12), patch=4
    )
    case = store["p"]
    d, h, w = case.valid_cells
    assert case.dense.shape[1:] != (d, h, w)
    assert featlift("export", "features.zarr", "--to", "npy").returncode == 0
    array = np.load(tmp_path / "features-npy/p__features.npy")
    assert array.dtype == ("float16" if dtype == "float16" else "float32")
    np.testing.assert_array_equal(array, case.dense[:, :d, :h, :w])
    about = json.loads((tmp_path / "features-npy/p__features.json").read_text())
    assert about["shape"] == list(array.shape)
    bright = np.argwhere(array[0] > 0.5).mean(axis=0)
    np.testing.assert_allclose((np.array(about["affine_lps_mm"]) @ [*bright, 1])[:3], centre_in_lps(affine), atol=1e-3)
    voxel = np.array(about["offset_voxels"]) + np.array(about["stride_voxels"]) * bright
    np.testing.assert_allclose(
        (np.array(about["scan_affine_lps_mm"]) @ [*voxel, 1])[:3], centre_in_lps(affine), atol=1e-3
    )


def test_what_is_done_is_kept_and_what_fails_is_told(featlift, tmp_path):
    for name in "abc":
        write_scan(tmp_path / f"scans/{name}.nii.gz", seed=ord(name))
    options = [*patch_mean_options(tmp_path, 4), "--mode", "2d"]
    assert featlift("extract", "scans", *options).returncode == 0
    chunk = next(path for path in sorted((tmp_path / "features.zarr/volumes/b/dense/c").rglob("*")) if path.is_file())
    content = bytearray(chunk.read_bytes())
    content[100] ^= 1
    chunk.write_bytes(content)
    call = ["export", "features.zarr", "--to", "nrrd", "--channels", "0"]
    done = featlift(*call)
    assert done.returncode == 1
    assert "2 written, 0 already there, 1 failed" in done.stdout
    assert "features.zarr  b     dense is damaged" in done.stderr
    folder = tmp_path / "features-nrrd"
    names = ["a__channels.nrrd", "c__channels.nrrd", "export.json"]
    assert sorted(path.name for path in folder.iterdir()) == names
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert "0 written, 2 already there, 1 failed" in featlift(*call).stdout
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == before
    write_scan(tmp_path / "scans/a.nii.gz", seed=1)  # another scan of that name
    assert featlift("verify", "features.zarr").returncode == 1
    assert featlift("extract", "scans", *options).returncode == 0
    assert "2 written, 1 already there, 0 failed" in featlift(*call).stdout


def test_what_a_killed_export_left_is_cleared_away(featlift, tmp_path):
    extract(featlift, tmp_path, AFFINES["oblique"])
    killed = """
from pathlib import Path
from featlift.staging import new_temporary_folder
(new_temporary_folder(Path("out")) / "p__channels.nrrd").write_bytes(b"half")
"""
    (tmp_path / "out").mkdir()
    subprocess.run([sys.executable, "-c", killed], check=True)
    assert len(list(tmp_path.glob("out/*"))) == 1
    done = featlift("export", "features.zarr", "--to", "nrrd", "--channels", "0", "-o", "out")
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["export.json", "p__channels.nrrd"]
    assert sitk.ReadImage(str(tmp_path / "out/p__channels.nrrd")).GetSize() == SHAPE


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--to", "dicom"], "choose one of nifti, nrrd, ome-zarr, npy, parquet"),
        (["--to", "nifti", "--on", "moon"], "choose one of scan, cells"),
        (["--to", "nifti", "--channels", "0,99"], "no channel 99; the features have"),
        (["--to", "nifti", "--channels", "0,0"], "twice"),
        (["--to", "nifti", "--case", "nobody"], "has no case nobody"),
        (["--to", "nifti", "--layer", "7"], "layer 7"),
        (["--to", "ome-zarr", "--channels", "0"], "ome-zarr is for colours"),
        (["--to", "npy", "--colours", "colours.safetensors"], "without colours"),
        (["--to", "parquet", "--channels", "0"], "--case and -o only"),
        (["--to", "npy", "-o", "scans"], "holds other things"),
        (["--to", "nifti", "--channels", "1", "-o", "begun"], "differs in channels"),
    ],
)
def test_wrong_calls_write_nothing(featlift, tmp_path, arguments, reason):
    store = extract(featlift, tmp_path, AFFINES["oblique"])
    write_colours(tmp_path / "colours.safetensors", store)
    assert featlift("export", "features.zarr", "--to", "nifti", "--channels", "0", "-o", "begun").returncode == 0
    before = sorted(tmp_path.rglob("*"))
    done = featlift("export", "features.zarr", *arguments)
    assert done.returncode == 2
    assert reason in done.stderr
    new = set(tmp_path.rglob("*")) - set(before)
    assert not [path for path in new if path.name.startswith("p__")]
