"""Let each file operation of `featlift` fail in turn, then every n-th one, and run it again on a sound disk.

    python fail_at_every_step.py STRIDE UNINTERRUPTED.zarr extract --limit 1 ...

STRIDE 1 takes each operation in turn, 10 takes one in ten of them.

The operations are those of kill_at_every_step.py and fsync; a failing one raises what the system raises for a disk that
is gone, before anything happens. Whatever fails, featlift must end with exit code 2 (a line on the disk), or 0 where
it can do without; the store must hold nothing but whole volumes; and the next run must make of it what it would have
been. Prints how many operations failed.
"""

import errno
import itertools
import os
import shutil
import sys
from pathlib import Path

from kill_at_every_step import STORE, contents, everything_there_is_complete, import_timm, leftovers, run

really_sync = os.fsync
failed = os.memfd_create("failed")  # shared with the children


def sync(descriptor):
    sys.audit("os.truncate", os.readlink(f"/proc/self/fd/{descriptor}"), 0)  # a step as any other
    really_sync(descriptor)


def fail_if(chosen):
    """What lets the steps fail that are `chosen`."""

    def step(n):
        if chosen(n):
            os.write(failed, b".")
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    return step


def check():
    import_timm()
    os.fsync = sync
    stride, arguments = int(sys.argv[1]), sys.argv[3:]
    assert run(arguments) == 0
    want = contents(STORE)
    reference = contents(Path(sys.argv[2]))
    assert all(reference[name] == data for name, data in want.items() if name.startswith("volumes/"))
    for steps in itertools.count(1, stride):
        shutil.rmtree(STORE)
        before = os.fstat(failed).st_size
        status = run(arguments, fail_if(lambda n, step=steps: n == step))
        if os.fstat(failed).st_size == before:
            break  # every step has had its turn
        what = f"step {steps}, exit {status}"
        assert status in (0, 2), what
        assert status == 2 or contents(STORE) == want, what
        recovers(arguments, want, what)
    for every in (2, 5, 13, 40) if stride == 1 else (5, 40):
        shutil.rmtree(STORE, ignore_errors=True)
        for attempt in range(3):
            status = run(arguments, fail_if(lambda n, every=every, attempt=attempt: n % every == attempt % every))
            assert status in (0, 2), f"every {every}: exit {status}"
            assert everything_there_is_complete(want), f"every {every}: a volume that is not complete"
        recovers(arguments, want, f"every {every}")
    print(os.fstat(failed).st_size, "failures")


def recovers(arguments, want, what):
    assert everything_there_is_complete(want), f"{what}: a volume that is not complete"
    assert run(arguments) == 0, f"{what}: the next run failed"
    assert contents(STORE) == want, f"{what}: another store than without the failure"
    assert not leftovers(), f"{what}: left behind {leftovers()}"


if __name__ == "__main__":
    check()
