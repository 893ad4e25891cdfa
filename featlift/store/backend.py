"""The few operations that a store needs of where it is."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from featlift.remote import Remote
from featlift.store.layout import METADATA, VOLUMES
from featlift.store.metadata import RecordedVolume

if TYPE_CHECKING:
    from zarr.abc.store import Store

Where = str | Path | Remote
Fill = Callable[[Path], object]
IsThere = Callable[[Path], bool]


class StoreBackend(ABC):
    """A folder, or a prefix of an object store.

    Keys are paths below it with "/" between folders, "" the place itself. What is read and is not there raises
    FileNotFoundError; what cannot be read or written another OSError.
    """

    @abstractmethod
    def __str__(self) -> str:
        """Where it is, for people."""

    @property
    @abstractmethod
    def name(self) -> str:
        """The last part of that."""

    @abstractmethod
    def is_empty(self) -> bool:
        """Whether a store can be made here: nothing is there."""

    @abstractmethod
    def exists(self) -> bool:
        """Whether anything is there."""

    @abstractmethod
    def read(self, key: str) -> bytes:
        """The content of a file; an OSError of what is none, such as a pipe, which would never end."""

    @abstractmethod
    def sizes(self, folder: str) -> dict[str, int]:
        """Bytes of every file below a folder, by its path below."""

    @abstractmethod
    def sha256(self, key: str) -> str:
        """SHA-256 of a file."""

    @abstractmethod
    def changed(self, key: str) -> int:
        """When a file was written, in nanoseconds."""

    @abstractmethod
    def complete(self) -> dict[str, int]:
        """Ids of the volumes that are complete, in order, and when their metadata was written, in nanoseconds."""

    @abstractmethod
    def listed(self) -> list[str]:
        """Ids of all that `featlift verify` looks at: complete volumes, and such as cannot have become incomplete."""

    @abstractmethod
    def files(self, folder: str) -> Store:
        """The files below a folder, for Zarr to read."""

    @abstractmethod
    def check_writable(self) -> None:
        """Raise OutputError if nothing can be written: before hours of work rather than after."""

    @abstractmethod
    def create(self, fill: Fill) -> None:
        """Make the store of what `fill` writes into a folder; one that somebody else makes meanwhile stays."""

    @abstractmethod
    def prepare(self) -> None:
        """Make ready for writing, and clear away what killed processes left."""

    @abstractmethod
    def publish(self, case_id: str, fill: Fill, is_there: IsThere) -> bool:
        """Let `fill` write a volume into a folder, and make it appear whole, in the place of an older one.

        Args:
            case_id: its id.
            fill: writes it.
            is_there: whether what it wrote stands in the store already, made by another job: that one stays.

        Returns:
            Whether it is this one that stands there.
        """

    @abstractmethod
    def write(self, key: str, make: Fill) -> None:
        """Let `make` write a draft, and put it in the place of a file in one step."""

    @abstractmethod
    def remove(self, key: str) -> None:
        """Remove a file, if it is there."""

    @abstractmethod
    def erase(self) -> None:
        """Remove the store. A stop on the way leaves no volume that is not complete."""

    @abstractmethod
    def is_idle(self) -> bool:
        """Whether nobody is writing a volume, and none was left half-written."""

    def write_json(self, key: str, value: object) -> None:
        """`write` a JSON value, indented for people."""
        text = json.dumps(value, indent=2, ensure_ascii=False) + "\n"
        self.write(key, lambda draft: draft.write_text(text))

    def volume(self, case_id: str) -> RecordedVolume:
        """What is recorded of a volume; raises MetadataError if it cannot be believed."""
        return RecordedVolume.read(self.read(f"{VOLUMES}/{case_id}/{METADATA}"), case_id)
