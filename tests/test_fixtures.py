"""Files that an earlier featlift wrote are read, and gone on with, by this one."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from featlift import open_store
from featlift.evaluation import read_result
from featlift.store import verify
from tests.fixtures.make import VIT

FIXTURES = Path(__file__).parent / "fixtures"
_MODEL = [option for key, value in VIT.items() for option in ("--model-arg", f"{key}={value}")]
_VIT = ["--model", "vit_tiny_patch16_224", "--weights", "vit.safetensors", *_MODEL, "--size", "32"]
OPTIONS = {
    "layers.zarr": [*_VIT, "--layers", "0,1", "--mode", "pcg"],
    "int8.zarr": [*_VIT, "--save-dtype", "int8"],
    "reduced.zarr": [*_VIT, "--layers", "0,1", "--reduce", "pca:4"],
    "regions.zarr": [*_VIT, "--roi", "labels", "--roi-mm", "16"],
    "embeddings.zarr": [*_VIT, "--save", "embedding"],
    "cnn.zarr": [
        "--model",
        "efficientnet-lite0",
        "--mode",
        "2d",
        "--size",
        "96",
        "--depth-stride=4",
        "--layers=stride16",
    ],
}


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """A copy of all of them, in the folder in which the tests' commands run."""
    return Path(shutil.copytree(FIXTURES, tmp_path, dirs_exist_ok=True))


def _files_of(store: Path) -> dict[str, bytes]:
    return {str(path.relative_to(store)): path.read_bytes() for path in store.rglob("volumes/**/*") if path.is_file()}


@pytest.mark.parametrize("name", OPTIONS)
def test_every_store_is_sound_and_readable(name):
    store = open_store(FIXTURES / name)
    assert all(damage == [] for _, damage in verify(FIXTURES / name))
    for case in store.values():
        assert np.isfinite(case.embedding).all()
        for layer in case.layers.values():
            assert layer.valid_cells[0] > 0
            if "dense" in case.saved:
                assert np.isfinite(layer.dense[:]).all()


@pytest.mark.parametrize("name", OPTIONS)
def test_every_store_goes_on_as_it_began(name, made, featlift):
    """Of the six scans some are in the store: the others are added as they would have been, nothing else changes."""
    before, attributes = _files_of(made / name), open_store(made / name).attributes
    offsets = {case.offset for case in open_store(made / name).values()}
    done = featlift("extract", "scans", "-o", name, *OPTIONS[name])
    assert done.returncode == 0, done.stderr
    store = open_store(made / name)
    assert len(store) == 6
    assert store.attributes == attributes
    after = _files_of(made / name)
    assert {key: after[key] for key in before} == before
    assert {case.offset for case in store.values()} == offsets
    assert all(damage == [] for _, damage in verify(made / name))


def test_every_result_is_read(made):
    results = sorted((made / "results").glob("*.json"))
    assert len(results) == 6
    for path in results:
        result, written = read_result(path), json.loads(path.read_text())
        assert result.store == written["store"]
        assert [case["id"] for case in result.cases] == [case["id"] for case in written["cases"]]


def test_a_head_segments_and_what_it_segmented_is_scored(made, featlift):
    done = featlift("segment", "predict", "layers.zarr", "--head", "head", "-o", "again", "--case", "e")
    assert done.returncode == 0, done.stderr
    done = featlift(
        "segment", "score", "layers.zarr", "--predictions", "predictions", "--masks", "labels", "-o", "again"
    )
    assert done.returncode == 0, done.stderr
    before, after = (json.loads((made / at / "layers-segment-linear.json").read_text()) for at in ("results", "again"))
    assert after["cases"] == before["cases"]


def test_a_head_that_was_trained_is_not_trained_again(made, featlift):
    before = (made / "head/weights.safetensors").read_bytes()
    options = ["--masks", "labels", "--head", "linear", "--epochs", "2"]
    done = featlift("segment", "train", "layers.zarr", *options, "-o", "head")
    assert done.returncode == 0, done.stderr
    assert (made / "head/weights.safetensors").read_bytes() == before
