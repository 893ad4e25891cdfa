"""`featlift verify`: every byte of a store against what was recorded when it was written."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from featlift.store.durable import fingerprint
from featlift.store.layout import BASIS, METADATA, NAMESPACE, VOLUMES, metadata_of, sha256_of
from featlift.store.reading import check_store


@dataclass(frozen=True)
class Damage:
    """One thing that is wrong: in which case, which key, and what."""

    case: str
    key: str
    what: str


def verify(path: str | Path) -> Iterator[tuple[str, list[Damage]]]:
    """Read every key of every volume and compare it with its recorded size and SHA-256.

    Yields:
        The id of each case in turn and its damage, empty if it is sound. A folder without metadata is damage too:
        volumes appear whole, so it has lost its own.
    """
    check_store(Path(path))
    for folder in sorted((Path(path) / VOLUMES).iterdir()):
        if folder.is_dir():
            yield folder.name, list(damage_of(Path(path), folder.name, thoroughly=True))


def damage_of(path: Path, case_id: str, thoroughly: bool) -> Iterator[Damage]:
    """What is wrong with one volume.

    Args:
        path: the store.
        case_id: the case.
        thoroughly: compare every byte; otherwise only that every key is there in its recorded size.
    """
    folder = path / VOLUMES / case_id
    try:
        document = metadata_of(folder)
        attributes = document["attributes"][NAMESPACE]
        recorded = attributes.pop("metadata_sha256")
        keys = attributes["keys"].items()
    except (OSError, ValueError, LookupError, AttributeError, TypeError):
        yield Damage(case_id, METADATA, "unreadable")
        return
    if sha256_of(document) != recorded:
        yield Damage(case_id, METADATA, "not what was written")
    for key, expected in keys:
        file = folder / key
        if not file.is_file():
            yield Damage(case_id, key, "missing")
        elif (size := file.stat().st_size) != expected["bytes"]:
            yield Damage(case_id, key, f"{size} bytes instead of {expected['bytes']}")
        elif thoroughly and fingerprint(file)["sha256"] != expected["sha256"]:
            yield Damage(case_id, key, "not what was written")


def damage_of_basis(path: Path) -> str | None:
    """What is wrong with the basis that a store's features were reduced with; None if it is sound or there is none."""
    expected = check_store(path)["recipe"].get("basis_sha256")
    if expected is None:
        return None
    if not (path / BASIS).is_file():
        return "missing"
    return None if fingerprint(path / BASIS)["sha256"] == expected else "not what was written"
