"""Kill `featlift extract` or `merge` at each of its file operations in turn, and run it again each time.

    python kill_at_every_step.py STRIDE UNINTERRUPTED.zarr extract --limit 1 ...
    python kill_at_every_step.py STRIDE UNINTERRUPTED.zarr merge ...

STRIDE 1 takes each operation, 4 takes one in four of them.

Every run is a forked process in which the interpreter itself reports file operations (audit events); at the n-th one
that changes something in the store the process kills itself: before it happens, so after all those before it. The
parent imports everything beforehand and never starts a thread, so that a fork costs little. Prints how many kills
there were.
"""

import contextlib
import itertools
import os
import shutil
import signal
import sys
from pathlib import Path

import torch

torch.set_num_threads(1)  # before anything computes: a pool of threads would not survive the fork

from featlift.backbones.torchvision_guard import import_timm  # noqa: E402
from featlift.cli.main import main  # noqa: E402
from featlift.extraction import engines, fitting  # noqa: E402, F401
from featlift.store import forecast  # noqa: E402, F401

with contextlib.suppress(ImportError):  # where it is installed, pyarrow takes it along: half a second of every child
    import pandas  # noqa: F401

STORE = Path("killed.zarr")
CHANGES = ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.truncate", "shutil.rmtree")


def contents(store):
    files = sorted(path for path in store.rglob("*") if path.is_file())
    relative = {path.relative_to(store).as_posix(): path.read_bytes() for path in files}
    return {name: data for name, data in relative.items() if not name.startswith("runs/")}


def run(arguments, at_step=None):
    """Run featlift in a child process; return its exit status. `at_step(n)` comes before its n-th file operation."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    seen = 0

    def audit(event, values):
        nonlocal seen
        changes = event in CHANGES or (event == "open" and values[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
        if changes and any(STORE.stem in str(value) for value in values):
            seen += 1
            at_step(seen)

    if at_step:
        sys.addaudithook(audit)
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)
    os.environ["FEATLIFT_WORKERS"] = "0"  # a reading process would have to be killed too
    sys.argv = ["featlift", *arguments, "-o", str(STORE)]
    try:
        main()
    except SystemExit as stop:
        os._exit(stop.code if isinstance(stop.code, int) else 1)
    except BaseException:
        os._exit(70)  # an error that nobody expected: a person would see a traceback
    os._exit(0)


def kill_at(step):
    """What kills the process at one step."""
    return lambda n: n == step and os.kill(os.getpid(), signal.SIGKILL)


def everything_there_is_complete(want):
    """Whatever stands under its final name is byte for byte what it should be."""
    return all(want[name] == data for name, data in contents(STORE).items() if name.startswith("volumes/"))


def leftovers():
    """What nobody will ever want again."""
    return [path.name for path in (*Path().glob(".killed*"), *(STORE / ".staging").glob("*"))]


def check():
    import_timm()
    stride, arguments = int(sys.argv[1]), sys.argv[3:]
    assert run(arguments) == 0
    want = contents(STORE)
    reference = contents(Path(sys.argv[2]))
    assert all(reference[name] == data for name, data in want.items() if name.startswith("volumes/"))
    kills = 0
    for step in itertools.count(1, stride):
        shutil.rmtree(STORE)
        status = run(arguments, kill_at(step))
        if status == 0:
            break  # it got through: there are no more steps
        assert status == -signal.SIGKILL, f"step {step}: exit {status}"
        kills += 1
        if STORE.exists():
            assert everything_there_is_complete(want), f"step {step}: a volume that is not complete"
        assert run(arguments) == 0, f"step {step}: the run after the kill failed"
        assert contents(STORE) == want, f"step {step}: another store than without the kill"
        assert not leftovers(), f"step {step}: left behind {leftovers()}"
    print(kills, "kills")


if __name__ == "__main__":
    check()
