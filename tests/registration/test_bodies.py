"""`--body`: what lies around the body does not count."""

import json

import numpy as np
import pytest
import torch

import featlift
from featlift.errors import OptionError, VolumeError
from featlift.registration import ConvexAdam, PairSettings, register
from featlift.registration.body import masks_on, parse_body
from featlift.registration.features import TYPICAL, at_typical_distance, principal_features, typical_distance
from featlift.volumes import Volume
from featlift.volumes.nifti import write_nifti
from tests.conftest import GOLDEN

STRAIGHT = np.eye(4)[[2, 1, 0, 3]]
QUICK = ConvexAdam(cell=3, reach=3, iterations=40)


@pytest.fixture(scope="module")
def pair():
    """A hippocampus in a round body, and the same moved by (0, 3, -2) voxels; around both, one wall that stays."""
    inner = np.load(GOLDEN / "systems" / "registration.npz")["pair0/fixed"].astype(np.float32)[:, 8:48]
    shape = (40, 64, 64)
    _, h, w = np.indices(shape) - np.array([20, 32, 32])[:, None, None, None]
    wall = (np.abs(np.indices(shape)[1] - 4) < 3) * 400.0
    wall += (np.sin(np.indices(shape)[2]) > 0) * (np.indices(shape)[1] < 8) * 200

    def scan(dh, dw):
        array = np.zeros(shape, np.float32)
        array[:, 12 + dh : 52 + dh, 12 + dw : 52 + dw] = inner + 100
        body = np.hypot(h - dh, w - dw) < 19
        return Volume((array * body + wall).astype(np.float32), STRAIGHT), Volume(body.astype(np.float32), STRAIGHT)

    return scan(0, 0), scan(3, -2)


def test_a_wall_around_the_body_does_not_hold_it(pair):
    """Next to the wall the body is found where it went, which the wall prevents otherwise."""
    (fixed, fixed_body), (moving, moving_body) = pair
    near = np.zeros(fixed.array.shape, bool)
    near[8:32, 14:20, 26:38] = True

    def error(settings, masks=None):
        found = register(fixed, moving, settings, masks=masks)
        there = found.field.in_voxels - np.array([0, 3, -2])[:, None, None, None]
        return np.linalg.norm(there, axis=0)[near].mean()

    masked = error(PairSettings(body="masks", convex_adam=QUICK), (fixed_body, moving_body))
    free = error(PairSettings(convex_adam=QUICK))
    assert masked < 0.7
    assert masked < free


def test_components_are_of_the_cells_inside(tiny_vit, pair):
    lifted = featlift.lift(tiny_vit, mode="2d")
    cases = [featlift.extract(scan, lifted, featlift.Preparation(size=(0, 128, 128))) for (scan, _) in pair]
    cells = cases[0].valid_cells
    inside = np.zeros(cells, bool)
    inside[:, 2:6, 2:6] = True
    fixed, moving = principal_features(*cases, 4, True, (inside, inside))
    both = np.concatenate([fixed[:, inside], moving[:, inside]], axis=1)
    assert both.mean(axis=1) == pytest.approx(0, abs=1e-3)
    off_diagonal = np.corrcoef(both) - np.eye(4)
    assert np.abs(off_diagonal).max() < 1e-3
    one, two = at_typical_distance(torch.from_numpy(fixed), torch.from_numpy(moving), (inside, inside))
    where = torch.from_numpy(inside)
    assert typical_distance(one[:, where], two[:, where]) == pytest.approx(TYPICAL, rel=1e-4)


def test_mind_and_a_network_within_masks(tiny_vit, pair):
    """Both are held to the body, and its movement is found."""
    (fixed, fixed_body), (moving, moving_body) = pair
    lifted = featlift.lift(tiny_vit, mode="2d")
    preparation = featlift.Preparation(size=(0, 128, 128))
    found = register(
        fixed,
        moving,
        PairSettings("both", components=4, body="masks", convex_adam=QUICK),
        lambda scan: featlift.extract(scan, lifted, preparation),
        masks=(fixed_body, moving_body),
    )
    inner = found.field.in_voxels[:, 8:32, 22:42, 22:42]
    assert inner.mean(axis=(1, 2, 3)) == pytest.approx([0, 3, -2], abs=0.7)


def test_command(featlift, tmp_path, pair):
    for name, (scan, body) in zip(("fixed", "moving"), pair, strict=True):
        write_nifti(tmp_path / f"{name}.nii.gz", scan.array, scan.affine)
        write_nifti(tmp_path / f"{name}_body.nii.gz", body.array, body.affine)
    scans = ("register", "run", "fixed.nii.gz", "moving.nii.gz", "-o", "out", "--iterations", 2)
    done = featlift(*scans, "--body", "fixed_body.nii.gz,moving_body.nii.gz")
    assert done.returncode == 0, done.stderr
    run = json.loads((tmp_path / "out" / "run.json").read_text())
    assert run["masks"] == ["fixed_body.nii.gz", "moving_body.nii.gz"]
    assert featlift(*scans, "--body", "otsu").returncode == 0
    for given, message in {
        "all": "FIXED_MASK,MOVING_MASK",
        "fixed.nii.gz,missing.nii.gz": "no such file",
    }.items():
        done = featlift(*scans, "--body", given)
        assert done.returncode == 2
        assert done.stderr.count("\n") == 1
        assert message in done.stderr


def test_what_is_no_mask(pair):
    (fixed, body), _ = pair
    with pytest.raises(VolumeError, match="fractions"):
        register(fixed, fixed, PairSettings(body="masks"), masks=(body, Volume(fixed.array / 7, fixed.affine)))
    with pytest.raises(OptionError, match="a mask of each"):
        register(fixed, fixed, PairSettings(body="masks"))
    far = STRAIGHT + np.pad(np.full((3, 1), 900.0), ((0, 1), (3, 0)))
    with pytest.raises(VolumeError, match="overlap"):
        masks_on((body, body), (STRAIGHT, far), fixed.array.shape, STRAIGHT)
    assert parse_body("otsu") == ("otsu", None)
