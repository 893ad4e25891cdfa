"""Scans read and prepared by processes of their own, ahead of who takes them."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import tempfile
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from pathlib import Path
from types import TracebackType

import torch
from pebble import ProcessExpired, ProcessPool

from featlift.errors import VolumeError
from featlift.lifting.budget import free_bytes
from featlift.processes import cores, ending
from featlift.staging import new_temporary_folder, remove_abandoned_temporary
from featlift.volumes import Preparation, Reading, Scan
from featlift.volumes.loading import Loaded, load
from featlift.volumes.parcels import Parcel, unpack
from featlift.volumes.reader import load_into, start

LONGEST_READ = 3600.0  # seconds; a network disk that hangs must not stop the night's run
_MEMORY_DISK = Path("/dev/shm")
_LEAST_MEMORY_DISK = 2**30  # bytes
_MOST_AHEAD = 8 * 2**30


def default_workers(device: torch.device) -> int:
    """Up to two reading processes beside a CPU that lifts with all its cores; on an accelerator up to eight."""
    return min(2, cores()) if device.type == "cpu" else max(1, min(8, cores() - 1))


class Readers:
    """Reads and prepares scans ahead, in order.

    A scan whose file ends the process that reads it (a crash in a decoder, the system's out-of-memory killer) is one
    failed scan: another process takes the place of the one that ended.

    Args:
        preparation: what happens to a volume after reading.
        reading: how far reading may go.
        workers: processes; 0 reads in this one, when a scan is asked for.
        prefetch: bytes of prepared volumes that may wait. One always may, however large.
    """

    def __init__(
        self, preparation: Preparation, reading: Reading, workers: int = 0, prefetch: int | None = None
    ) -> None:
        self.preparation = preparation
        self.reading = reading
        self.workers = workers
        self.prefetch = prefetch or default_prefetch()
        self._largest = 0  # bytes of a prepared volume so far: what those being read are taken to need

    def __enter__(self) -> Readers:
        if self.workers:
            self._folder = new_temporary_folder(_disk_with(2 * self.prefetch))
            self._pool = ProcessPool(
                max_workers=self.workers,
                context=multiprocessing.get_context("spawn"),  # a fork would copy torch's threads half-way
                initializer=start,
            )
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self.workers:
            self._pool.stop()
            self._pool.join()
            shutil.rmtree(self._folder, ignore_errors=True)
            remove_abandoned_temporary()  # what those processes had fetched

    def read(self, scans: Iterable[Scan]) -> Iterator[tuple[Scan, Loaded | Exception]]:
        """Each scan in turn, loaded, or the reason why it could not be."""
        if not self.workers:
            for scan in scans:
                yield scan, self._read_here(scan)
            return
        coming = iter(scans)
        ahead: deque[tuple[Scan, Future[Parcel]]] = deque()
        while True:
            while self._has_room([future for _, future in ahead]) and (following := next(coming, None)) is not None:
                ahead.append((following, self._schedule(following)))
            if not ahead:
                return
            scan, future = ahead.popleft()
            yield scan, self._result_of(future)

    def _has_room(self, ahead: list[Future[Parcel]]) -> bool:
        """Whether one more may be read: nobody idles, and what waits stays within `prefetch`."""
        finished = [future for future in ahead if future.done()]
        waiting = sum(future.result().size for future in finished if future.exception() is None)
        expected = (len(ahead) - len(finished) + 1) * self._largest
        return not ahead or (len(ahead) < 2 * self.workers and waiting + expected <= self.prefetch)

    def _schedule(self, scan: Scan) -> Future[Parcel]:
        arguments = (self._folder, scan, self.preparation, self.reading)
        future: Future[Parcel] = self._pool.schedule(load_into, args=arguments, timeout=LONGEST_READ)
        return future

    def _result_of(self, future: Future[Parcel]) -> Loaded | Exception:
        try:
            parcel = future.result()
            self._largest = max(self._largest, parcel.size)
            loaded: Loaded = unpack(parcel)
            return loaded
        except ProcessExpired as error:
            return VolumeError(f"the process that read it was ended ({_cause_of(error)})")
        except FutureTimeout:
            return VolumeError(f"not read within {LONGEST_READ / 60:.0f} minutes: does its disk answer?")
        except Exception as error:  # whatever a library raised there is this scan's own failure
            return error

    def _read_here(self, scan: Scan) -> Loaded | Exception:
        try:
            return load(scan, self.preparation, self.reading)
        except Exception as error:
            return error


def _cause_of(error: ProcessExpired) -> str:
    if error.exitcode == -signal.SIGKILL:
        return "killed, most often for lack of memory: try --workers 1, or leave the scan out with --max-voxels"
    return ending(error.exitcode)


def default_prefetch() -> int:
    """A quarter of the memory that is free, and half of the disk in memory unless that is a container's 64 MB."""
    room = [_MOST_AHEAD, (free_bytes(torch.device("cpu")) or _MOST_AHEAD) // 4]
    if _MEMORY_DISK.is_dir() and (free := shutil.disk_usage(_MEMORY_DISK).free) > _LEAST_MEMORY_DISK:
        room.append(free // 2)
    return min(room)


def _disk_with(room: int) -> Path:
    """The disk in memory if there is so much room on it, else the one for drafts."""
    if os.access(_MEMORY_DISK, os.W_OK) and shutil.disk_usage(_MEMORY_DISK).free >= room:
        return _MEMORY_DISK
    return Path(tempfile.gettempdir())
