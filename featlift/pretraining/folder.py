"""A pretraining as a folder: the encoder as others read it, the decoder, and what has to be known of both."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from featlift.encoders.threedme import read_encoder, write_encoder
from featlift.encoders.threedme.folder import FORMAT
from featlift.model_folder import load_weights, read_model_config, write_weights
from featlift.pretraining.network import Autoencoder
from featlift.pretraining.plan import PretrainPlan
from featlift.store.layout import Recipe

DECODER = "decoder.safetensors"


@dataclass(frozen=True)
class PretrainConfig:
    """What is to be known of a pretrained encoder.

    Attributes:
        encoder: see `ThreeDMEConfig.to_json`.
        preparation: of scans, what features of the encoder need: options by name.
        plan: it was trained by, see `PretrainPlan`.
        scans: all of the preparation, as a recipe.
        meaning: recipe of φ, None without.
        train: ids of the scans that it was trained on.
        val: ids of those that chose the round.
        test: ids of those that were left out of both.
        grown: how many scans were grown because they are smaller than a crop.
        parameters: how many are trained, in the encoder and in the decoder.
        training: how that went.
    """

    encoder: dict[str, Any]
    preparation: dict[str, Any]
    plan: dict[str, Any]
    scans: Recipe
    meaning: Recipe | None
    train: list[str]
    val: list[str]
    test: list[str] = field(default_factory=list)
    grown: int = 0
    parameters: dict[str, int] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)

    @property
    def asked(self) -> dict[str, Any]:
        """What decided the result."""
        return asked_of(PretrainPlan.from_json(self.plan), self.scans, self.meaning, self.train, self.val)


def asked_of(
    plan: PretrainPlan, scans: Recipe, meaning: Recipe | None, train: list[str], val: list[str]
) -> dict[str, Any]:
    """What decides the result of a pretraining, by names that differ."""
    prepared = {f"scan_{name}": value for name, value in scans.items()}
    of_meaning = {f"semantic_{name}": value for name, value in (meaning or {}).items()}
    return {**plan.as_json(), **prepared, **of_meaning, "train": train, "val": val}


def write_pretrained(folder: Path, network: Autoencoder, config: PretrainConfig) -> None:
    """Write the decoder, then the encoder's folder around it, whose configuration says that all is complete.

    Raises:
        OutputError: the folder cannot be written.
    """
    write_weights(folder / DECODER, network.decoder.state_dict())
    write_encoder(folder, network.encoder, config)


def read_pretrain_config(folder: str | Path) -> PretrainConfig:
    """The configuration of a pretraining.

    Raises:
        InputError: no such folder, or its training did not end.
        StoreError: it is damaged, or of a later format.
    """
    return read_model_config(PretrainConfig, folder, "pretrained 3dme", "featlift pretrain 3dme", FORMAT)


def read_pretrained(folder: str | Path, device: torch.device) -> tuple[Autoencoder, PretrainConfig]:
    """A pretrained encoder with its decoder, in evaluation mode.

    Raises:
        InputError: no such folder, or its training did not end.
        StoreError: it is damaged, or of a later format.
    """
    config = read_pretrain_config(folder)
    encoder, _ = read_encoder(folder)
    network = Autoencoder(encoder)
    load_weights(network.decoder, Path(folder, DECODER))
    return network.to(device).eval(), config
