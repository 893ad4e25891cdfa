"""Weights from files: any wrapping gives the same features, any misfit is one line, nothing is run or lost."""

import pickle
import re
import zipfile

import pytest
import torch
from safetensors.torch import load_file
from torch.testing import assert_close

from featlift import lift
from featlift.backbones.weights import read_weights, sha256_of_state
from featlift.checksums import sha256_of_file
from featlift.errors import WeightsError
from tests.conftest import GOLDEN, GOLDEN_MODEL
from tests.support.networks import load_backbone
from tests.support.tiny import TINY, build, save, says

GOLDEN_FILE = GOLDEN / "weights.safetensors"


@pytest.fixture
def official():
    """The golden weights with the keys of the DINOv3 repository."""
    return load_file(GOLDEN_FILE)


def features_of(path, name="vits16", **options):
    backbone = load_backbone(name, path, **GOLDEN_MODEL | options)
    return lift(backbone, mode="pcg")(torch.linspace(0, 1, 3 * 32 * 48).view(1, 1, 3, 32, 48))


def refused(path, name="vits16", **options):
    with pytest.raises(WeightsError) as refusal:
        load_backbone(name, path, **options)
    return refusal


def under(prefix, state):
    return {prefix + key: value for key, value in state.items()}


# ── the same network in many wrappings ──────────────────────────────────────────────────────────────────────────────

_HEAD = {"mlp.0.weight": torch.ones(4, 4), "last_layer.weight": torch.ones(4, 4)}
_WRAPPINGS = {
    "state": lambda state: state,
    "state_dict": lambda state: {"state_dict": state, "epoch": 3},
    "module": lambda state: under("module.", state),
    "teacher": lambda state: under("teacher.backbone.", state) | under("teacher.dino_head.", _HEAD),
    "teacher and student": lambda state: {
        "teacher": under("backbone.", state) | under("ibot_head.", _HEAD),
        "student": under("backbone.", {key: -value for key, value in state.items()}),
        "iteration": 7,
    },
    "head beside": lambda state: state | under("dino_head.", _HEAD) | {"local_cls_norm.weight": torch.ones(128)},
}


@pytest.mark.parametrize("wrap", _WRAPPINGS.values(), ids=_WRAPPINGS)
def test_a_torch_file_gives_the_same_features_in_any_wrapping(official, wrap, tmp_path):
    torch.save(wrap(official), path := tmp_path / "weights.pth")
    assert_same(features_of(path), features_of(GOLDEN_FILE))


@pytest.mark.parametrize("prefix", ["teacher.backbone.", "teacher.backbone", "nets.3."])
def test_an_explicit_prefix_picks_the_network(official, prefix, tmp_path):
    other = {key: -value for key, value in official.items()}
    state = under("student.backbone.", other) | under(prefix.rstrip(".") + ".", official)
    path = save(state, tmp_path / "weights.safetensors")
    assert_same(features_of(path, weights_prefix=prefix), features_of(GOLDEN_FILE))


def test_timms_own_layout_gives_the_same_features(golden_backbone, tmp_path):
    path = save(golden_backbone.net.state_dict(), tmp_path / "weights.safetensors")
    assert_same(features_of(path, rope_periods="fp32"), features_of(GOLDEN_FILE))  # this layout holds no periods


def test_a_file_in_bfloat16_is_computed_in_float32(official, tmp_path):
    rounded = {key: value.bfloat16() for key, value in official.items()}
    halves = features_of(save(rounded, tmp_path / "halves.safetensors"))
    floats = features_of(save({key: value.float() for key, value in rounded.items()}, tmp_path / "floats.safetensors"))
    assert halves.dense.dtype == torch.float32
    assert_same(halves, floats)


def assert_same(features, expected):
    assert torch.equal(features.dense, expected.dense)
    assert torch.equal(features.tokens, expected.tokens)


# ── every key accounted for ─────────────────────────────────────────────────────────────────────────────────────────

_MISFITS = {
    "missing": (lambda s: s.pop("blocks.2.mlp.fc1.weight"), ("1 key without a value", "blocks.2.mlp.fc1.weight")),
    "many missing": (
        lambda s: [s.pop(key) for key in list(s) if key.startswith("blocks.5.")],
        ("keys without a value", "blocks.5.", "and 11 more"),
    ),
    "extra": (lambda s: s.update({"blocks.6.x": torch.ones(1)}), ("1 key not of this model", "blocks.6.x")),
    "extra zeros": (lambda s: s.update({"blocks.6.x": torch.zeros(1)}), ("1 key not of this model", "blocks.6.x")),
    "shape": (lambda s: s.update({"norm.weight": torch.ones(64)}), ("norm.weight (64,) for (128,)",)),
    "ndim": (lambda s: s.update({"patch_embed.proj.weight": torch.ones(5)}), ("another architecture than Eva",)),
    "dropped": (lambda s: s.update({"rope.x": torch.ones(1)}), ("1 key that would be dropped (rope.x)",)),
    "key bias": (lambda s: s["blocks.1.attn.qkv.bias_mask"].fill_(1), ("blocks.1.attn.qkv.bias",)),
    "no mask": (lambda s: s.pop("blocks.1.attn.qkv.bias_mask"), ("blocks.1.attn.qkv.bias",)),
    "unset mask": (lambda s: s["blocks.1.attn.qkv.bias_mask"].fill_(torch.nan), ("blocks.1.attn.qkv.bias",)),
}


@pytest.mark.parametrize(("spoil", "words"), _MISFITS.values(), ids=_MISFITS)
def test_a_misfit_is_one_line_that_names_keys(official, spoil, words, tmp_path):
    spoil(official)
    path = save(official, tmp_path / "spoilt.safetensors")
    assert says(refused(path, **GOLDEN_MODEL), "spoilt.safetensors", *words)


@pytest.mark.parametrize(
    ("name", "arguments", "key"),
    [
        ("vits16plus", GOLDEN_MODEL, "blocks.0.mlp.fc1_g.weight"),
        ("vit_tiny_patch16_224", TINY, "pos_embed"),
        ("convnext-tiny", {}, "blocks.0.attn.proj.weight"),
        ("resnet18", {}, "conv1.weight"),
        ("tf_efficientnet_lite0", {}, "conv_stem.weight"),
    ],
)
def test_weights_of_another_architecture_are_one_line(name, arguments, key):
    assert says(refused(GOLDEN_FILE, name, **arguments), "weights.safetensors", key)


def test_deeper_convnext_weights_are_one_line(tmp_path):
    path = save(
        _convnext_official(build("convnext_atto", depths=(1, 1, 2, 1)).state_dict()), tmp_path / "a.safetensors"
    )
    assert says(refused(path, "convnext_atto", depths=(1, 1, 1, 1)), "a.safetensors", "stages.2.blocks.1")


# ── biases that timm drops silently ─────────────────────────────────────────────────────────────────────────────────

_PLAIN = "vit_small_patch16_dinov3"  # without q and v biases


def test_biases_without_a_place_are_refused(capfd):
    refusal = refused(GOLDEN_FILE, _PLAIN, **GOLDEN_MODEL)
    assert says(refusal, "6 keys that would be dropped", "blocks.0.attn.qkv.bias")
    assert capfd.readouterr().out == ""  # where timm prints a line a block


def test_zero_biases_need_no_place(official, tmp_path):
    for key, value in official.items():
        if key.endswith("qkv.bias"):
            value.zero_()
    path = save(official, tmp_path / "weights.safetensors")
    assert_close(features_of(path, _PLAIN).dense, features_of(path).dense)


def test_a_key_bias_of_zero_needs_no_mask(official, tmp_path):
    for key in [key for key in official if key.endswith("qkv.bias_mask")]:
        official[key.removesuffix("_mask")][128:256] = 0
        del official[key]
    path = save(official, tmp_path / "weights.safetensors")
    assert_same(features_of(path), features_of(GOLDEN_FILE))


def test_a_mask_counts_for_every_bias(official, tmp_path):
    official["blocks.0.attn.qkv.bias_mask"][:128] = 0
    masked = features_of(save(official, tmp_path / "masked.safetensors"))
    official["blocks.0.attn.qkv.bias_mask"][:128] = 1
    official["blocks.0.attn.qkv.bias"][:128] = 0
    assert_same(masked, features_of(save(official, tmp_path / "zero.safetensors")))
    assert not torch.equal(masked.dense, features_of(GOLDEN_FILE).dense)


# ── published layouts of other families ─────────────────────────────────────────────────────────────────────────────


def _dinov2_official(state):
    """As DINOv2 publishes: the class token's position in pos_embed, registers by another name, a mask token."""
    position = torch.randn(1, 1, 48)
    return state | {
        "cls_token": state["cls_token"] - position,
        "pos_embed": torch.cat([position, state["pos_embed"]], 1),
        "register_tokens": state.pop("reg_token"),
        "mask_token": torch.randn(1, 48),
    }


def _eva02_official(state):
    """As EVA-02's pre-training: rotary tables in the file, the final norm by its place, a head for masked tokens."""
    state = {key.replace("fc_norm.", "norm."): value for key, value in state.items() if not key.startswith("head.")}
    tables = {f"blocks.{i}.attn.rope.freqs_cos": torch.rand(9, 16) for i in range(3)}
    return state | tables | {"mask_token": torch.randn(1, 1, 48), "lm_head.weight": torch.randn(5, 48)}


def _deit3_official(state):
    return {re.sub(r"ls(\d)\.gamma", r"gamma_\1", key): value for key, value in state.items()}


def _convnext_official(state):
    """As Meta publishes: other names, the final norm twice."""
    renames = {
        r"stem\.": "downsample_layers.0.",
        r"stages\.(\d)\.downsample\.": r"downsample_layers.\1.",
        r"stages\.(\d)\.blocks\.": r"stages.\1.",
        r"conv_dw": "dwconv",
        r"mlp\.fc": "pwconv",
        r"head\.norm": "norm",
        r"head\.fc\.": "head.",
    }
    official = {}
    for key, value in state.items():
        for pattern, name in renames.items():
            key = re.sub(pattern, name, key)
        official[key] = value.flatten(1) if "pwconv" in key and key.endswith("weight") else value
    return official | {f"norms.3.{key}": official[f"norm.{key}"].clone() for key in ("weight", "bias")}


def _open_clip(state):
    """As open_clip publishes: the image tower beside a text tower; needs a prefix."""
    return under("visual.trunk.", state) | {
        "text.token_embedding.weight": torch.ones(7, 48),
        "logit_scale": torch.ones(()),
    }


_SMALL_CONVNEXT = {"depths": (1, 1, 2, 1), "dims": (8, 16, 24, 32)}
_PUBLISHED = {
    "DINOv2": ("vit_small_patch14_reg4_dinov2", TINY | {"img_size": 56}, _dinov2_official, None),
    "EVA-02": ("eva02_tiny_patch14_224", TINY, _eva02_official, None),
    "DeiT-3": ("deit3_small_patch16_224", TINY, _deit3_official, None),
    "ConvNeXt": ("convnext_tiny", _SMALL_CONVNEXT, _convnext_official, None),
    "OpenCLIP": ("vit_base_patch16_siglip_gap_224", TINY, _open_clip, "visual.trunk."),
}


@pytest.mark.parametrize(("name", "arguments", "publish", "prefix"), _PUBLISHED.values(), ids=_PUBLISHED)
def test_published_layouts_load_with_every_key_accounted_for(name, arguments, publish, prefix, tmp_path):
    net = build(name, **arguments)
    state = publish(dict(net.state_dict()))
    backbone = load_backbone(name, save(state, tmp_path / "a.safetensors"), weights_prefix=prefix, **arguments)
    loaded = backbone.net.state_dict()
    assert len(loaded) >= 30
    for key, value in loaded.items():
        assert_close(value, net.state_dict()[key])

    lost = next(key for key in state if key.endswith(("norm1.weight", "1.0.norm.weight")))
    del state[lost]
    refusal = refused(save(state, tmp_path / "b.safetensors"), name, weights_prefix=prefix, **arguments)
    assert says(refusal, "b.safetensors", "1 key without a value")


def test_registers_must_be_in_the_file(tmp_path):
    name, arguments, publish, _ = _PUBLISHED["DINOv2"]
    state = publish(dict(build(name, **arguments).state_dict()))
    del state["register_tokens"]
    assert says(refused(save(state, tmp_path / "a.safetensors"), name, **arguments), "reg_token")


def test_registers_must_have_a_place(tmp_path):
    name, arguments, publish, _ = _PUBLISHED["DINOv2"]
    path = save(publish(dict(build(name, **arguments).state_dict())), tmp_path / "a.safetensors")
    assert says(refused(path, "vit_small_patch14_dinov2", **arguments), "another architecture")


def test_a_text_tower_is_not_dropped_in_silence(tmp_path):
    path = save(_open_clip(build("vit_base_patch16_siglip_gap_224", **TINY).state_dict()), tmp_path / "a.safetensors")
    assert says(refused(path, "vit_base_patch16_siglip_gap_224", **TINY), "text.token_embedding", "--weights-prefix")


# ── what features never pass through ────────────────────────────────────────────────────────────────────────────────

_UNUSED = {
    "vit_tiny_patch16_224": (TINY, ("head.",)),
    "vit_base_patch16_siglip_224": (TINY, ("attn_pool.",)),
    "eva02_tiny_patch14_224": (TINY, ("fc_norm.",)),
    "convnext_tiny": (_SMALL_CONVNEXT, ("head.fc.",)),
    "resnet18": ({"channels": (8, 8, 16, 16)}, ("fc.",)),
    "tf_efficientnet_lite0": ({}, ("classifier.", "conv_head.", "bn2.")),
}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.soak] if "lite0" in name else []) for name in _UNUSED]
)
def test_heads_and_counters_may_be_there_or_not(name, tmp_path):
    arguments, heads = _UNUSED[name]
    state = build(name, **arguments).state_dict()
    assert all(any(key.startswith(head) for key in state) for head in heads)
    bare = {key: state[key] for key in state if not key.startswith(heads) and "num_batches_tracked" not in key}
    whole = load_backbone(name, save(state, tmp_path / "whole.safetensors"), **arguments).net.state_dict()
    stripped = load_backbone(name, save(bare, tmp_path / "bare.safetensors"), **arguments).net.state_dict()
    assert whole.keys() == stripped.keys()
    for key in bare:
        assert torch.equal(whole[key], state[key])
        assert torch.equal(stripped[key], state[key])


# ── files that are no weights ───────────────────────────────────────────────────────────────────────────────────────


class Code:
    """Touches a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")


def _pickle(what, path):
    path.write_bytes(pickle.dumps(what, protocol=2))


@pytest.mark.parametrize(
    ("write", "run"),
    [
        (torch.save, lambda path: torch.load(path, weights_only=False)),
        (_pickle, lambda path: pickle.loads(path.read_bytes())),
    ],
    ids=["torch", "pickle"],
)
def test_code_in_a_pickle_is_refused_and_does_not_run(write, run, tmp_path):
    ran, path = tmp_path / "ran", tmp_path / "weights.pth"
    write({"model": {"norm.weight": 1}, "code": Code(str(ran))}, path)
    assert says(refused(path, **GOLDEN_MODEL), "weights.pth", "open", "could run code", "safetensors")
    assert not ran.exists()
    run(path)
    assert ran.exists(), "the trap itself works"


_NOISE = bytes(range(256)) * 8
_BROKEN = {
    "noise.pth": lambda _: _NOISE,
    "noise.safetensors": lambda _: _NOISE,
    "empty.pth": lambda _: b"",
    "empty.safetensors": lambda _: b"",
    "page.pth": lambda _: b"<!DOCTYPE html><html>Access denied</html>",
    "pointer.pth": lambda _: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
    "truncated.safetensors": lambda folder: GOLDEN_FILE.read_bytes()[:-1],
    "truncated.pth": lambda folder: _torch_file(folder)[:-100],
    "misnamed.pth": lambda _: GOLDEN_FILE.read_bytes(),
    "misnamed.safetensors": lambda folder: _torch_file(folder),
}


def _torch_file(folder):
    torch.save(load_file(GOLDEN_FILE), folder / "whole.pth")
    return (folder / "whole.pth").read_bytes()


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("name", _BROKEN)
def test_broken_files_are_one_line(name, tmp_path):
    (tmp_path / name).write_bytes(_BROKEN[name](tmp_path))
    assert says(refused(tmp_path / name, **GOLDEN_MODEL), name, "cannot be read as weights")


@pytest.mark.parametrize("name", ["missing.safetensors", "", "folder"])
def test_a_path_that_is_no_file_is_one_line(name, tmp_path):
    (tmp_path / "folder").mkdir()
    assert says(refused(tmp_path / name if name else "", **GOLDEN_MODEL), "does not exist", name)


def test_a_checkpoint_without_tensors_is_one_line(tmp_path):
    torch.save({"epoch": 3}, tmp_path / "a.pth")
    assert says(refused(tmp_path / "a.pth", **GOLDEN_MODEL), "a.pth", "'epoch'")


# ── files that hold more than they are ───────────────────────────────────────────────────────────────────────────────


def test_a_file_that_unpacks_to_many_times_its_size_is_refused_before_it_is_read(tmp_path):
    torch.save({"norm.weight": torch.zeros(5_000_000)}, tmp_path / "plain.pth")
    with zipfile.ZipFile(tmp_path / "plain.pth") as plain, zipfile.ZipFile(tmp_path / "a.pth", "w") as packed:
        for name in plain.namelist():
            content = b"no pickle: it must not come to that" if name.endswith(".pkl") else plain.read(name)
            packed.writestr(name, content, zipfile.ZIP_DEFLATED)
    assert says(refused(tmp_path / "a.pth", **GOLDEN_MODEL), "a.pth", "would unpack to 20.0 MB", "torch.save")


def test_weights_that_were_packed_by_hand_are_read(official, tmp_path):
    torch.save(official, tmp_path / "plain.pth")
    with zipfile.ZipFile(tmp_path / "plain.pth") as plain, zipfile.ZipFile(tmp_path / "a.pth", "w") as packed:
        for name in plain.namelist():
            packed.writestr(name, plain.read(name), zipfile.ZIP_DEFLATED)
    assert_same(features_of(tmp_path / "a.pth"), features_of(GOLDEN_FILE))


def test_one_number_that_is_said_to_be_many_is_refused(official, tmp_path):
    key = "blocks.0.mlp.fc1.weight"
    torch.save(official | {key: torch.zeros(1).expand(10**6, 10**6)}, tmp_path / "a.pth")
    assert says(refused(tmp_path / "a.pth", **GOLDEN_MODEL), "a.pth", "would unpack to")


@pytest.mark.filterwarnings("ignore:Sparse", "ignore:.*quant", "ignore:TypedStorage")
@pytest.mark.parametrize("kind", ["sparse_coo", "sparse_csr", "quantized", "meta"])
def test_a_tensor_that_is_no_plain_array_is_refused_by_its_layout(official, kind, tmp_path):
    key = "blocks.0.mlp.fc1.weight"
    made = {
        "sparse_coo": lambda value: value.to_sparse(),
        "sparse_csr": lambda value: value.to_sparse_csr(),
        "quantized": lambda value: torch.quantize_per_tensor(value, 0.1, 0, torch.qint8),
        "meta": lambda value: value.to("meta"),
    }[kind]
    torch.save(official | {key: made(official[key])}, tmp_path / "a.pth")
    assert says(refused(tmp_path / "a.pth", **GOLDEN_MODEL), "a.pth", key, f"a {kind} tensor")


# ── identity ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_origin_names_the_file_and_its_hash(golden_backbone):
    origin = golden_backbone.weights
    assert origin["source"] == "file:weights.safetensors"
    assert origin["sha256"] == sha256_of_file(GOLDEN_FILE)
    assert re.fullmatch(r"[0-9a-f]{64}", origin["sha256"])


def test_the_hash_of_a_state_tells_names_shapes_types_and_values_but_not_order():
    state = {"a": torch.tensor([1.0, 2.0]), "b": torch.ones(2, 2, dtype=torch.bfloat16), "c": torch.tensor(3)}
    digest = sha256_of_state(state)
    assert digest == sha256_of_state(dict(reversed(state.items())))
    assert digest == sha256_of_state(state | {"b": torch.ones(2, 4, dtype=torch.bfloat16)[:, ::2]})
    others = [
        {"A" if key == "a" else key: value for key, value in state.items()},
        state | {"a": torch.tensor([1.0, 2.5])},
        state | {"b": torch.ones(4, dtype=torch.bfloat16)},
        state | {"c": torch.tensor(3, dtype=torch.int32)},
    ]
    assert len({digest, *map(sha256_of_state, others)}) == 5


def test_both_kinds_of_file_read_the_same(official, tmp_path):
    torch.save(official, tmp_path / "weights.pth")
    read, expected = read_weights(tmp_path / "weights.pth"), read_weights(GOLDEN_FILE)
    assert read.keys() == expected.keys() == official.keys()
    assert all(torch.equal(read[key], expected[key]) for key in expected)
