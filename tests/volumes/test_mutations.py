"""Whatever happens to the bytes of a scan, it is refused in one line, or read as others read it."""

from __future__ import annotations

import random
import re
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue

import numpy as np
import pytest

from featlift.errors import FeatliftError
from featlift.volumes import Reading, Source, Volume, find_scans
from featlift.volumes.opening import read_source
from tests.support.sandbox import Outcome, Sandbox
from tests.support.series import PATIENT
from tests.support.specimens import Part, Specimen, specimens
from tests.volumes import second_readers

MAX_VOXELS = 64 << 20
MOST_MEGABYTES = 1500  # more than a volume of so many voxels takes, as float64 and as float32
LONGEST_MESSAGE = 400

#: Where featlift reads what the second reader refuses, and is right: by reader, what that one says, and why.
RIGHT_ALONE = {
    "nibabel": {
        "takes the header for voxels": "a single file without an offset has its voxels behind the header",
        "extension|read length must be non-negative": "extensions hold no voxels",
    },
    "itk": {
        "parsing kinds info": "where axes lie in space, it does not matter what they are called",
        "space vector . of 3": "teem cannot read the space before a bracket that it writes itself",
        "already set field": "a field that is there twice and says the same",
        'no "data file" given': "the last line of the header has no end, and says all that it should",
        "more than expected 3 sizes": "teem takes a space behind the last number for another one",
        "SIGSEGV": "teem and MetaIO write beyond the end of a buffer where lines are long",
        "Uncompress failed|No such file": "MetaIO believes a wrong CompressedDataSize; the stream has a checksum",
    },
    "dicom": {
        "data fragment items|StopIteration|not iterable": "a damaged table of offsets, which nothing needs",
    },
}

Chance = random.Random


def flipped_in_header(part: Part, chance: Chance) -> bytes:
    return _flipped(part.content, chance, lambda: chance.choice(part.header))


def flipped_anywhere(part: Part, chance: Chance) -> bytes:
    return _flipped(part.content, chance, lambda: chance.randrange(len(part.content)))


def _flipped(content: bytes, chance: Chance, place: Callable[[], int]) -> bytes:
    changed = bytearray(content)
    for _ in range(chance.choice([1, 1, 2, 8])):
        changed[place()] ^= chance.choice([1 << chance.randrange(8), 0xFF])
    return bytes(changed)


def truncated(part: Part, chance: Chance) -> bytes:
    end = chance.choice([chance.randrange(len(part.content)), chance.choice(part.header), len(part.content) - 1])
    return part.content[:end]


def with_insertion(part: Part, chance: Chance) -> bytes:
    at, size = _place(part, chance), chance.choice([1, 2, 4, 8, 64, 5000])
    return part.content[:at] + chance.choice([chance.randbytes(size), bytes(size), b" " * size]) + part.content[at:]


def with_block_twice(part: Part, chance: Chance) -> bytes:
    at, size = _place(part, chance), chance.choice([1, 4, 16, 256, 4096])
    return part.content[: at + size] + part.content[at:]


def with_zeroed_block(part: Part, chance: Chance) -> bytes:
    at, size = _place(part, chance), chance.choice([1, 4, 16, 256, 4096])
    return part.content[:at] + bytes(len(part.content[at : at + size])) + part.content[at + size :]


def with_extreme_integer(part: Part, chance: Chance) -> bytes:
    value = chance.choice([0, -1, 1, 1 << 15, (1 << 31) - 1, (1 << 63) - 1])
    written = list(re.finditer(rb"-?\d+(\.\d+)?", part.content[: part.header[-1] + 1]))
    if written and chance.random() < 0.5:
        found = chance.choice(written)
        return part.content[: found.start()] + str(value).encode() + part.content[found.end() :]
    size = chance.choice([1, 2, 4, 8])
    at = chance.choice(part.header) // size * size
    packed = (value & ((1 << 8 * size) - 1)).to_bytes(size, chance.choice(["little", "big"]))
    return part.content[:at] + packed + part.content[at + size :]


def with_other_text(part: Part, chance: Chance) -> bytes:
    words = list(re.finditer(rb"[A-Za-z_][\w.-]+", part.content[: part.header[-1] + 1]))
    if not words:
        return with_insertion(part, chance)
    found = chance.choice(words)
    others = [
        b"",
        b"None",
        b"nan",
        b"1e999",
        b"-0",
        b"\xff\xfe",
        b"../../secret",
        b"/etc/passwd",
        b"\x1b[31m",
        b"9" * 400,
    ]
    new = chance.choice([*others, found[0][::-1], found[0].swapcase(), chance.choice(words)[0]])
    if chance.random() < 0.5:  # where the length of a field stands before it
        new = new[: len(found[0])].ljust(len(found[0]))
    return part.content[: found.start()] + new + part.content[found.end() :]


def _place(part: Part, chance: Chance) -> int:
    return chance.choice([chance.randrange(len(part.content) or 1), chance.choice(part.header)])


MUTATIONS = [
    flipped_in_header,
    flipped_anywhere,
    truncated,
    with_insertion,
    with_block_twice,
    with_zeroed_block,
    with_extreme_integer,
    with_other_text,
]


def write(specimen: Specimen, folder: Path, seed: int | None = None) -> Path:
    """Write a specimen, mutated if a seed is given; the path to read."""
    files = dict(specimen.files)
    if seed is not None:
        chance = random.Random(f"{specimen.name} {seed}")
        part = chance.choice(specimen.parts)
        files[part.file] = part.pack(MUTATIONS[seed % len(MUTATIONS)](part, chance))
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder / specimen.target


Read = list[tuple[Source, Volume]]


def read_found(path: Path) -> Read:
    """Every scan found at a path; runs in the sandbox."""
    sources = [scan.sources[0] for scan in find_scans([path]).scans]
    return [(source, read_source(source, Reading(MAX_VOXELS))) for source in sources]


def what_is_wrong(path: Path, outcome: Outcome) -> str | None:
    """With what featlift made of a file, whatever others make of it."""
    if outcome.death or outcome.printed:
        return f"{outcome.death} printed {outcome.printed!r}"
    if outcome.megabytes > MOST_MEGABYTES:
        return f"{outcome.megabytes} MB of memory"
    if outcome.error is None:
        return next(filter(None, (_wrong_with_volume(volume) for _, volume in outcome.value)), None)
    message = str(outcome.error)
    if not isinstance(outcome.error, FeatliftError):
        return outcome.trace
    if not message.isprintable() or len(message) > LONGEST_MESSAGE:
        return f"not one short line: {message!r}"
    places = [str(path.parent), sys.prefix, str(Path(__file__).parents[2]), "Traceback"]
    without_path = message.replace(str(path), "")
    if path.name not in message or any(place in without_path for place in places) or _has_secret(message):
        return f"not the file's name, or more than that: {message}"
    return "it asked for too much memory" if "too large for the memory" in message else None


def _wrong_with_volume(volume: Volume) -> str | None:
    if volume.array.ndim != 3 or volume.array.dtype != np.float32 or min(volume.array.shape) < 2:
        return f"an array of {volume.array.shape}, {volume.array.dtype}"
    if volume.affine is not None and not np.isfinite(np.linalg.inv(volume.affine)).all():
        return f"affine {volume.affine}"
    if _has_secret(f"{volume.modality} {volume.notes}"):
        return f"a patient's data: {volume.modality} {volume.notes}"
    return None


def _has_secret(text: str) -> bool:
    return any(secret in text for secret in (*PATIENT.values(), "Doe^", "Roe^", "ACME"))


def difference(volume: Volume, other: second_readers.Seen) -> str | None:
    """How the volume differs from what another reader sees."""
    array, affine = other
    if volume.array.shape != array.shape:
        return f"shape {volume.array.shape}, not {array.shape}"
    if not np.allclose(volume.array, array, rtol=1e-6, equal_nan=True):
        return "other voxels"
    if volume.affine is not None and (affine is None or not np.allclose(volume.affine, affine, atol=1e-3)):
        return f"affine {volume.affine.tolist()}, not {affine if affine is None else affine.tolist()}"
    return None


@dataclass
class Tally:
    """What became of the mutations of one format.

    Attributes:
        original: what its file holds before them.
        counts: mutations, those refused, read equally by the second reader too or by featlift alone, and of those read
            the ones whose volume is not that of the original: nothing in the file could tell.
        megabytes: the most memory that one took.
        troubles: what is wrong.
    """

    specimen: Specimen
    original: Read = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    megabytes: int = 0
    troubles: list[str] = field(default_factory=list)

    def add(self, path: Path, first: Sandbox, second: Sandbox) -> str | None:
        """Read a file with both readers; what is wrong, if anything is."""
        outcome = first.run(read_found, path)
        self.megabytes = max(self.megabytes, outcome.megabytes)
        self.counts["mutations"] += 1
        if trouble := what_is_wrong(path, outcome):
            return trouble
        if outcome.error is not None:
            self.counts["refused"] += 1
            return None
        self.original = self.original or outcome.value
        for source, volume in outcome.value:
            other = second.run(getattr(second_readers, self.specimen.reader), source)
            if other.error or other.death or "failed" in other.printed:
                said = other.death or str(other.error or other.printed)
                self.counts["alone"] += 1
                if any(re.search(known, said) for known in RIGHT_ALONE.get(self.specimen.reader, {})):
                    return None
                return f"read by featlift alone: {type(other.error).__name__}: {said[-300:]}"
            if trouble := difference(volume, other.value):
                return trouble
        self.counts["equal"] += 1
        self.counts["changed"] += not self._is_original(outcome.value)
        return None

    def _is_original(self, found: Read) -> bool:
        pairs = zip(found, self.original, strict=False)
        return len(found) == len(self.original) and not any(
            difference(volume, (original.array, original.affine)) for (_, volume), (_, original) in pairs
        )


def run(written: Sequence[Specimen], seeds: range, folder: Path) -> list[Tally]:
    """Read each specimen and that many mutations of it, on two cores."""
    tallies = [Tally(specimen) for specimen in written]
    sandboxes = [Sandbox(folder / f"printed{number}") for number in range(4)]
    pairs: SimpleQueue[list[Sandbox]] = SimpleQueue()
    for pair in (sandboxes[:2], sandboxes[2:]):
        pairs.put(pair)

    def one(tally: Tally, seed: int | None) -> None:
        place = folder / f"{tally.specimen.name}-{seed}".replace(" ", "_")
        pair = pairs.get()
        try:
            trouble = tally.add(write(tally.specimen, place, seed), *pair)
        finally:
            pairs.put(pair)
        if trouble:
            tally.troubles.append(f"{tally.specimen.name}, seed {seed}, in {place}: {trouble}")
        else:
            shutil.rmtree(place)

    try:
        for tally in tallies:
            one(tally, None)
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda task: one(*task), [(tally, seed) for seed in seeds for tally in tallies]))
    finally:
        for sandbox in sandboxes:
            sandbox.close()
    return tallies


def table(tallies: Sequence[Tally]) -> Iterator[str]:
    columns = ("mutations", "refused", "equal", "changed", "alone")
    yield "".join([f"{'':22}", *(f"{column:>10}" for column in (*columns, "wrong", "MB"))])
    for tally in tallies:
        numbers = [*(tally.counts[column] for column in columns), len(tally.troubles), tally.megabytes]
        yield "".join([f"{tally.specimen.name:22}", *(f"{number:10}" for number in numbers)])


@pytest.mark.parametrize("count", [2, pytest.param(300, marks=pytest.mark.soak)])
def test_mutations(tmp_path, count, capsys):
    (tmp_path / "specimens").mkdir()
    tallies = run(specimens(tmp_path / "specimens"), range(count), tmp_path)
    if count > 2:  # in `make soak`
        with capsys.disabled():
            print("", *table(tallies), sep="\n")
    troubles = [trouble for tally in tallies for trouble in tally.troubles]
    assert not troubles, "\n".join(troubles[:20])
    assert all(tally.original for tally in tallies)
