"""How near lifting comes to what the device can do: its time over that of the bare matrix products and attention.

    python -m benchmarks.ceiling [--model vits16] [--shapes 64x224x224 ...] [--device cpu] [--dtypes float32 bfloat16]

A block of N tokens and P planes of L costs 24 N C^2 (linear layers) and 4 P L^2 C (attention) operations. Matrix
products and attention of the very sizes that lifting runs, in the same type, are timed between passes of it, in one
process; share is their sum over the time of a pass. `--profile` shows what the rest is.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.measuring import machine, save, seconds_of, seeded_backbone, volume_of
from featlift import lift
from featlift.lifting import LiftedBackbone
from featlift.lifting.attention import best_attention


def batches_of(lifted: LiftedBackbone, volume: Tensor) -> list[tuple[int, int, int]]:
    """Planes, their tokens, and how many blocks see such a batch, for every batch of every block of a pass."""
    seen: dict[tuple[int, int], int] = {}
    hooks = []
    for block in lifted.backbone.blocks:

        def count(_: object, given: tuple[Tensor, ...]) -> None:
            size = (given[0].shape[0], given[0].shape[1])
            seen[size] = seen.get(size, 0) + 1

        hooks.append(block.register_forward_pre_hook(count))
    lifted(volume)
    for hook in hooks:
        hook.remove()
    return [(planes, length, blocks) for (planes, length), blocks in seen.items()]


def bare(planes: int, length: int, width: int, heads: int, like: Tensor) -> dict[str, Callable[[], object]]:
    """The matrix products and the attention of one block."""
    new = like.new_empty
    tokens, hidden = new(planes, length, width).normal_(), new(planes, length, 4 * width).normal_()
    weights = [new(out, given).normal_() for given, out in ((width, 3 * width), (width, width), (width, 4 * width))]
    back = new(width, 4 * width).normal_()
    q, k, v = (new(planes, heads, length, width // heads).normal_() for _ in range(3))

    def products() -> None:
        for weight in weights:
            F.linear(tokens, weight)
        F.linear(hidden, back)

    def attention() -> None:
        with best_attention(like.device, like.dtype, length):
            F.scaled_dot_product_attention(q, k, v)

    return {"products": products, "attention": attention}


def seconds_each(work: Callable[[], object], device: torch.device, enough: float = 0.05) -> float:
    """Mean seconds of a call, over calls that take `enough` together; the first one, which plans kernels, aside."""
    work()
    if device.type == "cuda":
        torch.cuda.synchronize()
    calls, start = 0, time.perf_counter()
    while time.perf_counter() - start < enough:
        work()
        calls += 1
        if device.type == "cuda" and calls % 8 == 0:
            torch.cuda.synchronize()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return (time.perf_counter() - start) / calls


@torch.inference_mode()
def measure(options: argparse.Namespace, shape: str, dtype: torch.dtype) -> dict[str, Any]:
    """Rates and share of one case."""
    backbone = seeded_backbone(options.model).to(device=options.device, dtype=dtype)
    if options.compile:
        backbone.compile_blocks()
    lifted = lift(backbone, options.mode, normalise=False)
    volume = volume_of(shape, options.device)
    width, heads = backbone.net.embed_dim, backbone.blocks[0].attn.num_heads
    like = next(backbone.parameters())
    batches = batches_of(lifted, volume)
    flops = sum(n * p * length * (24 * width**2 + 4 * length * width) for p, length, n in batches)
    works = {(p, length): bare(p, length, width, heads, like) for p, length, _ in batches}
    passes: list[float] = []
    parts: dict[str, list[float]] = {"products": [], "attention": []}
    for _ in range(options.runs):
        passes.append(seconds_of(lambda volume: lifted(volume).dense, volume))
        for part, seconds in parts.items():
            seconds.append(sum(n * seconds_each(works[p, length][part], like.device) for p, length, n in batches))
    took, products, attention = (statistics.median(x) for x in (passes, parts["products"], parts["attention"]))
    linear = sum(n * p * length * 24 * width**2 for p, length, n in batches)
    if options.profile:
        activity = torch.profiler.ProfilerActivity.CUDA if volume.is_cuda else torch.profiler.ProfilerActivity.CPU
        with torch.profiler.profile(activities=[activity]) as profile:
            lifted(volume)
        by = "self_device_time_total" if volume.is_cuda else "self_cpu_time_total"
        print(profile.key_averages().table(sort_by=by, row_limit=12, max_name_column_width=48))
    return {
        "shape": shape,
        "dtype": str(dtype).removeprefix("torch."),
        "seconds": took,
        "gflops": flops / took / 1e9,
        "products": linear / products / 1e9,
        "attention": (flops - linear) / attention / 1e9,
        "share": (products + attention) / took,
    }


def main() -> None:
    """Print the table, and with --json the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="vits16", choices=["vits16", "vitb16", "vitl16"])
    parser.add_argument("--shapes", nargs="+", default=["64x224x224", "32x448x448"])
    parser.add_argument("--mode", default="pcg")
    parser.add_argument("--dtypes", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--json")
    options = parser.parse_args()
    print(f"{options.model}, {options.mode}, {machine(options.device)}\n")
    print("| volume | type | seconds | GFLOP/s | of matrix products | of attention | share of ceiling |")
    print("|---|---|---|---|---|---|---|")
    rows = []
    for shape in options.shapes:
        for name in options.dtypes:
            row = measure(options, shape, getattr(torch, name))
            rows.append(row)
            rates = " | ".join(f"{row[key]:.0f}" for key in ("gflops", "products", "attention"))
            print(f"| {shape} | {name} | {row['seconds']:.2f} | {rates} | {row['share']:.0%} |", flush=True)
    save(rows, options.json)


if __name__ == "__main__":
    main()
