"""Full fine-tuning against the released code: seconds and memory of a training step, with the same weights and batch.

    python -m benchmarks.finetune --reference DIR [--model vits16] [--shape 32x64x64] [--batch 4] [--mode pcg]

A step is what the released training does with a batch: class tokens of slices, pooled by a linear layer over the depth,
a linear layer, cross-entropy, gradients of everything, AdamW. Logits and losses of the first step are compared before
anything is timed. Times are medians of steps of all sides in turn; memory is the most that a step took beyond weights,
optimiser and batch, each side in a process of its own. featlift also by LoRA and with the head alone, each with and
without activation checkpointing.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.lifting import reference_network
from benchmarks.measuring import growth_during, in_a_process, machine, save, seeded_backbone, volume_of
from featlift import lift
from featlift.backbones.lora import LoraOptions, add_lora
from featlift.finetuning.classifier import LiftedClassifier

SIDES = ("reference", "full", "full, checkpointing", "lora", "lora, checkpointing", "head")
CLASSES = 2
Step = Callable[[], float]


class Released(nn.Module):
    """The head of the released classification: a linear layer over the depth, then one to the classes."""

    def __init__(self, net: nn.Module, channels: int, depth: int) -> None:
        super().__init__()
        self.net, self.pool, self.head = net, nn.Linear(depth, 1), nn.Linear(channels, CLASSES)

    def forward(self, volumes: Tensor) -> Tensor:
        """Logits (B, K)."""
        tokens = self.net(volumes, is_training=True)["x_norm_clstoken"]
        slices = tokens.view(len(volumes), -1, tokens.shape[-1])
        return self.head(self.pool(slices.transpose(1, 2)).squeeze(-1))  # type: ignore[no-any-return]


def network(options: argparse.Namespace, side: str) -> nn.Module:
    """One side, its heads alike, in training mode."""
    depth = int(options.shape.split("x")[0])
    if side == "reference":
        net = reference_network(options.reference, options.model, options.mode)
        found: nn.Module = Released(net, net.embed_dim, depth)
    else:
        backbone = seeded_backbone(options.model)
        backbone.requires_grad_(side.startswith("full"))
        if side.startswith("lora"):
            add_lora(backbone, LoraOptions())
        lifted = lift(backbone, options.mode, normalise=False, checkpointing="checkpointing" in side)
        found = LiftedClassifier(lifted, CLASSES, depth)
    generator = torch.Generator().manual_seed(0)
    for layer in (found.pool, found.head):
        for value in layer.parameters():
            value.data = 0.1 * torch.randn(value.shape, generator=generator)
    return found.to(options.device).train()


def stepping(options: argparse.Namespace, side: str) -> tuple[Step, Tensor]:
    """A step of training of one side, and its first logits."""
    net = network(options, side)
    volumes = volume_of(options.shape, options.device, options.batch)
    targets = torch.arange(options.batch, device=options.device) % CLASSES
    optimiser = torch.optim.AdamW([value for value in net.parameters() if value.requires_grad], 5e-5, weight_decay=0.05)
    logits_of = net if side == "reference" else net.of_one_shape

    def step() -> float:
        start = time.perf_counter()
        optimiser.zero_grad()
        with torch.autocast(volumes.device.type, torch.bfloat16, enabled=options.bf16):
            logits = logits_of(volumes)
        nn.functional.cross_entropy(logits.float(), targets).backward()
        optimiser.step()
        if volumes.is_cuda:
            torch.cuda.synchronize()
        return time.perf_counter() - start

    with torch.no_grad():
        first: Tensor = logits_of(volumes)
    return step, first


def main() -> None:
    """Print the table, and with --json the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reference", help="a checkout of HINTLab/PlaneCycle; without it featlift alone is measured")
    parser.add_argument("--model", default="vits16", choices=["vits16", "vitb16", "vitl16"])
    parser.add_argument("--mode", default="pcg", choices=["pcg", "pcm", "2d", "3d"])
    parser.add_argument("--shape", default="32x64x64")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--bf16", action="store_true", help="autocast, on all sides")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--only", help=argparse.SUPPRESS)
    parser.add_argument("--json")
    options = parser.parse_args()
    if options.only:
        step, _ = stepping(options, options.only)
        step()  # the optimiser takes its memory
        print(json.dumps(growth_during(step, options.device)))
        return
    sides = [side for side in SIDES if side != "reference" or options.reference]
    steps, logits = {}, {}
    for side in sides:
        steps[side], logits[side] = stepping(options, side)
    apart = {side: float((logits[side] - logits[sides[0]]).abs().max()) for side in sides}
    times: dict[str, list[float]] = {side: [] for side in sides}
    for run in range(options.runs + 1):
        for side, step in steps.items():
            seconds = step()
            if run:
                times[side].append(seconds)
    print(f"{options.model}, {options.mode}, {options.batch} x {options.shape}, ", end="")
    print(f"{'bf16' if options.bf16 else 'fp32'}, {machine(options.device)}\n")
    print("| what is trained | s a step | ratio | MB a step | ratio | logits apart |")
    print("|---|---|---|---|---|---|")
    rows: list[dict[str, Any]] = []
    for side in sides:
        given = [f"--{name}={value}" for name, value in vars(options).items() if name in _PASSED and value is not None]
        given += ["--bf16"] if options.bf16 else []
        memory = in_a_process("benchmarks.finetune", *given, "--only", side)
        rows.append({"side": side, "seconds": statistics.median(times[side]), "mb": memory, "apart": apart[side]})
        ratios = [rows[-1][name] / rows[0][name] for name in ("seconds", "mb")]
        print(
            f"| {side} | {rows[-1]['seconds']:.2f} | {ratios[0]:.2f} | {memory:,.0f} | {ratios[1]:.2f} | "
            f"{apart[side]:.1e} |",
            flush=True,
        )
    save(rows, options.json)


_PASSED = ("reference", "model", "mode", "shape", "batch", "device")

if __name__ == "__main__":
    main()
