"""A cohort of real scans through `featlift extract`'s pipeline, against a plain loop and against what bounds it.

    python -m benchmarks.cohort DATA [--volumes 200] [--size 96] [--wait 0.3]

DATA holds hippocampus/*.nii.gz, a chest CT (lesions/lung1_image.nrrd) and a DICOM series (totalseg/example_ct_dicom);
of ten volumes one is the CT, one the series, eight are hippocampi. Each row is a process of its own:

- a light and a heavy backbone: a loop (read, prepare, lift, write, one after the other) and the pipeline. Where lifting
  fills all cores, no order of work can beat the sum of CPU seconds over the cores: the last column is the ratio to it;
- a timed wait in the place of lifting, as long as a GPU takes: the bound is then the slowest stage;
- the light one again by `featlift extract` itself: two shards side by side, two lifting processes, two actors of Ray.
  These seconds include starting and loading.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.measuring import in_a_process, machine, save
from featlift.extraction import Extraction, Run, lifted_backbone, make_recipe
from featlift.extraction.readers import default_workers
from featlift.store import CaseData, StoreWriter, rebuild_index
from featlift.timing import timed
from featlift.volumes import DiscoveredScans, Preparation, find_scans
from featlift.volumes.loading import Loaded, load

BACKBONES = {
    "light": ("efficientnet-lite0", {"layers": "stride16"}),
    "heavy": ("vits16", {"weights": "random:0", "loading": {"init_values": 0.5}}),
}


def make_cohort(data: Path, folder: Path, volumes: int) -> Path:
    """Links to the scans, under new names."""
    hippocampi = sorted(data.glob("hippocampus/**/hippocampus_*.nii.gz"))
    hippocampi = [path for path in hippocampi if "label" not in str(path.parent).lower()]
    for number in range(volumes):
        if number % 10 == 0:
            (folder / f"ct-{number}.nrrd").symlink_to(data / "lesions" / "lung1_image.nrrd")
        elif number % 10 == 5:
            shutil.copytree(data / "totalseg" / "example_ct_dicom", folder / f"dicom-{number}")
        else:
            path = hippocampi[number % len(hippocampi)]
            (folder / f"hippocampus-{number}.nii.gz").symlink_to(path)
    return folder


class Waiting(Extraction):
    """In the place of lifting: waits as long as a GPU would take, and returns the features of one volume per shape."""

    def __init__(self, extraction: Extraction, wait: float) -> None:
        super().__init__(extraction.encoder, extraction.preparation, extraction.reading)
        self.wait = wait
        self._made: dict[tuple[int, ...], CaseData] = {}

    def lift(self, loaded: Any) -> list[CaseData]:
        """One case a volume."""
        cases = []
        for each in loaded:
            shape = each.prepared.scan.shape
            if shape not in self._made:
                self._made[shape] = super().lift([each])[0]
            else:
                time.sleep(self.wait)
            made = self._made[shape]
            source = {"name": each.scan.name, **(each.source or {})}
            cases.append(
                CaseData(
                    each.scan.id, each.prepared.scan[0], made.layers, made.embedding, made.embedding_parts,
                    made.token_names, {**made.attributes, "source": source},
                )
            )  # fmt: skip
        return cases


def loop(output: Path, extraction: Extraction, found: DiscoveredScans, seconds: dict[str, float]) -> None:
    """One scan after the other, as one would write it first."""
    writer = StoreWriter(output, make_recipe(extraction.encoder, extraction.preparation))
    for scan in found.scans:
        loaded: Loaded = load(scan, extraction.preparation)
        for stage, took in loaded.seconds.items():
            seconds[stage] = seconds.get(stage, 0.0) + took
        with timed(seconds, "lift"):
            case = extraction.lift([loaded])[0]
        with timed(seconds, "write"):
            writer.publish(case)
    rebuild_index(output)


def pipeline(
    output: Path, extraction: Extraction, found: DiscoveredScans, seconds: dict[str, float], workers: int
) -> None:
    """The run of `featlift extract`."""
    with Run(output, extraction, found, workers) as run:
        for outcome in run.extract():
            assert outcome.status == "done", outcome
            for stage, took in outcome.seconds.items():
                seconds[stage] = seconds.get(stage, 0.0) + took


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """One row, in this process."""
    model, how = BACKBONES[options.backbone]
    extraction = Extraction(lifted_backbone(model, **how), Preparation(size=(options.size,)))  # type: ignore[arg-type]
    if options.wait:
        extraction = Waiting(extraction, options.wait)
    found = find_scans([options.data])
    output = options.data.parent / f"{options.backbone}-{options.case}.zarr"
    seconds: dict[str, float] = {}
    if options.wait:  # the first of each shape is lifted: that is not what is measured
        shapes: dict[tuple[int, ...], Loaded] = {}
        for scan in found.scans:
            each = load(scan, extraction.preparation)
            shapes.setdefault(each.prepared.scan.shape, each)
        for each in shapes.values():
            extraction.lift([each])
    before = cpu_seconds()
    start = time.perf_counter()
    if options.case == "loop":
        loop(output, extraction, found, seconds)
    else:
        pipeline(output, extraction, found, seconds, options.workers)
    wall = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss + (
        options.workers * resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    )
    cpu = cpu_seconds() - before
    size = sum(file.stat().st_size for file in output.rglob("*") if file.is_file())
    shutil.rmtree(output)
    return {"wall": wall, "cpu": cpu, "stages": seconds, "peak MB": peak / 1024, "store MB": size / 1e6,
            "volumes": len(found.scans)}  # fmt: skip


#: Commands that run side by side, one thread of torch each.
COMMANDS = {
    "2 shards": [["--shard", "1/2"], ["--shard", "2/2"]],
    "2 lifting processes": [["--devices", "cpu,cpu:0"]],
    "Ray, 2 actors": [["--engine", "ray", "--actors", "2"]],
}


def by_commands(scans: Path, size: int, each: list[list[str]]) -> float:
    """Wall time of commands that fill one store."""
    model, how = BACKBONES["light"]
    output = scans.parent / "commands.zarr"
    command = [sys.executable, "-m", "featlift.cli.main", "extract", str(scans), "-o", str(output), "--model", model]
    command += ["--layers", how["layers"], "--size", str(size)]
    start = time.perf_counter()
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "env": environment}
    running = [subprocess.Popen([*command, *more], **quiet) for more in each]  # type: ignore[call-overload]
    codes = [process.wait() for process in running]
    if any(codes):
        sys.exit(f"failed: {each}")
    took = time.perf_counter() - start
    shutil.rmtree(output)
    return took


def cpu_seconds() -> float:
    """Of this process and of those that it has waited for."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def bound(row: dict[str, Any], workers: int, waits: bool) -> float:
    """What no order of the work can beat: the slowest stage, and all CPU seconds over the cores."""
    stages = row["stages"]
    reading = (stages["read"] + stages["prepare"]) / workers
    cores = row["cpu"] / len(os.sched_getaffinity(0))
    return max(reading, stages["lift"], stages["write"], cores) if waits else cores


def main() -> None:
    """Print the table, and with --json the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--volumes", type=int, default=200)
    parser.add_argument("--size", type=int, default=96, help="longer side in the plane")
    parser.add_argument("--wait", type=float, default=0.3, help="seconds a GPU would take for a volume")
    parser.add_argument("--workers", type=int)
    parser.add_argument("--json")
    parser.add_argument("--backbone", choices=BACKBONES, help=argparse.SUPPRESS)
    parser.add_argument("--case", choices=["loop", "pipeline"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case:
        print(json.dumps(measure(options)))
        return
    import torch

    workers = options.workers or default_workers(torch.device("cpu"))
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        scans = Path(folder, "scans")
        scans.mkdir()
        make_cohort(options.data.resolve(), scans, options.volumes)
        print(f"{options.volumes} volumes, --size {options.size}, {workers} reading processes, {machine('cpu')}\n")
        print(
            "| backbone | how | seconds | volumes a second | read | prepare | lift | write | peak MB | to the bound |"
        )
        print("|---|---|---|---|---|---|---|---|---|---|")
        for backbone, wait in (("light", 0.0), ("heavy", 0.0), ("light", options.wait)):
            for case in ("loop", "pipeline"):
                # what `featlift extract` sets; a loop is better off without
                os.environ.pop("OMP_WAIT_POLICY", None)
                if case == "pipeline":
                    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
                readers = workers if case == "pipeline" else 0
                row = in_a_process(
                    "benchmarks.cohort", str(scans), "--backbone", backbone, "--case", case,
                    "--size", str(options.size), "--wait", str(wait), "--workers", str(readers),
                )  # fmt: skip
                name = f"a wait of {wait} s" if wait else backbone
                rows.append({"backbone": name, "how": case, **row})
                stages = " | ".join(f"{row['stages'][stage]:.1f}" for stage in ("read", "prepare", "lift", "write"))
                ratio = row["wall"] / bound(row, max(1, readers), bool(wait))
                print(
                    f"| {name} | {case} | {row['wall']:.1f} | {row['volumes'] / row['wall']:.2f} | {stages} | "
                    f"{row['peak MB']:.0f} | {ratio:.2f} |",
                    flush=True,
                )
        os.environ.pop("OMP_WAIT_POLICY", None)
        for how, commands in COMMANDS.items():
            took = by_commands(scans, options.size, commands)
            rows.append({"backbone": "light", "how": how, "wall": took})
            print(f"| light | {how} | {took:.1f} | {options.volumes / took:.2f} | | | | | | |", flush=True)
    save(rows, options.json)


if __name__ == "__main__":
    main()
