"""How a folder of pairs is registered: what all of them share, and what may not change between two runs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import lru_cache, partial
from typing import Any

import torch

from featlift.backbones.precision import resolve_device
from featlift.config import ExtractConfig
from featlift.errors import OptionError
from featlift.extraction import extract, lifted_network, make_recipe
from featlift.registration.pairs import Extract
from featlift.registration.settings import PairSettings
from featlift.sizes import parse_size
from featlift.store import Store
from featlift.store.layout import Recipe
from featlift.store.output_spec import OutputSpec
from featlift.volumes import Preparation

METHOD = "convex-adam"
#: Fields of ``run.json`` that are the same for every pair of a folder.
SHARED = ("registration", "settings", "recipe")


@dataclass(frozen=True, eq=False)
class Plan:
    """How pairs are registered.

    Attributes:
        settings: of each pair.
        device: where fields are optimised.
        recipe: of the features of a network; None without one.
        extract: makes them; None takes those that come with the scans.
    """

    settings: PairSettings
    device: torch.device
    recipe: Recipe | None = None
    extract: Extract | None = None

    @classmethod
    def of(cls, settings: PairSettings, config: ExtractConfig, store: Store | None = None) -> Plan:
        """With the features that settings ask for: those of a store, or of the network of a configuration.

        Raises:
            ModelError: no such model or device.
            WeightsError: it has no weights here.
            StoreError: the store keeps no dense features.
            OptionError: there is no such layer.
        """
        device = resolve_device(config.network.device)
        if settings.memory is None:
            settings = replace(settings, memory=parse_size(config.lifting.memory))
        if not settings.needs_model:
            return cls(settings, device)
        if store is not None:
            store.require("dense")
            _check_layer(settings.layer, store.recipe, str(store.path))
            return cls(settings, device, store.recipe)
        encoder = lifted_network(config.network, config.lifting)
        preparation = Preparation.of(config.preparation)
        recipe = make_recipe(encoder, preparation, OutputSpec())
        _check_layer(settings.layer, recipe, "the network")
        # of two scans, for the fixed one may be that of the next pair too
        made = lru_cache(maxsize=2)(partial(extract, model=encoder, preparation=preparation))
        return cls(settings, device, recipe, made)

    def as_json(self) -> dict[str, Any]:
        """`SHARED` as JSON has it."""
        shared = dict(zip(SHARED, (METHOD, asdict(self.settings), self.recipe), strict=True))
        plain: dict[str, Any] = json.loads(json.dumps(shared))
        return plain


def _check_layer(layer: int | None, recipe: Recipe, where: str) -> None:
    if layer is not None and layer not in recipe["layers"]:
        raise OptionError(f"layer {layer}: {where} has {', '.join(map(str, recipe['layers']))}")


def flattened(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Objects within objects as one, with dots in the names: ``settings.convex_adam.cell``."""
    return dict(_leaves(value, prefix))


def _leaves(value: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for name, each in value.items():
        if isinstance(each, Mapping):
            yield from _leaves(each, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", each
