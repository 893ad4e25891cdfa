"""Time and memory of lifting against depth, against H*W and against the budget, with and without depth windows.

    python -m benchmarks.scaling [--model vits16] [--device cpu] [--pictures docs/pictures]

Every figure comes from a process of its own: the median time of a few passes, and what one pass took at most beyond
weights and input.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

import torch

from benchmarks.measuring import growth_of, in_a_process, lifted, machine, save, seconds_of, volume_of
from benchmarks.plot import line_plot

#: What is varied, by device: depths at one size, sizes at one depth, budgets at one shape.
CASES: dict[str, dict[str, Any]] = {
    "cpu": {
        "depths": [64, 128, 256, 512, 1024], "of": 64, "window": 128,
        "sizes": [64, 128, 192, 256], "at": 32,
        "budgets": ["20MB", "40MB", "80MB", "160MB", "auto"], "shape": "64x224x224",
    },
    "cuda": {
        "depths": [100, 200, 400, 800], "of": 512, "window": 128,
        "sizes": [128, 256, 512, 768], "at": 160,
        "budgets": ["64MB", "256MB", "1GB", "4GB", "auto"], "shape": "300x512x512",
    },
}  # fmt: skip


@torch.inference_mode()
def measure(options: argparse.Namespace) -> dict[str, float]:
    """Seconds and MB of one case."""
    how = {"depth_window": options.window, "memory": options.budget}
    forward = lifted(options.model, options.mode, options.device, options.precision, **how)
    volume = volume_of(options.shape, options.device)
    megabytes = growth_of(forward, volume)
    return {"seconds": statistics.median(seconds_of(forward, volume) for _ in range(options.runs)), "MB": megabytes}


def main() -> None:
    """Print a table a sweep, and write two pictures for each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="vits16")
    parser.add_argument("--mode", default="pcg")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--pictures", type=Path)
    parser.add_argument("--json")
    parser.add_argument("--shape", help=argparse.SUPPRESS)
    parser.add_argument("--window", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--budget", default="auto", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.shape:
        print(json.dumps(measure(options)))
        return
    case = CASES[torch.device(options.device).type]
    size, at, window = case["of"], case["at"], case["window"]
    sweeps = {
        "slices": [(d, f"{d}x{size}x{size}", w, "auto") for w in (None, window) for d in case["depths"]],
        "pixels a slice": [(s * s, f"{at}x{s}x{s}", None, "auto") for s in case["sizes"]],
        "budget": [(budget, case["shape"], None, budget) for budget in case["budgets"]],
    }
    common = ["--model", options.model, "--mode", options.mode, "--device", options.device]
    common += ["--precision", options.precision, "--runs", str(options.runs)]
    print(f"{options.model}, {options.mode}, {options.precision}, {machine(options.device)}")
    rows = []
    for sweep, cases in sweeps.items():
        print(f"\n| {sweep} | volume | depth window | seconds | MB |\n|---|---|---|---|---|")
        lines: dict[str, dict[str, list[tuple[float, float]]]] = {"seconds": {}, "MB": {}}
        for value, shape, length, budget in cases:
            how = ["--shape", shape, "--budget", budget, *(["--window", str(length)] if length else [])]
            row = in_a_process("benchmarks.scaling", *common, *how)
            rows.append({"sweep": sweep, "value": value, "shape": shape, "window": length, **row})
            print(f"| {value} | {shape} | {length or ''} | {row['seconds']:.2f} | {row['MB']:.0f} |", flush=True)
            for figure, named in lines.items():
                named.setdefault(f"windows of {length}" if length else "whole depth", []).append((value, row[figure]))
        if options.pictures and sweep != "budget":
            options.pictures.mkdir(parents=True, exist_ok=True)
            for figure, named in lines.items():
                file = options.pictures / f"scaling-{sweep.split()[0]}-{figure.lower()}.svg"
                line_plot(file, f"{options.model}, {options.mode}: {figure} by {sweep}", sweep, figure, named)
    save(rows, options.json)


if __name__ == "__main__":
    main()
