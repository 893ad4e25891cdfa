"""What the labels of masks are called: in a table of people's tools, or in the header of a mask itself."""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from featlift.errors import InputError
from featlift.tables import read_table
from featlift.volumes.mask_files import segments_in
from featlift.volumes.source import MaskFile, Source

Names = dict[int, str]

#: ``5 80 80 0 1 1 1 "Liver"``, of ITK-SNAP; ``17  Left-Hippocampus  220 216 20 0``, of FreeSurfer and 3D Slicer.
_ITK_SNAP = re.compile(r'\s*(\d+)(?:\s+[\d.]+){6}\s+"(.*)"\s*')
_FREESURFER = re.compile(r"\s*(\d+)\s+(\S(?:.*\S)?)(?:\s+\d+){4}\s*")
_LABEL_COLUMNS, _NAME_COLUMNS = ("label", "index", "id", "value"), ("name", "label_name", "structure", "region")
_WANTED = (
    "names of labels (--label-names) are a CSV with label,name, a JSON of them, a table of ITK-SNAP, FreeSurfer or "
    "3D Slicer, or text as in 1=liver,2=spleen"
)


def label_names(given: str | Path) -> Names:
    """The names of labels, from a file or from text such as ``1=liver,2=spleen``.

    A CSV has columns such as ``label,name``. A JSON maps labels to names, or names to labels, on its own or under
    ``labels`` as in nnU-Net's dataset.json. Tables are those of ITK-SNAP, FreeSurfer and 3D Slicer (.ctbl).

    Raises:
        InputError: no such file, or not as it should be; a label twice.
    """
    text = str(given)
    if "=" in text and not Path(text).exists():
        return _of_text(text)
    path = Path(given)
    try:
        if path.suffix.casefold() == ".csv":
            return _of_csv(path)
        content = path.read_text(encoding="utf-8-sig")
        found = _of_json(json.loads(content)) if path.suffix.casefold() == ".json" else _of_lines(content)
    except InputError:
        raise
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; {_WANTED}") from error
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: {error}; {_WANTED}") from error
    if not found:
        raise InputError(f"{path}: no label in it; {_WANTED}")
    return found


def names_in(masks: Iterable[MaskFile]) -> Names:
    """The names that masks themselves carry; of a label that several name, the first."""
    found: Names = {}
    for mask in masks:
        found = label_names_in(mask) | found
    return dict(sorted(found.items()))


def names_of_head(labels: Mapping[str, str]) -> Names | None:
    """The labels of a trained network that have a name, by which masks that name their structures get its labels."""
    named = {int(label): name for label, name in labels.items() if int(label) and name != label}
    return named or None


def label_names_in(mask: MaskFile) -> Names:
    """The names that a mask itself carries, none where it carries none.

    They are in the header of a NIfTI of TotalSegmentator and of Connectome Workbench, and in a mask that
    `featlift.find_masks` found to name its structures. A file that cannot be read has none: who reads its voxels tells
    why.
    """
    if isinstance(mask, Source):
        return {label: name for name, label in mask.labels or ()}
    path = Path(mask)
    name = path.name.casefold()
    try:
        if name.endswith((".nii", ".nii.gz")):
            return _of_nifti(path)
        if name.endswith((".nrrd", ".nhdr")):
            return {segment.value: segment.name for segment in segments_in(path)}
    except (OSError, ValueError, EOFError, struct.error, ElementTree.ParseError):
        return {}
    return {}


def _of_text(text: str) -> Names:
    names: Names = {}
    for word in filter(None, (word.strip() for word in text.split(","))):
        label, equals, name = word.partition("=")
        if not equals or not label.strip().isdigit() or not name.strip():
            raise InputError(f"{word!r} names no label: {_WANTED}")
        _add(names, int(label), name)
    return names


def _of_csv(path: Path) -> Names:
    table = read_table(path, (*_LABEL_COLUMNS, *_NAME_COLUMNS), _WANTED)
    label, name = (next((each for each in of if each in table.names), None) for of in (_LABEL_COLUMNS, _NAME_COLUMNS))
    if label is None or name is None:
        raise InputError(f"{path}: it has {', '.join(table.names)}; {_WANTED}")
    names: Names = {}
    for row in table.dicts():
        if not row[label].strip().isdigit():
            raise InputError(f"{path}: label {row[label]!r} is no whole number")
        _add(names, int(row[label]), row[name])
    return names


def _of_json(content: Any) -> Names:
    if isinstance(content, Mapping) and isinstance(content.get("labels"), Mapping):
        content = content["labels"]
    if not isinstance(content, Mapping):
        raise ValueError("it maps no labels to names")
    names: Names = {}
    for key, value in content.items():
        if str(key).isdigit() and isinstance(value, str):
            _add(names, int(key), value)
        elif isinstance(value, int):
            _add(names, value, key)
        elif not isinstance(value, list):  # a list: a region of nnU-Net, which is several labels
            raise ValueError(f"{key!r}: {value!r} is neither the name of a label nor a label")
    return names


def _of_lines(content: str) -> Names:
    names: Names = {}
    for line in content.splitlines():
        if line.lstrip().startswith(("#", "%")) or not line.strip():
            continue
        found = _ITK_SNAP.fullmatch(line) or _FREESURFER.fullmatch(line)
        if found is None:
            raise ValueError(f"{line.strip()!r} is no line of a table of labels")
        _add(names, int(found[1]), found[2])
    return names


def _add(names: Names, label: int, name: str) -> None:
    if label in names:
        raise InputError(f"label {label} has two names, {names[label]!r} and {name.strip()!r}")
    names[label] = name.strip()


def _of_nifti(path: Path) -> Names:
    import nibabel as nib

    try:
        image = nib.load(path)
    except nib.filebasedimages.ImageFileError:
        return {}
    assert isinstance(image, nib.nifti1.Nifti1Pair)
    names: Names = {}
    for extension in image.header.extensions:
        content = extension.get_content()
        text = content if isinstance(content, bytes) else str(content).encode()
        if b"<LabelTable" not in text:
            continue
        for label in ElementTree.fromstring(text.strip(b"\0 \n")).iter("Label"):
            names[int(label.attrib["Key"])] = (label.text or "").strip()
    return {label: name for label, name in names.items() if name}
