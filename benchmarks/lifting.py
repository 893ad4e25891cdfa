"""Lifting against the reference, a checkout of HINTLab/PlaneCycle, with the same seeded weights and the same volume.

    python -m benchmarks.lifting --reference DIR [--model vits16] [--shapes 64x64x64 ...] [--modes pcg 2d] [--runs 5]

Outputs are compared before anything is timed. Times are medians of alternating runs in one process; memory is by how
much the resident set grew at most during one pass (Linux), each side in a process of its own. `--bf16` adds featlift in
bfloat16, which the reference does not offer. On a GPU (`--device cuda`) memory is the peak that torch allocated beyond
weights and input.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from featlift import lift, load_backbone
from featlift.backbones.backbone import Backbone

#: What the reference calls featlift's modes: its block type and pooling.
REFERENCE = {
    "pcg": ("PlaneCycle", "PCg"),
    "pcm": ("PlaneCycle", "PCm"),
    "2d": ("Slice2D", None),
    "3d": ("Flatten3D", None),
}
SIZES = {
    "vits16": {"embed_dim": 384, "depth": 12, "num_heads": 6},
    "vitb16": {"embed_dim": 768, "depth": 12, "num_heads": 12},
    "vitl16": {"embed_dim": 1024, "depth": 24, "num_heads": 16},
}


def seeded_backbone(model: str) -> Backbone:
    """Random weights with a LayerScale that lets every block matter, RoPE periods in float32 as the reference's."""
    return load_backbone(model, "random:0", rope_periods="fp32", init_values=0.5)


def official_weights(backbone: Backbone) -> dict[str, Tensor]:
    """The backbone's weights under the official DINOv3 names, which the reference loads."""
    renamed = {"reg_token": "storage_tokens", "gamma_1": "ls1.gamma", "gamma_2": "ls2.gamma"}
    state = {}
    for name, value in backbone.net.state_dict().items():
        for ours, theirs in renamed.items():
            name = name.replace(ours, theirs)
        state[name] = value
    for name in [name for name in state if name.endswith("q_bias")]:
        q, v = state.pop(name), state.pop(name.replace("q_bias", "v_bias"))
        state[name.replace("q_bias", "qkv.bias")] = torch.cat([q, torch.zeros_like(q), v])
    return state


def reference_model(folder: str, model: str, mode: str, device: str) -> Callable[[Tensor], Tensor]:
    """The reference as its README uses it, returning dense features (B, C, D, h, w)."""
    sys.path.insert(0, folder)
    from models.vision_transformer import DinoVisionTransformer  # type: ignore[import-not-found]
    from planecycle.converters.converter import PlaneCycleConverter  # type: ignore[import-not-found]

    block_type, pooling = REFERENCE[mode]
    net = DinoVisionTransformer(
        **SIZES[model], n_storage_tokens=4, layerscale_init=0.5, norm_layer="layernormbf16", block_type=block_type,
        pos_embed_rope_dtype="fp32", mask_k_bias=False,
    )  # fmt: skip
    state = official_weights(seeded_backbone(model))
    missing, unexpected = net.load_state_dict(state, strict=False)
    assert not unexpected, unexpected
    assert set(missing) <= {"mask_token", "rope_embed.periods"}, missing
    with torch.no_grad():
        net.mask_token.zero_()
    net.rope_embed._init_weights()
    if pooling is not None:
        net = PlaneCycleConverter(pool_method=pooling)(net)
    net = net.to(device).eval()
    return lambda volume: net.get_intermediate_layers(volume, n=1, reshape=True)[0]


def our_model(model: str, mode: str, device: str, dtype: torch.dtype = torch.float32) -> Callable[[Tensor], Tensor]:
    """The same network lifted by featlift."""
    lifted = lift(seeded_backbone(model).to(device=device, dtype=dtype), mode, normalise=False)  # type: ignore[arg-type]
    return lambda volume: lifted(volume).dense


def volume_of(shape: str, device: str) -> Tensor:
    """A seeded volume (1, 3, D, H, W)."""
    depth, height, width = map(int, shape.split("x"))
    return torch.randn(1, 3, depth, height, width, generator=torch.Generator().manual_seed(0)).to(device)


def seconds_of(forward: Callable[[Tensor], Tensor], volume: Tensor) -> float:
    """Wall time of one pass."""
    start = time.perf_counter()
    forward(volume)
    if volume.is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - start


@torch.inference_mode()
def compare(options: argparse.Namespace, mode: str, shape: str) -> dict[str, Any]:
    """Outputs, then times, of both sides in one process."""
    volume = volume_of(shape, options.device)
    sides = {
        "reference": reference_model(options.reference, options.model, mode, options.device),
        "featlift": our_model(options.model, mode, options.device),
    }
    if options.bf16:
        sides["featlift bf16"] = our_model(options.model, mode, options.device, torch.bfloat16)
    want, *others = (forward(volume).float() for forward in sides.values())
    difference = float((others[0] - want).abs().max())
    cosine = float(torch.cosine_similarity(others[-1], want, dim=1).min())
    del want, others
    times: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(options.runs):
        for name, forward in sides.items():
            times[name].append(seconds_of(forward, volume))
    return {
        "difference": difference,
        "cosine": cosine,
        "seconds": {name: statistics.median(values) for name, values in times.items()},
    }


@torch.inference_mode()
def memory(options: argparse.Namespace, mode: str, shape: str) -> float:
    """Growth in MB of one pass of one side."""
    volume = volume_of(shape, options.device)
    if options.side == "reference":
        forward = reference_model(options.reference, options.model, mode, options.device)
    else:
        dtype = torch.bfloat16 if options.side.endswith("bf16") else torch.float32
        forward = our_model(options.model, mode, options.device, dtype)
    if volume.is_cuda:
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        forward(volume)
        return (torch.cuda.max_memory_allocated() - before) / 1e6
    forward(volume_of("2x32x32", options.device))  # libraries take their own memory at the first pass
    ctypes.CDLL("libc.so.6").malloc_trim(0)  # or what building the network left free would hide what a pass takes
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew from what is resident now
    before = peak_resident()
    forward(volume)
    return peak_resident() - before


def peak_resident() -> float:
    """The most memory that was ever resident, in MB."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024 / 1e6


def in_a_process(*arguments: str) -> Any:
    """Run this file again with other arguments, and take the JSON that it prints last."""
    command = [sys.executable, "-m", "benchmarks.lifting", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Print the table, and with --json the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--reference", required=True)
    parser.add_argument("--model", default="vits16", choices=SIZES)
    parser.add_argument("--shapes", nargs="+", default=["64x64x64", "64x224x224", "32x448x448"])
    parser.add_argument("--modes", nargs="+", default=["pcg", "2d"], choices=REFERENCE)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--json")
    parser.add_argument("--side", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side == "both":
        print(json.dumps(compare(options, options.modes[0], options.shapes[0])))
        return
    if options.side:
        print(json.dumps(memory(options, options.modes[0], options.shapes[0])))
        return
    print(f"{options.model}, {platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}\n")
    print("| volume | mode | side | seconds | faster | MB | leaner | largest difference, lowest cosine |")
    print("|---|---|---|---|---|---|---|---|")
    rows = []
    common = ["--reference", options.reference, "--model", options.model, "--device", options.device]
    common += ["--runs", str(options.runs), *(["--bf16"] if options.bf16 else [])]
    for shape in options.shapes:
        for mode in options.modes:
            case = [*common, "--shapes", shape, "--modes", mode]
            result = in_a_process(*case, "--side", "both")
            megabytes = {side: in_a_process(*case, "--side", side) for side in result["seconds"]}
            rows.append({"shape": shape, "mode": mode, "megabytes": megabytes, **result})
            for side, seconds in result["seconds"].items():
                faster = result["seconds"]["reference"] / seconds
                leaner = megabytes["reference"] / max(megabytes[side], 0.1)
                agreement = {
                    "reference": "",
                    "featlift": f"{result['difference']:.1e}",
                    "featlift bf16": f"{result['cosine']:.5f}",
                }[side]
                figures = f"{seconds:.2f} | {faster:.2f} | {megabytes[side]:.0f} | {leaner:.1f} | {agreement}"
                print(f"| {shape} | {mode} | {side} | {figures} |", flush=True)
    if options.json:
        with open(options.json, "w") as file:
            json.dump(rows, file, indent=2)


if __name__ == "__main__":
    main()
