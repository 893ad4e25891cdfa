"""Three orientations: what bringing them together costs beside the passes themselves.

    python -m benchmarks.orientations [--model vitb16] [--shape 96x256x256] [--mode 2d] [--blocks N] [--device cpu]

The same volume is lifted along its three axes and fused, and, in turn with that, its planes, enlarged before, are
lifted along each axis and nothing else is done. The ratio of the medians is what turning, enlarging, interpolating and
concatenating take.
"""

from __future__ import annotations

import argparse
from statistics import median

import torch

from benchmarks.measuring import growth_of, machine, save, seconds_of, seeded_backbone, volume_of
from featlift import OrientedBackbone, lift
from featlift.backbones.precision import place, resolve_device, resolve_precision

AXES = {"axial": (0, 1, 2), "coronal": (1, 0, 2), "sagittal": (2, 0, 1)}


@torch.inference_mode()
def main() -> None:
    """Print the table, and with --json the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="vits16", choices=["vits16", "vitb16", "vitl16"])
    parser.add_argument("--shape", default="96x160x160", help="voxels, isotropic, multiples of 8")
    parser.add_argument("--mode", default="2d", choices=["2d", "pcg", "pcm"])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--memory", default="auto", help="for the planes at work")
    parser.add_argument("--blocks", type=int, help="of the network, fewer than it has: memory stays as it is")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--json")
    options = parser.parse_args()
    device = resolve_device(options.device)
    backbone = seeded_backbone(options.model, **({"depth": options.blocks} if options.blocks else {}))
    place(backbone, device, resolve_precision("auto", device, backbone.family))
    lifted = lift(backbone, options.mode, memory=options.memory)
    encoder = OrientedBackbone(lifted, tuple(AXES))
    volume = volume_of(options.shape, options.device)[:, :1].sigmoid()
    passes = [encoder.enlarged(volume, axes) for axes in AXES.values()]
    fused, alone = [], []
    for _ in range(options.runs):
        fused.append(seconds_of(lambda given: encoder(given).dense, volume))
        alone.append(sum(seconds_of(lambda given: lifted(given).dense, planes) for planes in passes))
    ratio = median(fused) / median(alone)
    grown = growth_of(lambda given: encoder(given).dense, volume)
    row = {
        "model": options.model,
        "mode": options.mode,
        "shape": options.shape,
        "precision": str(backbone.dtype).removeprefix("torch."),
        "fused_seconds": median(fused),
        "passes_seconds": median(alone),
        "ratio": ratio,
        "peak_mb": grown,
    }
    print(f"{options.model}, {options.mode}, {options.shape} voxels, {row['precision']}, {machine(options.device)}\n")
    print("| three orientations, s | their passes alone, s | ratio | MB beside weights and volume |")
    print("|---|---|---|---|")
    print(f"| {row['fused_seconds']:.2f} | {row['passes_seconds']:.2f} | {ratio:.3f} | {grown:,.0f} |")
    save([row], options.json)


if __name__ == "__main__":
    main()
