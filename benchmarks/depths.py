"""CTs of many different depths: what each new length of a sequence costs, by attention kernel.

    python -m benchmarks.depths [--model vitb16] [--count 12] [--first 101] [--size 512] [--device cuda]

cuDNN plans every new shape of attention before its first call, FlashAttention does not. A volume is lifted once when
its depth is new and once more, all volumes before any comes again; each kernel has a process of its own, since plans
are kept. `mixed` is cuDNN for slices, whose length all volumes share, and FlashAttention for the planes across them.
`ragged` is cuDNN with `TORCH_CUDNN_SDPA_AVOID_RECOMPILE=1`, which wants q, k and v each by itself.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from typing import Any

import torch
from torch.nn.attention import SDPBackend

from benchmarks.measuring import machine, save, seeded_backbone
from featlift import lift
from featlift.backbones import eva
from featlift.backbones.precision import place, resolve_precision
from featlift.lifting import attention

FLASH = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]
CUDNN = [SDPBackend.CUDNN_ATTENTION, *FLASH]
KERNELS = ("featlift", "torch", "cudnn", "flash", "mixed", "ragged")


def choose(kernel: str, tokens_of_a_slice: int) -> None:
    """Let lifting use a kernel, whatever the shape."""
    orders: dict[str, Any] = {
        "torch": lambda length: None,
        "cudnn": lambda length: CUDNN,
        "ragged": lambda length: CUDNN,
        "flash": lambda length: FLASH,
        "mixed": lambda length: CUDNN if length == tokens_of_a_slice else FLASH,
    }
    if kernel != "featlift":
        attention.attention_order = lambda capability, dtype, length: orders[kernel](length)
    if kernel == "ragged":
        plain = torch.nn.functional.scaled_dot_product_attention

        class Alone:
            """torch.nn.functional with attention whose q, k and v are each contiguous, tokens before heads."""

            linear = staticmethod(torch.nn.functional.linear)

            @staticmethod
            def scaled_dot_product_attention(*qkv: torch.Tensor) -> torch.Tensor:
                return plain(*(each.transpose(1, 2).contiguous().transpose(1, 2) for each in qkv))

        eva.F = Alone  # type: ignore[assignment]


@torch.inference_mode()
def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Seconds of every depth when it is new, and again."""
    device = torch.device(options.device)
    backbone = seeded_backbone(options.model)
    backbone = place(backbone, device, resolve_precision("auto", device, backbone.family))
    choose(options.only, (options.size // backbone.stride) ** 2)
    lifted = lift(backbone, "pcg")
    depths = range(options.first, options.first + 3 * options.count, 3)
    lifted(torch.rand(1, 1, 7, options.size, options.size, device=device))

    def passes() -> list[float]:
        seconds = []
        for depth in depths:
            volume = torch.rand(1, 1, depth, options.size, options.size, device=device)
            synchronise(device)
            start = time.perf_counter()
            lifted(volume)
            synchronise(device)
            seconds.append(time.perf_counter() - start)
        return seconds

    return {"kernel": options.only, "new": passes(), "again": passes()}


def synchronise(device: torch.device) -> None:
    """Wait until a device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def main() -> None:
    """Print the table, and with --json the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="vitb16", choices=["vits16", "vitb16", "vitl16"])
    parser.add_argument("--count", type=int, default=12)
    parser.add_argument("--first", type=int, default=101, help="the least number of slices")
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--kernels", nargs="+", default=list(KERNELS), choices=KERNELS)
    parser.add_argument("--only", choices=KERNELS, help=argparse.SUPPRESS)
    parser.add_argument("--json")
    options = parser.parse_args()
    if options.only:
        print(json.dumps(measure(options)))
        return
    print(f"{options.model}, {options.count} volumes of {options.first} slices and more of {options.size}^2, ", end="")
    print(f"{machine(options.device)}\n")
    print("| attention | seconds when new | again | for each new depth, ms |")
    print("|---|---|---|---|")
    rows = []
    for kernel in options.kernels:
        environment = {**os.environ, **({"TORCH_CUDNN_SDPA_AVOID_RECOMPILE": "1"} if kernel == "ragged" else {})}
        command = [sys.executable, "-m", "benchmarks.depths", *sys.argv[1:], "--only", kernel]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            print(f"| {kernel} | {done.stderr.strip().splitlines()[-1]} |", flush=True)
            continue
        row = json.loads(done.stdout.splitlines()[-1])
        rows.append(row)
        new, again = sum(row["new"]), sum(row["again"])
        print(f"| {kernel} | {new:.2f} | {again:.2f} | {1e3 * (new - again) / options.count:.1f} |", flush=True)
    save(rows, options.json)


if __name__ == "__main__":
    main()
