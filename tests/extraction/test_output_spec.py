"""Whatever is kept reads as before, and whatever is not says how it would have been."""

import json
import shutil
from itertools import chain, combinations

import numpy as np
import pytest

import featlift as package
from featlift import Preparation, find_masks, lift, open_store
from featlift.errors import OptionError, StoreError
from featlift.extraction import Extraction, OutputSpec
from featlift.store import StoreWriter, read_index, rebuild_index, verify
from featlift.store.layout import SAVED, sha256_of
from featlift.volumes import find_scans
from featlift.volumes.loading import load
from tests.support.networks import load_backbone
from tests.support.scans import patch_mean_options, write_nifti, write_scan
from tests.support.thinned import every

SUBSETS = list(chain.from_iterable(combinations(SAVED, count) for count in range(1, len(SAVED) + 1)))
TINY = {"embed_dim": 64, "depth": 2, "num_heads": 1, "init_values": 0.5}


@pytest.fixture(scope="module")
def lifted():
    return lift(load_backbone("vits16", "random:0", **TINY), layers=(0, -1))


@pytest.fixture(scope="module")
def scan(tmp_path_factory):
    path = write_scan(tmp_path_factory.mktemp("scans") / "a.nii.gz", shape=(40, 36, 5))
    return find_scans([path]).scans[0]


def written(path, lifted, scan, keeping):
    extraction = Extraction(lifted, Preparation(), keeping=keeping)
    StoreWriter(path, extraction.recipe).publish(*extraction.lift([load(scan, extraction.preparation)]))
    return open_store(path)


@pytest.fixture(scope="module")
def everything(tmp_path_factory, lifted, scan):
    return written(tmp_path_factory.mktemp("all") / "store.zarr", lifted, scan, OutputSpec())["a"]


def arrays(case, name):
    """An array of a case, of all layers where each has its own."""
    if name in ("scan", "embedding"):
        return [np.asarray(getattr(case, name)[...])]
    return [np.asarray(getattr(layer, name)[...]) for layer in case.layers.values()]


@pytest.mark.parametrize("save", every(3, SUBSETS), ids=",".join)
def test_every_subset(lifted, scan, everything, featlift, tmp_path, save):
    path = tmp_path / "store.zarr"
    store = written(path, lifted, scan, OutputSpec(save=save))
    case = store["a"]
    for name in SAVED:
        if name in save:
            for ours, theirs in zip(arrays(case, name), arrays(everything, name), strict=True):
                np.testing.assert_array_equal(ours, theirs)
        else:
            with pytest.raises(StoreError, match=f"keeps no {name}, only .*: extract again with --save .*{name}"):
                arrays(case, name)
    for name in ("scan_shape", "stride", "offset", "valid_cells"):
        assert getattr(case, name) == getattr(everything, name)
        assert list(case.layers) == [0, 1]
    np.testing.assert_array_equal(case.scan_affine, everything.scan_affine)
    for index, layer in case.layers.items():
        np.testing.assert_array_equal(layer.affine, everything.layers[index].affine)
    assert list(verify(path)) == [("a", [])]
    assert rebuild_index(path) == 1
    embedding = read_index(path)["embedding"].to_pylist()[0]
    assert (embedding is not None) == ("embedding" in save)
    said = featlift("info", path)
    assert (said.returncode, "a: scan 5 x 36 x 40" in said.stdout) == (0, True)
    assert (", features 64 x 5 x 3 x 3" in said.stdout) == ("dense" in save)
    held = json.loads(featlift("info", path, "--json").stdout)["cases"][0]
    assert (held["dense"] is not None, held["tokens"] is not None) == ("dense" in save, "tokens" in save)


def test_types_and_how_close_they_are(lifted, scan, everything, featlift, tmp_path):
    cosines = {}
    exact = written(tmp_path / "float32.zarr", lifted, scan, OutputSpec(dtype="float32"))["a"]
    for dtype in ("float16", "int8"):
        case = written(tmp_path / f"{dtype}.zarr", lifted, scan, OutputSpec(dtype=dtype))["a"]
        for index, layer in case.layers.items():
            for ours, theirs in ((layer.dense, exact.layers[index].dense), (layer.tokens, exact.layers[index].tokens)):
                axis = 0 if ours.ndim == 4 else 2
                a, b = (np.moveaxis(np.asarray(each[...], np.float64), axis, -1) for each in (ours, theirs))
                cosine = (a * b).sum(-1) / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1)
                cosines[dtype] = min(cosines.get(dtype, 1), cosine.min())
        assert featlift("verify", tmp_path / f"{dtype}.zarr").returncode == 0
    assert cosines["float16"] > 0.999999
    assert cosines["int8"] > 0.9998
    point = (exact.affine @ [2, 1, 1, 1])[:3]
    np.testing.assert_allclose(case.sample([point]), exact.sample([point]), atol=0.02)
    np.testing.assert_allclose(case.embedding, exact.embedding)
    np.testing.assert_array_equal(everything.dense[...], exact.dense[...].astype(np.float16))


@pytest.mark.parametrize("parts", ["cls-mean", "patch-mean", "cls-mean+patch-mean"])
def test_parts_of_the_embedding(lifted, scan, everything, tmp_path, parts):
    case = written(tmp_path / "store.zarr", lifted, scan, OutputSpec(embedding=parts))["a"]
    names = parts.split("+")
    want = [everything.embedding[slice(*everything.embedding_parts[name])] for name in names]
    np.testing.assert_array_equal(case.embedding, np.concatenate(want))
    assert list(case.embedding_parts) == names


REFUSALS = [
    ({"save": ()}, "save nothing: give one or more of scan,dense"),
    ({"save": ("dense", "depth")}, "save depth"),
    ({"dtype": "int4"}, "choose one of float16, float32, int8"),
    ({"embedding": "mean"}, "choose one of cls-mean, patch-mean"),
    ({"embedding": "cls-mean", "save": ("dense",)}, "leaves the embedding out"),
    ({"dtype": "int8", "save": ("scan",)}, "--save has neither"),
]


@pytest.mark.parametrize(("keeping", "says"), REFUSALS)
def test_what_makes_no_sense(keeping, says):
    with pytest.raises(OptionError, match=says):
        OutputSpec(**keeping)


def test_what_a_backbone_has_not(lite0):
    lifted = lift(lite0, mode="2d")
    wrong = ((OutputSpec(save=("tokens",)), "no global tokens"), (OutputSpec(embedding="cls-mean"), "no class"))
    for keeping, says in wrong:
        with pytest.raises(OptionError, match=says):
            Extraction(lifted, Preparation(), keeping=keeping)
    both = (OutputSpec(), OutputSpec(embedding="patch-mean"))
    assert len({Extraction(lifted, Preparation(), keeping=each).recipe["embedding"] for each in both}) == 1


@pytest.fixture
def cohort(featlift, tmp_path):
    """Two scans with masks, and a function that extracts them."""
    for seed, name in enumerate("ab"):
        mask = np.zeros((40, 36, 6), np.uint8)
        mask[10:30, 8:24, 2:5] = 1
        noise = np.random.default_rng(seed).integers(0, 30, mask.shape)
        write_nifti(tmp_path / f"scans/{name}.nii.gz", (noise + 100 * mask).astype(np.int16))
        write_nifti(tmp_path / f"labels/{name}.nii.gz", mask)
    options = [*patch_mean_options(tmp_path, patch=4, constant=0.5), "--mode", "2d", "--layers", "0"]
    return lambda *more, store="store.zarr": featlift("extract", "scans", "-o", store, *options, *more)


def test_another_choice_is_refused_naming_it(cohort):
    assert cohort("--save", "slice_mean,dense").returncode == 0
    assert "nothing to do" in cohort("--save", "dense,slice_mean").stdout
    for more, field in (
        (["--save", "dense"], "save"),
        ([], "save"),
        (["--save", "slice_mean,dense", "--save-dtype", "int8"], "dtype"),
        (["--save", "slice_mean,dense", "--reduce", "random:4"], "reduce"),
        (["--save", "slice_mean,dense", "--reduce", "pca:4"], "reduce"),
    ):
        refused = cohort(*more)
        assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
        assert f"another recipe: {field} (store" in refused.stderr


def test_a_store_from_before_there_was_a_choice_goes_on(cohort, tmp_path):
    assert cohort("--limit", 1).returncode == 0
    path = tmp_path / "store.zarr/zarr.json"
    document = json.loads(path.read_text())
    ours = document["attributes"]["featlift"]
    for field in ("save", "embedding", "reduce", "basis_sha256"):
        assert ours["recipe"].pop(field) is None
    ours["recipe_sha256"] = sha256_of(ours["recipe"])
    path.write_text(json.dumps(document))
    assert "1 extracted, 1 complete before" in cohort().stdout


def test_damage_is_repaired_in_any_form(cohort, featlift, tmp_path):
    assert cohort("--save", "dense", "--save-dtype", "int8").returncode == 0
    key = tmp_path / "store.zarr/volumes/a/dense_scale/c/0"
    before = key.read_bytes()
    key.write_bytes(bytes(len(before)))
    assert "damaged  a  dense_scale/c/0" in featlift("verify", "store.zarr").stdout
    assert "1 extracted, 1 complete before" in cohort("--save", "dense", "--save-dtype", "int8").stdout
    assert key.read_bytes() == before


def test_featdice_needs_dense_features_and_nothing_else(cohort, featlift, tmp_path):
    cohort(store="all.zarr")
    cohort("--save", "dense", store="dense.zarr")
    cohort("--save", "scan,embedding", store="without.zarr")
    scores = {}
    for name in ("all", "dense"):
        done = featlift("featdice", f"{name}.zarr", "--masks", "labels", "--save-maps", "maps")
        assert done.returncode == 0, done.stderr
        scores[name] = json.loads((tmp_path / f"results/{name}-featdice-prototype-nearest-centre.json").read_text())[
            "cases"
        ]
    assert scores["all"] == scores["dense"]
    refused = featlift("featdice", "without.zarr", "--masks", "labels")
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert "without.zarr keeps no dense, only scan, embedding" in refused.stderr
    assert "--save scan,dense,embedding" in refused.stderr


@pytest.mark.parametrize(
    ("save", "command", "lacks"),
    [
        ("dense", ["knn", "--labels", "labels.csv"], "embedding"),
        ("scan,embedding", ["probe", "--labels", "labels.csv"], "tokens"),
        ("scan", ["retrieve", "--case", "a"], "embedding"),
        ("scan", ["retrieve", "--case", "a", "--voxel", "1,1,1"], "dense"),
        ("scan", ["probe", "--dense", "--masks", "labels", "--labels", "labels.csv"], "dense"),
    ],
)
def test_every_evaluation_says_what_it_lacks(cohort, featlift, tmp_path, save, command, lacks):
    for name in "cdef":
        shutil.copy(tmp_path / "scans/a.nii.gz", tmp_path / f"scans/{name}.nii.gz")
    cohort("--save", save, store="store.zarr")
    splits = ("train", "val", "test")
    rows = [f"{case},{number % 2},{splits[number // 2]}" for number, case in enumerate("abcdef")]
    (tmp_path / "labels.csv").write_text("\n".join(["id,label,split", *rows]) + "\n")
    refused = featlift(command[0], "store.zarr", *command[1:])
    assert refused.returncode == 2, refused.stderr
    assert f"keeps no {lacks}, only" in refused.stderr


def test_patches_need_dense_features_and_nothing_else(cohort, tmp_path):
    cohort("--save", "dense", "--save-dtype", "int8", store="dense.zarr")
    cohort("--save", "scan", store="scan.zarr")
    store = open_store(tmp_path / "dense.zarr")
    patches = package.FeaturePatches(store, (4, 3, 5), find_masks(store, tmp_path / "labels"), foreground=1.0)
    item = patches[0]
    d, h, w = item["start"]
    np.testing.assert_array_equal(item["features"], store["a"].dense[:, d : d + 4, h : h + 3, w : w + 5])
    assert "scan" not in item
    assert (item["mask"] == 1).any()
    with pytest.raises(StoreError, match="keeps no dense"):
        package.FeaturePatches(tmp_path / "scan.zarr")
