"""Where the cells of a convolutional network look: by the mirror test, by their receptive fields, by their windows.

    python -m benchmarks.centring [SCAN ...] [--model efficientnet-lite0] [--weights FILE] [--size 512]

Without SCAN, the MNI152 brain of the demo. For every layer, the pixel that its first cell looks at. The mirror test is
made on the images that `featlift.load_backbone` measures with, on images of a 1/f spectrum, and on slices of the scans:
the middle of the peak, "-" where it is not clear, and the best single roll in brackets. The first row is what
`featlift.backbones.catalogue.OFFSETS` holds of EfficientNet-Lite0.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from featlift import Preparation, load_backbone, prepare, read
from featlift.backbones.backbone import Backbone
from featlift.backbones.mirror import dead_leaves, mirror_scores, place
from featlift.demo import copy_brain

_SLICES = 3
_CELLS = 24


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scans", nargs="*", type=Path)
    parser.add_argument("--model", default="efficientnet-lite0")
    parser.add_argument("--weights")
    parser.add_argument("--size", type=int, default=512, help="pixels of a slice, along both sides")
    options = parser.parse_args()
    backbone = load_backbone(options.model, options.weights, precision="fp32", device="cpu")
    print("| " + " | ".join(["", *(f"stride {layer.sampling.stride}" for layer in backbone.layers)]) + " |")
    print("|---" * (1 + len(backbone.layers)) + "|")
    for name, images in _images(options.scans, options.size):
        for along in ("columns", "rows"):
            scores = mirror_scores(backbone, images, along)  # type: ignore[arg-type]
            middles = [place(layer, found) for layer, found in zip(backbone.layers, scores, strict=True)]
            best = [
                (layer.sampling.stride - 1 + max(found, key=lambda roll: found[roll])) / 2
                for layer, found in zip(backbone.layers, scores, strict=True)
            ]
            cells = [f"{'-' if middle is None else middle} ({one})" for middle, one in zip(middles, best, strict=True)]
            print(f"| mirror test, {name}, {along} | {' | '.join(cells)} |", flush=True)
    for axis, along in enumerate(("rows", "columns")):
        print(f"| receptive field, dead leaves, {along} | {' | '.join(_centroids(backbone, axis))} |", flush=True)
    windows = [str((layer.windows or layer.sampling).offset) for layer in backbone.layers]
    print(f"| middle of the windows | {' | '.join(windows)} |")
    print(f"| recorded | {' | '.join(str(layer.sampling.offset) for layer in backbone.layers)} |")


def _images(scans: list[Path], size: int) -> Iterator[tuple[str, Tensor]]:
    yield "dead leaves", dead_leaves()
    yield "1/f", _noise()
    with tempfile.TemporaryDirectory() as folder:
        if not scans:
            copy_brain(Path(folder))
            scans = [Path(folder, "scans", "brain.nii.gz")]
        for path in scans:
            voxels = prepare(read(path), Preparation(size=(size, size))).scan[0]
            depth = len(voxels)
            chosen = np.linspace(depth * 0.3, depth * 0.7, _SLICES).astype(int)  # the ends of a scan may be empty
            yield path.name, torch.from_numpy(voxels[chosen].copy())[:, None]


def _noise(images: int = 2, size: int = 256) -> Tensor:
    """Seeded images ``(N, 1, size, size)`` whose amplitudes fall with the frequency."""
    along = np.fft.fftfreq(size)
    frequency = np.hypot(along[:, None], along)
    frequency[0, 0] = np.inf
    white = np.random.RandomState(0).standard_normal((images, size, size))
    coloured = np.fft.ifft2(np.fft.fft2(white) / frequency).real
    grey = 0.5 + 0.2 * coloured / coloured.std(axis=(1, 2), keepdims=True)
    return torch.from_numpy(np.clip(grey, 0, 1).astype(np.float32))[:, None]


def _centroids(backbone: Backbone, axis: int) -> Iterator[str]:
    """For each layer the mean centroid of squared gradients of cells with the image, and its standard error."""
    image = dead_leaves()[:1].tile(1, 1, 2, 2)
    image.requires_grad_()
    planes, tokens = backbone.embed(backbone.normalise(image).expand(-1, 3, -1, -1))
    draw = torch.Generator().manual_seed(0)
    done = 0
    for layer in backbone.layers:
        for block in range(done, layer.after):
            planes, tokens = backbone.run_block(block, planes, tokens, None)
        done = layer.after
        spread = planes.detach().std((0, 1, 2))
        found = []
        for _ in range(_CELLS):
            row, column = torch.randint(
                planes.shape[1] * 3 // 8, planes.shape[1] * 5 // 8, (2,), generator=draw
            ).tolist()
            weights = torch.randn(len(spread), generator=draw) / spread
            (gradient,) = torch.autograd.grad((planes[0, row, column] * weights).sum(), image, retain_graph=True)
            energy = gradient[0, 0].double().square().sum(1 - axis)
            centre = float(energy @ torch.arange(len(energy), dtype=torch.float64) / energy.sum())
            found.append(centre - layer.sampling.stride * (row, column)[axis])
        yield f"{np.mean(found):.1f} ± {np.std(found) / len(found) ** 0.5:.1f}"


if __name__ == "__main__":
    main()
