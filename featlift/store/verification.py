"""`featlift verify`: every byte of a store against what was recorded when it was written."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from featlift.errors import RemoteError
from featlift.store.layout import BASIS, METADATA, NAMESPACE, VOLUMES, sha256_of
from featlift.store.place import Where, place_of
from featlift.store.reading import check_store


@dataclass(frozen=True)
class Damage:
    """One thing that is wrong: in which case, which key, and what."""

    case: str
    key: str
    what: str


def verify(path: Where) -> Iterator[tuple[str, list[Damage]]]:
    """Read every key of every volume and compare it with its recorded size and SHA-256.

    Yields:
        The id of each case in turn and its damage, empty if it is sound. A folder without metadata is damage too:
        volumes appear whole, so it has lost its own. (Not so in an object store, where it is one on its way.)
    """
    check_store(path)
    for case_id in place_of(path).listed():
        yield case_id, list(damage_of(path, case_id, thoroughly=True))


def damage_of(path: Where, case_id: str, thoroughly: bool) -> Iterator[Damage]:
    """What is wrong with one volume.

    Args:
        path: the store.
        case_id: the case.
        thoroughly: compare every byte; otherwise only that every key is there in its recorded size.
    """
    place = place_of(path)
    group = f"{VOLUMES}/{case_id}"
    try:
        document = place.metadata(case_id)
        attributes = document["attributes"][NAMESPACE]
        recorded = attributes.pop("metadata_sha256")
        keys = attributes["keys"].items()
    except RemoteError:
        raise
    except (OSError, ValueError, LookupError, AttributeError, TypeError):
        yield Damage(case_id, METADATA, "unreadable")
        return
    if sha256_of(document) != recorded:
        yield Damage(case_id, METADATA, "not what was written")
    sizes = place.sizes(group)
    for key, expected in keys:
        if key not in sizes:
            yield Damage(case_id, key, "missing")
        elif sizes[key] != expected["bytes"]:
            yield Damage(case_id, key, f"{sizes[key]} bytes instead of {expected['bytes']}")
        elif thoroughly:
            try:
                if place.sha256(f"{group}/{key}") != expected["sha256"]:
                    yield Damage(case_id, key, "not what was written")
            except RemoteError:
                raise
            except OSError as error:  # of the disk itself
                yield Damage(case_id, key, f"cannot be read ({error.strerror or error})")


def damage_of_basis(path: Where) -> str | None:
    """What is wrong with the basis that a store's features were reduced with; None if it is sound or there is none."""
    expected = check_store(path)["recipe"].get("basis_sha256")
    if expected is None:
        return None
    try:
        return None if place_of(path).sha256(BASIS) == expected else "not what was written"
    except FileNotFoundError:
        return "missing"
