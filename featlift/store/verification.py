"""`featlift verify`: every byte of a store against what was recorded when it was written."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from featlift.errors import RemoteError, StoreError
from featlift.store.backend import StoreBackend, Where
from featlift.store.backends import backend_of
from featlift.store.case import open_case
from featlift.store.contents import check_store, run_records
from featlift.store.index import is_damaged, read_index
from featlift.store.layout import BASIS, INDEX, METADATA, VOLUMES, VOLUMES_METADATA
from featlift.store.metadata import DamageError, MetadataError, RecordedVolume, json_object


@dataclass(frozen=True)
class Damage:
    """One thing that is wrong: in which case, which key, and what. Case or key are empty where it is of none."""

    case: str
    key: str
    what: str

    def __str__(self) -> str:
        return f"{self.key}: {self.what}" if self.key else self.what


def verify(path: Where) -> Iterator[tuple[str, list[Damage]]]:
    """Read every key of every volume and compare it with its recorded size and SHA-256.

    Yields:
        The id of each case in turn and its damage, empty if it is sound. A folder without metadata is damage too:
        volumes appear whole, so it has lost its own. (Not so in an object store, where it is one on its way.)
    """
    check_store(path)
    for case_id in backend_of(path).listed():
        yield case_id, list(damage_of(path, case_id, thoroughly=True))


def damage_of(path: Where, case_id: str, thoroughly: bool) -> Iterator[Damage]:
    """What is wrong with one volume.

    Args:
        path: the store.
        case_id: the case.
        thoroughly: compare every byte, and look at what every array says of itself; otherwise only that every key is
            there in its recorded size, and no other.
    """
    place = backend_of(path)
    try:
        recorded = place.volume(case_id)
    except RemoteError:
        raise
    except OSError as error:
        yield Damage(case_id, METADATA, f"cannot be read ({error.strerror or error})")
        return
    except MetadataError as error:
        yield Damage(case_id, METADATA, str(error))
        return
    found = [Damage(case_id, key, what) for key, what in _damage_of_files(place, recorded, thoroughly)]
    yield from found
    if thoroughly and not found:
        try:
            open_case(path, case_id).check()
        except DamageError as error:
            yield Damage(case_id, METADATA, error.reason)


def _damage_of_files(place: StoreBackend, recorded: RecordedVolume, thoroughly: bool) -> Iterator[tuple[str, str]]:
    group = f"{VOLUMES}/{recorded.id}"
    sizes = place.sizes(group)
    for key in sorted(sizes.keys() - recorded.files.keys() - {METADATA}):
        if not key.rpartition("/")[2].startswith("."):  # what file managers and network disks leave
            yield key, "no part of what was written"
    for key, expected in recorded.files.items():
        if key not in sizes:
            yield key, "missing"
        elif sizes[key] != expected.bytes:
            yield key, f"{sizes[key]} bytes instead of {expected.bytes}"
        elif thoroughly:
            try:
                if place.sha256(f"{group}/{key}") != expected.sha256:
                    yield key, "not what was written"
            except RemoteError:
                raise
            except OSError as error:  # of the disk itself
                yield key, f"cannot be read ({error.strerror or error})"


def damage_of_store(path: Where) -> Iterator[Damage]:
    """What is wrong beside the volumes: the group that holds them, the basis, the index and the run records."""
    place = backend_of(path)
    if what := damage_of_basis(path):
        yield Damage("", BASIS, f"{what}; put it back from a copy: no run makes it again")
    try:
        json_object(place.read(VOLUMES_METADATA))
    except RemoteError:
        raise
    except (OSError, MetadataError):
        yield Damage("", VOLUMES_METADATA, "missing or unreadable; the next `featlift extract` writes it")
    yield from _damage_of_index(path)
    for key, record in run_records(path).items():
        if record is None:
            yield Damage("", key, "no record of a run; remove it")


def _damage_of_index(path: Where) -> Iterator[Damage]:
    place = backend_of(path)
    if is_damaged(path):
        yield Damage("", INDEX, f"not what was written; `featlift index {place}` writes it anew, labels from a CSV")
        return
    try:
        listed = read_index(path)["id"].to_pylist()
    except StoreError:  # none yet
        return
    why = f"gone, though {INDEX} lists it; if it was removed on purpose: `featlift index {place}`"
    for case_id in sorted(set(listed) - set(place.listed())):
        if not place.sizes(f"{VOLUMES}/{case_id}"):  # of an upload on its way there is something
            yield Damage(case_id, "", why)


def damage_of_basis(path: Where) -> str | None:
    """What is wrong with the basis that a store's features were reduced with; None if it is sound or there is none."""
    expected = check_store(path)["recipe"].get("basis_sha256")
    if expected is None:
        return None
    try:
        return None if backend_of(path).sha256(BASIS) == expected else "not what was written"
    except FileNotFoundError:
        return "missing"
    except RemoteError:
        raise
    except OSError as error:
        return f"cannot be read ({error.strerror or error})"
