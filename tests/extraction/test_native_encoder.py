"""Everything behind the encoder holds for one that is not lifted and strides along the depth too."""

import nibabel as nib
import numpy as np
import pytest

import featlift
from featlift.evaluation import Protocol, featdice
from featlift.exporting import ExportSpec, export
from featlift.extraction import Extraction, OutputSpec, Run
from featlift.store.forecast import FeatureSizes, forecast
from featlift.volumes import Preparation, find_scans
from tests.support.native_encoder import NativeEncoder
from tests.support.scans import OBLIQUE, write_nifti

SHAPE = (37, 30, 13)  # x, y, z: no multiples of what the encoder wants


@pytest.fixture
def scans(tmp_path):
    """Two scans with a bright ball, and masks of it."""
    for number, centre in enumerate(((20, 14, 6), (14, 16, 7))):
        places = np.stack(np.meshgrid(*map(np.arange, SHAPE), indexing="ij"), axis=-1)
        ball = (np.linalg.norm((places - centre) * (1, 1, 2), axis=-1) < 9).astype(np.float32)
        noise = np.random.default_rng(number).normal(scale=0.05, size=SHAPE)
        write_nifti(tmp_path / "scans" / f"p{number}.nii.gz", (ball + noise).astype(np.float32))
        write_nifti(tmp_path / "masks" / f"p{number}.nii.gz", ball)
    return tmp_path / "scans"


def extract(scans, store, **keeping):
    extraction = Extraction(NativeEncoder(), Preparation(), keeping=OutputSpec(embedding="patch-mean", **keeping))
    with Run(store, extraction, find_scans([scans])) as run:
        assert [outcome.status for outcome in run.extract()] == ["done", "done"]
    return featlift.open_store(store)


@pytest.fixture
def store(scans, tmp_path):
    return extract(scans, tmp_path / "features.zarr")


def test_cells_lie_where_the_voxels_of_their_blocks_do(store, scans):
    """The first channel is the mean of a block: of the affine's coordinates, the middle of the block."""
    case = store["p0"]
    assert store.recipe["mode"] == "native"
    scan = case.scan[...].astype(np.float32)
    for index, block in ((0, (2, 4, 4)), (1, (4, 8, 8))):
        layer = case.layers[index]
        assert layer.stride == block
        valid = layer.valid_cells
        for axis, size in enumerate(scan.shape):  # those that are centred in the scan, the rest is padding
            centres = layer.offset[axis] + block[axis] * np.arange(layer.dense.shape[axis + 1])
            assert valid[axis] == (centres <= size - 0.5).sum()
        corner = np.array(layer.affine) @ [0, 0, 0, 1]
        middle = np.array(case.scan_affine) @ [*((np.array(block) - 1) / 2), 1]
        np.testing.assert_allclose(corner, middle)
        inside = scan[: block[0], : block[1], : block[2]].mean()
        np.testing.assert_allclose(layer.dense[0, 0, 0, 0], inside, atol=2e-3)


def test_padding_is_in_no_mean(store):
    case = store["p0"]
    d, h, w = case.valid_cells
    dense = case.dense[:, :d, :h, :w].astype(np.float32)
    np.testing.assert_allclose(case.slice_mean[...], dense.mean(axis=(2, 3)).T, atol=2e-3)
    np.testing.assert_allclose(case.embedding[...], dense.mean(axis=(1, 2, 3)), atol=2e-3)
    assert case.attributes["padding"]["after"] == [3, 2, 3]


def test_features_at_a_point_are_those_of_the_cell_there(store):
    case = store["p1"].layers[0]
    for cell in ((0, 0, 0), (3, 5, 6), (5, 2, 1)):
        point = (np.array(case.affine) @ [*cell, 1])[:3]
        np.testing.assert_allclose(
            store["p1"].layers[0].sample([point])[0], case.dense[(slice(None), *cell)], atol=1e-2
        )


def test_featdice_finds_the_ball(store, tmp_path):
    masks = featlift.find_masks(store, tmp_path / "masks")
    for layer, least in ((0, 0.85), (1, 0.6)):
        scores = list(featdice(store, masks, Protocol(layer=layer)))
        assert len(scores) == 2
        assert min(each.mean("best_dice") for each in scores) > least


def test_files_of_other_programs_lie_where_the_scan_does(store, tmp_path):
    list(export(store, tmp_path / "out", ExportSpec("nifti", (0,), 0, "cells")))
    (file,) = (tmp_path / "out").rglob("p0*.nii.gz")
    image = nib.load(file)
    spacing = np.linalg.norm(OBLIQUE[:3, :3], axis=0)
    np.testing.assert_allclose(np.sort(image.header.get_zooms()[:3]), np.sort(spacing * (4, 4, 2)), rtol=1e-4)
    values = image.get_fdata()
    brightest = np.unravel_index(np.argmax(values.reshape(*values.shape[:3], -1)[..., 0]), values.shape[:3])
    place = image.affine @ [*brightest, 1]
    ball = OBLIQUE @ [20, 14, 6, 1]
    assert np.linalg.norm(place[:3] - ball[:3]) < 9 * spacing.max()


def test_a_picture_is_drawn(store, tmp_path, featlift):
    done = featlift("pca", "features.zarr", "--case", "p0", "-o", "pictures")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "pictures").is_dir()


def test_its_size_is_known_before(scans, tmp_path):
    found = find_scans([scans]).scans
    for keeping in ({}, {"save_dtype": "int8"}):
        spec = OutputSpec(embedding="patch-mean", **({"dtype": "int8"} if keeping else {}))
        told = forecast(found, Preparation(), FeatureSizes.of(NativeEncoder()), spec)
        name = tmp_path / ("int8.zarr" if keeping else "float16.zarr")
        store = extract(scans, name, **({"dtype": "int8"} if keeping else {}))
        chunks = [each for each in (store.path / "volumes").rglob("c/**/*") if each.is_file()]
        written = sum(each.stat().st_size for each in chunks)
        assert told.bytes - told.bytes_by_key["metadata"] == written


def test_a_case_without_a_store(scans):
    case = featlift.extract(scans / "p0.nii.gz", NativeEncoder())
    assert case.layers[0].stride == (2, 4, 4)
    assert case.dense.shape == (8, 4, 4, 5)
