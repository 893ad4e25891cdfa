"""Folders that an extraction writes to."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

from featlift.counting import number_of
from featlift.diagnosis.row import Row
from featlift.diagnosis.sizes import free_on_disk, human
from featlift.errors import FeatliftError
from featlift.store.backend import Where

_SHARED = Path("/dev/shm")
_LITTLE_SHARED = 2**30  # bytes: one CT of 512 x 512 x 500 on its way from a reading process
_LITTLE_TEMPORARY = 2**30


def look_at_temporary() -> Iterator[Row]:
    """The folder for temporary files."""
    place = Path(tempfile.gettempdir())
    try:
        with tempfile.TemporaryFile(dir=place):
            free = free_on_disk(place)
    except OSError as error:
        yield Row(
            "temporary", "FAIL", f"{place} cannot be written ({error.strerror})", "set TMPDIR to a folder of your own"
        )
        return
    if free < _LITTLE_TEMPORARY:
        yield Row("temporary", "WARN", f"{place}, {human(free)} free", "free some, or set TMPDIR to a larger disk")
    else:
        yield Row("temporary", "PASS", f"{place}, {human(free)} free")


def look_at_shared_memory() -> Iterator[Row]:
    """The file system through which processes share arrays, where the system has one."""
    if not _SHARED.is_dir():
        return
    free = free_on_disk(_SHARED)
    if free < _LITTLE_SHARED:
        fix = "containers: docker run --shm-size=8g; elsewhere fewer --workers"
        yield Row("shared memory", "WARN", f"{_SHARED}, {human(free)} free", fix)
    else:
        yield Row("shared memory", "PASS", f"{_SHARED}, {human(free)} free")


def look_at_store(where: Where | None) -> Iterator[Row]:
    """The store that is to be written, if one is named."""
    if where is None:
        return
    from featlift.remote import parse_location
    from featlift.store.backends import backend_of
    from featlift.store.contents import check_store, complete_cases, is_empty

    try:
        store = parse_location(where)
        backend_of(store).check_writable()
        free = f", {human(free_on_disk(store))} free" if isinstance(store, Path) else ""
        if is_empty(store):
            yield Row("store", "PASS", f"{store} can be made{free}")
            return
        recipe = check_store(store)["recipe"]
    except FeatliftError as error:
        yield Row("store", "FAIL", str(error), "give another place with -o")
        return
    what = (
        f"{store}: {number_of(len(complete_cases(store)), 'volume')} of {recipe['model']}, mode {recipe['mode']}{free}"
    )
    yield Row("store", "PASS", what)
