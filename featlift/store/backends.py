"""`backend_of`: what reads and writes a store, by where it is."""

from __future__ import annotations

from featlift.remote import Remote, parse_location
from featlift.store.backend import StoreBackend, Where
from featlift.store.local_backend import LocalBackend


def backend_of(where: Where) -> StoreBackend:
    """The backend of a store at a path or URL.

    Raises:
        InputError: a web server, which holds no stores.
    """
    path = parse_location(where)
    if isinstance(path, Remote):
        from featlift.store.remote_backend import RemoteBackend  # fsspec's file systems take their time

        return RemoteBackend(path)
    return LocalBackend(path)
