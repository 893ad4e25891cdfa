"""The recipe: everything that changes a feature, and nothing else."""

from __future__ import annotations

from collections.abc import Sequence

from featlift.backbones.backbone import Layer
from featlift.extraction.network import precision_name
from featlift.extraction.output_spec import OutputSpec
from featlift.lifting import LiftedBackbone
from featlift.store.layout import Recipe
from featlift.volumes import Preparation


def make_recipe(lifted: LiftedBackbone, preparation: Preparation, keeping: OutputSpec | None = None) -> Recipe:
    """The recipe of a lifted backbone, a preparation and what is kept, as JSON values.

    Device, batch sizes and workers are not in it: they change a feature by rounding at most. Names of files are not
    either: the weights' SHA-256 says which they are.
    """
    backbone = lifted.backbone
    planewise = lifted.mode in ("pcg", "pcm")
    return {
        "model": backbone.name,
        "model_args": {name: _as_json(value) for name, value in sorted(backbone.arguments.items())},
        "weights_sha256": backbone.weights["sha256"],
        "weights_prefix": backbone.weights.get("prefix"),
        "rope_periods": backbone.weights.get("rope_periods"),
        "mean": list(backbone.mean) if lifted.normalise else None,
        "std": list(backbone.std) if lifted.normalise else None,
        "mode": lifted.mode,
        "cycle": ",".join(lifted.cycle) if planewise else None,
        "token_pooling": lifted.token_pooling if planewise and backbone.token_names else None,
        "layers": [layer.index for layer in lifted.layers],
        "norm": lifted.norm,
        "depth_window": lifted.depth_window,
        "depth_overlap": lifted.depth_overlap if lifted.depth_window is not None else None,
        "precision": precision_name(backbone.dtype),
        **preparation.as_recipe(),
        **(keeping or OutputSpec()).as_recipe(backbone.token_names),
        **_offsets(lifted.layers),
    }


def _offsets(layers: Sequence[Layer]) -> dict[str, list[float]]:
    """Where the first cells look, if that is not the middle of their windows: it decides which cells are scan."""
    if all(layer.windows is None for layer in layers):
        return {}
    return {"offsets": [layer.sampling.offset for layer in layers]}


def _as_json(value: object) -> object:
    if isinstance(value, (str, int, float, bool)) or value is None:
        return value
    return [_as_json(item) for item in value] if isinstance(value, (list, tuple)) else repr(value)
