"""A scan arrives at the network as nnU-Net's own preprocessing brings it there."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from featlift.config import PreparationConfig
from featlift.encoders import load_encoder
from featlift.extraction.network import preparation_of
from featlift.volumes import Volume, prepare
from tests.support.trained_nnunet import plans, write_model

pytest.importorskip("nnunetv2", reason="nnU-Net is not installed")

RESAMPLING = {
    f"resampling_fn_{what}{end}": value
    for what, order in (("data", 3), ("seg", 1), ("probabilities", 1))
    for end, value in (
        ("", "resample_data_or_seg_to_shape"),
        ("_kwargs", {"is_seg": what == "seg", "order": order, "order_z": 0, "force_separate_z": None}),
    )
}


@pytest.mark.parametrize("order", [[0, 1, 2], [2, 0, 1]])
@pytest.mark.parametrize(
    ("scheme", "masked"),
    [
        ("CTNormalization", False),
        ("ZScoreNormalization", False),
        ("ZScoreNormalization", True),
        ("RescaleTo01Normalization", False),
    ],
)
def test_preprocessing_is_that_of_nnunet(tmp_path, scheme, masked, order):
    from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    backward = [order.index(axis) for axis in range(3)]
    said = plans(scheme, masked=masked, transpose_forward=order, transpose_backward=backward, configuration=RESAMPLING)
    encoder = load_encoder(f"nnunet:{write_model(tmp_path, said)}", device="cpu")
    array = 400 * gaussian_filter(np.random.default_rng(0).normal(size=(18, 40, 36)), 1) + 300
    array[:3] = array[:, :4] = 0
    array = array.astype(np.float32)
    spacing = (3.0, 0.7, 0.7)
    scan = prepare(Volume(array, np.diag([*spacing, 1.0])), preparation_of(PreparationConfig(), encoder)).scan
    normalised = (torch.from_numpy(scan)[None] - encoder.mean[0]) / encoder.std[0]
    manager = PlansManager(said)
    theirs, _, _ = DefaultPreprocessor(verbose=False).run_case_npy(
        array[None], None, {"spacing": list(spacing)}, manager, manager.get_configuration("3d_fullres"), {}
    )
    np.testing.assert_allclose(encoder.axes.to_network(normalised)[0], theirs, atol=1e-5)
