"""An nnU-Net trained by nnU-Net's own commands: the encoder is its network, and sees scans as it does."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import featlift as package
from featlift.backbones.torchvision_guard import import_timm
from featlift.config import PreparationConfig
from featlift.encoders import load_encoder
from featlift.extraction.network import preparation_of
from featlift.volumes import prepare, read
from tests.support.nnunet_commands import environment, run, write_dataset, write_thick_cases

pytestmark = pytest.mark.soak
pytest.importorskip("nnunetv2", reason="nnU-Net is not installed: make build/nnunet")


@dataclass(frozen=True)
class Trained:
    """A model's folder, what nnU-Net makes of it, and a scan."""

    folder: Path
    predictor: object
    scan: Path

    @property
    def model(self) -> str:
        return f"nnunet:{self.folder}"


@pytest.fixture(scope="module", params=["thick", "hippocampus"])
def trained(request, tmp_path_factory, nnunet_path):
    """Ten iterations on five cases: of thick coronal slices as CT, or of real MR."""
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == "hippocampus":
        data = request.getfixturevalue("shared") / "hippocampus"
        names = sorted(file.name for file in (data / "images").iterdir())[:5]
        cases = {name.partition(".")[0]: (data / "images" / name, data / "labels" / name) for name in names}
    else:
        cases = write_thick_cases(folder / "cases", 5)
    write_dataset(folder / "raw" / "Dataset998_Small", "MRI" if request.param == "hippocampus" else "CT", cases)
    where = environment(folder, nnunet_path)
    run("nnUNetv2_plan_and_preprocess", "-d", "998", "-c", "3d_fullres", "-npfp", "1", "-np", "1", where=where)
    run("nnUNetv2_train", "998", "3d_fullres", "all", "-tr", "TenIterations", "-device", "cpu", where=where)
    model = folder / "results" / "Dataset998_Small" / "TenIterations__nnUNetPlans__3d_fullres"
    with pytest.MonkeyPatch.context() as patch:
        for name, value in where.items():
            if name.startswith("nnUNet"):
                patch.setenv(name, value)
        import_timm()  # before nnU-Net does, which a torchvision of CUDA would stop
        from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

        predictor = nnUNetPredictor(device=torch.device("cpu"))
        predictor.initialize_from_trained_model_folder(str(model), ("all",))
    predictor.network.eval()
    return Trained(model, predictor, next(iter(cases.values()))[0])


def every_layer(trained, **how):
    count = len(trained.predictor.network.encoder.stages)
    return load_encoder(trained.model, layers=tuple(range(count)), device="cpu", **how)


def preprocessed(trained):
    """The scan as nnU-Net itself prepares it, ``(C, D, H, W)`` along its axes."""
    from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor

    its = trained.predictor
    data, _, _ = DefaultPreprocessor(verbose=False).run_case(
        [str(trained.scan)], None, its.plans_manager, its.configuration_manager, its.dataset_json
    )
    return np.asarray(data)


def as_given(encoder, normalised):
    """What the encoder takes, ``(1, C, D, H, W)`` along the scan's axes, where its network sees this."""
    mean, std = (torch.tensor(values)[:, None, None, None] for values in (encoder.mean, encoder.std))
    return encoder.axes.of_volume((normalised * std + mean)[None])


def test_features_are_those_of_the_network(trained):
    encoder = every_layer(trained)
    patch = trained.predictor.configuration_manager.patch_size
    data = torch.from_numpy(preprocessed(trained)).float()
    short = [max(0, length - size) for length, size in zip(patch, data.shape[1:], strict=True)]
    data = nn.functional.pad(data, [each for size in reversed(short) for each in (0, size)])
    data = data[:, : patch[0], : patch[1], : patch[2]]
    with torch.no_grad():
        wanted = trained.predictor.network.encoder(data[None])
    found = encoder(as_given(encoder, data)).layers
    assert len(found) == len(wanted) > 2
    for index, values in enumerate(wanted):
        torch.testing.assert_close(encoder.axes.to_network(found[index].dense), values, atol=1e-5, rtol=1e-5)


def test_a_scan_is_prepared_as_nnunet_does(trained):
    encoder = every_layer(trained)
    scan = torch.from_numpy(prepare(read(trained.scan), preparation_of(PreparationConfig(), encoder)).scan)
    mean, std = (torch.tensor(values)[:, None, None, None] for values in (encoder.mean, encoder.std))
    np.testing.assert_allclose(
        encoder.axes.to_network(((scan - mean) / std)[None])[0], preprocessed(trained), atol=1e-4
    )


def with_fixed_statistics(encoder, given):
    """Instance norms make every cell depend on every voxel; here they keep the statistics of one pass."""
    for parent in list(encoder.stages.modules()):
        for name, norm in list(parent.named_children()):
            if isinstance(norm, nn.InstanceNorm3d):
                fixed = nn.BatchNorm3d(norm.num_features, norm.eps, momentum=1.0)
                fixed.load_state_dict(norm.state_dict(), strict=False)
                setattr(parent, name, fixed.requires_grad_(False))
    encoder.stages.train()
    encoder(given)
    encoder.stages.eval()


def seen_by(encoder, layer, cell, given):
    """First and last voxel (d, h, w) that a cell hears of."""
    given = given.clone().requires_grad_()
    encoder(given).layers[layer.index].dense[(0, slice(None), *cell)].square().sum().backward()
    places = torch.nonzero(given.grad[0, 0])
    first, last = places.min(0).values, places.max(0).values
    assert (first > 0).all()
    assert all(end < size - 1 for end, size in zip(last.tolist(), given.shape[2:], strict=True))
    return first, last


def test_cells_lie_in_the_patient_where_they_look(trained, tmp_path, featlift):
    """An impulse is felt by the cells whose field it lies in; the affine puts them into the middle of that field."""
    layers = ",".join(str(layer.index) for layer in every_layer(trained).feature_layers)
    options = ("--mode", "native", "--model", trained.model, "--layers", layers, "--device", "cpu")
    done = featlift("extract", trained.scan, *options)
    assert done.returncode == 0, done.stderr
    case = next(iter(package.open_store(tmp_path / "features.zarr").values()))
    encoder = every_layer(trained, tile=[8 * step for step in every_layer(trained).size_multiple])
    given = torch.rand(1, 1, *encoder.tile)
    with_fixed_statistics(encoder, given)
    for layer in encoder.feature_layers:
        cell = [size // stride // 2 for size, stride in zip(encoder.tile, layer.stride, strict=True)]
        first, last = seen_by(encoder, layer, cell, given)
        middle = [*((first + last) / 2).tolist(), 1]
        np.testing.assert_allclose(case.layers[layer.index].affine @ [*cell, 1], case.scan_affine @ middle, atol=1e-4)


def test_tiles_are_the_whole_within_the_tolerance(trained):
    """As docs/how-to/native-encoders.md states it of cells that see less than half a tile, once norms do not take their
    statistics from the tile."""
    encoder = every_layer(trained)
    patch, step = encoder.tile, encoder.size_multiple
    scan = as_given(encoder, torch.from_numpy(preprocessed(trained)).float())
    shape = [2 * size for size in patch]
    more = [(0, max(0, size - had)) for size, had in zip(shape, scan.shape[2:], strict=True)]
    large = np.pad(scan[0, 0], more, mode="symmetric")[: shape[0], : shape[1], : shape[2]]
    large = torch.from_numpy(np.ascontiguousarray(large))[None, None]
    with_fixed_statistics(encoder, large)
    tiled = {index: layer.dense for index, layer in encoder(large).layers.items()}
    encoder.tile = tuple(large.shape[2:])
    whole = {index: layer.dense for index, layer in encoder(large).layers.items()}
    encoder.tile = tuple(8 * each for each in step)
    judged = 0
    for layer in encoder.feature_layers:
        cell = [size // stride // 2 for size, stride in zip(encoder.tile, layer.stride, strict=True)]
        first, last = seen_by(encoder, layer, cell, torch.rand(1, 1, *encoder.tile))
        sees = [end - start + 1 for start, end in zip(first.tolist(), last.tolist(), strict=True)]
        if all(2 * width < size for width, size in zip(sees, patch, strict=True)):
            apart = (tiled[layer.index] - whole[layer.index]).abs() / whole[layer.index].std()
            assert apart.square().mean().sqrt() < 0.01
            assert apart.max() < 0.2
            judged += 1
    assert judged >= 2
