"""Folders of trained nnU-Nets, as nnU-Net v2 writes them, with random weights."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from torch import nn

UNETS = "dynamic_network_architectures.architectures.unet"

#: Convolves in plane first, so that strides differ along the axes.
SHAPE = {
    "n_stages": 3,
    "features_per_stage": [4, 8, 12],
    "kernel_sizes": [[1, 3, 3], [3, 3, 3], [3, 3, 3]],
    "strides": [[1, 1, 1], [1, 2, 2], [2, 2, 2]],
    "n_conv_per_stage_decoder": [1, 1],
    "conv_bias": True,
    "norm_op_kwargs": {"eps": 1e-5, "affine": True},
    "dropout_op_kwargs": None,
    "nonlin_kwargs": {"inplace": True},
}
IMPORTED = {
    "conv_op": "torch.nn.modules.conv.Conv3d",
    "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
    "dropout_op": None,
    "nonlin": "torch.nn.LeakyReLU",
}
CT = {"mean": 40.0, "std": 60.0, "percentile_00_5": -100.0, "percentile_99_5": 200.0}


def plans(scheme="CTNormalization", kind="PlainConvUNet", norm=None, masked=False, **changes) -> dict:
    """plans.json of a dataset whose axes nnU-Net brought into another order."""
    convolutions = {"PlainConvUNet": "n_conv_per_stage", "ResidualEncoderUNet": "n_blocks_per_stage"}[kind]
    arguments = {**SHAPE, convolutions: [1, 2, 1], **IMPORTED, **({"norm_op": norm} if norm else {})}
    configuration = {
        "patch_size": [16, 32, 32],
        "spacing": [2.4, 0.9, 0.8],
        "normalization_schemes": [scheme],
        "use_mask_for_norm": [masked],
        "architecture": {
            "network_class_name": f"{UNETS}.{kind}",
            "arch_kwargs": arguments,
            "_kw_requires_import": list(IMPORTED),
        },
        **changes.pop("configuration", {}),
    }
    return {
        "dataset_name": "Dataset998_Balls",
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "foreground_intensity_properties_per_channel": {"0": CT},
        "configurations": {"3d_fullres": configuration},
        **changes,
    }


def network(said: dict, channels: int = 1) -> nn.Module:
    """The network of these plans, built by hand."""
    from dynamic_network_architectures.architectures import unet

    architecture = said["configurations"]["3d_fullres"]["architecture"]
    arguments = dict(architecture["arch_kwargs"])
    for key in IMPORTED:
        arguments[key] = None if arguments[key] is None else getattr(nn, arguments[key].rpartition(".")[2])
    torch.manual_seed(5)
    kind = getattr(unet, architecture["network_class_name"].rpartition(".")[2])
    return kind(input_channels=channels, num_classes=3, deep_supervision=True, **arguments).eval()


def write_model(folder: Path, said: dict, net: nn.Module | None = None, beside: dict | None = None) -> Path:
    """Write a trained model: plans, dataset, and a checkpoint with all that nnU-Net puts into one."""
    folder = folder / "Dataset998_Balls" / "nnUNetTrainer__nnUNetPlans__3d_fullres"
    (folder / "fold_0").mkdir(parents=True, exist_ok=True)
    (folder / "plans.json").write_text(json.dumps(said))
    (folder / "dataset.json").write_text(json.dumps({"channel_names": {"0": "CT"}, "labels": {"background": 0}}))
    net = network(said) if net is None else net
    optimiser = torch.optim.SGD(net.parameters(), 0.01, momentum=0.99)
    checkpoint = {
        "network_weights": net.state_dict(),
        "optimizer_state": optimiser.state_dict(),
        "grad_scaler_state": None,
        "logging": {"ema_fg_dice": [np.float64(0.5)], "train_losses": [np.float32(-0.1)], "lrs": [0.01]},
        "_best_ema": np.float64(0.5),
        "current_epoch": 10,
        "init_args": {"plans": said, "configuration": "3d_fullres", "fold": 0, "device": torch.device("cpu")},
        "trainer_name": "nnUNetTrainer",
        "inference_allowed_mirroring_axes": (0, 1, 2),
        **(beside or {}),
    }
    torch.save(checkpoint, folder / "fold_0" / "checkpoint_final.pth")
    return folder
