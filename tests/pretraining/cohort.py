"""Small scans of balls and planes, and a small 3DME."""

import numpy as np

from featlift.training.splits import Split
from tests.support.scans import write_nifti

AFFINE = np.diag([-1.0, -1.0, 1.0, 1.0])
TRAIN, VAL, TEST = ("c00", "c01", "c02", "c03"), ("c04", "c05"), ("c06", "c07")
OPTIONS = {"width": 24, "depth": 2, "heads": 2, "fuse_after": (1, 2), "deformable_heads": 2, "convolutions": (4, 6, 8)}
STAGES = "4:0.3,8:0.5"
ENCODER = ("--encoder", "tiny", "--side", 16, "--stages", STAGES, "--device", "cpu")
ENCODER += tuple(
    word
    for name, value in OPTIONS.items()
    for word in ("--encoder-arg", f"{name}={','.join(map(str, value)) if isinstance(value, tuple) else value}")
)
FEW = ("--iterations", 4, "--every", 1, "--batch", 2, "--warm-up", 1)
SPLIT = Split(list(TRAIN), list(VAL), list(TEST))


def ball(number, shape=(20, 24, 28)):
    """A bright ball before a slope ``(i, j, k)``."""
    rng = np.random.default_rng(number)
    places = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
    centre = np.array(shape) / 2 + rng.uniform(-4, 4, 3)
    inside = np.linalg.norm(places - centre, axis=-1) < rng.uniform(5, 8)
    return (100 * inside + 2 * places[..., 0] + 20 + rng.normal(size=shape)).astype(np.float32)


def write_cohort(folder):
    """Eight scans, and ``cases.csv`` with the split of each."""
    rows = ["id,split"]
    for split, names in (("train", TRAIN), ("val", VAL), ("test", TEST)):
        for name in names:
            write_nifti(folder / f"scans/{name}.nii.gz", ball(int(name[1:])), AFFINE)
            rows.append(f"{name},{split}")
    (folder / "cases.csv").write_text("\n".join(rows) + "\n")
    return folder
