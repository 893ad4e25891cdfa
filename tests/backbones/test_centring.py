"""Where cells look: the recorded place against a mirror test of our own, on photographs and on real scans."""

import json

import numpy as np
import pytest
import torch
from sklearn.datasets import load_sample_image
from torch import nn

from featlift import Preparation, prepare, read
from featlift.backbones.catalogue import OFFSETS
from featlift.backbones.mirror import looking_at
from featlift.backbones.sampling import Sampling
from featlift.demo import copy_brain
from tests.support.networks import load_backbone
from tests.support.thinned import every
from tests.support.tiny import build, save

_NARROW = {"channels": (16, 16, 16, 16)}
_SHALLOW = {"depths": (1, 1, 2, 1), "dims": (16, 16, 16, 16)}
_WITHIN = 1.5  # pixels


def _mirrored(net):
    """Kernels averaged with their mirror images, both ways: neither left and right nor up and down differ."""
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, nn.Conv2d):
                for axis in (2, 3):
                    module.weight.copy_((module.weight + module.weight.flip(axis)) / 2)
    return net


def _symmetric(name, folder, seed=0, **arguments):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        state = _mirrored(build(name, **arguments)).state_dict()
    return load_backbone(name, save(state, folder / f"{name}.safetensors"), **arguments)


@torch.inference_mode()
def _features(backbone, images, layer):
    planes, tokens = backbone.embed(backbone.normalise(images.expand(-1, 3, -1, -1)))
    for block in range(layer.after):
        planes, tokens = backbone.run_block(block, planes, tokens, None)
    return planes - planes.mean(0)  # what images have in common is the paddings


def _looks_at(backbone, images, layer, span, axis=3):
    """The mirror test to the letter: flip, roll by n, find the n of the best match; of images (N, 1, H, W)."""
    margin = 96 // layer.sampling.stride
    inner = (slice(None), slice(margin, -margin), slice(margin, -margin))
    plain = _features(backbone, images, layer)[inner]
    matches = {}
    for n in span:
        rolled = _features(backbone, images.flip(axis).roll(n, axis), layer).flip(axis - 1)[inner]
        matches[n] = float(torch.cosine_similarity(plain, rolled, dim=-1).mean())
    best = max(matches, key=matches.get)
    assert matches[best] > 0.4, "nothing matches: no place could be told"
    assert best not in (min(span), max(span))
    return (layer.sampling.stride - 1 + best) / 2


def _photographs():
    images = [load_sample_image(name)[:416, :608].mean(axis=2) / 255 for name in ("china.jpg", "flower.jpg")]
    return torch.from_numpy(np.stack(images).astype(np.float32))[:, None]


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("resnet18", _NARROW),
        ("resnetblur18", _NARROW),
        ("mobilenetv2_050", {}),
        ("tf_efficientnet_lite0", {}),
        ("convnext_tiny", _SHALLOW),
    ],
)
@pytest.mark.parametrize("seed", every(2, [0, 1]))
def test_a_network_of_symmetric_kernels_keeps_the_middle_of_its_windows(name, arguments, seed, tmp_path):
    for layer in _symmetric(name, tmp_path, seed, **arguments).layers:
        assert layer.windows is None, layer


@pytest.mark.parametrize(
    ("name", "arguments", "windows"),
    [("resnet26d", _NARROW, 0.0), ("resnet18", _NARROW | {"aa_layer": nn.AvgPool2d}, 15.0)],
    ids=["ResNet-D", "ResNet-AA"],
)
def test_paths_of_different_shifts_are_placed_between_them(name, arguments, windows, tmp_path):
    deepest = _symmetric(name, tmp_path, **arguments).layers[-1]
    backbone = _symmetric(name, tmp_path, **arguments)
    assert deepest.windows == Sampling(32, windows)
    found = _looks_at(backbone, _photographs(), deepest, range(-39, 10, 2))
    assert abs(deepest.sampling.offset - found) <= _WITHIN
    assert abs(windows - found) > 4


def test_kernels_at_random_have_no_other_place_than_their_windows(tmp_path):
    state = build("tf_efficientnet_lite0").state_dict()
    from_file = load_backbone("tf_efficientnet_lite0", save(state, tmp_path / "a.safetensors"))
    assert [layer.windows for layer in from_file.layers[2:]] == [None] * 3
    seeded = load_backbone("resnet26d", "random:0", **_NARROW)
    assert all(layer.windows is None for layer in seeded.layers)


# ── EfficientNet-Lite0 ──────────────────────────────────────────────────────────────────────────────────────────────


def test_the_catalogue_has_what_is_measured(lite0):
    (known,) = OFFSETS.values()
    assert looking_at(lite0) == list(known)
    assert [layer.sampling.offset for layer in lite0.layers] == [1.0, 2.5, 3.5, 9.5, 18.0]
    assert [layer.windows for layer in lite0.layers] == [None, *(Sampling(n, n - 1.0) for n in (4, 8, 16, 32))]


def _slices(path, depths):
    voxels = prepare(read(path), Preparation(size=(416, 416))).scan[0]
    return torch.from_numpy(np.stack([voxels[int(depth * len(voxels))] for depth in depths]))[:, None]


def _brain(folder):
    copy_brain(folder)
    return folder / "scans" / "brain.nii.gz"


def test_cells_lie_where_the_mirror_test_finds_them_in_the_brain_of_the_demo(lite0, tmp_path):
    pytest.importorskip("nilearn")
    images = _slices(_brain(tmp_path), (0.4, 0.6))
    for axis in (2, 3):
        for layer, span in ((lite0.layers[2], range(-8, 8)), (lite0.layers[3], range(-8, 20, 2))):
            found = _looks_at(lite0, images, layer, span, axis)
            assert abs(layer.sampling.offset - found) <= _WITHIN
            assert abs(layer.windows.offset - found) > 3


@pytest.mark.parametrize(
    "scan", every(3, ["lesions/lung1_image.nrrd", "lesions/brain1_image.nrrd", "totalseg/example_mr_sm.nii.gz"])
)
def test_cells_lie_where_the_mirror_test_finds_them_in_other_scans(lite0, shared, scan):
    layer = lite0.layers[3]
    found = _looks_at(lite0, _slices(shared / scan, (0.4, 0.6)), layer, range(-8, 20))
    assert abs(layer.sampling.offset - found) <= _WITHIN


# ── measured once ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "featlift" / "centres"


def _offsets(backbone):
    return [layer.sampling.offset for layer in backbone.layers]


def test_weights_are_measured_once_and_remembered(cache, tmp_path):
    measured = _offsets(_symmetric("resnet26d", tmp_path, **_NARROW))
    (file,) = cache.iterdir()
    held = json.loads(file.read_text())
    held["offsets"][-1] = 7.5
    file.write_text(json.dumps(held))
    assert _offsets(_symmetric("resnet26d", tmp_path, **_NARROW)) == [*measured[:-1], 7.5]
    other = _offsets(_symmetric("resnet26d", tmp_path, output_stride=16, **_NARROW))
    assert other[-1] != 7.5
    assert len(list(cache.iterdir())) == 2


_DAMAGED = ["{", '{"offsets": [NaN, 0.0, 0.0, 0.0, 0.0]}']
_DAMAGED_TOO = ["", '{"offsets": [1.0]}', "[]", "{}", '{"offsets": 3}', '{"offsets": [0.3, 0.0, 0.0, 0.0, 0.0]}']
_DAMAGED_TOO += [f'{{"offsets": [{value}, 0.0, 0.0, 0.0, 0.0]}}' for value in ("Infinity", '"a"', "1e9", "[]")]


@pytest.mark.parametrize("content", [*_DAMAGED, *(pytest.param(text, marks=pytest.mark.soak) for text in _DAMAGED_TOO)])
def test_what_is_damaged_is_measured_anew(cache, tmp_path, content):
    measured = _offsets(_symmetric("resnet18", tmp_path, **_NARROW))
    (file,) = cache.iterdir()
    sound = file.read_text()
    file.write_text(content)
    assert _offsets(_symmetric("resnet18", tmp_path, **_NARROW)) == measured
    assert file.read_text() == sound


def test_a_cache_that_cannot_be_written_is_no_obstacle(cache, tmp_path):
    cache.parent.parent.write_text("a file where the folder should be")
    assert _symmetric("resnet26d", tmp_path, **_NARROW).layers[-1].windows == Sampling(32, 0.0)


def test_a_constant_is_neither_measured_nor_remembered(cache):
    load_backbone("efficientnet-lite0")
    load_backbone("resnet18", "random:0", **_NARROW)
    assert not cache.exists()


def test_the_same_weights_with_other_arguments_are_measured(cache):
    dilated = load_backbone("efficientnet-lite0", output_stride=16)
    assert dilated.layers[-1].sampling.stride == 16
    assert len(list(cache.iterdir())) == 1
