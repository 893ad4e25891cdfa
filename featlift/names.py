"""Names that came from outside: which of them lead elsewhere, and what the files of a case are called."""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from hashlib import sha256
from pathlib import PurePath

_FOLDERS = re.compile(
    r"""(?<=['"])/[^'"]*/  # in quotes, where a name may hold spaces
    |(?:file://|(?<![\w:/.]))/(?:[^/\s'"]+/)+""",
    re.VERBOSE,
)


def stays_below(name: str) -> bool:
    """Whether a name that a header or a listing gives is a place below the folder that it is joined to.

    By the name alone: a link below that folder may lead elsewhere, because whoever owns the folder placed it there.
    """
    path = PurePath(name)
    return bool(name) and "\0" not in name and not path.anchor and ".." not in path.parts


def without_folders(text: str) -> str:
    """A message without the folders of this machine: of absolute paths in it only the last part stays."""
    return _FOLDERS.sub("", text)


def file_names(ids: Iterable[str]) -> dict[str, str]:
    """What the files of each case are called, endings aside: its id, where no disk takes another id for the same.

    Ids that differ only in case or Unicode form (``é`` as one character or two) all get ``~`` and the start of their
    SHA-256. A name depends on which ids there are, so give all cases of a store, not only those that are at work.

    Args:
        ids: of the cases.

    Returns:
        Names by id, no two of which are alike on any disk.
    """
    names = {case_id: case_id for case_id in ids}
    digits = 8
    while alike := look_alikes(names.values()):
        clashing = {name for group in alike for name in group}
        for case_id, name in names.items():
            if name in clashing:
                names[case_id] += f"~{sha256(case_id.encode('utf-8', 'surrogatepass')).hexdigest()[:digits]}"
        digits = 64  # an id was chosen to look like the name of another
    return names


def look_alikes(names: Iterable[str]) -> list[list[str]]:
    """Groups of names that differ at most in case or Unicode form."""
    alike: dict[str, list[str]] = defaultdict(list)
    for name in names:
        alike[_folded(name)].append(name)
    return [group for group in alike.values() if len(group) > 1]


def _folded(name: str) -> str:
    """Equal for names that some disk takes for one: Unicode's canonical caseless matching."""
    return unicodedata.normalize("NFD", unicodedata.normalize("NFD", name).casefold())
