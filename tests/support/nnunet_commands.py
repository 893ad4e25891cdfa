"""nnU-Net's own commands on small cohorts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from tests.support.scans import write_nifti

TRAINERS = Path(__file__).parent / "nnunet_trainers"

#: Runs what pip installs as a command, once timm is imported as featlift does it, whatever torchvision there is.
_START = """
import sys
from importlib.metadata import entry_points
from featlift.backbones.torchvision_guard import import_timm
import_timm()
(command,) = {each.value: each for each in entry_points(group="console_scripts", name=sys.argv[1])}.values()
sys.argv = sys.argv[1:]
command.load()()
"""


def environment(folder: Path, site: Path) -> dict[str, str]:
    """What nnU-Net is told by the environment: its three folders, our trainer, and to be modest."""
    root = Path(__file__).resolve().parents[2]
    return {
        **{f"nnUNet_{name}": str(folder / name) for name in ("raw", "preprocessed", "results")},
        "nnUNet_extTrainer": str(TRAINERS),
        "nnUNet_n_proc_DA": "1",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join(filter(None, (str(root), os.environ.get("PYTHONPATH"), str(site)))),
    }


def run(name: str, *arguments: str, where: Mapping[str, str]) -> None:
    """Run one of nnU-Net's commands to its end."""
    command = [sys.executable, "-c", _START, name, *arguments]
    done = subprocess.run(command, env={**os.environ, **where}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{name}: {done.stdout[-2000:]}{done.stderr[-4000:]}"


def write_dataset(folder: Path, channel: str, cases: Mapping[str, tuple[Path, Path]]) -> None:
    """A folder as nnU-Net wants its raw data, of scans and their masks."""
    for kind, number, end in (("imagesTr", 0, "_0000"), ("labelsTr", 1, "")):
        (folder / kind).mkdir(parents=True)
        for name, files in cases.items():
            (folder / kind / f"{name}{end}.nii.gz").symlink_to(files[number])
    about = {"channel_names": {"0": channel}, "numTraining": len(cases), "file_ending": ".nii.gz"}
    (folder / "dataset.json").write_text(json.dumps({**about, "labels": {"background": 0, "front": 1, "back": 2}}))


def write_thick_cases(folder: Path, count: int) -> dict[str, tuple[Path, Path]]:
    """CT-like scans of a ball in two halves, in thick coronal slices, so that nnU-Net changes the order of the axes."""
    cases = {}
    for number in range(count):
        rng = np.random.default_rng(number)
        shape, steps = (44 + number, 16, 48 - number), np.array([0.8, 3.0 + 0.2 * (number % 2), 0.8])
        places = (np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1) - np.array(shape) / 2) * steps
        mask = np.where(np.linalg.norm(places, axis=-1) < 10 + number, 1 + (places[..., 0] > 0), 0)
        scan = 60.0 * mask - 100 + rng.normal(scale=20, size=shape)
        files = folder / f"case{number}.nii.gz", folder / f"case{number}-mask.nii.gz"
        for file, values in zip(files, (scan.astype(np.float32), mask.astype(np.uint8)), strict=True):
            write_nifti(file, values, np.diag([*steps, 1.0]))
        cases[f"case{number}"] = files
    return cases
