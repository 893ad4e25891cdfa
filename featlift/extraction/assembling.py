"""From features to what the store keeps of a volume."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from featlift.lifting import FeatureLayer, Features, LayerFeatures, VolumeEncoder
from featlift.store import CaseData, LayerData
from featlift.store.output_spec import OutputSpec
from featlift.store.reduction import recorded, reduce
from featlift.volumes import Prepared, Scan
from featlift.volumes.grid import Shape, cells_within
from featlift.volumes.loading import Loaded
from featlift.volumes.volume import scaled, spacing_of


def assemble(
    loaded: Loaded,
    encoder: VolumeEncoder,
    features: Features,
    number: int,
    padding: Shape,
    keeping: OutputSpec,
) -> CaseData:
    """What is stored of one volume, padded cells left out of every mean.

    Args:
        loaded: the volume.
        encoder: what saw it.
        features: of the volumes that were lifted with it.
        number: its place among them.
        padding: voxels added at the end of depth, height and width.
        keeping: what is kept.
    """
    scan, prepared = loaded.scan, loaded.prepared
    token_names = encoder.token_names
    of_layers = {index: _one_of(layer, number) for index, layer in features.layers.items()}
    means = {layer.index: _slice_mean(layer, of_layers[layer.index], prepared) for layer in encoder.feature_layers}
    layers = [
        _layer(layer, of_layers[layer.index], prepared, encoder.normed, keeping) for layer in encoder.feature_layers
    ]
    if "slice_mean" in keeping.save:
        layers = [replace(layer, slice_mean=means[layer.index]) for layer in layers]
    deepest = encoder.feature_layers[-1]
    names = keeping.parts_of_embedding(token_names)
    embedding, parts = _embedding(means[deepest.index], of_layers[deepest.index], names, deepest.parts)
    affine = prepared.affine
    attributes: dict[str, Any] = {
        "source": {"name": scan.name, **(loaded.source or {})},
        "selection": selection_of(scan),
        "notes": loaded.notes,
        "modality": loaded.modality,
        "shape_read": list(prepared.shape_read),
        "affine_read": None if prepared.affine_read is None else prepared.affine_read.tolist(),
        "shape": list(prepared.shape),
        "affine": None if affine is None else affine.tolist(),
        "space": None if affine is None else "LPS, millimetre",
        "spacing": None if affine is None else list(spacing_of(affine)),
        "box": None if prepared.box is None else {"start": list(prepared.box.start), "shape": list(prepared.box.shape)},
        "windows": [list(window) for window in prepared.windows],
        "padding": {"after": list(padding), "mode": "edge"},
    }
    scan_array = prepared.scan[0] if len(prepared.scan) == 1 else prepared.scan
    return CaseData(
        scan.id,
        scan_array if "scan" in keeping.save else None,
        layers,
        embedding if "embedding" in keeping.save else None,
        parts,
        token_names,
        attributes,
        keeping.dtype,
    )


def selection_of(scan: Scan) -> dict[str, Any]:
    """What of its files a scan is: arrays and frames, and the region's centre."""
    parts = [{"key": source.key, "frame": source.frame} for source in scan.sources]
    return {"parts": parts, "centre": None if scan.centre is None else list(scan.centre)}


def _one_of(layer: LayerFeatures, number: int) -> LayerFeatures:
    return LayerFeatures(layer.dense[number : number + 1], layer.tokens[number : number + 1])


def _slice_mean(layer: FeatureLayer, features: LayerFeatures, prepared: Prepared) -> NDArray[np.float32]:
    """Mean patch token of each slice ``(d, C)``."""
    d, h, w = valid_cells(prepared.shape, layer, features)
    return features.dense[0, :, :d, :h, :w].mean(dim=(2, 3), dtype=torch.float32).T.cpu().numpy()


def _layer(
    layer: FeatureLayer, features: LayerFeatures, prepared: Prepared, norm: bool, keeping: OutputSpec
) -> LayerData:
    """A layer without its slice means: only what is kept leaves the device."""
    affine = None
    if prepared.affine is not None:
        affine = scaled(prepared.affine, layer.stride, layer.offset).tolist()
    attributes: dict[str, Any] = {
        "layer": layer.index,
        "module": layer.name,
        "norm": norm,
        "stride": list(layer.stride),
        "offset": list(layer.offset),
        "valid": list(valid_cells(prepared.shape, layer, features)),
        "affine": affine,
    }
    dense = tokens = None
    if "dense" in keeping.save:
        values = features.dense[0]
        if keeping.reduction is not None:
            projection = keeping.reduction.of_layer(layer.index, layer.channels)
            values = reduce(values, projection)
            attributes["reduced"] = recorded(keeping.reduction.spec, projection)
        elif layer.parts:
            attributes["parts"] = _shares(layer.parts, 0, layer.channels)
        dense = _on_host(values, keeping.dtype)
    if "tokens" in keeping.save:
        tokens = _on_host(features.tokens[0], keeping.dtype)
    return LayerData(layer.index, dense, tokens, None, attributes)


def valid_cells(shape: Shape, layer: FeatureLayer, features: LayerFeatures) -> Shape:
    """(d, h, w) of the cells that are centred in the scan; those beyond are padding."""
    axes = zip(features.dense.shape[-3:], shape, layer.stride, layer.offset, strict=True)
    # one more would be, where the first looks before the scan
    d, h, w = (min(there, cells_within(size, stride, offset)) for there, size, stride, offset in axes)
    return d, h, w


def _embedding(
    slice_mean: NDArray[np.float32], features: LayerFeatures, names: tuple[str, ...], within: tuple[str, ...]
) -> tuple[NDArray[np.float32], dict[str, list[int]]]:
    """One vector a volume, of the parts named: mean class token over the slices, mean patch token.

    Where channels consist of several parts, as of orientations, these have names too, such as ``cls-mean coronal``.
    """
    means = []
    for name in names:
        if name == "cls-mean":
            means.append(features.tokens[0, :, 0].mean(dim=0, dtype=torch.float32).cpu().numpy())
        else:
            means.append(slice_mean.mean(axis=0))
    parts, end = {}, 0
    for name, mean in zip(names, means, strict=True):
        start, end = end, end + len(mean)
        parts[name] = [start, end]
        parts |= {f"{name} {part}": share for part, share in _shares(within, start, end).items()}
    return np.concatenate(means), parts


def _shares(parts: tuple[str, ...], start: int, end: int) -> dict[str, list[int]]:
    """The equal share of each part in a range of channels."""
    size = (end - start) // max(1, len(parts))
    return {part: [start + size * number, start + size * (number + 1)] for number, part in enumerate(parts)}


def _on_host(values: torch.Tensor, dtype: str) -> NDArray[Any]:
    """In the type of the store, rounded where the values are: half as much to bring over from an accelerator.

    From CUDA into memory that the system may not move, which torch keeps and gives again when a volume is written: a CT
    takes 9 ms that way, where memory taken anew takes a third of a second (H200).
    """
    rounded = values.to(torch.float16 if dtype == "float16" else torch.float32)
    if rounded.is_cuda:
        rounded = torch.empty_like(rounded, device="cpu", pin_memory=True).copy_(rounded)
    return rounded.cpu().numpy()
