"""How a folder of pairs is registered: what all of them share, and what may not change between two runs."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import torch

from featlift.backbones.precision import resolve_device
from featlift.config import ExtractConfig
from featlift.errors import OptionError
from featlift.extraction import encoder_of, extract, make_recipe, preparation_of
from featlift.progress import Progress
from featlift.registration.network.folder import Trained, read_network
from featlift.registration.network.running import register_by_network
from featlift.registration.pairs import Extract, Registered, register
from featlift.registration.settings import PairSettings
from featlift.sizes import parse_size
from featlift.store import Store
from featlift.store.layout import Recipe
from featlift.store.output_spec import OutputSpec
from featlift.volumes import Volume

#: Fields of ``run.json`` that are the same for every pair of a folder.
SHARED = ("registration", "settings", "recipe")


@dataclass(frozen=True, eq=False)
class Plan:
    """How pairs are registered.

    Attributes:
        settings: of each pair; of a network only those of Adam and the affine stage count.
        device: where fields are optimised.
        recipe: of the features of a network; None without one.
        extract: makes them; None takes those that come with the scans.
        trained: a network that registers; None searches.
    """

    settings: PairSettings
    device: torch.device
    recipe: Recipe | None = None
    extract: Extract | None = None
    trained: Trained | None = None

    @classmethod
    def of(
        cls,
        settings: PairSettings,
        config: ExtractConfig,
        store: Store | None = None,
        network: str | Path | None = None,
    ) -> Plan:
        """With the features that settings, or a trained network, ask for: of a store, or of a configuration's backbone.

        Raises:
            InputError: no such trained network.
            ModelError: no such model or device.
            WeightsError: it has no weights here.
            StoreError: the store keeps no dense features.
            OptionError: there is no such layer, or the trained network sees features of another recipe.
        """
        device = resolve_device(config.network.device)
        if settings.memory is None:
            settings = replace(settings, memory=parse_size(config.lifting.memory))
        trained = None if network is None else read_network(network, device)
        if not (settings.needs_model if trained is None else trained.sees_features):
            return cls(settings, device, trained=trained)
        if store is not None:
            store.require("dense")
            _check_layer(settings.layer, store.recipe, str(store.path))
            if trained is not None:
                trained.check_recipe(store.recipe)
            return cls(settings, device, store.recipe, trained=trained)
        encoder = encoder_of(config.network, config.lifting)
        preparation = preparation_of(config.preparation, encoder)
        recipe = make_recipe(encoder, preparation, OutputSpec())
        _check_layer(settings.layer, recipe, "the network")
        if trained is not None:
            trained.check_recipe(recipe)
        # of two scans, for the fixed one may be that of the next pair too
        made = lru_cache(maxsize=2)(partial(extract, model=encoder, preparation=preparation))
        return cls(settings, device, recipe, made, trained)

    def registered(
        self,
        fixed: Volume,
        moving: Volume,
        extract: Extract | None,
        progress: Progress | None = None,
        masks: tuple[Volume, Volume] | None = None,
        notify: Callable[[str], object] | None = None,
    ) -> Registered:
        """Two scans, see `register` and `register_by_network`."""
        if self.trained is None:
            return register(fixed, moving, self.settings, extract, self.device, progress, masks, notify)
        adam = self.settings.convex_adam
        affine = self.settings.affine
        return register_by_network(fixed, moving, self.trained, adam, extract, self.device, progress, affine)

    def as_json(self) -> dict[str, Any]:
        """`SHARED` as JSON has it."""
        settings: dict[str, Any] = asdict(self.settings)
        if self.trained is not None:
            network = {
                "name": self.trained.name,
                "weights_sha256": self.trained.sha256,
                "plan": self.trained.config.plan,
            }
            settings = {"network": network, **{name: settings[name] for name in ("convex_adam", "affine")}}
        method = "convex-adam" if self.trained is None else "net"
        shared = dict(zip(SHARED, (method, settings, self.recipe), strict=True))
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
