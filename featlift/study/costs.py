"""What an arm costs: one scan of median size, lifted for the time, the operations and the memory that it takes."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from featlift.atomic_io import write_atomically
from featlift.extraction import Job
from featlift.volumes.grid import pad, padding_to


@dataclass(frozen=True)
class Cost:
    """Of one volume.

    Attributes:
        id: of the scan.
        shape: (D, H, W) that was lifted, padding included.
        seconds: of lifting, without reading and writing; the second pass is timed.
        operations: floating-point operations of products, convolutions and attention, by torch's counter.
        peak_bytes: tensors at once at most, weights included; on a GPU what its allocator held.
        stored_bytes: of the volume in the store.
        device: where.
        threads: of the processor.
        volumes: of the cohort.
    """

    id: str
    shape: tuple[int, ...]
    seconds: float
    operations: int
    peak_bytes: int
    stored_bytes: int
    device: str
    threads: int
    volumes: int


def read_cost(path: Path) -> Cost | None:
    """What `measure_cost` wrote, or None."""
    return Cost(**json.loads(path.read_bytes())) if path.exists() else None


def measure_cost(job: Job, path: Path) -> Cost:
    """Lift the scan of median size three times, and write what that takes.

    Raises:
        FeatliftError: the network cannot be loaded, or the scan not be read or lifted.
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from featlift.backbones.footprint import PeakMemory
    from featlift.extraction.record import name_of
    from featlift.store.forecast import MOST_HEADERS, FeatureSizes, scan_shape, volume_bytes
    from featlift.timing import timed
    from featlift.volumes.loading import load

    extraction = job.extraction()
    encoder, preparation = extraction.encoder, extraction.preparation
    sizes = FeatureSizes.of(encoder)
    shapes = {scan.id: scan_shape(scan, preparation, extraction.reading) for scan in job.found.scans[:MOST_HEADERS]}
    median = sorted(shapes, key=lambda case_id: (math.prod(shapes[case_id]), case_id))[len(shapes) // 2]
    scan = next(scan for scan in job.found.scans if scan.id == median)
    prepared = load(scan, preparation, extraction.reading).prepared
    volume = torch.from_numpy(pad(prepared.scan, padding_to(prepared.shape, encoder.size_multiple)))[None]
    volume = volume.to(encoder.device)
    on_gpu = encoder.device.type == "cuda"
    with torch.inference_mode():
        with FlopCounterMode(display=False) as counter:
            encoder(volume)
        if on_gpu:
            torch.cuda.reset_peak_memory_stats(encoder.device)
        with PeakMemory() as memory:
            encoder(volume)
        peak = torch.cuda.max_memory_allocated(encoder.device) if on_gpu else memory.peak + _weight_bytes(encoder)
        seconds: dict[str, float] = {}
        with timed(seconds, "lift"):
            encoder(volume).dense.cpu()
    stored = sum(size for _, size in volume_bytes(prepared.shape, len(prepared.scan), sizes, extraction.keeping))
    cost = Cost(
        scan.id,
        tuple(volume.shape[2:]),
        seconds["lift"],
        int(counter.get_total_flops()),
        int(peak),
        stored,
        name_of(encoder.device),
        torch.get_num_threads(),
        len(job.found.scans),
    )
    text = json.dumps(asdict(cost), indent=2) + "\n"
    write_atomically(path, partial(Path.write_text, data=text, encoding="utf-8"))
    return cost


def _weight_bytes(encoder: object) -> int:
    """Of a lifted network those of its backbone; 0 of what has no parameters."""
    network: Any = getattr(encoder, "backbone", encoder)
    return sum(value.nbytes for value in network.parameters()) if hasattr(network, "parameters") else 0
