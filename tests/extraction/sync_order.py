"""Run `featlift` and check, at each rename that gives something its final name, that all of it is on the disk.

    python sync_order.py extract ... -o STORE [then merge ...]

Audit events tell of every rename, and a wrapper of `os.fsync` remembers what a file or folder held when it was synced.
When something appears under its final name, every file must be as it was when it was last synced, and every folder must
list what it listed then; and the folder it appears in must be synced afterwards. Prints what was published.
"""

import hashlib
import os
import sys
from pathlib import Path

from featlift.cli.main import main

really_sync = os.fsync
synced = {}  # what each inode held when it was last synced
appeared = []  # final names, and whether the folder around them was synced since
problems = []


def state(path):
    return sorted(os.listdir(path)) if path.is_dir() else hashlib.sha256(path.read_bytes()).hexdigest()


def sync(descriptor):
    path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
    really_sync(descriptor)
    synced[path.stat().st_ino] = state(path)
    for entry in appeared:
        entry[1] |= entry[0].parent == path and entry[0].exists()


def is_temporary(path):
    return any(part == ".staging" or (part.startswith(".") and "~" in part) for part in path.parts)


def audit(event, values):
    if event != "os.rename":
        return
    old, new = (Path(os.path.abspath(os.fsdecode(value))) for value in values[:2])
    if is_temporary(new):
        return
    for path in (old, *old.rglob("*")):
        if synced.get(path.stat().st_ino) != state(path):
            problems.append(f"{new.name} appears, but {path.relative_to(old.parent)} is not on the disk")
    appeared.append([new, False])


os.fsync = sync
sys.addaudithook(audit)
for command in " ".join(sys.argv[1:]).split(" then "):
    sys.argv = ["featlift", *command.split()]
    try:
        main()
    except SystemExit as stop:
        assert not stop.code, stop.code
problems += [f"the name of {path} is not on the disk" for path, is_synced in appeared if not is_synced]
if problems:
    sys.exit("\n".join(problems))
print(*(path.name for path, _ in appeared))
