"""Names of files: one for each id on every disk, and none that leads out of a folder."""

from __future__ import annotations

import unicodedata
from hashlib import sha256

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featlift.names import file_names, look_alikes, stays_below, without_folders

COMPOSED, DECOMPOSED = unicodedata.normalize("NFC", "Évans"), unicodedata.normalize("NFD", "Évans")


def on_any_disk(name: str) -> set[str]:
    """What disks make of a name: as it is, folded, composed, decomposed."""
    forms = [unicodedata.normalize(form, name) for form in ("NFC", "NFD")]
    return {unicodedata.normalize("NFD", each) for form in forms for each in (form.lower(), form.casefold())}


def test_ordinary_ids_are_names():
    ids = ["sub-01_T1w", "sub-02_T1w", "BRATS_001", COMPOSED, "case~1", "a__b"]
    assert file_names(ids) == {each: each for each in ids}
    assert file_names([]) == {}


def test_ids_that_look_alike_get_their_hash():
    ids = ["Case", "case", "other", COMPOSED, DECOMPOSED, "straße", "STRASSE"]
    names = file_names(ids)
    assert names["other"] == "other"
    assert names["case"] == f"case~{sha256(b'case').hexdigest()[:8]}"
    assert [name.partition("~")[0] for name in names.values()] == ids
    assert not look_alikes(names.values())
    assert file_names(reversed(ids)) == names
    assert len(look_alikes(ids)) == 3


def test_no_id_can_take_the_name_of_another():
    ids = ["Case", "case"]
    for _ in range(5):  # each is called as the file of another would be
        ids += [name for name in file_names(ids).values() if name not in ids]
    names = file_names(ids)
    assert len(names) == len(set(ids)) > 6
    assert not look_alikes(names.values())


@settings(deadline=None)
@given(st.lists(st.text("aAéÉe\u0301ßsSiİI\u0131~", min_size=1, max_size=4), unique=True))
def test_names_differ_on_every_disk(ids):
    names = file_names(ids)
    assert list(names) == ids
    seen: set[str] = set()
    for name in names.values():
        assert not seen & on_any_disk(name)
        seen |= on_any_disk(name)


@pytest.mark.parametrize("name", ["a", "a/b.raw", ".", "a..b", "..a/b", "...", "a\\b", "x" * 999, "~", "http:/x"])
def test_names_below(name):
    assert stays_below(name)


@pytest.mark.parametrize("name", ["", "..", "../a", "a/../../b", "a/..", "/a", "//a", "a\0", "\0"])
def test_names_that_lead_elsewhere(name):
    assert not stays_below(name)


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("/data/my/a.nii: no such file", "a.nii: no such file"),
        ("[Errno 2] No such file: '/data/my study/a.nii'", "[Errno 2] No such file: 'a.nii'"),
        ('group "file:///data/a.zarr" not found', 'group "a.zarr" not found'),
        ("https://host/a/b.nii: cannot be reached", "https://host/a/b.nii: cannot be reached"),
        ("s3://bucket/a/b: no such key, 3/4/5 of it", "s3://bucket/a/b: no such key, 3/4/5 of it"),
        ("either/or is a/b/c", "either/or is a/b/c"),
    ],
)
def test_messages_without_folders(text, want):
    assert without_folders(text) == want
