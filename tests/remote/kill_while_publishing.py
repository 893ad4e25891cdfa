"""Kill `featlift extract -o s3://...` before each of its writes in turn, and run it again each time.

    python kill_while_publishing.py EVERY extract ...

Every run is a forked process, and so is the S3 server, which counts the writes of a run and kills it at the n-th one:
in the place of the write, so after all those before it. The parent imports everything beforehand and never starts a
thread, so that a fork costs little. Of the writes, every EVERY-th is tried. Each time first from nothing, then with a
volume of an older scan to be replaced. Prints how many kills there were.
"""

import hashlib
import json
import os
import shutil
import signal
import sys
from pathlib import Path

import torch

torch.set_num_threads(1)  # before anything computes: a pool of threads would not survive the fork

from featlift.backbones.torchvision_guard import import_timm  # noqa: E402
from featlift.cli.main import main  # noqa: E402
from featlift.extraction import Extraction  # noqa: E402, F401
from tests.support.object_store import CREDENTIALS, Bucket, ObjectStore  # noqa: E402

KILL = Path("kill")


def run(arguments, scan, kill_at=None):
    """Extract a scan in a child process; return its exit status. With `kill_at`, the server kills it at that write."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    KILL.write_text(f"{os.getpid()} {kill_at or 0}")
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)
    shutil.copy2(scan, "scan.nii.gz")  # with its time, which is on record
    sys.argv = ["featlift", *arguments, "-o", "s3://bucket/features.zarr"]
    try:
        main()
    except SystemExit as stop:
        os._exit(stop.code if isinstance(stop.code, int) else 1)
    os._exit(0)


def contents(bucket):
    found = bucket.contents("features.zarr")
    return {name: data for name, data in found.items() if not name.startswith("runs/")}


def volumes(found):
    """What a reader sees: everything of the volumes that have metadata, each key as the metadata says it is."""
    seen = {}
    for name, data in found.items():
        group = name.removesuffix("/zarr.json")
        if group.count("/") == 1 and name != group:
            for key, expected in json.loads(data)["attributes"]["featlift"]["keys"].items():
                assert hashlib.sha256(found[f"{group}/{key}"]).hexdigest() == expected["sha256"], f"{group}/{key}"
            seen |= {other: found[other] for other in found if other.startswith(f"{group}/")}
    return seen


def rounds(bucket, arguments, every, before, after):
    """Kill at every write of extracting the scan `after`, with the store of `before` there, or nothing."""
    bucket.empty()
    assert run(arguments, after) == 0
    want, kills, at = contents(bucket), 0, every
    while True:
        bucket.empty()
        assert before is None or run(arguments, before) == 0
        older = volumes(contents(bucket))
        status = run(arguments, after, kill_at=at)
        if status == 0:
            return kills  # it got through: every step has had its turn
        assert status == -signal.SIGKILL, f"write {at}: exit {status}"
        kills += 1
        seen = volumes(contents(bucket))
        assert seen in ({}, older, volumes(want)), f"write {at}: a volume that is not complete"
        assert run(arguments, after) == 0, f"write {at}: the run after the kill failed"
        assert contents(bucket) == want, f"write {at}: another store than without the kill"
        at += every


def check():
    import_timm()
    every, *arguments = sys.argv[1:]
    server = ObjectStore(KILL)
    process = os.fork()
    if not process:
        server.serve()
    os.environ |= {**CREDENTIALS, "AWS_ENDPOINT_URL": server.url}
    try:
        bucket = Bucket(server, "bucket")
        fresh = rounds(bucket, arguments, int(every), None, "new.nii.gz")
        replaced = rounds(bucket, arguments, int(every), "old.nii.gz", "new.nii.gz")
    finally:
        os.kill(process, signal.SIGKILL)
    print(fresh + replaced, "kills")


if __name__ == "__main__":
    check()
