"""Lifting against the reference, a checkout of HINTLab/PlaneCycle, with the same seeded weights and the same volume.

    python -m benchmarks.lifting --reference DIR [--models vits16] [--shapes 64x64x64 ...] [--modes pcg 2d] [--runs 5]

Outputs are compared before anything is timed. Times are medians of alternating runs in one process; memory is the most
that one pass took beyond weights and input, each side in a process of its own. Sides: the reference as shipped
(float32) and under bfloat16 autocast (`--autocast`), featlift in float32 and at `--precision auto`. Without --reference
featlift is measured alone, which larger networks than the reference's need (`--models vit7b16`).
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from typing import Any

import torch
from torch import Tensor

from benchmarks.measuring import (
    Forward,
    growth_of,
    in_a_process,
    lifted,
    machine,
    save,
    seconds_of,
    seeded_backbone,
    volume_of,
)
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
SHAPES = {
    "cpu": ["64x64x64", "64x224x224", "32x448x448"],
    "cuda": ["64x256x256", "160x256x256", "300x512x512", "800x512x512"],
}


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


def reference_network(folder: str, model: str, mode: str) -> Any:
    """The reference's network with featlift's seeded weights, in training mode."""
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
    return net


def reference_model(folder: str, model: str, mode: str, device: str, autocast: bool) -> Forward:
    """The reference as its README uses it, returning dense features (B, C, D, h, w)."""
    net = reference_network(folder, model, mode).to(device).eval()

    def forward(volume: Tensor) -> Tensor:
        with torch.autocast(volume.device.type, torch.bfloat16, enabled=autocast):
            features: Tensor = net.get_intermediate_layers(volume, n=1, reshape=True)[0]
            return features

    return forward


def build(options: argparse.Namespace, side: str, model: str, mode: str) -> Forward:
    """One side."""
    if side.startswith("reference"):
        return reference_model(options.reference, model, mode, options.device, side.endswith("autocast"))
    how = {"memory": options.memory, "compile": options.compile}
    return lifted(model, mode, options.device, "auto" if side.endswith("auto") else "fp32", **how)


@torch.inference_mode()
def compare(options: argparse.Namespace, model: str, mode: str, shape: str) -> dict[str, Any]:
    """Outputs, then times, of all sides in one process; why a side cannot do it, where it runs out of memory, say."""
    volume = volume_of(shape, options.device, options.batch)
    sides, outputs, failed = {}, {}, {}
    for side in options.sides:
        try:
            forward = build(options, side, model, mode)
            outputs[side] = forward(volume).float().cpu()
            sides[side] = forward
        except Exception as error:
            failed[side] = f"{type(error).__name__}: {error}".partition("\n")[0]
    want = next(iter(outputs.values()))
    difference = {side: float((got - want).abs().max()) for side, got in outputs.items()}
    cosine = {side: float(torch.cosine_similarity(got, want, dim=1).min()) for side, got in outputs.items()}
    del outputs, want
    times: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(options.runs):
        for name, forward in sides.items():
            times[name].append(seconds_of(forward, volume))
    seconds = {name: statistics.median(values) for name, values in times.items()}
    return {"difference": difference, "cosine": cosine, "seconds": seconds, "failed": failed}


@torch.inference_mode()
def memory(options: argparse.Namespace, side: str, model: str, mode: str, shape: str) -> float:
    """MB of one pass of one side."""
    return growth_of(build(options, side, model, mode), volume_of(shape, options.device, options.batch))


def main() -> None:
    """Print the table, and with --json the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--reference", help="a checkout of HINTLab/PlaneCycle")
    parser.add_argument("--models", nargs="+", default=["vits16"])
    parser.add_argument("--shapes", nargs="+")
    parser.add_argument("--modes", nargs="+", default=["pcg", "2d"], choices=REFERENCE)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--batch", type=int, default=1, help="volumes in one pass")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--memory", default="auto", help="what featlift may take for the planes at work")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--autocast", action="store_true", help="the reference under bfloat16 autocast too")
    parser.add_argument("--json")
    parser.add_argument("--sides", nargs="+", help=argparse.SUPPRESS)
    parser.add_argument("--case", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case:
        case = (options.models[0], options.modes[0], options.shapes[0])
        measured = compare(options, *case) if options.case == "time" else memory(options, options.sides[0], *case)
        print(json.dumps(measured))
        return
    references = ["reference", *(["reference autocast"] if options.autocast else [])] if options.reference else []
    sides = options.sides or [*references, "featlift", "featlift auto"]
    print(f"{machine(options.device)}\n")
    print("| model | volume | mode | side | seconds | volumes a minute | faster | MB | leaner | difference | cosine |")
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    rows = []
    common = ["--runs", str(options.runs), "--batch", str(options.batch), "--device", options.device]
    common += ["--memory", options.memory, *(["--compile"] if options.compile else [])]
    common += ["--reference", options.reference] if options.reference else []
    for model in options.models:
        for shape in options.shapes or SHAPES[torch.device(options.device).type]:
            for mode in options.modes:
                case = ["benchmarks.lifting", *common, "--models", model, "--shapes", shape, "--modes", mode]
                result = in_a_process(*case, "--case", "time", "--sides", *sides)
                for side, reason in result["failed"].items():
                    print(f"| {model} | {shape} | {mode} | {side} | {reason} |", flush=True)
                able = list(result["seconds"])
                megabytes = {side: in_a_process(*case, "--case", "memory", "--sides", side) for side in able}
                rows.append({"model": model, "shape": shape, "mode": mode, "megabytes": megabytes, **result})
                for side, seconds in result["seconds"].items():
                    faster = result["seconds"][able[0]] / seconds
                    leaner = megabytes[able[0]] / max(megabytes[side], 0.1)
                    a_minute = 60 * options.batch / seconds
                    figures = f"{seconds:.3f} | {a_minute:.0f} | {faster:.2f} | {megabytes[side]:.0f} | {leaner:.1f}"
                    agreement = f"{result['difference'][side]:.1e} | {result['cosine'][side]:.5f}"
                    print(f"| {model} | {shape} | {mode} | {side} | {figures} | {agreement} |", flush=True)
    save(rows, options.json)


if __name__ == "__main__":
    main()
