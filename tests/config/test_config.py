"""What an extraction is asked for: read from anywhere, refused by name, and marked where features depend on it."""

from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch

import featlift
from featlift import extract_cohort, list_models, open_store
from featlift.backbones.adapters import write_full
from featlift.config import ExtractConfig
from featlift.errors import InputError, LiftingError, OptionError, StoreError
from featlift.extraction.job import Job
from featlift.store.basis import Basis
from featlift.store.output_spec import OutputSpec
from featlift.store.principal import Projection
from featlift.volumes import DiscoveredScans, Preparation, Selection
from tests.support.networks import load_backbone
from tests.support.scans import patch_mean_options, write_scan

TINY = {"model": "vits16", "weights": "random:0", "model_args": {"embed_dim": 48, "depth": 3, "num_heads": 3}}

NATIVE = {"mode": "native", "model": "monai:SegResNet", "model_args": {}}

#: Another value of each option, and what else has to be said for it to have a meaning.
OTHERS = {
    "model": ("vit_tiny_patch16_224", {"model_args": {"depth": 3}}),
    "weights": ("random:1", {}),
    "adapter": ("ADAPTER", {}),
    "device": ("cpu", {}),
    "precision": ("fp16", {}),  # what auto is on no processor
    "weights_prefix": ("net.", {"weights": "FILE"}),
    "rope_periods": ("fp32", {}),
    "position_resize": ("dinov2", {"model": "vit_tiny_patch16_224", "model_args": {"depth": 3}}),
    "model_args": ({"embed_dim": 48, "depth": 4, "num_heads": 3}, {}),
    "mode": ("pcm", {}),
    "layers": ((0, -1), {}),
    "memory": ("1GB", {}),
    "cycle": (("HW", "DW"), {}),
    "token_pooling": ("direct", {}),
    "norm": (False, {}),
    "depth_window": (4, {}),
    "depth_overlap": (2, {"depth_window": 4}),
    "magnify": (2, {}),
    "tile": ((16, 16, 16), NATIVE),
    "offload": (True, {}),
    "compile": (True, {}),
    "glob": (("*.nii",), {}),
    "exclude": (("b*",), {}),
    "masks": ("masks", {}),
    "mask_pattern": ("*_seg.nii", {}),
    "limit": (1, {}),
    "key": ("t1", {}),
    "frame": (0, {}),
    "channels": (("0", "1", "2"), {}),
    "roi": ("masks", {}),
    "allow_irregular": (True, {}),
    "max_voxels": (1000, {}),
    "intensity": ("ct:soft", {}),
    "spacing": ((1.0, 1.0, 1.0), {}),
    "size": ((64,), {}),
    "resampling": ("cubic", {}),
    "crop": ("body", {}),
    "roi_mm": ((10.0, 10.0, 10.0), {}),
    "depth_stride": (2, {}),
    "orient": ("native", {}),
    "nan_to": (0.0, {}),
    "save": (("dense",), {}),
    "save_dtype": ("float32", {}),
    "reduce": ("random:8", {}),
    "basis": ("BASIS", {"reduce": "pca:8"}),
    "embedding": ("patch-mean", {}),
    "orientations": (("axial", "coronal"), {}),
    "cell": (8, {"orientations": ("axial", "coronal")}),
    "step": (1, {"orientations": ("axial", "coronal")}),
    "fuse": ("mean", {"orientations": ("axial", "coronal")}),
    "overwrite": (True, {}),
    "yes": (True, {}),
    "workers": (1, {}),
    "prefetch": ("1GB", {}),
    "shard": ("1/2", {}),
    "devices": (("cpu",), {}),
    "engine": ("ray", {}),
    "actors": (2, {}),
    "confirm_above": ("1GB", {}),
}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Weights under a prefix, and a basis."""
    folder = tmp_path_factory.mktemp("config")
    arguments = {name: value for name, value in TINY.items() if name not in ("model", "weights")}
    backbone = load_backbone("vits16", "random:0", **arguments["model_args"])
    torch.save({f"net.{name}": value for name, value in backbone.net.state_dict().items()}, folder / "weights.pth")
    components = np.linalg.qr(np.random.default_rng(0).normal(size=(48, 8)))[0].T.astype(np.float32)
    about = {"weights_sha256": backbone.weights["sha256"], "model": backbone.name}
    basis = Basis.of({2: Projection(np.zeros(48, np.float32), components, 0.5)}, about)
    (folder / "basis.safetensors").write_bytes(basis.content)
    write_full(folder, backbone)
    return {
        "FILE": str(folder / "weights.pth"),
        "BASIS": str(folder / "basis.safetensors"),
        "ADAPTER": str(folder),
    }


def recipe_of(config):
    return Job(Path("nowhere.zarr"), DiscoveredScans([]), config).extraction().recipe


def test_every_option_has_another_value_here():
    assert set(OTHERS) == {each.name for _, each, _ in ExtractConfig.options()}
    assert len(OTHERS) == len(list(ExtractConfig.options()))  # and no name stands in two sections


@pytest.mark.parametrize("name", OTHERS)
def test_what_is_marked_changes_the_recipe_and_nothing_else_does(name, files):
    value, besides = OTHERS[name]
    besides = {**TINY, "device": "auto" if name == "device" else "cpu", **besides}
    besides = {each: files.get(given, given) if isinstance(given, str) else given for each, given in besides.items()}
    config = ExtractConfig().with_values(besides)
    changed = config.with_values({name: files.get(value, value) if isinstance(value, str) else value})
    (option,) = [option for _, each, option in ExtractConfig.options() if each.name == name]
    own = {"basis": "basis_sha256", "weights_prefix": "weights_prefix"}  # without them there are no features to compare
    if name in own:
        assert recipe_of(changed)[own[name]]
        assert option.feature
        return
    assert (recipe_of(changed) != recipe_of(config)) == option.feature


def test_sections_say_what_the_classes_behind_them_take():
    of = {section.name: {each.name for each in fields(section.default_factory)} for section in fields(ExtractConfig)}
    assert of["preparation"] == {each.name for each in fields(Preparation)} - {"channels"}
    assert of["selection"] == {each.name for each in fields(Selection)} | {"limit"}
    assert of["output"] == {"save", "save_dtype", "reduce", "basis", "embedding"}
    assert Preparation.of(ExtractConfig().preparation) == Preparation()
    assert OutputSpec.of(ExtractConfig().output) == OutputSpec()
    assert Selection.of(ExtractConfig().selection) == Selection()


def test_a_file_says_all_of_it(tmp_path):
    config = ExtractConfig().with_values({name: value for name, (value, _) in OTHERS.items()})
    (tmp_path / "run.toml").write_text(config.as_toml())
    assert ExtractConfig.of_file(tmp_path / "run.toml") == config
    (tmp_path / "run.toml").write_text(ExtractConfig().as_toml())
    assert ExtractConfig.of_file(tmp_path / "run.toml") == ExtractConfig()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[network]\nmodle = 'x'", r"run\.toml: \[network\] has no option 'modle'; did you mean model\?"),
        ("[nets]\n", r"run\.toml: no section \[nets\]"),
        ("model = 'x'", r"run\.toml: no section \[model\]"),
        ("[lifting]\nmode = 'pgc'", r"run\.toml: \[lifting\] mode 'pgc': choose one of pcg, .*"),
        ("[lifting]\nnorm = 1", r"\[lifting\] norm 1: give true or false"),
        ("[preparation]\nsize = 1.5", r"\[preparation\] size 1\.5: give whole numbers"),
        ("[preparation]\nspacing = ['a']", r"\[preparation\] spacing \['a'\]: give numbers"),
        ("[preparation]\ndepth_stride = 0", "depth_stride 0: give a whole number, at least 1"),
        ("[running]\nprefetch = 'much'", "prefetch 'much': give auto or a size"),
        ("[network]\nmodel_args = { weights = 1 }", "that is no argument of timm's"),
        ("[network", "no TOML"),
    ],
)
def test_a_file_that_is_wrong_is_refused_by_name(tmp_path, text, says):
    (tmp_path / "run.toml").write_text(text)
    with pytest.raises((OptionError, InputError), match=says):
        ExtractConfig.of_file(tmp_path / "run.toml")
    with pytest.raises(InputError, match="No such file"):
        ExtractConfig.of_file(tmp_path / "nowhere.toml")


def test_flags_override_a_file_and_the_file_is_printed(featlift, tmp_path):
    (tmp_path / "run.toml").write_text("[lifting]\nmode = '2d'\n[preparation]\nsize = 64\nspacing = 1.0\n")
    done = featlift("extract", "x", "--config", "run.toml", "--size", "32,48", "--print-config")
    assert done.returncode == 0, done.stderr
    (tmp_path / "printed.toml").write_text(done.stdout)
    printed = ExtractConfig.of_file(tmp_path / "printed.toml")
    assert (printed.lifting.mode, printed.preparation.size, printed.preparation.spacing) == ("2d", (32, 48), (1.0,))
    for command in ("extract", "check"):
        wrong = featlift(command, "x", "--config", "nowhere.toml")
        assert (wrong.returncode, wrong.stderr.count("\n")) == (2, 1)
        both = featlift(command, "x", "--config", "run.toml", "--recipe-of", "s.zarr")
        assert both.stderr == "featlift: --config and --recipe-of: give one of them to begin with\n"


def test_a_store_is_gone_on_with_by_its_recipe(featlift, tmp_path):
    write_scan(tmp_path / "one.nii.gz")
    options = [*patch_mean_options(tmp_path, patch=4), "--mode", "pcm", "--size", "24", "--save-dtype", "float32"]
    assert featlift("extract", "one.nii.gz", *options).returncode == 0
    write_scan(tmp_path / "two.nii.gz", seed=1)
    weights = options[options.index("--weights") + 1]
    done = featlift("extract", "two.nii.gz", "--recipe-of", "features.zarr", "--weights", weights)
    assert done.returncode == 0, done.stderr
    assert set(open_store(tmp_path / "features.zarr")) == {"one", "two"}


def test_python_does_what_the_command_does(featlift, tmp_path, monkeypatch):
    write_scan(tmp_path / "scans" / "one.nii.gz")
    (tmp_path / "scans" / "bad.nii.gz").write_bytes(b"none")
    command = ["--model", "vits16", "--weights", "random:0", "--model-arg", "embed_dim=48", "--model-arg", "depth=3"]
    command += ["--model-arg", "num_heads=3", "--size", "32", "--device", "cpu", "--workers", "0"]
    assert featlift("extract", "scans", "-o", "one.zarr", *command).returncode == 1
    monkeypatch.chdir(tmp_path)
    told, heard = [], []
    extracted = extract_cohort(
        "scans", "two.zarr", progress=lambda *each: told.append(each), notify=heard.append,
        **TINY, size=32, device="cpu", workers=0,
    )  # fmt: skip
    assert (extracted.done, extracted.complete, list(extracted.failed)) == (1, 0, ["bad"])
    assert [each[1:] for each in told] == [(0, 2), (1, 2), (2, 2)]
    assert "featlift: random weights: these features mean nothing" in heard
    one, two = open_store("one.zarr"), open_store("two.zarr")
    assert one.recipe == two.recipe
    assert np.array_equal(one["one"].dense[...], two["one"].dense[...])
    again = extract_cohort(["scans"], "two.zarr", ExtractConfig().with_values(TINY), size=32, device="cpu", workers=0)
    assert (again.done, again.complete, list(again.failed)) == (0, 1, ["bad"])
    with pytest.raises(OptionError, match=r"colour: no such option"):
        extract_cohort("scans", "two.zarr", colour="red")
    with pytest.raises(OptionError, match=r"modle: no such option; did you mean mode\?"):
        extract_cohort("scans", "two.zarr", modle="vits16")
    with pytest.raises(StoreError, match="made with another recipe"):
        extract_cohort("scans", "two.zarr", **TINY, size=48, device="cpu", workers=0)
    with pytest.raises(LiftingError, match="visits no planes"):
        extract_cohort("scans", "three.zarr", **TINY, mode="2d", cycle="HW,DW", device="cpu")
    assert not Path("three.zarr").exists()


def test_the_models_are_listed():
    names = [entry.name for entry in list_models()]
    assert "vitb16" in names
    assert "efficientnet-lite0" in names
    assert {"extract_cohort", "list_models"} <= set(featlift.__all__)


def test_a_short_name_is_found_again_in_a_recipe(featlift, tmp_path):
    """So that its published weights are taken."""
    write_scan(tmp_path / "one.nii.gz")
    made = ("--model", "efficientnet-lite0", "--layers", "stride16", "--size", "64", "--intensity", "minmax")
    assert featlift("extract", "one.nii.gz", *made).returncode == 0
    done = featlift("extract", "one.nii.gz", "-o", "again.zarr", "--recipe-of", "features.zarr")
    assert done.returncode == 0, done.stderr
    stores = [open_store(tmp_path / name) for name in ("features.zarr", "again.zarr")]
    assert stores[0].recipe == stores[1].recipe
    assert np.array_equal(stores[0]["one"].dense[...], stores[1]["one"].dense[...])
