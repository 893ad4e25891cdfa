"""nnU-Net lies in a folder of its own (`make build/nnunet`): it asks for an older timm than featlift is tested with."""

import sys
from pathlib import Path

import pytest

NNUNET = Path(__file__).resolve().parents[2] / "build" / "nnunet"
if NNUNET.is_dir():
    sys.path.append(str(NNUNET))  # last, so that nothing else comes from there that is installed


@pytest.fixture(scope="session")
def nnunet_path() -> Path:
    """Where processes find nnU-Net, if not where everything else is."""
    return NNUNET
