"""From features to what the store keeps of a volume."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from featlift.backbones.backbone import Layer
from featlift.lifting import Features, LayerFeatures, LiftedBackbone
from featlift.store import CaseData, LayerData
from featlift.volumes import Prepared, Scan
from featlift.volumes.grid import Shape, cells_within
from featlift.volumes.loading import Loaded
from featlift.volumes.volume import scaled, spacing_of


def assemble(
    loaded: Loaded, lifted: LiftedBackbone, features: Features, number: int, padding: tuple[int, int]
) -> CaseData:
    """Everything that is stored of one volume, padded cells left out of every mean.

    Args:
        loaded: the volume.
        lifted: the network that saw it.
        features: of the volumes that were lifted with it.
        number: its place among them.
        padding: voxels added at the end of height and width.
    """
    scan, prepared = loaded.scan, loaded.prepared
    of_layers = {index: _one_of(layer, number) for index, layer in features.layers.items()}
    layers = [_layer(layer, of_layers[layer.index], prepared, norm=lifted.norm) for layer in lifted.layers]
    deepest = of_layers[layers[-1].index]
    embedding, parts = _embedding(layers[-1], deepest, lifted.backbone.token_names)
    affine = prepared.affine
    attributes: dict[str, Any] = {
        "source": {"name": scan.name, **(loaded.source or {})},
        "selection": selection_of(scan),
        "notes": loaded.notes,
        "modality": loaded.modality,
        "shape_read": list(prepared.shape_read),
        "shape": list(prepared.shape),
        "affine": None if affine is None else affine.tolist(),
        "space": None if affine is None else "LPS, millimetre",
        "spacing": None if affine is None else list(spacing_of(affine)),
        "box": None if prepared.box is None else {"start": list(prepared.box.start), "shape": list(prepared.box.shape)},
        "windows": [list(window) for window in prepared.windows],
        "padding": {"after": [0, *padding], "mode": "edge"},
    }
    scan_array = prepared.scan[0] if len(prepared.scan) == 1 else prepared.scan
    return CaseData(scan.id, scan_array, layers, embedding, parts, lifted.backbone.token_names, attributes)


def selection_of(scan: Scan) -> dict[str, Any]:
    """What of its files a scan is: arrays and frames, and the region's centre."""
    parts = [{"key": source.key, "frame": source.frame} for source in scan.sources]
    return {"parts": parts, "centre": None if scan.centre is None else list(scan.centre)}


def _one_of(layer: LayerFeatures, number: int) -> LayerFeatures:
    return LayerFeatures(layer.dense[number : number + 1], layer.tokens[number : number + 1])


def _layer(layer: Layer, features: LayerFeatures, prepared: Prepared, norm: bool) -> LayerData:
    valid = valid_cells(prepared.shape, layer)
    dense = features.dense[0]
    stride, offset = layer.sampling.stride, layer.sampling.offset
    affine = None
    if prepared.affine is not None:
        affine = scaled(prepared.affine, (1, stride, stride), (0, offset, offset)).tolist()
    attributes = {
        "layer": layer.index,
        "module": layer.name,
        "norm": norm,
        "stride": [1, stride, stride],
        "offset": [0, offset, offset],
        "valid": list(valid),
        "affine": affine,
    }
    slice_mean = dense[:, :, : valid[1], : valid[2]].mean(dim=(2, 3), dtype=torch.float32).T
    return LayerData(layer.index, _rounded(dense), _rounded(features.tokens[0]), slice_mean.cpu().numpy(), attributes)


def valid_cells(shape: Shape, layer: Layer) -> Shape:
    """(d, h, w) of the cells that are centred in the scan; those beyond are padding."""
    stride, offset = layer.sampling.stride, layer.sampling.offset
    return shape[0], cells_within(shape[1], stride, offset), cells_within(shape[2], stride, offset)


def _embedding(
    layer: LayerData, features: LayerFeatures, token_names: tuple[str, ...]
) -> tuple[NDArray[np.float32], dict[str, list[int]]]:
    """One vector a volume: mean class token over the slices, if there is one, then mean patch token."""
    means = {"patch-mean": layer.slice_mean.mean(axis=0)}
    if token_names[:1] == ("cls",):
        means = {"cls-mean": features.tokens[0, :, 0].mean(dim=0, dtype=torch.float32).cpu().numpy(), **means}
    ends = np.cumsum([len(mean) for mean in means.values()]).tolist()
    parts = {name: [end - len(mean), end] for (name, mean), end in zip(means.items(), ends, strict=True)}
    return np.concatenate(list(means.values())), parts


def _rounded(values: torch.Tensor) -> NDArray[np.float16]:
    """In the type of the store, rounded where the values are: half as much to bring over from an accelerator."""
    return values.to(torch.float16).cpu().numpy()
