"""What tests share. Everything here works on a bare clone; real cohorts are used where they are at hand."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from featlift.backbones.backbone import Backbone
from featlift.cli.main import main
from tests.support.networks import load_backbone

GOLDEN = Path(__file__).parent / "golden"
SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
GOLDEN_MODEL = {"embed_dim": 128, "depth": 6, "num_heads": 2, "mlp_ratio": 2}


@pytest.fixture(scope="session", autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What is measured of networks is remembered for the tests alone, and nothing of it outside of them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


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


@dataclass(frozen=True)
class Done:
    """A command that ran."""

    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def featlift(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Done]:
    """Run the command line in a temporary folder: the real entry point, without the wait for a new interpreter.

    Nor for reading processes, unless a test gives ``--workers``.
    """
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FEATLIFT_WORKERS", "0")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")

    def run(*arguments: object) -> Done:
        monkeypatch.setattr(sys, "argv", ["featlift", *map(str, arguments)])
        out, err, code = io.StringIO(), io.StringIO(), 0
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                main()
            except SystemExit as stop:
                code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
        return Done(code, out.getvalue(), err.getvalue())

    return run


@pytest.fixture
def featlift_process(tmp_path: Path) -> Callable[..., Done]:
    """Run the command line as a process of its own."""

    def run(*arguments: object, **environment: str) -> Done:
        done = subprocess.run(
            [sys.executable, "-m", "featlift.cli.main", *map(str, arguments)],
            cwd=tmp_path,
            env={**os.environ, "HF_HUB_OFFLINE": "1", **environment},
            capture_output=True,
            text=True,
            check=False,
        )
        return Done(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture(autouse=True)
def _deterministic() -> None:
    torch.manual_seed(0)
