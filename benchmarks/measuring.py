"""What the benchmarks share: seeded networks and volumes, seconds and megabytes of a pass, processes, machines."""

from __future__ import annotations

import ctypes
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from featlift import lift, load_backbone
from featlift.backbones.backbone import Backbone
from featlift.backbones.precision import place, resolve_device, resolve_precision
from featlift.processes import forget_peak_memory, peak_memory

Forward = Callable[[Tensor], Tensor]


def seeded_backbone(model: str, **arguments: Any) -> Backbone:
    """Random weights with a LayerScale that lets every block matter, RoPE periods in float32 as the reference's."""
    plain: dict[str, Any] = {"precision": "fp32", "device": "cpu", "rope_periods": "fp32"}
    return load_backbone(model, "random:0", **plain, init_values=0.5, **arguments)


def lifted(model: str, mode: str, device: str, precision: str, **how: Any) -> Forward:
    """A seeded network lifted by featlift, returning dense features ``(B, C, D, h, w)``."""
    where = resolve_device(device)
    backbone = seeded_backbone(model)
    place(backbone, where, resolve_precision(precision, where, backbone.family))
    model_3d = lift(backbone, mode, normalise=False, **how)  # type: ignore[arg-type]
    return lambda volume: model_3d(volume).dense


def volume_of(shape: str, device: str, batch: int = 1) -> Tensor:
    """Seeded volumes (B, 3, D, H, W)."""
    depth, height, width = map(int, shape.split("x"))
    return torch.randn(batch, 3, depth, height, width, generator=torch.Generator().manual_seed(0)).to(device)


def seconds_of(forward: Forward, volume: Tensor) -> float:
    """Wall time of one pass."""
    start = time.perf_counter()
    forward(volume)
    if volume.is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - start


def growth_of(forward: Forward, volume: Tensor) -> float:
    """Most MB beyond weights and input during one pass: of torch's own on CUDA, resident elsewhere (Linux)."""
    if not volume.is_cuda:
        forward(volume_of("16x32x32", "cpu"))  # libraries take their own memory at the first pass
    return growth_during(lambda: forward(volume), volume.device.type)


def growth_during(work: Callable[[], object], device: str) -> float:
    """Most MB that something takes while it runs: of torch's own on CUDA, resident elsewhere (Linux)."""
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats()
        held = torch.cuda.memory_allocated()
        work()
        return (torch.cuda.max_memory_allocated() - held) / 1e6
    ctypes.CDLL("libc.so.6").malloc_trim(0)  # or what building the network left free would hide what a pass takes
    forget_peak_memory()
    before = _peak_resident()
    work()
    return (_peak_resident() - before) / 1e6


def _peak_resident() -> int:
    if (peak := peak_memory()) is None:
        sys.exit("memory is measured on Linux only")
    return peak


def in_a_process(module: str, *arguments: str) -> Any:
    """Run a benchmark again with other arguments, and take the JSON that it prints last."""
    done = subprocess.run([sys.executable, "-m", module, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def machine(device: str) -> str:
    """One line on what this runs on, and how busy that is."""
    name = torch.cuda.get_device_name(device) if device.startswith("cuda") else platform.machine()
    load = os.getloadavg()[0]
    versions = f"torch {torch.__version__}, timm {version('timm')}"
    return f"{name}, {torch.get_num_threads()} threads, {versions}, load {load:.1f} at the start"


def save(rows: list[dict[str, Any]], file: str | None) -> None:
    """Write figures as JSON, if a file was given."""
    if file:
        Path(file).write_text(json.dumps(rows, indent=2))
