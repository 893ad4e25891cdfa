"""Ten thousand CTs: what each stage takes here for one of 300 x 512 x 512, and from that how long a cohort takes.

    python -m benchmarks.scale CT [--lift 0.28] [--workers 8] [--disk 1000]

CT is a real chest CT; its slices are repeated to 300 and written as .nii.gz. Reading, preparing and writing (features
of ViT-B/16 in float16, with the scan) are timed in one process, one thread each. Lifting is not measured here: --lift
is what a GPU takes. --disk is what the disk that all share reads and writes, in MB a second.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import nibabel as nib
import numpy as np

from benchmarks.measuring import machine
from featlift import read
from featlift.extraction import OutputSpec
from featlift.store import CaseData, LayerData, StoreWriter
from featlift.timing import timed
from featlift.volumes import Preparation, find_scans
from featlift.volumes.loading import load

SHAPE = (300, 512, 512)
CHANNELS, STRIDE, TOKENS = 768, 16, ("cls", "reg1", "reg2", "reg3", "reg4")
VOLUMES = 10_000
GPUS = (1, 8, 64)


def write_ct(ct: Path, path: Path) -> None:
    """A CT of full size: the slices of a shorter one, up and down again and again."""
    slices = read(ct).array
    order = np.abs((np.arange(SHAPE[0]) + len(slices)) % (2 * len(slices) - 1) - (len(slices) - 1))
    volume = slices[order].astype(np.int16)
    nib.save(nib.Nifti1Image(volume.transpose(2, 1, 0), np.diag([0.7, 0.7, 1.0, 1.0])), path)


def case_of(scan: np.ndarray) -> CaseData:
    """Features of the size of ViT-B/16's."""
    rng = np.random.default_rng(0)
    depth, height, width = SHAPE
    grid = (depth, height // STRIDE, width // STRIDE)
    cells = rng.standard_normal((*grid, CHANNELS), np.float32).astype(np.float16)
    dense = np.moveaxis(cells, -1, 0)  # as lifting leaves them: the channels of a cell side by side
    tokens = rng.standard_normal((depth, len(TOKENS), CHANNELS), np.float32).astype(np.float16)
    place = {"layer": 11, "stride": [1, 16, 16], "offset": [0, 7.5, 7.5], "valid": list(grid), "affine": None}
    layer = LayerData(11, dense, tokens, np.zeros((depth, CHANNELS), np.float32), place)
    embedding = np.zeros(2 * CHANNELS, np.float32)
    return CaseData("ct", scan, [layer], embedding, {"patch-mean": [0, 2 * CHANNELS]}, TOKENS, {"affine": None})


def main() -> None:
    """Print what was measured, then the model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ct", type=Path)
    parser.add_argument("--lift", type=float, default=0.32, help="seconds a GPU takes for one volume")
    parser.add_argument("--workers", type=int, default=8, help="reading processes of each GPU")
    parser.add_argument("--writers", type=int, default=6, help="writing threads of each GPU")
    parser.add_argument("--disk", type=float, default=1000.0, help="MB a second that all share")
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    seconds: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "ct.nii.gz")
        write_ct(options.ct, path)
        scan = find_scans([path]).scans[0]
        recipe = {"model": "made up", "mode": "pcg", "layers": [11], **OutputSpec().as_recipe(TOKENS)}
        writer = StoreWriter(Path(folder, "store.zarr"), recipe)
        for _ in range(options.runs):
            loaded = load(scan, Preparation())
            for stage, took in loaded.seconds.items():
                seconds[stage] = seconds.get(stage, 0.0) + took / options.runs
            case = case_of(loaded.prepared.scan[0])
            taken: dict[str, float] = {}
            with timed(taken, "write"):
                writer.publish(case)
            seconds["write"] = seconds.get("write", 0.0) + taken["write"] / options.runs
        read_mb = path.stat().st_size / 1e6
        stored = (file.stat().st_size for file in Path(folder, "store.zarr", "volumes").rglob("*") if file.is_file())
        written_mb = sum(stored) / 1e6
    print(f"{machine('cpu')}; a CT of {'x'.join(map(str, SHAPE))}: {read_mb:.0f} MB read, {written_mb:.0f} MB written")
    print("\n| stage | seconds a volume |\n|---|---|")
    for stage, took in (*seconds.items(), ("lift (given)", options.lift)):
        print(f"| {stage} | {took:.2f} |")
    print(f"\n{VOLUMES:,} volumes, {options.workers} reading processes a GPU, {options.disk:.0f} MB/s of disk:\n")
    print("| GPUs | reading, h | lifting, h | writing, h | disk, h | the whole, h | bound by |")
    print("|---|---|---|---|---|---|---|")
    for gpus in GPUS:
        each = VOLUMES / gpus / 3600
        hours = {
            "reading": each * (seconds["read"] + seconds["prepare"]) / options.workers,
            "lifting": each * options.lift,
            "writing": each * seconds["write"] / options.writers,
            "the disk": VOLUMES * (read_mb + written_mb) / options.disk / 3600,
        }
        slowest = max(hours, key=lambda stage: hours[stage])
        figures = " | ".join(f"{value:.2f}" for value in hours.values())
        print(f"| {gpus} | {figures} | {hours[slowest]:.2f} | {slowest} |")


if __name__ == "__main__":
    main()
