"""Claims: which job works on which volume, so that jobs on one store do not do the same work twice.

Nothing rests on them. A volume is published whole and once whether or not anybody claimed it; where a claim is lost,
stolen from a job that only slept, or cannot be made at all, two jobs lift one scan and the second discards it.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

from featlift.remote import Remote, parse_location
from featlift.staging import Process, staging_name, this_process
from featlift.store.backend import Where
from featlift.store.layout import STAGING

BEAT = 20.0  # seconds between two signs of life
SILENCE = 300.0  # seconds without one after which a job is taken for dead; network disks show times late by a minute

_CLAIM, _GUARD = "claim~", "~guard"


class Claims:
    """The volumes of a store that this job works on: a small file for each, in the store's staging folder.

    A claim names a `Process` and a time. It is stale when that process ran on this machine and is gone, or when the
    file was not touched for `SILENCE` seconds; a thread touches those held here. Used as a context, all are released.
    In an object store nothing is claimed: whoever asks may work on a volume.

    Args:
        store: the store, which exists.
    """

    def __init__(self, store: Where) -> None:
        path = parse_location(store)
        self._staging = None if isinstance(path, Remote) else path / STAGING
        self._job = uuid.uuid4().hex
        self._held: dict[str, Path] = {}
        self._over = threading.Event()
        self._beating: threading.Thread | None = None
        if self._staging is None:
            return
        with suppress(OSError):
            for claim in self._staging.glob(f"{_CLAIM}*"):
                self._drop_stale(claim)

    @property
    def held(self) -> frozenset[str]:
        """Ids of the cases that this job has claimed."""
        return frozenset(self._held)

    def take(self, case_id: str) -> bool:
        """Claim a case. False: it is in the hands of another job. True also where the disk cannot say."""
        if self._staging is None or case_id in self._held:
            return True
        claim = self._place(case_id)
        try:
            if not (self._create(claim, case_id) or (self._drop_stale(claim) and self._create(claim, case_id))):
                return False
        except OSError:
            return True
        self._held[case_id] = claim
        if self._beating is None:
            self._beating = threading.Thread(target=self._beat, name="claims", daemon=True)
            self._beating.start()
        return True

    def take_left(self, case_ids: Iterable[str]) -> Iterator[str]:
        """Claim those of `case_ids` that no living job holds, waiting until that is known of each.

        Of a job on this machine it is known at once, of one elsewhere when it gives a sign of life or has been
        silent for too long. Cases that are not yielded are in the hands of another job.
        """
        waiting = dict.fromkeys(case_ids, 0.0)
        while waiting:
            for case_id in list(waiting):
                if self.take(case_id):
                    del waiting[case_id]
                    yield case_id
                elif self._lives(case_id, since=waiting[case_id]):
                    del waiting[case_id]
                else:
                    waiting[case_id] = waiting[case_id] or self._touched(case_id)
            if waiting:
                time.sleep(1)

    @contextmanager
    def turn(self, name: str) -> Iterator[None]:
        """Do what jobs do one after the other, as long as they live; `name` is no case id."""
        while not self.take(name):
            time.sleep(0.1)
        try:
            yield
        finally:
            self.release(name)

    def release(self, case_id: str) -> None:
        """Give a case back, done or not."""
        claim = self._held.pop(case_id, None)
        if claim is not None and _owner(claim).get("job") == self._job:  # else it was stolen
            with suppress(OSError):
                claim.unlink()

    def close(self) -> None:
        """Give everything back."""
        self._over.set()
        for case_id in self.held:
            self.release(case_id)

    def __enter__(self) -> Claims:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _place(self, case_id: str) -> Path:
        assert self._staging is not None
        return self._staging / f"{_CLAIM}{hashlib.sha256(case_id.encode()).hexdigest()[:32]}"  # ids can be long

    def _create(self, place: Path, case_id: str) -> bool:
        try:
            descriptor = os.open(place, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
        except FileExistsError:
            return False
        owner = {"case": case_id, **asdict(this_process()), "job": self._job}
        try:
            with os.fdopen(descriptor, "w") as file:
                json.dump({**owner, "since": datetime.now(UTC).isoformat(timespec="seconds")}, file)
        except OSError:
            with suppress(OSError):
                place.unlink()
            raise
        return True

    def _drop_stale(self, claim: Path) -> bool:
        """Remove the claim of a job that is gone. One job at a time does so, and looks again when it is that one."""
        if not self._is_stale(claim):
            return False
        if claim.name.endswith(_GUARD):
            claim.unlink(missing_ok=True)
            return True
        guard = claim.with_name(claim.name + _GUARD)
        if not self._create(guard, claim.name):
            self._drop_stale(guard)
            return False
        try:
            stale = self._is_stale(claim)
            if stale:
                claim.unlink()
        finally:
            guard.unlink(missing_ok=True)
        return stale

    def _is_stale(self, claim: Path) -> bool:
        if _is_alive(_owner(claim)) is False:
            return True
        try:
            touched = claim.stat().st_mtime
        except FileNotFoundError:
            return False  # given back this very moment
        return _now(claim.parent) - touched > SILENCE

    def _lives(self, case_id: str, since: float) -> bool:
        """Whether the owner is known to live: a process of this machine, or one that touched its claim `since`."""
        alive = _is_alive(_owner(self._place(case_id)))
        return 0.0 < since < self._touched(case_id) if alive is None else alive

    def _touched(self, case_id: str) -> float:
        """When a claim was last touched; 0 if it is there no more."""
        try:
            return self._place(case_id).stat().st_mtime
        except OSError:
            return 0.0

    def _beat(self) -> None:
        while not self._over.wait(BEAT):
            for claim in list(self._held.values()):
                with suppress(OSError):
                    os.utime(claim)


def _now(staging: Path) -> float:
    """The time by the clock of the disk, which stamps the claims."""
    probe = staging / staging_name()
    try:
        probe.touch()
        return probe.stat().st_mtime
    finally:
        probe.unlink(missing_ok=True)


def _is_alive(owner: dict[str, Any]) -> bool | None:
    """Whether the process of a claim runs; None where that cannot be known, as while the claim is being written."""
    host, pid, *others = (owner.get(name) for name in ("host", "pid", "namespace", "started"))
    if not isinstance(host, str) or not isinstance(pid, int):
        return None
    return Process(host, pid, *(value if isinstance(value, str) else "" for value in others)).is_alive()


def _owner(claim: Path) -> dict[str, Any]:
    """What a claim says of its owner; nothing while it is being written."""
    try:
        owner = json.loads(claim.read_bytes()) if claim.is_file() else {}
    except (OSError, ValueError, RecursionError):
        return {}
    return owner if isinstance(owner, dict) else {}
