"""CSV files as people have them: from a text editor, from pandas, from Excel in any country."""

import numpy as np
import pytest

from featlift.errors import InputError
from featlift.evaluation import read_labels, read_splits
from featlift.store import read_index
from featlift.tables import read_table
from featlift.volumes import Selection, find_masks, find_scans
from tests.support.files import noise, save
from tests.support.stores import clouds, write_store

WRITTEN = {
    "editor": ("id,label,split,age\n{0},1,train,63.5\n{1},0,test,7\n", "utf-8"),
    "excel, german": ("\ufeffID;Label;Split;age\r\n{0};1;train;63,5\r\n{1};0;test;7\r\n;;;\r\n", "utf-8"),
    "tabs": ("Id\tLABEL\tsplit\tage\n{0}\t1\ttrain\t63.5\n{1}\t0\ttest\t7\n", "utf-8"),
    "quoted": ('"id";" label ";"split";"age"\n"{0}";1;train;63,5\n"{1}";0;test;7\n', "utf-8"),
}


@pytest.fixture
def store(tmp_path):
    cases, _ = clouds(2)
    return write_store(tmp_path / "a.zarr", cases, {})


@pytest.mark.parametrize("how", WRITTEN)
@pytest.mark.parametrize("suffix", ["", ".nii.gz"])
def test_labels(featlift, store, tmp_path, how, suffix):
    """The same labels whatever wrote the file, for those that read them at once and for the index."""
    text, encoding = WRITTEN[how]
    (tmp_path / "l.csv").write_bytes(text.format(*(f"{case_id}{suffix}" for case_id in store)).encode(encoding))
    (task,) = read_labels(store, tmp_path / "l.csv")
    assert (task.name, task.ids, task.labels.tolist(), task.splits) == (
        "label",
        tuple(store),
        [1, 0],
        ("train", "test"),
    )
    assert read_labels(store, tmp_path / "l.csv", ["Label"])[0].name == "label"
    done = featlift("index", store.path, "--labels", "l.csv")
    assert done.returncode == 0, done.stderr
    assert read_index(store.path)["age"].to_pylist() == [63.5, 7]
    (task,) = read_labels(store)
    assert (task.labels.tolist(), task.splits) == ([1, 0], ("train", "test"))
    assert read_splits(store) == dict(zip(store, ("train", "test"), strict=True))


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_manifests_masks_and_points(tmp_path, separator):
    """What lists scans, masks and places is read alike."""
    for name in ("p1.nii", "p2.nii", "of_1.nii", "of_2.nii"):
        save(tmp_path / name, noise())

    def write(name, *rows):
        (tmp_path / name).write_text("\n".join(separator.join(row) for row in rows))
        return tmp_path / name

    half = "0.5" if separator == "," else "0,5"
    listed = write("m.csv", ("Id", "PATH", "Weight"), ("p1", "p1.nii", half), ("p2", "p2.nii", "2"))
    scans = find_scans([listed]).scans
    assert [(scan.id, scan.labels) for scan in scans] == [("p1", {"Weight": 0.5}), ("p2", {"Weight": 2})]
    masks = write("masks.csv", ("ID", "Path"), ("p1.nii", "of_1.nii"), ("p2.nii", "of_2.nii"))
    assert find_masks(["p1", "p2"], masks) == {f"p{n}": tmp_path / f"of_{n}.nii" for n in (1, 2)}
    files = [tmp_path / f"p{n}.nii" for n in (1, 2)]
    found = find_scans(files, Selection(masks=masks)).scans
    assert [scan.mask.path.name for scan in found] == ["of_1.nii", "of_2.nii"]
    points = write("x.csv", ("ID", "X", "Y", "Z"), ("p1.nii", half, "1", "-2"))
    found = find_scans(files, Selection(roi=str(points))).scans
    assert [(scan.id, scan.centre) for scan in found] == [("p1__roi1", (0.5, 1.0, -2.0))]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("id,x\na,1\n".encode("utf-16"), "it is in UTF-16: save it as CSV UTF-8"),
        ("id,x\na,1\n".encode("utf-16-le"), "it is in UTF-16: save it as CSV UTF-8"),
        ("id,x\na,1\nb,Köln\n".encode("cp1252"), "line 3 is in another encoding: save it as CSV UTF-8"),
        (b"", "it is empty"),
        (b" \n,\n", "it is empty"),
        (b'id,x\na,"1\n', "unexpected end of data"),
        (b"id,x\n\na,1,2\n", "line 3: 3 values, but the header names 2 columns"),
        (b"id;x\na\n", "line 2: 1 values, but the header names 2 columns"),
        (None, "no such file; give a CSV"),
    ],
)
def test_what_is_refused(tmp_path, content, says):
    if content is not None:
        (tmp_path / "l.csv").write_bytes(content)
    with pytest.raises(InputError, match=says) as caught:
        read_table(tmp_path / "l.csv", ["id"], "give a CSV")
    assert "\n" not in str(caught.value)


def test_what_separates_columns_is_told_by_the_names_looked_for(tmp_path):
    (tmp_path / "l.csv").write_text("id,a;b;c,d;e\n1,2,3\n")
    assert read_table(tmp_path / "l.csv", ["id"], "").names == ["id", "a;b;c", "d;e"]
    (tmp_path / "l.csv").write_text("ID,id\n1,2\n")  # of two, the one as it is asked for
    assert read_table(tmp_path / "l.csv", ["id"], "").names == ["ID", "id"]
    (tmp_path / "l.csv").write_text("name;x\n1;2\n")
    assert read_table(tmp_path / "l.csv", ["id"], "").names == ["name", "x"]


def test_commas_are_points_only_where_all_are_numbers(tmp_path):
    (tmp_path / "l.csv").write_text('id;size;findings;few\na;1,5;"1,2";\nb;-2;none;0,25\n')
    table = read_table(tmp_path / "l.csv", ["id"], "").typed(["id"])
    assert table.to_pylist() == [
        {"id": "a", "size": 1.5, "findings": "1,2", "few": None},
        {"id": "b", "size": -2.0, "findings": "none", "few": 0.25},
    ]
    assert np.isclose(sum(table["size"].to_pylist()), -0.5)
