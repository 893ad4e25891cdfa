"""Scans that tests write, and a backbone whose features can be checked by hand."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from safetensors.torch import save_file

from featlift.backbones.torchvision_guard import import_timm

#: An affine (RAS, as NIfTI stores it) that is oblique, anisotropic and flipped in one axis.
OBLIQUE = np.array([[-0.8, 0.15, 0.1, 40.0], [0.1, 0.9, -0.5, -60.0], [-0.05, 0.3, 2.4, 15.0], [0.0, 0.0, 0.0, 1.0]])

PATCH_MEAN_MODEL = "vit_tiny_patch16_224"


def write_nifti(path: Path, array: np.ndarray, affine: np.ndarray = OBLIQUE) -> Path:
    """Write an array indexed (i, j, k)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(array, affine), path)
    return path


def write_scan(path: Path, seed: int = 0, shape: tuple[int, int, int] = (40, 36, 6)) -> Path:
    """Write smooth seeded noise as int16."""
    noise = np.random.default_rng(seed).normal(size=shape)
    smooth = sum(np.roll(noise, shift, axis) for shift in range(3) for axis in range(3))
    return write_nifti(path, (200 * smooth).astype(np.int16))


def patch_mean_options(folder: Path, patch: int = 2, constant: float = 0) -> list[str]:
    """Options of `featlift extract` for a ViT whose only feature, on every patch, is its mean intensity in [0, 1].

    Its one block passes everything through. A second feature is constant: with it, intensities differ in direction.
    """
    arguments = {"img_size": 32, "patch_size": patch, "embed_dim": 8, "depth": 1, "num_heads": 1}
    net = import_timm().create_model(PATCH_MEAN_MODEL, num_classes=0, **arguments)
    state = {key: torch.zeros_like(value) for key, value in net.state_dict().items()}
    std, mean = (torch.tensor(net.pretrained_cfg[name]) for name in ("std", "mean"))
    state["patch_embed.proj.weight"][0] = (std / (3 * patch**2)).view(3, 1, 1)  # undoes the normalisation
    state["patch_embed.proj.bias"][0] = mean.mean()
    state["patch_embed.proj.bias"][1] = constant
    weights = folder / "patch_mean.safetensors"
    save_file(state, weights)
    options = [option for key, value in arguments.items() for option in ("--model-arg", f"{key}={value}")]
    return ["--model", PATCH_MEAN_MODEL, "--weights", str(weights), "--no-norm", "--precision", "fp32", *options]
