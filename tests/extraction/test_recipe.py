"""The recipe holds everything that changes a feature, and nothing else."""

import pytest
import torch

from featlift import Preparation, lift
from featlift.extraction import OutputSpec, Reduction, make_recipe
from featlift.volumes.intensity import Intensity
from tests.support.networks import load_backbone

TINY = {"embed_dim": 64, "depth": 2, "num_heads": 1, "init_values": 0.5}


def recipe(*, name="vits16", weights="random:0", load=None, dtype=torch.float32, prepare=None, keep=None, **how):
    backbone = load_backbone(name, weights, **{**TINY, **(load or {})}).to(dtype)
    return make_recipe(lift(backbone, **how), Preparation(**(prepare or {})), OutputSpec(**(keep or {})))


CHANGES = {
    "model": {"name": "vits16plus"},
    "model_args": {"load": {"mlp_ratio": 2}},
    "weights_sha256": {"weights": "random:1"},
    "rope_periods": {"load": {"rope_periods": "fp32"}},
    "mode": {"mode": "2d"},
    "cycle": {"cycle": "HW,DW"},
    "token_pooling": {"token_pooling": "direct"},
    "layers": {"layers": (0, 1)},
    "norm": {"norm": False},
    "depth_window": {"depth_window": 64},
    "depth_overlap": {"depth_window": 64, "depth_overlap": 8},
    "precision": {"dtype": torch.bfloat16},
    "orient": {"prepare": {"orient": "native"}},
    "intensity": {"prepare": {"intensity": "minmax"}},
    "spacing": {"prepare": {"spacing": (1.0,)}},
    "size": {"prepare": {"size": (64,)}},
    "nan_to": {"prepare": {"nan_to": 0.0}},
    "dtype": {"keep": {"dtype": "int8"}},
    "save": {"keep": {"save": ("dense",)}},
    "embedding": {"keep": {"embedding": "cls-mean"}},
    "reduce": {"keep": {"reduction": Reduction("random", 8)}},
}


@pytest.mark.parametrize("field", CHANGES)
def test_what_changes_a_feature_changes_its_field(field):
    before, after = recipe(), recipe(**CHANGES[field])
    assert before[field] != after[field]


def test_what_does_not_change_a_feature_is_not_in_it():
    assert recipe() == recipe(plane_batch=1) == recipe(memory="1GB", offload=True)
    assert recipe()["depth_window"] is recipe()["depth_overlap"] is None
    assert recipe(layers=(-1,)) == recipe(layers=(1,))
    assert recipe(cycle="HW,DW,DH,HW") == recipe()
    assert recipe(mode="2d")["cycle"] is None
    assert recipe(keep={"embedding": "cls-mean+patch-mean"}) == recipe()
    assert recipe(prepare={"spacing": 1}) == recipe(prepare={"spacing": (1.0, 1.0, 1.0)})
    assert recipe(prepare={"intensity": "ct:soft"}) == recipe(prepare={"intensity": Intensity("window:-160,240")})


def test_windows_that_differ_in_the_seventh_digit_are_two_recipes():
    first, second = (recipe(prepare={"intensity": f"window:0,1000000.{digit}"}) for digit in (25, 5))
    assert first["intensity"] != second["intensity"]


def test_one_file_with_two_networks_is_two_recipes(tmp_path):
    networks = {
        name: load_backbone("vits16", f"random:{seed}", **TINY) for seed, name in enumerate(("teacher", "student"))
    }
    state = {f"{name}.{key}": value for name, net in networks.items() for key, value in net.net.state_dict().items()}
    torch.save(state, tmp_path / "both.pth")
    recipes = [
        recipe(weights=tmp_path / "both.pth", load={"weights_prefix": prefix}) for prefix in ("teacher.", "student.")
    ]
    assert recipes[0]["weights_sha256"] == recipes[1]["weights_sha256"]
    assert recipes[0] != recipes[1]
