"""Damage the files of a series at random and read them: ``python -m tests.volumes.dicom.fuzz FOLDER SEEDS``.

A process of its own, because a decoder of native code may take its process with it.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path

from featlift.errors import VolumeError
from featlift.volumes.dicom import find_series, open_series
from tests.support.series import assert_private, members_of


def damaged(content: bytes, choose: random.Random) -> bytes:
    """A few bytes changed: anywhere, or where the pixels start; now and then the end cut off."""
    changed = bytearray(content)
    pixels = max(0, content.rfind(b"\xe0\x7f\x10\x00"))
    start, stop = (pixels, min(len(content), pixels + 160)) if choose.random() < 0.5 else (0, len(content))
    for _ in range(choose.choice([1, 2, 4, 16])):
        changed[choose.randrange(start, stop)] = choose.choice([0, 127, 128, 255, choose.randrange(256)])
    return bytes(changed[: choose.randrange(len(changed))] if choose.random() < 0.1 else changed)


def read(folder: Path) -> None:
    """Read all that can be read, and check what is told of the rest."""
    series, skipped = find_series(folder, members_of(folder))
    for each in skipped:
        assert_private(each.reason, folder)
    for one in series:
        try:
            image = open_series(folder, one.members, allow_irregular=True)
            if max(image.shape) < 1000:
                image.load(0)
        except VolumeError as error:
            assert_private(str(error), folder)


def main(folder: Path, seeds: int) -> None:
    files = sorted(folder.iterdir())
    for seed in range(seeds):
        choose = random.Random(seed)
        file = choose.choice(files)
        content = file.read_bytes()
        file.write_bytes(damaged(content, choose))
        read(folder)
        file.write_bytes(content)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
