"""Networks that tests of lifting share."""

import pytest

from tests.support.networks import load_backbone
from tests.support.scans import PATCH_MEAN_MODEL, patch_mean_options


@pytest.fixture
def patch_mean(tmp_path):
    """A network whose first feature is the mean of its patch of 4 pixels."""
    patch_mean_options(tmp_path, patch=4)
    arguments = {"img_size": 32, "patch_size": 4, "embed_dim": 8, "depth": 1, "num_heads": 1}
    return load_backbone(PATCH_MEAN_MODEL, tmp_path / "patch_mean.safetensors", **arguments)
