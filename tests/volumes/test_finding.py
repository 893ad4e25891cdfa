"""Which scans are found, and what they are called."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

from featlift.errors import InputError, OptionError
from featlift.volumes import DiscoveredScans, Scan, Selection, Source, find_masks, find_scans
from tests.support.files import noise, save

TREE_IDS = ["a", "b", "c", "p1__deep__er__x.y", "p1__t1", "p2__t1"]
TREE = ["b.nii", "a.nii.gz", "c.NRRD", "p1/t1.mha", "p1/t1_label.mha", "p1/deep/er/x.y.nii.gz", "p2/t1.nii.gz"]
BESIDE = [
    "notes.txt",
    "a.nii.gz.part",
    ".hidden.nii",
    ".git/x.nii",
    "p1/.cache/y.nii.gz",
    "features.zarr/z.nii",
    "p2/old.zarr/z.nii",
    "README",
]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in TREE + BESIDE:
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    for store in ("features.zarr", "p2/old.zarr"):  # a store of features is no scan, whatever lies in it
        (tmp_path / "in" / store / "zarr.json").write_text('{"attributes": {"featlift": {"format": 1}}}')
    return tmp_path / "in"


def ids(inputs, *, limit: int | None = None, **selection) -> list[str]:
    return [scan.id for scan in find_scans(inputs, Selection(**selection), limit).scans]


def test_folders_are_searched_and_what_is_no_scan_is_left(tree):
    names = {
        "a": "a.nii.gz",
        "b": "b.nii",
        "c": "c.NRRD",
        "p1__deep__er__x.y": "p1/deep/er/x.y.nii.gz",
        "p1__t1": "p1/t1.mha",
        "p2__t1": "p2/t1.nii.gz",
    }
    found = find_scans([tree])
    assert found.scans == [Scan(case_id, name, (Source(tree / name),)) for case_id, name in names.items()]
    assert [(each.name, each.reason) for each in found.skipped] == [
        ("features.zarr", "a store of featlift"),
        ("p2/old.zarr", "a store of featlift"),
        ("p1/t1_label.mha", "a mask, by its name"),
    ]


def test_every_format_is_found(tmp_path):
    names = [
        "a.nii",
        "b.nii.gz",
        "c.hdr",
        "d.nrrd",
        "e.nhdr",
        "f.mha",
        "g.mhd",
        "h.npy",
        "i.npz",
        "j.h5",
        "k.hdf5",
        "l.tif",
        "m.tiff",
        "n.zarr",
    ]
    for name in [*names, "c.img", "e.raw", "g.zraw", "o.txt", "p.csv", "q.png"]:
        (tmp_path / name).touch()
    assert ids([tmp_path]) == list("abcdefghijklmn")


def test_a_zarr_array_is_one_scan_and_not_a_folder_of_files(tmp_path):
    save(tmp_path / "2.zarr", noise())
    save(tmp_path / "p1.nii", noise())
    (tmp_path / "2.zarr" / "inside.nii").touch()
    assert ids([tmp_path]) == ["2", "p1"]
    assert ids([tmp_path / "2.zarr"]) == ["2"]


def test_ids_do_not_depend_on_how_the_folder_is_named(tree, monkeypatch):
    monkeypatch.chdir(tree.parent)
    assert ids(["in"]) == ids([str(tree) + "/"]) == ids([Path("in/../in")]) == ids([tree])


def test_files_are_called_by_their_name(tree):
    assert find_scans([tree / "p1/deep/er/x.y.nii.gz"]).scans[0].name == "x.y.nii.gz"
    assert ids([tree / "p1/deep/er/x.y.nii.gz", tree / "b.nii"]) == ["b", "x.y"]
    assert ids([tree / ".hidden.nii"]) == ["hidden"]  # named by the caller


@pytest.mark.parametrize(
    ("glob", "exclude", "want"),
    [
        (["*.mha"], (), ["p1__t1", "p1__t1_label"]),
        (["t1*"], (), ["p1__t1", "p1__t1_label", "p2__t1"]),
        (["p1/*"], (), ["p1__deep__er__x.y", "p1__t1", "p1__t1_label"]),
        (["p?/t1.*"], (), ["p1__t1", "p2__t1"]),
        (["a.*", "*/t1.*"], (), ["a", "p1__t1", "p2__t1"]),
        ((), ("*_label.mha", "p1/deep/*"), ["a", "b", "c", "p1__t1", "p2__t1"]),
        (["*t1*"], ("*_label*", "p2/*"), ["p1__t1"]),
    ],
)
def test_glob_and_exclude_match_names_and_paths(tree, glob, exclude, want):
    assert ids([tree], glob=glob, exclude=exclude) == want


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


def test_the_first_of_them(tree):
    assert ids([tree], limit=2) == ["a", "b"]
    assert ids([tree], limit=99) == ids([tree])


def test_nothing_found(tmp_path):
    (tmp_path / "sub").mkdir()
    for inputs, holds in (([], ""), ([tmp_path / "sub"], "; it holds no file")):
        with pytest.raises(InputError, match=rf"^no scans in .*\(\.nii, \.nii\.gz, .*, \.zarr, DICOM\){holds}$"):
            find_scans(inputs)
    for name in ("1.PNG", "2.png", "notes"):
        (tmp_path / "sub" / name).touch()
    with pytest.raises(InputError, match=r"; it holds 2 \.png and 1 without a suffix$"):
        find_scans([tmp_path / "sub"])
    with pytest.raises(InputError, match=r"^no masks like \*_seg\.nii in .*; it holds 2 .png and 1 without a suffix$"):
        find_masks(["a"], tmp_path / "sub", "*_seg.nii")
    (tmp_path / "sub/x.nii").touch()
    with pytest.raises(InputError, match=r"^no scans that match --glob and --exclude in "):
        find_scans([tmp_path / "sub"], Selection(glob=["*.nii"], exclude=["x*"]))


def test_nothing_found_but_something_else(tmp_path):
    (tmp_path / "features.zarr").mkdir()
    (tmp_path / "features.zarr/zarr.json").write_text('{"attributes": {"featlift": {"format": 1}}}')
    with pytest.raises(InputError, match=r"no scans in .*; skipped features\.zarr: a store of featlift$"):
        find_scans([tmp_path])
    with ZipFile(tmp_path / "notes.zip", "w") as archive:
        archive.writestr("notes.txt", "no scan")
    with pytest.raises(InputError, match=r"skipped features\.zarr: a store of featlift, and 1 more$"):
        find_scans([tmp_path])
    with pytest.raises(InputError, match=r"skipped notes\.zip: a \.zip without DICOM files$"):
        find_scans([tmp_path / "notes.zip"])


def test_a_damaged_zip_is_a_case_that_will_fail(tmp_path):
    save(tmp_path / "1.nii", noise())
    (tmp_path / "broken.zip").write_bytes(b"PK\x03\x04" + bytes(99))
    assert ids([tmp_path]) == ["1", "broken"]


def test_a_missing_input_is_named(tree):
    with pytest.raises(InputError, match="nowhere: no such file or folder"):
        find_scans([tree, tree / "nowhere"])


def test_loops_of_links_do_not_hang(tree):
    before = ids([tree])
    (tree / "p1/loop").symlink_to(tree)
    (tree / "p1/deep/self").symlink_to(".")
    code = f"from featlift.volumes import find_scans; print(*[scan.id for scan in find_scans([{str(tree)!r}]).scans])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == before


def test_links_to_scans_are_scans(tree):
    (tree / "p2/link.nii").symlink_to(tree / "b.nii")
    assert "p2__link" in ids([tree])


def test_links_that_lead_nowhere(tree):
    """They are scans by their name, and fail when they are read; others are passed over."""
    for name in ("lost.nii", "lost"):
        (tree / "p2" / name).symlink_to(tree / "nowhere")
    for name in ("self.nii", "self"):
        (tree / "p2" / name).symlink_to(tree / "p2" / name)
    assert sorted(set(ids([tree])) - set(TREE_IDS)) == ["p2__lost", "p2__self"]


def test_pipes_and_sockets_do_not_hang(tree):
    for name in ("pipe", "npz.npz", "nii.nii", "zarr.zarr"):
        os.mkfifo(tree / "p2" / name)
    code = f"""if True:
        from featlift.errors import VolumeError
        from featlift.volumes import Selection, find_scans
        from featlift.volumes.channels import read_scan
        for scan in find_scans([{str(tree / "p2")!r}], Selection(frame="all")).scans:
            try:
                read_scan(scan)
            except VolumeError as error:
                print(error)
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    for name in ("npz.npz", "nii.nii"):
        assert f"{name}: not a file" in done.stdout


@pytest.mark.parametrize("name", ["a__b.nii", "a__b.mha"])
def test_separators_in_names(tmp_path, name):
    """A path may give the id of another."""
    (tmp_path / "a").mkdir()
    (tmp_path / "a/b.nii").touch()
    (tmp_path / name).touch()
    with pytest.raises(
        InputError, match=rf"two scans with the id a__b: .*{name} and .*a/b\.nii; rename or exclude one"
    ):
        find_scans([tmp_path])


@pytest.mark.parametrize(
    "name", ["new\nline.nii", "tab\t.nii", "bell\x07.mha", os.fsdecode(b"caf\xe9.nii"), "\u202egnp.nii"]
)
def test_names_that_cannot_be_printed(tmp_path, name):
    (tmp_path / name).touch()
    with pytest.raises(
        InputError, match="a name that cannot be printed, or is not in UTF-8; rename the scan"
    ) as caught:
        find_scans([tmp_path])
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("name", ["Köln 1.nii", "患者.nii.gz", "a b.nii", "100%.nii", "a:b.nii", "a;b'c.nii"])
def test_names_of_all_kinds(tmp_path, name):
    (tmp_path / name).touch()
    assert ids([tmp_path]) == [name.removesuffix(".gz").removesuffix(".nii")]


def test_a_name_that_zarr_keeps_to_itself(tmp_path):
    (tmp_path / "zarr.json.nii").touch()
    with pytest.raises(
        InputError, match=r"zarr\.json\.nii: zarr\.json is a name that Zarr keeps to itself; rename the scan"
    ):
        find_scans([tmp_path])


def test_an_id_that_no_file_system_takes_is_refused(tmp_path):
    folder = tmp_path / ("d" * 100) / ("e" * 100)
    folder.mkdir(parents=True)
    (folder / "scan.nii").touch()
    (tmp_path / "a.nii").touch()
    with pytest.raises(InputError, match="case id would be longer than 200 bytes"):
        find_scans([tmp_path])
    assert ids([tmp_path], exclude=["d*"]) == ["a"]


@pytest.mark.parametrize("channels", [("0", "1"), ("0",), ("0", "1", "2", "3")])
def test_channels_are_three(tree, channels):
    with pytest.raises(OptionError, match="give three, the backbone has no fewer; one may stand twice"):
        find_scans([tree], Selection(channels=channels))


@pytest.mark.parametrize("channels", [("t1", "t2", "flair"), ("0", "1", "-1"), ("0", "1", "\u00b2"), ("0", "1", "")])
def test_channels_of_a_file_are_frames(tree, channels):
    with pytest.raises(OptionError, match="give frames such as 0,1,2, or columns of a manifest"):
        find_scans([tree], Selection(channels=channels))


def test_frames_as_channels(tree):
    scan = find_scans([tree / "b.nii"], Selection(channels=("2", "0", "2"))).scans[0]
    assert scan.sources == tuple(Source(tree / "b.nii", frame=frame) for frame in (2, 0, 2))


def test_found_has_nothing_to_say_of_good_inputs(tmp_path):
    save(tmp_path / "1.nii", noise())
    assert find_scans([tmp_path]) == DiscoveredScans([Scan("1", "1.nii", (Source(tmp_path / "1.nii"),))])


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
