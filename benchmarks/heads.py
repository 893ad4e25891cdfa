"""Segmentation heads on one store: Dice, parameters, training time and peak memory, each head in a process of its own.

    python -m benchmarks.heads hip-2d.zarr --masks labels/ --labels small.csv [--layers 2,3] [--epochs 40] [--json FILE]
    python -m benchmarks.heads --windows [--json FILE]

Every head is trained on the store's features and on Gaussian ones of the same grid; `dino3dra` also without any, which
is a U-Net that sees intensities only. Dice is of the split test, on the masks' own voxels. `--windows` measures instead
what a training step of `subcube` holds in memory as a volume has more windows, in two passes and in one.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from benchmarks.measuring import in_a_process, machine, save

#: Name of the row, head, where features come from, options of its own.
ROWS: list[tuple[str, str, str, dict[str, Any]]] = [
    ("linear", "linear", "store", {}),
    ("linear, Gaussian", "linear", "random", {}),
    ("decoder", "decoder", "store", {}),
    ("decoder, Gaussian", "decoder", "random", {}),
    ("decoder, skip", "decoder", "store", {"skip": True}),
    ("decoder, skip, Gaussian", "decoder", "random", {"skip": True}),
    ("subcube", "subcube", "store", {}),
    ("subcube, Gaussian", "subcube", "random", {}),
    ("dino3dra", "dino3dra", "store", {}),
    ("dino3dra, Gaussian", "dino3dra", "random", {}),
    ("dino3dra, none (U-Net)", "dino3dra", "none", {}),
    ("dino3dra without room-lite", "dino3dra", "store", {"without": ("room-lite",)}),
    ("dino3dra without calibration", "dino3dra", "store", {"without": ("calibration",)}),
]


def measured(options: argparse.Namespace) -> dict[str, Any]:
    """One row: train, segment the test, score."""
    from featlift import find_masks, open_store
    from featlift.evaluation import read_splits
    from featlift.segmentation import (
        Plan,
        cases_to_score,
        open_trained,
        predict,
        read_notes,
        score,
        segment_result,
        split_of,
        train_head,
    )

    torch.set_num_threads(options.threads)
    name, head, features, own = ROWS[options.row]
    store, layers = open_store(options.store), tuple(map(int, options.layers.split(",")))
    masks, split = find_masks(store, options.masks), split_of(read_splits(store, options.labels), {})
    plan = Plan(head, own, layers, features, epochs=options.epochs, patience=options.patience)  # type: ignore[arg-type]
    device = torch.device(options.device)
    with tempfile.TemporaryDirectory() as folder:
        home = Path(options.keep or folder, name.replace(", ", "-").replace(" ", "-"))
        config = train_head(store, masks, split, plan, home / "head", device=device)
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        predict(store, open_trained(home / "head"), home / "masks", split.test, device=device)
        notes = read_notes(home / "masks")
        result = segment_result(store, notes, score(store, home / "masks", masks, cases_to_score(notes, masks)))
    return {
        "name": name,
        "parameters": config.parameters,
        "training": config.training,
        "peak_bytes": memory,
        "measures": {key: vars(value) for key, value in result.measures.items()},
    }


def windows(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Peak memory of a training step of `subcube` by number of windows, and of one whose arm does nothing."""
    from featlift.backbones.footprint import PeakMemory
    from featlift.segmentation import Batch, Size
    from featlift.segmentation.networks.subcube import Subcube

    rows = []
    for count in (1, 2, 4, 8, 16):
        row: dict[str, Any] = {"windows": count}
        for two_pass in (True, False):
            torch.manual_seed(0)
            head = Subcube(Size(64, 3, 1), window=(8, 8, 8), two_pass=two_pass)
            batch = Batch(torch.linspace(0, 1, 8 * count)[None], torch.randn(1, 64, 8 * count, 8, 8))
            with PeakMemory() as memory:
                head(batch).square().mean().backward()
            row["two passes" if two_pass else "one pass"] = memory.peak
        head.arm.forward = lambda window: F.interpolate(window[:, :32], scale_factor=(1, 2, 2))  # type: ignore[method-assign]
        with PeakMemory() as memory:
            head(batch).square().mean().backward()
        row["rest"] = memory.peak
        rows.append(row)
        sizes = [row[name] / 1e6 for name in ("two passes", "one pass", "rest")]
        print(f"| {count} | {' | '.join(f'{size:.1f}' for size in sizes)} |")
    return rows


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", nargs="?")
    parser.add_argument("--masks")
    parser.add_argument("--labels")
    parser.add_argument("--layers", default="2,3")
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--patience", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rows", help="numbers of the rows to measure, as in 0,2; default: all")
    parser.add_argument("--keep", help="folder for heads and segmentations")
    parser.add_argument("--json")
    parser.add_argument("--windows", action="store_true")
    parser.add_argument("--row", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.row is not None:
        print(json.dumps(measured(options)))
        return
    print(f"{machine('cpu')}\n")
    if options.windows:
        print("| windows | two passes, MB | one pass, MB | without the arm, MB |\n|---|---|---|---|")
        save(windows(options), options.json)
        return
    if not (options.store and options.masks and options.labels):
        parser.error("give a store, --masks and --labels")
    print("| head | Dice | HD95 mm | failures | parameters | epochs (best) | training, s | peak memory, GB |")
    print("|---|---|---|---|---|---|---|---|")
    rows = []
    for number in map(int, options.rows.split(",")) if options.rows else range(len(ROWS)):
        passed = ["masks", "labels", "layers", "epochs", "patience", "threads", "device", "keep"]
        given = [f"--{key}={value}" for key in passed if (value := getattr(options, key)) is not None]
        row = in_a_process("benchmarks.heads", options.store, *given, f"--row={number}")
        rows.append(row)
        print(text_of(row), flush=True)
        save(rows, options.json)


def text_of(row: dict[str, Any]) -> str:
    dice, hd95, failures = (row["measures"][name] for name in ("dice", "hd95", "failure_rate"))
    interval = f"{dice['mean']:.3f} [{dice['low']:.3f}, {dice['high']:.3f}]"
    distance = "-" if hd95["mean"] is None else f"{hd95['mean']:.2f}"
    training = row["training"]
    epochs = f"{training['epochs']} ({training['best_epoch']:.0f})"
    cells = [row["name"], interval, distance, f"{failures['mean']:.2f}", f"{row['parameters']['trainable']:,}", epochs]
    return f"| {' | '.join(cells)} | {training['seconds']:.0f} | {row['peak_bytes'] / 1e9:.2f} |"


if __name__ == "__main__":
    main()
