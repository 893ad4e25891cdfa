"""Processor, memory and accelerators."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from featlift.diagnosis.row import Row
from featlift.diagnosis.sizes import human
from featlift.processes import cores

_LITTLE_MEMORY = 4 * 2**30  # a CT of 512 x 512 x 500, its features and the network, with nothing to spare


def look_at_processor() -> Iterator[Row]:
    """How many cores this process may use, and what they multiply natively."""
    import torch

    from featlift.backbones.precision import resolve_precision

    count = cores()
    has_amx = torch.cpu._is_amx_tile_supported()
    capabilities = [torch.backends.cpu.get_cpu_capability(), *(["AMX"] if has_amx else [])]
    precision = resolve_precision("auto", torch.device("cpu"), "VisionTransformer")
    what = (
        f"{count} cores, {torch.get_num_threads()} threads, {', '.join(capabilities)}; --precision auto is {precision}"
    )
    if torch.get_num_threads() > count:
        yield Row(
            "processor", "WARN", what, f"set OMP_NUM_THREADS={count}: more threads than cores slow each other down"
        )
    else:
        yield Row("processor", "PASS", what)


def look_at_memory() -> Iterator[Row]:
    """What the machine, its control groups and Slurm leave."""
    import torch

    from featlift.lifting.budget import free_bytes

    free = free_bytes(torch.device("cpu"))
    if free is None:
        yield Row("memory", "PASS", "this system does not say how much is free")
    elif free < _LITTLE_MEMORY:
        yield Row(
            "memory", "WARN", f"{human(free)} free", "ask for more (Slurm: --mem=16G), or lift with --size or --spacing"
        )
    else:
        yield Row("memory", "PASS", f"{human(free)} free")


def look_at_accelerators() -> Iterator[Row]:
    """CUDA devices one by one, MPS, or why there is none."""
    import torch

    if torch.cuda.is_available():
        for number in range(torch.cuda.device_count()):
            yield _cuda_device(number)
    elif torch.backends.mps.is_available():
        yield _computes(torch.device("mps"), "Apple MPS")
    else:
        yield _no_accelerator()


def _cuda_device(number: int) -> Row:
    import torch

    device = torch.device("cuda", number)
    major, minor = torch.cuda.get_device_capability(device)
    free, total = torch.cuda.mem_get_info(device)
    name = f"{torch.cuda.get_device_name(device)} (sm_{major}{minor}, CUDA {torch.version.cuda})"
    return _computes(device, f"{name}, {human(free)} of {human(total)} free")


def _computes(device: object, what: str) -> Row:
    """Whether a device does what torch says that it can: a wheel may lack the kernels for it."""
    import torch

    try:
        ones = torch.ones(64, 64, device=device)  # type: ignore[call-overload]
        right = bool((ones @ ones == 64).all())
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[0]
        return Row(
            str(device), "FAIL", f"{what}: {reason}", "install a torch that is built for it (https://pytorch.org)"
        )
    if not right:
        return Row(str(device), "FAIL", f"{what}: it multiplies wrongly", "leave it out with CUDA_VISIBLE_DEVICES")
    return Row(str(device), "PASS", what)


def _no_accelerator() -> Row:
    import torch

    has_driver = Path("/proc/driver/nvidia/version").exists() or shutil.which("nvidia-smi") is not None
    if not has_driver:
        what = "none, so lifting runs on the processor"
        return Row("accelerator", "WARN", what, "nothing, if there is none; on a cluster, run this in a job with a GPU")
    if torch.version.cuda is None:
        what = f"there is an NVIDIA driver, but torch {torch.__version__} is built without CUDA"
        return Row("accelerator", "WARN", what, "install a torch with CUDA (https://pytorch.org)")
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
    if hidden is not None:
        return Row(
            "accelerator", "WARN", f"none of CUDA_VISIBLE_DEVICES={hidden} can be used", "unset it, or ask for a GPU"
        )
    what = f"there is an NVIDIA driver, but torch (CUDA {torch.version.cuda}) finds no device"
    return Row(
        "accelerator", "FAIL", what, "compare the driver of `nvidia-smi` with torch's CUDA, and update one of them"
    )
