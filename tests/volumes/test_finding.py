"""Which scans are found, and what they are called."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from featlift.errors import InputError
from featlift.volumes import Scan, find_scans

TREE = ["b.nii", "a.nii.gz", "c.NRRD", "p1/t1.mha", "p1/t1_label.mha", "p1/deep/er/x.y.nii.gz", "p2/t1.nii.gz"]
BESIDE = [
    "notes.txt",
    "a.nii.gz.part",
    ".hidden.nii",
    ".git/x.nii",
    "p1/.cache/y.nii.gz",
    "features.zarr/z.nii",
    "p2/old.zarr/z.nii",
    "scan.dcm",
]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in TREE + BESIDE:
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path / "in"


def ids(*args, **kwargs) -> list[str]:
    return [scan.id for scan in find_scans(*args, **kwargs)]


def test_folders_are_searched_and_what_is_no_scan_is_left(tree):
    scans = find_scans([tree])
    assert scans == [
        Scan("a", tree / "a.nii.gz", "a.nii.gz"),
        Scan("b", tree / "b.nii", "b.nii"),
        Scan("c", tree / "c.NRRD", "c.NRRD"),
        Scan("p1__deep__er__x.y", tree / "p1/deep/er/x.y.nii.gz", "p1/deep/er/x.y.nii.gz"),
        Scan("p1__t1", tree / "p1/t1.mha", "p1/t1.mha"),
        Scan("p1__t1_label", tree / "p1/t1_label.mha", "p1/t1_label.mha"),
        Scan("p2__t1", tree / "p2/t1.nii.gz", "p2/t1.nii.gz"),
    ]


def test_ids_do_not_depend_on_how_the_folder_is_named(tree, monkeypatch):
    monkeypatch.chdir(tree.parent)
    assert ids(["in"]) == ids([str(tree) + "/"]) == ids([Path("in/../in")]) == ids([tree])


def test_files_are_called_by_their_name(tree):
    assert find_scans([tree / "p1/deep/er/x.y.nii.gz"])[0].name == "x.y.nii.gz"
    assert ids([tree / "p1/deep/er/x.y.nii.gz", tree / "b.nii"]) == ["b", "x.y"]
    assert ids([tree / ".hidden.nii"]) == ["hidden"]  # named by the caller


@pytest.mark.parametrize(
    ("glob", "exclude", "want"),
    [
        ("*.mha", (), ["p1__t1", "p1__t1_label"]),
        ("t1*", (), ["p1__t1", "p1__t1_label", "p2__t1"]),
        ("p1/*", (), ["p1__deep__er__x.y", "p1__t1", "p1__t1_label"]),
        ("p?/t1.*", (), ["p1__t1", "p2__t1"]),
        (None, ("*_label.mha", "p1/deep/*"), ["a", "b", "c", "p1__t1", "p2__t1"]),
        ("*t1*", ("*_label*", "p2/*"), ["p1__t1"]),
    ],
)
def test_glob_and_exclude_match_names_and_paths(tree, glob, exclude, want):
    assert ids([tree], glob, exclude) == want


def test_a_scan_given_twice_is_one(tree):
    (tree / "link.nii").symlink_to(tree / "b.nii")
    assert ids([tree / "b.nii", tree / "b.nii"]) == ["b"]
    assert ids([tree, tree / "b.nii", tree / "p1" / ".." / "b.nii"]) == ids([tree])


def test_two_scans_of_one_id_are_refused_naming_both(tree):
    (tree / "a.nrrd").touch()
    with pytest.raises(InputError, match="two scans with the id a: ") as caught:
        find_scans([tree])
    assert str(tree / "a.nii.gz") in str(caught.value)
    assert str(tree / "a.nrrd") in str(caught.value)
    assert "a" in ids([tree], exclude=["*.nrrd"])


def test_two_folders_with_the_same_names_are_told_apart(tree):
    with pytest.raises(InputError) as caught:
        find_scans([tree / "p1", tree / "p2"])
    assert str(tree / "p1/t1.mha") in str(caught.value)
    assert str(tree / "p2/t1.nii.gz") in str(caught.value)


@pytest.mark.parametrize("args", [([],), (["sub"],), (["sub"], "*.nii", ("x*",))])
def test_nothing_found(tmp_path, monkeypatch, args):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/x.nii").touch() if len(args) > 1 else None
    with pytest.raises(InputError, match="no scans that match" if len(args) > 1 else "no scans in"):
        find_scans(*args)


def test_a_missing_input_is_named(tree):
    with pytest.raises(InputError, match="nowhere: no such file or folder"):
        find_scans([tree, tree / "nowhere"])


def test_loops_of_links_do_not_hang(tree):
    before = ids([tree])
    (tree / "p1/loop").symlink_to(tree)
    (tree / "p1/deep/self").symlink_to(".")
    code = f"from featlift.volumes import find_scans; print(*[scan.id for scan in find_scans([{str(tree)!r}])])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == before


def test_links_to_scans_are_scans(tree):
    (tree / "p2/link.nii").symlink_to(tree / "b.nii")
    assert "p2__link" in ids([tree])


def test_an_id_that_no_file_system_takes_is_refused(tmp_path):
    folder = tmp_path / ("d" * 100) / ("e" * 100)
    folder.mkdir(parents=True)
    (folder / "scan.nii").touch()
    (tmp_path / "a.nii").touch()
    with pytest.raises(InputError, match="case id would be longer than 200 bytes"):
        find_scans([tmp_path])
    assert ids([tmp_path], exclude=["d*"]) == ["a"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may search everything")
def test_a_folder_that_cannot_be_searched_is_not_passed_over(tree):
    (tree / "p1").chmod(0)
    try:
        with pytest.raises(InputError, match="cannot be searched"):
            find_scans([tree])
    finally:
        (tree / "p1").chmod(0o700)


def test_a_real_cohort(shared):
    found = ids([shared / "hippocampus/images"])
    assert len(found) == 200
    assert found[0] == "hippocampus_001"
    assert len(ids([shared / "lesions"], exclude=["*_label.nrrd"])) == 3
