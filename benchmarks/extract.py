"""Time and peak memory of `featlift extract` on one scan, each in a process of its own.

    python -m benchmarks.extract SCAN [--runs 3]

Without SCAN, the MNI152 brain of the demo. The ViT-S/16 has seeded random weights with a LayerScale of 0.5 (at its
default of 1e-5 a fresh network does next to nothing). The last column is the ratio to mode 2d in the same run.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
from pathlib import Path

import torch

from featlift.demo import copy_brain

BACKBONES = {
    "efficientnet-lite0": ["--model", "efficientnet-lite0"],
    "ViT-S/16": ["--model", "vits16", "--weights", "random:0", "--model-arg", "init_values=0.5"],
}


def measure(arguments: list[str], store: Path) -> tuple[float, float, dict[str, float]]:
    """Seconds, peak resident MB and seconds by stage of one `featlift extract`."""
    command = [sys.executable, "-m", "featlift.cli.main", "extract", *arguments, "-o", str(store)]
    quiet = [(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
    child = os.posix_spawn(sys.executable, command, os.environ, file_actions=quiet)
    _, status, usage = os.wait4(child, 0)
    if status:
        sys.exit(f"failed: {' '.join(command)}")
    record = json.loads(next((store / "runs").glob("*.json")).read_text())
    return record["seconds"], usage.ru_maxrss / 1024, record["seconds_by_stage"]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scan", nargs="?", type=Path)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--precision", nargs="*", default=["fp32", "auto"])
    options = parser.parse_args()
    print(
        f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}\n"
    )
    print("| backbone | precision | mode | seconds | read | prepare | lift | write | peak MB | to 2d |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        if options.scan is None:
            copy_brain(Path(folder))
            options.scan = Path(folder, "scans", "brain.nii.gz")
        for name, model in BACKBONES.items():
            for precision in options.precision:
                sliced = 0.0
                for mode in ("2d", "pcg"):
                    arguments = [str(options.scan), *model, "--mode", mode, "--precision", precision]
                    runs = [
                        measure(arguments, Path(folder, f"{name.replace('/', '')}-{precision}-{mode}-{run}.zarr"))
                        for run in range(options.runs)
                    ]
                    seconds, peak, stages = sorted(runs, key=lambda run: run[0])[len(runs) // 2]
                    peak = statistics.median(run[1] for run in runs)
                    sliced = sliced or stages["lift"]
                    times = " | ".join(f"{stages[stage]:.2f}" for stage in ("read", "prepare", "lift", "write"))
                    ratio = stages["lift"] / sliced
                    print(
                        f"| {name} | {precision} | {mode} | {seconds:.1f} | {times} | {peak:.0f} | {ratio:.2f} |",
                        flush=True,
                    )


if __name__ == "__main__":
    main()
