"""A pretrained 3DME as a folder: weights of the encoder, its sizes, and how its scans were prepared."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featlift.encoders.threedme.config import ThreeDMEConfig
from featlift.encoders.threedme.network import ThreeDME
from featlift.errors import ModelError, StoreError
from featlift.model_folder import load_weights, read_model_config, write_model_folder

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

FORMAT = 1
WEIGHTS = "weights.safetensors"


@dataclass(frozen=True)
class Pretrained:
    """What a folder says of its encoder. The dataclass of a pretraining has these fields among its own.

    Attributes:
        encoder: see `ThreeDMEConfig.to_json`.
        preparation: of its scans: options of a `featlift.volumes.Preparation` by name, as JSON values, such as
            ``{"spacing": [1.0, 1.0, 1.0], "intensity": "percentile:0.5,99.5"}``.
    """

    encoder: dict[str, Any]
    preparation: dict[str, Any] = field(default_factory=dict)

    @property
    def config(self) -> ThreeDMEConfig:
        """The encoder's sizes; a ModelError where they make no network."""
        return ThreeDMEConfig.from_json(self.encoder)


def write_encoder(folder: Path, encoder: ThreeDME, config: DataclassInstance) -> None:
    """Write the weights, then the configuration.

    Args:
        folder: made if it is missing.
        encoder: what is kept.
        config: a `Pretrained`, or a dataclass of JSON values with its fields.

    Raises:
        OutputError: the folder cannot be written.
    """
    write_model_folder(folder, WEIGHTS, encoder.state_dict(), config, FORMAT)


def read_config(folder: str | Path) -> Pretrained:
    """What a folder says of its encoder.

    Raises:
        InputError: no such folder, or its training did not end.
        StoreError: it is damaged, or of a later format.
    """
    found = read_model_config(Pretrained, folder, "pretrained 3dme", "featlift pretrain 3dme", FORMAT)
    try:
        found.config.to_json()
    except (ModelError, TypeError) as error:
        raise StoreError(f"{folder}: its config.json describes no encoder ({error}): train it again") from error
    return found


def read_encoder(folder: str | Path, checkpointing: bool = False) -> tuple[ThreeDME, Pretrained]:
    """A pretrained encoder in evaluation mode, and what its folder says of it.

    Raises:
        InputError: no such folder, or its training did not end.
        StoreError: it is damaged, or of a later format.
    """
    found = read_config(folder)
    encoder = ThreeDME(found.config, checkpointing)
    load_weights(encoder, Path(folder, WEIGHTS))
    return encoder.eval(), found
