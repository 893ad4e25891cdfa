"""Scans of one blob each, whose centre is known: what a network learns to register in seconds."""

from itertools import pairwise

import numpy as np

from featlift.registration.network.subjects import PreparedCohort
from featlift.registration.network.who import Pairing
from featlift.volumes import Preparation, Volume
from featlift.volumes.nifti import write_nifti

STEP = 2.0  # mm
STRAIGHT = np.diag([STEP, STEP, STEP, 1.0])[[2, 1, 0, 3]]  # d runs along z
SPLITS = ["train"] * 12 + ["val"] * 4 + ["test"] * 4
FEW = ("--iterations", 6, "--every", 2, "--warm-up", 1, "--rate", 1e-3, "--device", "cpu")


def blob(seed, flat=None):
    """A blob ``(D, H, W)``, its affine, and its centre in LPS millimetres: within 3 mm of the origin along each axis.

    Shapes differ, and each scan begins elsewhere. Along `flat` there is one voxel.
    """
    rng = np.random.default_rng(seed)
    shape = np.array([15, 16, 14]) - rng.integers(0, 2, size=3)
    affine = STRAIGHT.copy()
    centre = rng.uniform(-3, 3, size=3)
    if flat is not None:
        shape[flat] = 1
        centre[2 - flat] = 0
    affine[:3, 3] = -STRAIGHT[:3, :3] @ ((shape - 1) / 2) + (0 if flat is not None else rng.uniform(-0.5, 0.5, size=3))
    at = np.linalg.solve(affine, [*centre, 1])[:3]
    away = (np.indices(shape) - at[:, None, None, None]) / (3 * rng.uniform(0.85, 1.15, size=3)[:, None, None, None])
    return (1000 * np.exp(-((away**2).sum(axis=0) ** 2))).astype(np.float32), affine, centre


class Blobs(PreparedCohort):
    """Scans of a blob each that need no files, as slices."""

    def __init__(self, flat=None):
        self.flat, self.ids = flat, [f"c{number:02}" for number in range(len(SPLITS))]
        self.recipe = Preparation(intensity="minmax").as_recipe()

    def scan(self, case_id):
        array, affine, _ = blob(int(case_id[1:]), self.flat)
        return Volume((array - array.min()) / np.ptp(array), affine)

    def affine_read(self, case_id):
        return blob(int(case_id[1:]), self.flat)[1]


def pairing():
    """The training cases at random, and each of those that validate with the next."""
    train, val = ([number for number, split in enumerate(SPLITS) if split == name] for name in ("train", "val"))
    meeting = [(f"c{one:02}", f"c{other:02}") for one, other in pairwise(val)]
    return Pairing([(f"c{number:02}", None) for number in train], meeting, [])


def write_cohort(folder):
    """Twenty scans, ``cases.csv`` with the split of each, and ``pairs.csv``."""
    cases, pairs = ["id,split"], ["fixed,moving,split"]
    (folder / "scans").mkdir()
    for number, split in enumerate(SPLITS):
        array, affine, _ = blob(number)
        write_nifti(folder / f"scans/c{number:02}.nii.gz", array, affine)
        cases.append(f"c{number:02},{split}")
        if number % 2:
            pairs.append(f"c{number - 1:02},c{number:02},{split}")
    (folder / "cases.csv").write_text("\n".join(cases) + "\n")
    (folder / "pairs.csv").write_text("\n".join(pairs) + "\n")
    return folder
