"""A CSV that names the cases: ids, paths, masks, labels."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import h5py
import numpy as np
import pytest

from featlift.errors import FeatliftError, InputError, OptionError
from featlift.volumes import DiscoveredScans, Scan, Selection, Source, find_scans, read
from featlift.volumes.channels import read_scan
from tests.support.files import noise, save


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three scans to name."""
    (tmp_path / "sub").mkdir()
    save(tmp_path / "1.nii", noise())
    save(tmp_path / "sub/raw.mha", noise() + 1)
    with h5py.File(tmp_path / "two.h5", "w") as file:
        file["a/b"] = noise() + 2
        file["c"] = noise() + 3
    return tmp_path


def find(folder: Path, text: str, selection: Selection | None = None, encoding: str = "utf-8") -> DiscoveredScans:
    (folder / "list.csv").write_bytes(text.encode(encoding))
    return find_scans([folder / "list.csv"], selection)


def refused(folder: Path, text: str, match: str, selection: Selection | None = None, encoding: str = "utf-8") -> None:
    with pytest.raises(InputError, match=match) as caught:
        find(folder, text, selection, encoding)
    assert "\n" not in str(caught.value)


def test_ids_paths_masks_and_labels_with_their_types(folder):
    found = find(
        folder,
        "id,path,mask,split,label,age,seen,site\n"
        "001,1.nii,sub/raw.mha,train,1,63.5,2020-01-31,Köln\n"
        '2,sub/raw.mha,,test,0,,2021-12-01,"A, B"\n',
    )
    first, second = found.scans
    assert first == Scan(
        "001",
        "1.nii",
        (Source(folder / "1.nii"),),
        {"split": "train", "label": 1, "age": 63.5, "seen": date(2020, 1, 31), "site": "Köln"},
        Source(folder / "sub/raw.mha"),
    )
    assert (second.id, second.mask) == ("2", None)
    assert second.labels == {"split": "test", "label": 0, "age": None, "seen": date(2021, 12, 1), "site": "A, B"}
    np.testing.assert_array_equal(read_scan(second).array, noise() + 1)


def test_without_ids_the_names_of_the_files_count(folder):
    assert [scan.id for scan in find(folder, "path\nsub/raw.mha\n1.nii\n").scans] == ["1", "raw"]
    assert [scan.id for scan in find(folder, "id,path\n,sub/raw.mha\nb,1.nii\n").scans] == ["b", "raw"]


def test_paths_are_relative_to_the_manifest(folder, monkeypatch):
    monkeypatch.chdir("/")
    (folder / "sub/list.csv").write_text("path\n../1.nii\nraw.mha\n")
    scans = find_scans([folder / "sub/list.csv"]).scans
    assert [scan.name for scan in scans] == ["../1.nii", "raw.mha"]
    np.testing.assert_array_equal(read_scan(scans[0]).array, noise())


@pytest.mark.parametrize("file", ["1.nii", "sub/raw.mha", "two.h5::a/b"])
def test_where_a_file_lies_on_this_machine_is_not_in_its_name(folder, file):
    scan = find(folder, f"path,label\n{folder}/{file},1\n").scans[0]
    assert str(folder) not in scan.name
    assert scan.name == file.partition("::")[0].rpartition("/")[2]
    assert str(folder) not in scan.id
    assert scan.labels == {"label": 1}


def test_arrays_in_files(folder):
    scans = find(folder, "path\ntwo.h5::a/b\ntwo.h5::c\n").scans
    assert [(scan.id, scan.name) for scan in scans] == [("two__a__b", "two.h5"), ("two__c", "two.h5")]
    assert [scan.id for scan in find_scans([f"{folder}/two.h5::a/b", f"{folder}/two.h5::c"]).scans] == [
        scan.id for scan in scans
    ]
    np.testing.assert_array_equal(read_scan(scans[0]).array, noise() + 2)
    np.testing.assert_array_equal(read_scan(scans[1]).array, noise() + 3)


def test_the_key_is_for_files_that_hold_several_and_none_is_chosen(folder):
    text = "id,path\na,1.nii\nb,two.h5\nc,two.h5::c\n"
    scans = find(folder, text, Selection(key="a/b")).scans
    assert [scan.sources[0].key for scan in scans] == [None, "a/b", "c"]
    for scan, want in zip(scans, (0, 2, 3), strict=True):
        np.testing.assert_array_equal(read_scan(scan).array, noise() + want)


def test_glob_and_exclude_count_for_paths(folder):
    text = "id,path\na,1.nii\nb,sub/raw.mha\n"
    assert [scan.id for scan in find(folder, text, Selection(glob=["sub/*"])).scans] == ["b"]
    assert [scan.id for scan in find(folder, text, Selection(exclude=["*.mha"])).scans] == ["a"]


def test_frames(folder):
    np.save(folder / "c.npy", np.stack([noise(), noise() + 1]))
    scans = find(folder, "id,path,label\nx,c.npy,1\ny,1.nii,2\n", Selection(frame="all")).scans
    assert [(scan.id, scan.labels["label"]) for scan in scans] == [("x__frame0", 1), ("x__frame1", 1), ("y", 2)]


def test_columns_as_channels(folder):
    text = "id,t1,t2,flair,path,label\na,1.nii,sub/raw.mha,two.h5::c,nowhere.nii,3\n"
    scan = find(folder, text, Selection(channels=("t1", "flair", "t2"))).scans[0]
    assert [source.path.name for source in scan.sources] == ["1.nii", "two.h5", "raw.mha"]
    assert (scan.name, scan.labels) == ("1.nii", {"label": 3})
    volume = read_scan(scan)
    np.testing.assert_array_equal(volume.array, np.stack([noise(), noise() + 3, noise() + 1]))
    for missing in ("id,t1,t2,flair\na,1.nii,,1.nii\n", "id,t1,t2,flair\na,1.nii,1.nii,\n"):
        refused(folder, missing, "line 2: no t1 or t2 or flair", Selection(channels=("t1", "t2", "flair")))
    refused(
        folder,
        "id,t1,t2\na,1.nii,1.nii\n",
        "no column 'flair'; it has id, t1, t2",
        Selection(channels=("t1", "t2", "flair")),
    )
    with pytest.raises(OptionError, match="--channels t1,t2: give three"):
        find(folder, text, Selection(channels=("t1", "t2")))


def test_frames_of_the_path_as_channels(folder):
    np.save(folder / "c.npy", np.stack([noise(), noise() + 1]))
    scan = find(folder, "id,path\na,c.npy\n", Selection(channels=("1", "0", "1"))).scans[0]
    np.testing.assert_array_equal(read_scan(scan).array, np.stack([noise() + 1, noise(), noise() + 1]))


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", r"list\.csv: not a readable CSV"),
        ("id,path\n", "give a header such as id,path, no name twice, and a line for each scan"),
        ("id,label\na,1\n", r"list\.csv: no column 'path'; it has id, label"),
        ("id;label\na;1\n", r"no column 'path'; it has id, label"),
        ("id,path,path\na,1.nii,1.nii\n", "no name twice"),
        ("id,path,label,label\na,1.nii,1,2\n", "no name twice"),
        ("id,path\na,1.nii\nb,\n", r"^list\.csv, line 3: no path$"),
        ("id,path\na,1.nii\nb,x\0.nii\n", r"^list\.csv, line 3: no path$"),
        ("id,path,mask\n\n\na,1.nii,\n\nb,2.nii,nowhere.nii\n", r"^list\.csv, line 6: no such file"),
        ('id,path,note,mask\na,1.nii,"two\nlines",\nb,2.nii,x,no.nii\n', r"^list\.csv, line 4: no such file: no\.nii$"),
        ("id,path,mask\na,1.nii,nowhere.nii\n", r"^list\.csv, line 2: no such file: nowhere\.nii$"),
        ("id,path\na,1.nii,3\n", r"list\.csv, line 2: 3 values, but the header names 2 columns"),
        ("id,path,label\na,1.nii\n", r"list\.csv, line 2: 2 values, but the header names 3 columns"),
        (f"id,path,mask\na,1.nii,{'x' * 300}\n", r"^list\.csv, line 2: no such file: xxx"),
    ],
)
def test_what_is_wrong_with_a_manifest(folder, text, match):
    refused(folder, text, match)


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ("nowhere.nii", "no such file"),
        ("sub", "sub: no DICOM series that is a volume"),
        ("x" * 300, "cannot be read"),
        ("list.csv", "not one of the formats read here"),
    ],
)
def test_a_scan_that_cannot_be_read_does_not_stop_the_others(folder, given, match):
    """In a night's run one row of thousands is one failed case."""
    bad, good = find(folder, f"id,path\na,{given}\nb,1.nii\n").scans
    with pytest.raises(FeatliftError, match=match):
        read_scan(bad)
    assert read_scan(good).array.shape


@pytest.mark.parametrize("text", ["é,path\na,1.nii\n", "id,path\né,1.nii\n", "id,path,label\na,1.nii,é\n"])
@pytest.mark.parametrize("encoding", ["latin-1", "utf-16"])
def test_other_encodings_are_refused_wherever_they_show(folder, text, encoding):
    refused(folder, text, "not a readable CSV in UTF-8", encoding=encoding)


def test_the_byte_order_mark_of_excel(folder):
    found = find(folder, "id,path,größe\r\na,1.nii,3\r\n", encoding="utf-8-sig")
    assert [(scan.id, scan.labels) for scan in found.scans] == [("a", {"größe": 3})]


@pytest.mark.parametrize("case_id", ["a/b", "/", ".", "..", ".hidden", "a\tb", "\x7f", "../../etc"])
def test_ids_that_are_no_name(folder, case_id):
    refused(folder, f"id,path\n{case_id},1.nii\n", r"^1\.nii: id .* cannot be the name of a folder$")


def test_ids_that_are_too_long_or_taken(folder):
    refused(folder, f"id,path\n{'a' * 201},1.nii\n", r"^1\.nii: its case id would be longer than 200 bytes")
    refused(folder, "id,path\nzarr.json,1.nii\n", r"^1\.nii: zarr\.json is a name that Zarr keeps to itself")
    refused(folder, "id,path\na,1.nii\na,sub/raw.mha\n", "two scans with the id a: .*1.nii and .*raw.mha")


def test_a_case_that_stands_twice(folder):
    assert len(find(folder, "id,path,label\na,1.nii,1\na,1.nii,1\n").scans) == 1
    for text in ("id,path,label\na,1.nii,1\na,1.nii,2\n", "id,path,mask\na,1.nii,\na,1.nii,sub/raw.mha\n"):
        with pytest.raises(InputError, match="a stands twice in the inputs, with other labels or another mask"):
            find(folder, text)


def test_a_file_that_is_no_scan_is_told_when_it_is_read(folder):
    (folder / "notes.txt").write_text("no scan")
    scan = find(folder, "id,path\na,notes.txt\n").scans[0]
    with pytest.raises(ValueError, match=r"^notes\.txt: not one of the formats read here"):
        read_scan(scan)


def test_a_manifest_is_no_volume(folder):
    (folder / "list.csv").write_text("path\n1.nii\n")
    with pytest.raises(ValueError, match=r"^list\.csv: not one of the formats read here"):
        read(folder / "list.csv")
    assert [scan.id for scan in find_scans([folder], Selection(glob=["*.nii"])).scans] == ["1"]  # nor in a folder


def test_real_hippocampi_with_their_labels(shared, tmp_path):
    folder = shared / "hippocampus"
    rows = [line.split(",") for line in (folder / "split.csv").read_text().split()]
    header, rows = rows[0], rows[1:13]
    lines = [
        ",".join([row[0], f"{folder}/images/{row[0]}.nii.gz", f"{folder}/labels/{row[0]}.nii.gz", *row[1:]])
        for row in rows
    ]
    (tmp_path / "list.csv").write_text("\n".join([",".join(["id", "path", "mask", *header[1:]]), *lines]))
    scans = find_scans([tmp_path / "list.csv"]).scans
    assert [scan.id for scan in scans] == sorted(row[0] for row in rows)
    for scan in scans:
        mask = read(scan.mask.path)
        assert mask.array.shape == read_scan(scan).array.shape
        assert set(np.unique(mask.array)) == {0, 1, 2}
        assert set(scan.labels) == set(header[1:])
        assert "/" not in scan.name
