"""Plans of a trained nnU-Net v2: what it sees of a scan, and how it is built. Nothing of them is executed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from featlift.encoders.axes import Axes
from featlift.errors import InputError, ModelError

#: Kinds of networks in plans before nnU-Net 2.4, which wrote their arguments out.
_BEFORE = {"PlainConvUNet": "n_conv_per_stage", "ResidualEncoderUNet": "n_blocks_per_stage"}
_UNETS = "dynamic_network_architectures.architectures.unet"

#: Which way the network's axes run, by nnU-Net's reader: as in the file, or brought to RAS.
_OF_READERS = {"NibabelIOWithReorient": "RAS", "SimpleITKIOWithReorient": "RAS"}
_RESAMPLING = "resample_data_or_seg_to_shape"
_AXES = ("file", "LPS", "RAS")


@dataclass(frozen=True)
class Plans:
    """What plans.json and dataset.json say of one configuration.

    Attributes:
        dataset: its name.
        configuration: such as ``3d_fullres``.
        channels: images of a case.
        patch: voxels along the network's axes.
        axes: which of a volume's axes are the network's.
        runs: which way these run: ``file``, ``LPS`` or ``RAS``.
        preparation: orientation, intensities, crop and spacing, as options of a `Preparation`.
        mean, std: of each channel, after that.
        network: path of the class.
        arguments: of the class; those of `imported` are paths of classes.
        imported: names of arguments.
        sha256: of all that was used.
    """

    dataset: str
    configuration: str
    channels: int
    patch: tuple[int, int, int]
    axes: Axes
    runs: str
    preparation: dict[str, Any]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    network: str
    arguments: dict[str, Any]
    imported: tuple[str, ...]
    sha256: str


def read_plans(folder: Path, configuration: str | None = None, runs: str | None = None) -> Plans:
    """The plans of a model's folder.

    Args:
        folder: with plans.json and dataset.json.
        configuration: None goes by the folder's name, or takes ``3d_fullres``.
        runs: which way the axes of the scans ran that it was trained on; None goes by nnU-Net's reader.

    Raises:
        InputError: no such folder or files.
        ModelError: plans of nnU-Net v1, a configuration that is not there or flat, or what featlift does not do.
    """
    if not (folder / "plans.json").is_file() and list(folder.glob("plans*.pkl")):
        raise ModelError(f"{folder.name} is of nnU-Net v1, whose plans are pickles: train it with v2, or convert it")
    plans, dataset = _json(folder / "plans.json"), _json(folder / "dataset.json")
    if "configurations" not in plans:
        raise ModelError(f"{folder.name}: plans.json has no configurations, so it is not of nnU-Net v2")
    named = configuration or folder.name.rpartition("__")[2]
    name = named if configuration or named in plans["configurations"] else "3d_fullres"
    try:
        chosen = _configuration(plans["configurations"], name, folder.name)
        return _plans(plans, dataset, name, chosen, runs, folder.name)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ModelError(
            f"{folder.name}: plans.json or dataset.json is not as nnU-Net v2 writes it "
            f"({type(error).__name__}: {error})"
        ) from error


def _plans(
    plans: Mapping[str, Any],
    dataset: Mapping[str, Any],
    name: str,
    chosen: Mapping[str, Any],
    runs: str | None,
    of: str,
) -> Plans:
    if len(chosen["patch_size"]) != 3:
        raise ModelError(f"{of}: configuration {name} is flat; give a 3D one with --model-arg configuration=3d_fullres")
    channels = len(dataset["channel_names"])
    if channels not in (1, 3):
        raise ModelError(f"{of} takes {channels} images of a case, and featlift reads one or three")
    reader = str(plans.get("image_reader_writer", ""))
    runs = runs or _OF_READERS.get(reader, "file")
    if runs not in _AXES:
        raise ModelError(f"{of}: axes={runs!r}: choose one of {', '.join(_AXES)}")
    forward = tuple(int(axis) for axis in plans["transpose_forward"])
    axes = Axes(forward, (False, runs == "RAS", runs == "RAS"))  # type: ignore[arg-type]
    spacing = [float(step) for step in chosen["spacing"]]
    intensity, mean, std = _intensities(plans, chosen, channels, of)
    network, arguments, imported = _network(chosen, of)
    used = {"channels": channels, "runs": runs, "transpose_forward": forward, "configuration": chosen}
    used["intensities"] = plans.get("foreground_intensity_properties_per_channel")
    d, h, w = (int(size) for size in chosen["patch_size"])
    return Plans(
        str(plans.get("dataset_name", of)),
        name,
        channels,
        (d, h, w),
        axes,
        runs,
        {
            "orient": "native" if runs == "file" else "LPS",
            "intensity": intensity,
            "crop": "nonzero",
            "spacing": tuple(spacing[forward.index(axis)] for axis in range(3)),
            "resampling": "cubic" if _is_cubic(chosen) else "linear",
        },
        mean,
        std,
        network,
        arguments,
        imported,
        hashlib.sha256(json.dumps(used, sort_keys=True).encode()).hexdigest(),
    )


def _is_cubic(chosen: Mapping[str, Any]) -> bool:
    """Whether scans are resampled as nnU-Net does by default."""
    how = {"order": 3, "order_z": 0, "force_separate_z": None} | dict(chosen.get("resampling_fn_data_kwargs", {}))
    default = str(chosen.get("resampling_fn_data", _RESAMPLING)) == _RESAMPLING
    return default and (how["order"], how["order_z"], how["force_separate_z"]) == (3, 0, None)


def _configuration(configurations: Mapping[str, Any], name: str, of: str, seen: tuple[str, ...] = ()) -> dict[str, Any]:
    """A configuration with what it inherits."""
    if name not in configurations or name in seen:
        known = ", ".join(each for each in configurations if each.startswith("3d"))
        raise ModelError(f"{of} has no configuration {name!r}: give --model-arg configuration= one of {known}")
    own = dict(configurations[name])
    if (above := own.pop("inherits_from", None)) is None:
        return own
    return {**_configuration(configurations, above, of, (*seen, name)), **own}


def _intensities(
    plans: Mapping[str, Any], chosen: Mapping[str, Any], channels: int, of: str
) -> tuple[str, tuple[float, ...], tuple[float, ...]]:
    """The intensities of the channels as `featlift.volumes.Intensity` writes them, and mean and std of what they give.

    CTNormalization clips to two percentiles of the training scans, then takes the mean and divides by the deviation of
    these: the first is a window, the second follows in the units of that window.
    """
    rules, means, stds = [], [], []
    for channel in range(channels):
        scheme = str(chosen["normalization_schemes"][channel])
        mean, std = 0.0, 1.0
        if scheme == "CTNormalization":
            known = plans["foreground_intensity_properties_per_channel"][str(channel)]
            low, high = float(known["percentile_00_5"]), float(known["percentile_99_5"])
            rules.append(f"window:{low},{high}")
            mean, std = (float(known["mean"]) - low) / (high - low), max(float(known["std"]), 1e-8) / (high - low)
        elif scheme == "ZScoreNormalization":
            rules.append("zscore:nonzero" if chosen["use_mask_for_norm"][channel] else "zscore")
        elif scheme in _PLAIN:
            rules.append(_PLAIN[scheme])
        else:
            raise ModelError(f"{of}: normalisation {scheme} is none that featlift knows")
        means.append(mean)
        stds.append(std)
    if channels > 1 and "zscore:nonzero" in rules:
        raise ModelError(f"{of}: it normalises several images within one mask of theirs, which featlift does not")
    return ";".join(rules if len(set(rules)) > 1 else rules[:1]), tuple(means), tuple(stds)


_PLAIN = {"RescaleTo01Normalization": "minmax", "RGBTo01Normalization": "window:0,255", "NoNormalization": "none"}


def _network(chosen: Mapping[str, Any], of: str) -> tuple[str, dict[str, Any], tuple[str, ...]]:
    """Path, arguments and imported arguments of the network; of plans before 2.4 as nnU-Net itself reads them."""
    if "architecture" in chosen:
        said = chosen["architecture"]
        return str(said["network_class_name"]), dict(said["arch_kwargs"]), tuple(said["_kw_requires_import"])
    kind = str(chosen["UNet_class_name"])
    if kind not in _BEFORE:
        raise ModelError(f"{of}: network {kind} of its plans is none that featlift builds: {', '.join(_BEFORE)}")
    stages = len(chosen["n_conv_per_stage_encoder"])
    most, first = chosen["unet_max_num_features"], chosen["UNet_base_num_features"]
    arguments = {
        "n_stages": stages,
        "features_per_stage": [min(first * 2**stage, most) for stage in range(stages)],
        "conv_op": "torch.nn.modules.conv.Conv3d",
        "kernel_sizes": chosen["conv_kernel_sizes"],
        "strides": chosen["pool_op_kernel_sizes"],
        _BEFORE[kind]: chosen["n_conv_per_stage_encoder"],
        "n_conv_per_stage_decoder": chosen["n_conv_per_stage_decoder"],
        "conv_bias": True,
        "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
        "norm_op_kwargs": {"eps": 1e-5, "affine": True},
        "dropout_op": None,
        "dropout_op_kwargs": None,
        "nonlin": "torch.nn.LeakyReLU",
        "nonlin_kwargs": {"inplace": True},
    }
    return f"{_UNETS}.{kind}", arguments, ("conv_op", "norm_op", "dropout_op", "nonlin")


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(
            f"{path}: {error.strerror}; nnunet:FOLDER is the folder of a trained model, with plans.json, dataset.json "
            "and fold_0"
        ) from error
    except ValueError as error:
        raise ModelError(f"{path}: no JSON: {error}") from error
    if not isinstance(found, dict):
        raise ModelError(f"{path}: nothing that nnU-Net writes")
    return found
