"""What `lift` accepts, returns and refuses."""

import pytest
import torch

from featlift import lift
from featlift.errors import FeatliftError, LiftingError


def test_shapes(golden_backbone):
    features = lift(golden_backbone, layers=(2, -1))(torch.rand(2, 1, 3, 32, 48))
    assert list(features.layers) == [2, 5]
    assert features.dense.shape == (2, 128, 3, 2, 3)
    assert features.tokens.shape == (2, 3, 5, 128)
    assert features.dense is features.layers[5].dense
    assert lift(golden_backbone, "3d")(torch.rand(2, 1, 3, 32, 48)).tokens.shape == (2, 1, 5, 128)


def test_shapes_of_a_cnn(lite0):
    features = lift(lite0, layers=("stride16", -1))(torch.rand(1, 3, 2, 64, 96))
    assert {index: layer.dense.shape for index, layer in features.layers.items()} == {
        3: (1, 112, 2, 4, 6),
        4: (1, 320, 2, 2, 3),
    }
    assert features.tokens.shape == (1, 2, 0, 320)


def test_layers_are_absolute_sorted_and_once(golden_backbone):
    lifted = lift(golden_backbone, layers=(-1, 0, 5, "3"))
    assert [layer.index for layer in lifted.layers] == [0, 3, 5]


def test_cycle_in_words(golden_backbone):
    assert lift(golden_backbone, cycle=" hw,DW ").cycle == ("HW", "DW")
    assert lift(golden_backbone).cycle == ("HW", "DW", "DH", "HW")
    assert lift(golden_backbone, "2d").cycle == ("HW",)


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ({"mode": "4d"}, "pcg"),
        ({"cycle": "HW,XY"}, "'XY' is no plane"),
        ({"cycle": ""}, "no plane"),
        ({"mode": "2d", "cycle": "HW"}, "visits no planes"),
        ({"mode": "3d", "token_pooling": "direct"}, "visits no planes"),
        ({"token_pooling": "sum"}, "depth or direct"),
        ({"layers": (6,)}, "layers 0 to 5"),
        ({"layers": (-7,)}, "layers 0 to 5"),
        ({"layers": ("stride8",)}, "stride16"),
        ({"layers": ("last",)}, "layers 0 to 5"),
        ({"layers": ()}, "at least one"),
        ({"plane_batch": 0}, "at least 1"),
    ],
)
def test_refuses(golden_backbone, how, says):
    with pytest.raises(LiftingError, match=says):
        lift(golden_backbone, **how)


@pytest.mark.parametrize("name", ["tiny_vit", "lite0"])
def test_3d_needs_dinov3_rope(request, name):
    with pytest.raises(LiftingError, match="mode 3d needs"):
        lift(request.getfixturevalue(name), "3d")


@pytest.mark.parametrize("shape", [(1, 3, 32, 32), (1, 2, 3, 32, 32), (1, 1, 0, 32, 32), (1, 1, 3, 32, 40)])
def test_volumes_that_do_not_fit(golden_backbone, shape):
    with pytest.raises(LiftingError, match="volume of shape"):
        lift(golden_backbone)(torch.zeros(shape))


def test_errors_are_one_family():
    assert issubclass(LiftingError, FeatliftError)
    assert issubclass(LiftingError, ValueError)


def test_features_are_shown_in_one_line(tiny_vit):
    features = lift(tiny_vit, mode="2d", layers=(0, -1))(torch.rand(1, 1, 2, 32, 48))
    channels = tiny_vit.layers[-1].channels
    one = f"dense 1 x {channels} x 2 x 2 x 3, tokens 1 x 2 x 1 x {channels}"
    assert repr(features) == f"<features, layer 0: {one}; layer 2: {one}>"
