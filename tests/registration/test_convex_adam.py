"""What ConvexAdam promises beside the package: two dimensions, millimetres, any size, the same on every run."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from featlift.errors import OptionError
from featlift.registration import ConvexAdam, convex_adam, mind
from featlift.registration.convex_adam import cells_of
from featlift.registration.sampling import sampled
from tests.conftest import GOLDEN

SMALL = ConvexAdam(cell=3, reach=3, iterations=30)


@pytest.fixture(scope="module")
def image():
    """A real hippocampus, ``(40, 56, 40)``."""
    return torch.from_numpy(np.load(GOLDEN / "systems" / "registration.npz")["pair0/fixed"]).float()


def shifted(image, *shift):
    """The image whose voxel p shows what `image` shows at p + shift, and the field."""
    field = torch.tensor(shift, dtype=torch.float32)[:, None, None, None].expand(3, *image.shape)
    return sampled(image[None], field)[0], field


def error(field, true):
    edge = tuple(slice(6, -6) if size > 12 else slice(None) for size in field.shape[1:])
    return float((field - true).norm(dim=0)[edge].mean())


def test_sampling_goes_as_far_as_the_field_says(image):
    moved, _ = shifted(image, 2, -3, 1)
    assert torch.allclose(moved[5:-5, 5:-5, 5:-5], image[7:-3, 2:-8, 6:-4], atol=1e-2)


def test_a_slice_is_a_volume_of_depth_one(image):
    slice_ = image[20:21]
    fixed, true = shifted(slice_, 0, 3, -2)
    features = mind(fixed), mind(slice_)
    assert len(features[0]) == 4
    field = convex_adam(*features, settings=SMALL)
    assert not field[0].any()
    assert error(field, true) < 0.5


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_axes_are_alike(image, axis):
    """A turned pair has the turned field, to within ties."""
    cube = image[:, 8:48]
    fixed, _ = shifted(cube, 2, -1, 1)
    field = convex_adam(mind(fixed), mind(cube), settings=SMALL)
    order = [axis, *(each for each in range(3) if each != axis)]
    turned = convex_adam(mind(fixed.permute(order)), mind(cube.permute(order)), settings=SMALL)
    back = turned[np.argsort(order).tolist()].permute(0, *(1 + np.argsort(order)).tolist())
    assert float((back - field).norm(dim=0).mean()) < 0.2


def test_anisotropic_voxels_have_cells_of_like_length(image):
    assert cells_of(6, (32, 128, 128), (3.15, 1.5, 1.5)) == (3, 6, 6)
    assert cells_of(6, (1, 128, 128), (0.1, 2, 2)) == (1, 6, 6)
    thick = F.avg_pool3d(image[None], (2, 1, 1))[0]  # slices twice as thick
    fixed, true = shifted(thick, 1, -2, 2)
    assert error(convex_adam(mind(fixed), mind(thick), (2, 1, 1), SMALL), true) < 0.5


def test_spacing_counts_by_its_proportions(image):
    fixed, _ = shifted(image, 2, -2, 1)
    ends = mind(fixed), mind(image)
    one, other = (convex_adam(*ends, (step, step, step), SMALL) for step in (1, 0.7))
    assert torch.equal(one, other)


def test_sizes_that_no_cell_divides(image):
    odd = image[:37, :53, :38]
    fixed, true = shifted(odd, 2, -2, 1)
    field = convex_adam(mind(fixed), mind(odd), settings=SMALL)
    assert field.shape == (3, 37, 53, 38)
    assert error(field, true) < 0.5


def test_nothing_to_do_and_nothing_to_see(image):
    found = convex_adam(mind(image), mind(image), settings=replace(SMALL, iterations=80))
    assert float(found.norm(dim=0).mean()) < 0.03, "Adam begins with whole cells and comes back"
    empty = torch.zeros(12, 12, 12)
    assert torch.isfinite(convex_adam(mind(empty), mind(empty), settings=SMALL)).all()


def test_the_same_on_every_run(image):
    fixed, _ = shifted(image, 2, -2, 1)
    one, other = (convex_adam(mind(fixed), mind(image), settings=SMALL) for _ in range(2))
    assert torch.equal(one, other)


def test_settings_that_make_no_sense(image):
    for bad in ({"cell": 0}, {"reach": 0}, {"iterations": -1}, {"weight": -1}, {"smoothing": 2}):
        with pytest.raises(OptionError):
            ConvexAdam(**bad)
    with pytest.raises(OptionError, match="alike"):
        convex_adam(mind(image), mind(image[1:]))
    with pytest.raises(OptionError, match="are free"):
        convex_adam(*[torch.zeros(1, 1, 1, 1).expand(1, 512, 512, 512)] * 2, settings=ConvexAdam(cell=1, reach=20))
