"""Each stage, and the whole, as convexAdam 0.2.0 does them on crops of hippocampi."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates

from featlift.metrics.fields import folds, sdlogj, target_registration_errors
from featlift.metrics.scores import dice
from featlift.registration import ConvexAdam, convex_adam, mind
from featlift.registration.refinement import diffusion, distance, refined
from featlift.registration.sampling import box_mean, pooled, resized, sampled
from featlift.registration.search import cost_volume, coupled_convex, displacements, search
from tests.conftest import GOLDEN

#: What the golden outputs were made with.
SETTINGS = ConvexAdam(cell=4, reach=3, iterations=60, stretched=True)
EVEN = torch.ones(3)


@pytest.fixture(scope="module")
def arrays():
    return dict(np.load(GOLDEN / "systems" / "registration.npz"))


@pytest.fixture(scope="module")
def numbers():
    return json.loads((GOLDEN / "systems" / "registration.json").read_text())


@pytest.fixture(scope="module")
def features(arrays):
    """MIND of the first pair."""
    return tuple(mind(torch.from_numpy(arrays[f"pair0/{name}"]).float()) for name in ("fixed", "moving"))


@pytest.fixture(scope="module")
def coarse(features):
    return tuple(pooled(each, (4, 4, 4)) for each in features)


def test_mind(arrays, features):
    golden = arrays["pair0/mind_fixed[:, ::3, ::2, ::3]"].astype(np.float32)
    ours = features[0][:, ::3, ::2, ::3].numpy()
    order = [int(np.abs(ours - channel).mean(axis=(1, 2, 3)).argmin()) for channel in golden]
    assert sorted(order) == list(range(12))
    assert np.abs(ours[order] - golden).max() < 2e-3


def test_search_stage_by_stage(arrays, coarse):
    tried = displacements(3, coarse[0])
    assert np.abs(tried.numpy() - arrays["pair0/coarse/mesh"]).max() < 1e-6
    costs = cost_volume(*coarse, tried)
    golden = arrays["pair0/coarse/cost[:, ::3, ::3, ::3]"]
    assert np.abs(costs[:, ::3, ::3, ::3].numpy() - golden).max() < 1e-3
    assert (costs.argmin(dim=0).numpy() == arrays["pair0/coarse/argmin"]).mean() > 0.99
    forward = coupled_convex(costs, tried, EVEN)
    backward = coupled_convex(cost_volume(*coarse[::-1], tried), tried, EVEN)
    for name, field in (("forward", forward), ("backward", backward)):
        assert (np.abs(field.numpy() - arrays[f"pair0/coarse/{name}"]).max(axis=0) < 1e-4).mean() > 0.99


def test_the_field_of_the_search(arrays, coarse):
    field = resized(search(*coarse, 3, EVEN, stretched=True), (40, 56, 40))
    golden = arrays["pair0/convex/displacement[:, ::2, ::2, ::2]"].astype(np.float32)
    assert np.abs(field[:, ::2, ::2, ::2].numpy() - golden).max() < 0.03


def test_adam_from_a_given_start(arrays, features):
    fixed, moving = (pooled(each, (2, 2, 2)) for each in features)
    start = torch.from_numpy(arrays["pair0/adam/start"])
    field = start.clone().requires_grad_()
    smooth = box_mean(field, times=3)
    data, regulariser = distance(fixed, sampled(moving, smooth, True)), 1.25 * diffusion(smooth, EVEN)
    (data + regulariser).backward()
    golden = arrays["pair0/adam/first_gradient"]
    assert np.abs(field.grad.numpy() - golden).max() < 1e-3 * np.abs(golden).max()
    assert [data.item(), regulariser.item()] == pytest.approx(arrays["pair0/adam/losses"][0], rel=1e-4)
    for iterations in (2, 20):
        found = refined(fixed, moving, start, EVEN, 1.25, iterations, stretched=True)
        assert np.abs(found.numpy() - arrays[f"pair0/adam/field_{iterations}"]).max() < 1e-3


def warped_labels(labels, field):
    return map_coordinates(labels, np.indices(labels.shape) + field, order=0, cval=0)


def registered(arrays, fixed, moving, settings=SETTINGS):
    features = (mind(torch.from_numpy(arrays[name]).float()) for name in (fixed, moving))
    return convex_adam(*features, settings=settings).numpy()


@pytest.mark.parametrize("number", [0, 1])
def test_whole_runs(arrays, numbers, number):
    """Not voxel by voxel: bilinear sampling has a kink where the search leaves a displacement of exactly 0."""
    field = registered(arrays, f"pair{number}/fixed", f"pair{number}/moving")
    golden = numbers["pairs"][number]
    labels = warped_labels(arrays[f"pair{number}/moving_labels"], field)
    for label, score in golden["default"]["dice"].items():
        truth = arrays[f"pair{number}/fixed_labels"] == int(label)
        before = dice(arrays[f"pair{number}/moving_labels"] == int(label), truth)
        assert before == pytest.approx(golden["dice_before"][label])
        assert dice(labels == int(label), truth) == pytest.approx(score, abs=0.02)
    assert sdlogj(field) == pytest.approx(golden["default"]["sdlogj"], abs=0.03)
    assert 100 * folds(field) == pytest.approx(golden["default"]["percent_folds"], abs=0.1)


@pytest.mark.parametrize("warp", ["shift", "smooth"])
def test_known_warps(arrays, numbers, warp):
    golden, fixed = numbers["synthetic"][warp], f"synthetic/{warp}/fixed"
    landmarks = arrays[f"synthetic/{warp}/landmarks"]
    partners = landmarks + arrays[f"synthetic/{warp}/true_at_landmarks"]

    def error(settings):
        field = registered(arrays, fixed, "pair0/fixed", settings)
        return field, target_registration_errors(field, landmarks, partners).mean()

    field, found = error(SETTINGS)
    assert found == pytest.approx(golden["tre_after"], abs=0.1)
    assert sdlogj(field) == pytest.approx(golden["sdlogj"], abs=0.03)
    assert error(replace(SETTINGS, stretched=False))[1] < found, "a displacement sampled as far as it says is closer"
