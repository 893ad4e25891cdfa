"""How much memory is free, here and now."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import torch

#: The words of those that have no error of their own for it: MPS, hosts, cuBLAS.
_OUT_OF_MEMORY = "out of memory|not enough memory|can't allocate memory|ALLOC_FAILED"


def free_bytes(device: torch.device, root: Path = Path("/")) -> int | None:
    """Bytes that can still be taken on a device; None where nothing tells.

    On CUDA what the driver has free and what torch keeps for itself; elsewhere what the machine, the control groups
    (versions 1 and 2) and Slurm's limit for this node leave, whichever is least.

    Args:
        device: where.
        root: what ``/proc`` and ``/sys`` lie under.
    """
    if device.type == "cuda":
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0] + kept)
    return min(_host_limits(root), default=None)


class FreeMemory:
    """What a pass may count on.

    On CUDA the driver is asked once, since that takes the time of a hundred kernels and running out is an error that
    lifting recovers from; on other devices each time, since a host that runs out ends the process.

    Args:
        device: where the pass computes.
        kept: bytes on it that the pass will have taken for good when it ends.
    """

    def __init__(self, device: torch.device, kept: float) -> None:
        self.device = device
        self._once = max(0, int((free_bytes(device) or 0) - kept)) if device.type == "cuda" else None

    def bytes(self) -> int | None:
        """Bytes for the planes at work; None where nothing tells."""
        return free_bytes(self.device) if self._once is None else self._once


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, of a device or of the host."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and re.search(_OUT_OF_MEMORY, str(error)) is not None


def _host_limits(root: Path) -> Iterator[int]:
    """What each of those who limit a process would still give it."""
    if (available := _field(root / "proc/meminfo", "MemAvailable:")) is not None:
        yield available * 1024
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers in ("", "memory"):
            yield from _group_limits(root / "sys/fs/cgroup" / controllers, path, version=1 if controllers else 2)
    if (megabytes := _slurm_megabytes()) and (resident := _field(root / "proc/self/status", "VmRSS:")):
        yield megabytes * 2**20 - resident * 1024


def _slurm_megabytes() -> int:
    """What Slurm gives this job on this node, by node or by processor; 0 for no limit."""
    node, processor, processors = (
        int(text) if (text := os.environ.get(f"SLURM_{name}", "")).isdecimal() else 0
        for name in ("MEM_PER_NODE", "MEM_PER_CPU", "CPUS_ON_NODE")
    )
    return node or processor * processors


def _group_limits(mount: Path, path: str, version: int) -> Iterator[int]:
    """What a control group and every one around it leave; inside a container the own group is the mount itself."""
    limit, usage, reclaimable = {
        1: ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        2: ("memory.max", "memory.current", "inactive_file"),
    }[version]
    inner = mount / path.strip("/")
    for group in (inner, *inner.parents):
        if (most := _text(group / limit).strip()).isdecimal() and (used := _text(group / usage).strip()).isdecimal():
            yield int(most) - int(used) + (_field(group / "memory.stat", reclaimable) or 0)
        if group == mount:
            return


def _text(file: Path) -> str:
    try:
        return file.read_text()
    except OSError:  # another system, or another version of control groups
        return ""


def _field(file: Path, name: str) -> int | None:
    """The number behind `name` in a file of lines such as ``MemAvailable:   1234 kB``."""
    words = (line.split() for line in _text(file).splitlines())
    return next((int(word[1]) for word in words if word[:1] == [name]), None)
