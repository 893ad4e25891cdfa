"""What tests share. Everything here works on a bare clone; real cohorts are used where they are at hand."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from featlift import load_backbone
from featlift.backbones.backbone import Backbone

GOLDEN = Path(__file__).parent / "golden"
SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
GOLDEN_MODEL = {"embed_dim": 128, "depth": 6, "num_heads": 2, "mlp_ratio": 2}


@pytest.fixture(scope="session")
def golden() -> dict[str, np.ndarray]:
    """Outputs of the reference (see tests/golden/README.md)."""
    return dict(np.load(GOLDEN / "golden.npz"))


@pytest.fixture(scope="session")
def golden_backbone() -> Backbone:
    """The tiny DINOv3-style ViT of the golden outputs."""
    return load_backbone("vits16", GOLDEN / "weights.safetensors", **GOLDEN_MODEL)


@pytest.fixture(scope="session")
def tiny_vit() -> Backbone:
    """Three seeded blocks with learned positions and a LayerScale that lets them matter."""
    return load_backbone("vit_tiny_patch16_224", "random:0", depth=3, init_values=0.5)


@pytest.fixture(scope="session")
def lite0() -> Backbone:
    """EfficientNet-Lite0 with its ImageNet weights."""
    return load_backbone("efficientnet-lite0")


@pytest.fixture(scope="session")
def shared() -> Path:
    """Real scans with labels."""
    if not SHARED.is_dir():
        pytest.skip("the folder of real scans is not beside this checkout")
    return SHARED


@pytest.fixture
def featlift(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run the real command in a temporary folder."""

    def run(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "featlift.cli.main", *map(str, arguments)],
            cwd=tmp_path,
            env={**os.environ, "HF_HUB_OFFLINE": "1", **environment},
            capture_output=True,
            text=True,
            check=False,
        )

    return run


@pytest.fixture(autouse=True)
def _deterministic() -> None:
    torch.manual_seed(0)
