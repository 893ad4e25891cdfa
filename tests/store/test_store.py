"""What a store keeps, and what other tools make of it."""

import json

import numpy as np
import pyarrow.parquet
import pytest
import zarr

from featlift import lift, open_store, prepare, read
from featlift.errors import InputError, StoreError
from featlift.store import read_index, rebuild_index
from featlift.store.arrays import as_float16
from featlift.volumes.grid import pad, padding_to
from tests.conftest import GOLDEN, GOLDEN_MODEL
from tests.support.scans import OBLIQUE, write_nifti, write_scan

GOLDEN_OPTIONS = ["--model", "vits16", "--weights", GOLDEN / "weights.safetensors", "--precision", "fp32"]
GOLDEN_OPTIONS += [option for key, value in GOLDEN_MODEL.items() for option in ("--model-arg", f"{key}={value}")]


@pytest.fixture
def store(featlift, tmp_path):
    """Two scans of other shapes, two layers."""
    write_scan(tmp_path / "scans" / "a.nii.gz", 0, (40, 36, 11))
    write_scan(tmp_path / "scans" / "b.nii.gz", 1, (64, 50, 5))
    done = featlift("extract", "scans", *GOLDEN_OPTIONS, "--layers", "2,-1", "--mode", "pcg")
    assert done.returncode == 0, done.stderr
    return tmp_path / "features.zarr"


def test_the_store_holds_what_python_gives(store, golden_backbone):
    import torch

    lifted = lift(golden_backbone, layers=(2, -1))
    for name, case in open_store(store).items():
        prepared = prepare(read(store.parent / "scans" / f"{name}.nii.gz"))
        padded = pad(prepared.scan, padding_to(prepared.shape, (1, 16, 16)))
        features = lifted(torch.from_numpy(padded)[None])
        for index, layer in features.layers.items():
            dense = layer.dense[0].numpy()
            np.testing.assert_allclose(case.layers[index].dense[...], dense, atol=5e-5, rtol=1e-3)
            np.testing.assert_allclose(case.layers[index].tokens[...], layer.tokens[0].numpy(), atol=5e-5, rtol=1e-3)
            _, h, w = case.valid_cells
            mean = dense[:, :, :h, :w].mean(axis=(2, 3)).T
            np.testing.assert_allclose(case.layers[index].slice_mean[...], mean, atol=1e-4)
        np.testing.assert_allclose(case.scan[...], prepared.scan[0], atol=1e-3)
        cls, patch = features.tokens[0, :, 0].mean(0), case.slice_mean[...].mean(0)
        assert case.embedding_parts == {"cls-mean": (0, 128), "patch-mean": (128, 256)}
        np.testing.assert_allclose(case.embedding, np.concatenate([cls, patch]), atol=1e-4)


def test_arrays_as_documented(store):
    case = open_store(store)["a"]
    group = zarr.open_group(store / "volumes" / "a", mode="r")
    assert sorted(group) == ["dense", "embedding", "layers", "scan", "slice_mean", "tokens"]
    dense = group["dense"]
    assert (dense.shape, dense.dtype) == ((128, 11, 3, 3), np.float16)
    assert dense.metadata.dimension_names == ("feature", "z", "y", "x")
    assert dense.chunks == (128, 8, 3, 3)
    assert dense.shards == (128, 16, 3, 3)
    assert case.tokens.shape == (11, 5, 128)
    assert case.slice_mean.dtype == case.embedding.dtype == np.float32
    assert list(case.layers) == [2, 5]
    assert case.layers[5].dense.shape == case.dense.shape
    np.testing.assert_allclose(case.affine, case.scan_affine @ _grid(16, 7.5))
    assert case.attributes["source"]["name"] == "a.nii.gz"


def _grid(stride, offset):
    grid = np.diag([1.0, stride, stride, 1.0])
    grid[1:3, 3] = offset
    return grid


def test_channels_are_contiguous_on_disk(store):
    """The bytes of a chunk are whole feature vectors, one after the other."""
    chunk = np.fromfile(store / "volumes/b/dense/c/0/0/0/0", dtype="<f2", count=5 * 4 * 4 * 128)
    np.testing.assert_array_equal(chunk.reshape(5, 4, 4, 128), open_store(store)["b"].dense[...].transpose(1, 2, 3, 0))


def test_ome_zarr_metadata(store):
    for name, case in open_store(store).items():
        ome = json.loads((store / "volumes" / name / "zarr.json").read_text())["attributes"]["ome"]
        assert ome["version"] == "0.5"
        assert [entry["datasets"][0]["path"] for entry in ome["multiscales"]] == ["layers/2/dense", "dense"]
        entry = ome["multiscales"][1]
        assert tuple(axis["name"] for axis in entry["axes"]) == case.dense.metadata.dimension_names
        scale, translation = entry["datasets"][0]["coordinateTransformations"]
        np.testing.assert_allclose(scale["scale"][1:], np.linalg.norm(case.affine[:3, :3], axis=0))
        np.testing.assert_allclose(translation["translation"][1:], case.affine[:3, 3][::-1])


def test_info(store, featlift):
    text = featlift("info", store)
    assert "2 volumes" in text.stdout
    assert "a: scan 11 x 36 x 40" in text.stdout
    summary = json.loads(featlift("info", store, "--json").stdout)
    assert summary["recipe"]["cycle"] == "HW,DW,DH,HW"
    assert summary["recipe"]["layers"] == [2, 5]
    assert [case["id"] for case in summary["cases"]] == ["a", "b"]
    assert summary["last_run"]["volumes"] == {"done": 2, "skipped": 0, "failed": 0}


def test_index_keeps_labels(store, featlift, tmp_path):
    embedding = open_store(store)["b"].embedding
    (tmp_path / "labels.csv").write_text("id,diagnosis,split\nb,mass,test\nc,normal,train\n")
    assert featlift("index", store, "--labels", "labels.csv").returncode == 0
    before = {path: path.stat().st_mtime_ns for path in (store / "volumes").rglob("*")}
    (tmp_path / "more.csv").write_text("id,diagnosis\na,normal\nb,mass\n")
    assert featlift("index", store, "--labels", "more.csv").returncode == 0
    rows = read_index(store).to_pylist()
    assert [(row["id"], row["diagnosis"], row["split"]) for row in rows] == [
        ("a", "normal", None),
        ("b", "mass", "test"),
    ]
    np.testing.assert_array_equal(np.array(rows[1]["embedding"], np.float32), embedding)
    assert rows[0]["depth"] == 11
    assert {path: path.stat().st_mtime_ns for path in (store / "volumes").rglob("*")} == before
    (store / "index.parquet").unlink()
    with pytest.raises(StoreError, match="featlift index"):
        read_index(store)
    assert featlift("index", store).returncode == 0
    assert pyarrow.parquet.read_table(store / "index.parquet").num_rows == 2


@pytest.mark.parametrize(
    ("text", "says"), [("name,x\na,1\n", "no column named id"), ("id,x\na,1\na,2\n", "twice"), (None, "no such file")]
)
def test_labels_that_cannot_be_used(store, featlift, tmp_path, text, says):
    if text:
        (tmp_path / "labels.csv").write_text(text)
    done = featlift("index", store, "--labels", "labels.csv")
    assert done.returncode == 2
    assert says in done.stderr


def test_labels_are_added_and_what_is_amiss_is_said(store, featlift, tmp_path):
    (tmp_path / "one.csv").write_text("id,fold\na,1\n")
    (tmp_path / "two.csv").write_text("id,fold\nb,second\n")
    assert featlift("index", store, "--labels", "one.csv").returncode == 0
    assert featlift("index", store, "--labels", "two.csv").returncode == 0
    assert read_index(store)["fold"].to_pylist() == ["1", "second"]  # the first CSV's labels stay
    (tmp_path / "wrong.csv").write_text("id,fold\na.tar.gz,1\n")
    (tmp_path / "taken.csv").write_text("id,depth\na,1\n")
    for name, says in (("wrong.csv", "none of its 1 ids"), ("taken.csv", "columns named depth of its own")):
        done = featlift("index", store, "--labels", name)
        assert done.returncode == 2
        assert says in done.stderr


def test_ome_zarr_is_silent_where_the_axes_are_others(featlift, tmp_path):
    write_nifti(tmp_path / "sagittal.nii", np.random.default_rng(0).normal(size=(32, 32, 4)), OBLIQUE[:, [2, 0, 1, 3]])
    assert featlift("extract", "sagittal.nii", *GOLDEN_OPTIONS, "--orient", "native").returncode == 0
    attributes = json.loads((tmp_path / "features.zarr/volumes/sagittal/zarr.json").read_text())["attributes"]
    assert list(attributes) == ["featlift"]


def test_a_case_that_is_not_there(store):
    opened = open_store(store)
    assert "c" not in opened
    with pytest.raises(KeyError, match="no case 'c'"):
        opened["c"]
    with pytest.raises(InputError, match="no such store"):
        open_store(store / "nowhere")


def test_readers_ignore_what_they_do_not_know(store):
    (store / "volumes" / "half").mkdir()  # no zarr.json: not a volume
    group = zarr.open_group(store / "volumes" / "b")
    group.create_array("later", shape=(3,), dtype="f4")
    assert list(open_store(store)) == ["a", "b"]
    assert open_store(store)["b"].dense.shape == (128, 5, 4, 4)


def test_sampling(store):
    case = open_store(store)["a"]
    index = np.array([4, 1, 2])
    point = (case.affine @ [*index, 1])[:3]
    np.testing.assert_allclose(case.sample([point])[0], case.dense[:, 4, 1, 2], rtol=1e-5)
    np.testing.assert_array_equal(case.sample([np.array(point) * [-1, -1, 1]], ras=True), case.sample([point]))
    np.testing.assert_allclose(case.sample([point], order=0)[0], case.dense[:, 4, 1, 2])
    between = (case.affine @ [4.25, 1, 2, 1])[:3]
    want = 0.75 * case.dense[:, 4, 1, 2].astype(float) + 0.25 * case.dense[:, 5, 1, 2].astype(float)
    np.testing.assert_allclose(case.sample([between])[0], want, rtol=1e-3, atol=1e-4)
    outside = (case.affine @ [-3, 1, 2, 1])[:3]
    np.testing.assert_allclose(case.sample([outside])[0], case.dense[:, 0, 1, 2])


@pytest.mark.parametrize("points", [[0, 0, 0], [[0, 0]], [], [[np.nan, 0, 0]]])
def test_points_that_are_none(store, points):
    with pytest.raises(ValueError, match=r"give \(N, 3\)"):
        open_store(store)["a"].sample(points)


def test_float16_refuses_what_it_cannot_hold():
    assert as_float16(np.array([65504.0]), "x", "") == np.float16(65504)
    for value in (7e4, np.inf, np.nan):
        with pytest.raises(ValueError, match="float16 cannot"):
            as_float16(np.array([value], np.float32), "features", "do this")


def test_a_bit_of_the_index_cannot_change_unseen(store):
    """Whatever of its bits is flipped, the index is refused or says what it said before."""
    rebuild_index(store, {"a": {"diagnosis": "mass"}, "b": {"diagnosis": "normal"}})
    path, before = store / "index.parquet", read_index(store)
    content = path.read_bytes()
    refused = 0
    for at in range(0, len(content), 29):
        path.write_bytes(content[:at] + bytes([content[at] ^ 1 << at % 8]) + content[at + 1 :])
        try:
            assert read_index(store).equals(before)
        except StoreError:
            refused += 1
    assert refused > 0.99 * len(range(0, len(content), 29))


def test_a_damaged_index_is_kept_for_its_labels(store, featlift):
    rebuild_index(store, {"a": {"diagnosis": "mass"}})
    content = (store / "index.parquet").read_bytes()
    (store / "index.parquet").write_bytes(content[:-1])
    done = featlift("index", store)
    assert done.returncode == 0
    assert "kept as index.damaged.parquet" in done.stderr
    assert (store / "index.damaged.parquet").read_bytes() == content[:-1]
    assert "diagnosis" not in read_index(store).column_names
