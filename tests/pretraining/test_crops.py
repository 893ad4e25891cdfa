"""Cubes of scans: where they lie, how much of them is background, and who is drawn when."""

from collections import Counter

import numpy as np
import pytest

from featlift.errors import VolumeError
from featlift.pretraining.crops import Crops
from featlift.pretraining.masking import parse_stages
from featlift.pretraining.network import Autoencoder
from featlift.pretraining.plan import PretrainPlan
from featlift.pretraining.task import Pretraining, held
from featlift.training.scans import Scans
from featlift.volumes import Preparation, Reading, find_scans
from tests.pretraining.cohort import AFFINE, OPTIONS, ball
from tests.support.scans import write_nifti


def crops_of(folder, side, most=0.9, **preparation):
    found = {scan.id: scan for scan in find_scans([folder]).scans}
    crops = Crops(Scans(found, Preparation(**preparation), Reading()), side, most, 0.05)
    return crops, crops.keep(list(found), 0)


def test_cubes_are_parts_of_the_scan(tmp_path):
    write_nifti(tmp_path / "a.nii.gz", ball(0), AFFINE)
    crops, grown = crops_of(tmp_path, 16)
    assert grown == 0
    scan = crops.scans["a"].scan
    corners = set()
    for number in range(20):
        crop = crops.drawn("a", np.random.default_rng(number))
        at = np.linalg.solve(scan.affine, crop.affine[:, 3])[:3].round().astype(int)
        d, h, w = at
        assert np.array_equal(crop.voxels, scan.scan[0, d : d + 16, h : h + 16, w : w + 16])
        corners.add(tuple(at))
    assert len(corners) > 10
    again = crops.drawn("a", np.random.default_rng(3))
    assert np.array_equal(again.voxels, crops.drawn("a", np.random.default_rng(3)).voxels)


def test_small_scans_are_grown_alike_along_all_axes(tmp_path):
    write_nifti(tmp_path / "a.nii.gz", ball(0, (8, 20, 30)), AFFINE)
    crops, grown = crops_of(tmp_path, 16)
    assert grown == 1
    crop = crops.drawn("a", np.random.default_rng(0))
    assert crop.voxels.shape == (16, 16, 16)
    assert np.linalg.norm(crop.affine[:3, :3], axis=0) == pytest.approx([0.5] * 3)
    scan = crops.scans["a"].scan
    middle = crop.affine @ [7.5, 7.5, 7.5, 1]
    assert (np.linalg.solve(scan.affine, middle)[:3] % 1).round(6) == pytest.approx(0.5), "of a cube of eight voxels"


def test_cubes_of_background_are_not_drawn(tmp_path):
    array = np.zeros((60, 60, 60), np.float32)
    array[20:36, 20:36, 20:36] = ball(0, (16, 16, 16))
    write_nifti(tmp_path / "a.nii.gz", array, AFFINE)
    crops, _ = crops_of(tmp_path, 16, intensity="minmax")
    shares = [crops.drawn("a", np.random.default_rng(number)).background for number in range(30)]
    assert max(shares) <= 0.9
    anywhere, _ = crops_of(tmp_path, 16, most=1.0, intensity="minmax")
    assert max(anywhere.drawn("a", np.random.default_rng(number)).background for number in range(30)) == 1


def test_scans_that_no_cube_fits(tmp_path):
    dark = np.zeros((40, 40, 40), np.float32)
    dark[:4, :4, :4] = 1
    write_nifti(tmp_path / "dark/a.nii.gz", dark, AFFINE)
    with pytest.raises(VolumeError, match=r"a: of 100 cubes of 16 voxels none is less than .* % background"):
        crops_of(tmp_path / "dark", 16, intensity="minmax")
    write_nifti(tmp_path / "thin/b.nii.gz", ball(0, (3, 40, 40)), AFFINE)
    with pytest.raises(VolumeError, match=r"b: .* would be grown 5.3 times"):
        crops_of(tmp_path / "thin", 16)
    with pytest.raises(VolumeError, match="it has 3 channels"):
        crops_of(tmp_path / "thin", 8, intensity="ct:lung+soft+bone")


def test_every_draw_of_a_round_is_its_own(tmp_path):
    for number in range(3):
        write_nifti(tmp_path / f"c{number}.nii.gz", ball(number), AFFINE)
    crops, _ = crops_of(tmp_path, 16)
    plan = PretrainPlan("tiny", OPTIONS, 16, "8:0.5", (1, 0, 0), iterations=8, every=4, batch=2, warm_up=0)
    from featlift.encoders.threedme import ThreeDME

    task = Pretraining(Autoencoder(ThreeDME(plan.config)), crops, ["c0", "c1", "c2"], ["c0"], plan, None)
    rounds = [task.dataset(number) for number in (0, 1)]
    drawn = [case_id for cubes in rounds for case_id in cubes.cases]
    assert [Counter(drawn[first : first + 3]).most_common(1)[0][1] for first in range(0, 15, 3)] == [1] * 5
    items = [cubes[index] for cubes in rounds for index in range(len(cubes))]
    assert len({(target.numpy().tobytes(), mask.numpy().tobytes()) for target, mask in items}) == 16
    assert all(float(mask.float().mean()) == 0.5 for _, mask in items)
    again = task.dataset(1)[3]
    assert all((one == other).all() for one, other in zip(again, rounds[1][3], strict=True))
    one, other = (held(crops, "c1", parse_stages("8:0.5")[0], 0)[1] for _ in range(2))
    assert (one.mask == other.mask).all()
    assert (one.target == other.target).all()
