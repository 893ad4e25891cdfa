"""A registration network as a folder: weights, the basis of its features, and what has to be known to use it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from featlift.checksums import sha256_of_file
from featlift.errors import OptionError
from featlift.model_folder import load_weights, read_model_config, write_model_folder
from featlift.registration.network.plan import NetworkPlan
from featlift.registration.network.subjects import finest, projection_in
from featlift.registration.network.unet import RegistrationNet
from featlift.store.basis import Basis
from featlift.store.layout import BASIS, Recipe, differing_fields
from featlift.store.principal import Projection
from featlift.volumes import Preparation, Volume

FORMAT = 1
WEIGHTS = "weights.safetensors"

#: Of a recipe, what says how features are kept and not what they are.
_OF_KEEPING = ("dtype", "save", "embedding")
_FARTHEST = 1.5  # times as fine, or as coarse, as any training scan


@dataclass(frozen=True)
class NetworkConfig:
    """What is to be known of a trained network.

    Attributes:
        plan: it was trained by, see `NetworkPlan`.
        recipe: of the features that it sees, or of the preparation alone.
        spacing: of its grid in millimetres.
        grid: (D, H, W) of the grid that it was trained on.
        scans: the finest and the coarsest of the training scans' shortest steps, in millimetres.
        channels: C of each scan.
        layer: of the features, by its absolute index; None without.
        train: pairs that it was trained on, each way; a moving scan that is None was drawn.
        val: pairs that chose the round.
        test: pairs or cases that were left out of both.
        parameters: how many are trained.
        training: how that went.
    """

    plan: dict[str, Any]
    recipe: Recipe
    spacing: float
    grid: list[int]
    scans: list[float]
    channels: int
    layer: int | None
    train: list[Any]
    val: list[Any]
    test: list[Any] = field(default_factory=list)
    parameters: int = 0
    training: dict[str, Any] = field(default_factory=dict)

    @property
    def flat(self) -> int | None:
        """The axis of one voxel, of slices."""
        return flat_axis(self.grid)

    @property
    def asked(self) -> dict[str, Any]:
        """What decided the result."""
        return asked_of(NetworkPlan.from_json(self.plan), self.recipe, {"train": self.train, "val": self.val})


def flat_axis(grid: list[int]) -> int | None:
    """The axis of one voxel of a grid, None in three dimensions.

    Raises:
        OptionError: there is more than one: lines are not registered.
    """
    flat = [axis for axis, size in enumerate(grid) if size == 1]
    if len(flat) > 1:
        raise OptionError(f"scans of {' x '.join(map(str, grid))} voxels are lines: give slices or volumes")
    return flat[0] if flat else None


def asked_of(plan: NetworkPlan, recipe: Recipe, pairs: Mapping[str, Any]) -> dict[str, Any]:
    """What decides the result of a training, by names that differ."""
    return {**plan.as_json(), **{f"scan_{name}": value for name, value in recipe.items()}, **pairs}


@dataclass(frozen=True, eq=False)
class Trained:
    """A trained network.

    Attributes:
        name: of its folder.
        sha256: of its weights.
        network: in evaluation mode, on its device.
        config: what is to be known of it.
        projection: of features to what it sees; None without.
    """

    name: str
    sha256: str
    network: RegistrationNet
    config: NetworkConfig
    projection: Projection | None

    @property
    def plan(self) -> NetworkPlan:
        """How it was trained."""
        return NetworkPlan.from_json(self.config.plan)

    @property
    def sees_features(self) -> bool:
        """Whether scans need features."""
        return "features" in self.plan.inputs

    @property
    def preparation(self) -> Preparation:
        """What happens to scans before."""
        return Preparation.from_recipe(self.config.recipe)

    def check_recipe(self, recipe: Recipe) -> None:
        """Refuse features that were made otherwise than those it was trained on, with an `OptionError`."""
        ours, theirs = (
            {name: value for name, value in each.items() if name not in _OF_KEEPING}
            for each in (self.config.recipe, recipe)
        )
        if differences := differing_fields(ours, theirs, "network", "asked"):
            raise OptionError(
                f"{self.name} was trained on features of another recipe: {'; '.join(differences)}. Give the options of "
                "its training scans, as --recipe-of STORE does"
            )

    def check_scan(self, scan: Volume, name: str) -> None:
        """Refuse a prepared scan much finer or coarser than those it was trained on, with an `OptionError`."""
        low, high = self.config.scans
        if not low / _FARTHEST <= finest(scan) <= high * _FARTHEST:
            known = f"{low:.3g} mm" if low == high else f"{low:.3g} to {high:.3g} mm"
            raise OptionError(
                f"the {name} scan has voxels of {finest(scan):.3g} mm, and {self.name} was trained on scans of "
                f"{known}: resample it, or train a network on such scans"
            )


def write_network(folder: Path, network: RegistrationNet, config: NetworkConfig) -> None:
    """Write a network's folder; the configuration comes last and says that it is complete.

    Raises:
        OutputError: the folder cannot be written.
    """
    write_model_folder(folder, WEIGHTS, network.state_dict(), config, FORMAT)


def read_config(folder: str | Path) -> NetworkConfig:
    """The configuration of a trained network.

    Raises:
        InputError: no such folder, or its training did not end.
        StoreError: it is damaged, or of a later format.
    """
    return read_model_config(NetworkConfig, folder, "trained network", "featlift register train", FORMAT)


def read_network(folder: str | Path, device: torch.device) -> Trained:
    """A trained network.

    Raises:
        InputError: no such folder, or its training did not end.
        StoreError: it is damaged, or of a later format.
        OptionError: MONAI is not installed.
    """
    folder = Path(folder)
    config = read_config(folder)
    network = RegistrationNet(config.channels, config.flat)
    load_weights(network, folder / WEIGHTS)
    sha256 = sha256_of_file(folder / WEIGHTS)
    basis = Basis.read(folder / BASIS) if config.layer is not None else None
    return Trained(folder.resolve().name, sha256, network.to(device).eval(), config, projection_in(basis))
