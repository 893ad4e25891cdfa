"""What was trained as a folder: its weights, and a configuration that is written last and says that all is there."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import MISSING, asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from torch import Tensor, nn

from featlift.atomic_io import write_atomically
from featlift.errors import InputError, StoreError
from featlift.version import __version__

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

CONFIG = "config.json"

C = TypeVar("C", bound="DataclassInstance")


def write_model_folder(
    folder: Path, weights: str, state: Mapping[str, Tensor], config: DataclassInstance, version: int
) -> None:
    """Write weights, then the configuration.

    Args:
        folder: made if it is missing.
        weights: name of their file (safetensors).
        state: of what was trained.
        config: a dataclass of JSON values.
        version: of the format of these files.

    Raises:
        OutputError: the folder cannot be written.
    """
    write_weights(folder / weights, state)
    document = {"format": version, "featlift": __version__, **asdict(config)}
    text = json.dumps(document, indent=2, ensure_ascii=False) + "\n"
    write_atomically(folder / CONFIG, lambda draft: draft.write_text(text, encoding="utf-8"))


def write_weights(path: Path, state: Mapping[str, Tensor]) -> None:
    """Write weights as safetensors; raises an OutputError where that cannot be."""
    from safetensors.torch import save

    kept = {name: value.detach().cpu().contiguous() for name, value in state.items()}
    write_atomically(path, lambda draft: draft.write_bytes(save(kept)))


def load_weights(network: nn.Module, path: Path) -> None:
    """Put weights from a file into a network, all that it has and no others.

    Raises:
        StoreError: they are missing, damaged or of another network.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        network.load_state_dict(load_file(path))
    except (OSError, RuntimeError, SafetensorError) as error:
        raise StoreError(
            f"{path.parent}: its {path.name} are missing, damaged or of another network: train it again"
        ) from error


def read_model_config(kind: type[C], folder: str | Path, what: str, command: str, version: int) -> C:
    """The configuration of something trained.

    Args:
        kind: its dataclass.
        folder: where it is.
        what: is looked for, such as "trained head".
        command: that makes one.
        version: the latest format that is read.

    Raises:
        InputError: no such folder, or its training did not end.
        StoreError: it is damaged, or of a later format.
    """
    path = Path(folder, CONFIG)
    try:
        document: Any = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError) as error:
        raise InputError(f"{folder}: no {what} here; `{command}` makes one, or goes on") from error
    except (OSError, ValueError) as error:
        raise StoreError(f"{path}: not readable ({error}): train it again") from error
    known = fields(kind)
    needed = {each.name for each in known if each.default is MISSING and each.default_factory is MISSING}
    if not isinstance(document, dict) or not needed | {"format"} <= document.keys():
        raise StoreError(f"{path}: not written by `{command}`")
    if not isinstance(document["format"], int) or document["format"] > version:
        raise StoreError(f"{path} has format {document['format']}, this featlift reads up to {version}: update it")
    return kind(**{each.name: document[each.name] for each in known if each.name in document})
