"""Labels: from files as people write them and from indexes, and what is said of those that will not do."""

import numpy as np
import pytest

from featlift.errors import FeatliftError
from featlift.evaluation import read_labels
from tests.support.stores import clouds, write_store


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    cases, _ = clouds(6)
    labels = {case_id: {"label": number % 2, "split": "train" if number < 4 else "test"} for number, case_id in enumerate(cases)}  # fmt: skip  # noqa: E501
    labels["case003"]["label"] = None
    return write_store(tmp_path_factory.mktemp("labels") / "a.zarr", cases, labels)


def read(store, tmp_path, text, columns=()):
    (tmp_path / "l.csv").write_text(text, encoding="utf-8")
    return read_labels(store, tmp_path / "l.csv", columns)


def test_labels_and_splits(store, tmp_path):
    (task,) = read(store, tmp_path, "\ufeffid, label ,split,age\ncase001,10,train,7\ncase000,9,test,7\ncase004,,val,\n")
    assert (task.name, task.classes, task.ids) == ("label", ("9", "10"), ("case000", "case001"))
    assert (task.labels.tolist(), task.splits) == ([0, 1], ("test", "train"))
    (task,) = read(store, tmp_path, "id,label\ncase000,mass\ncase001,cyst\n")
    assert (task.classes, task.splits) == (("cyst", "mass"), ())


def test_findings_are_tasks_of_their_own(store, tmp_path):
    text = "id,nodule,effusion\ncase000,0,1\ncase001,1,\ncase002,1,0\n"
    nodule, effusion = read(store, tmp_path, text)
    assert (nodule.name, nodule.ids) == ("nodule", ("case000", "case001", "case002"))
    assert (effusion.ids, effusion.labels.tolist()) == (("case000", "case002"), [1, 0])
    (chosen,) = read(store, tmp_path, text, ["effusion"])
    assert (chosen.ids, chosen.classes) == (effusion.ids, effusion.classes)


def test_labels_of_the_index(store):
    (task,) = read_labels(store)
    assert task.ids == ("case000", "case001", "case002", "case004", "case005")
    assert task.classes == ("0", "1")
    train, test = task.of("train", "test")
    assert [task.ids[row] for row in train] == ["case000", "case001", "case002"]
    np.testing.assert_array_equal(task.labels[test], [0, 1])


WRONG = {
    "no id": ("case,label\ncase000,1\n", "give a header such as id,label,split"),
    "a name twice": ("id,label,label\ncase000,1,1\n", "no name twice"),
    "a name of the index": ("id,label,depth\ncase000,1,1\n", "rename"),
    "an id twice": ("id,label\ncase000,1\ncase000,0\n", "line 3: id case000 stands twice"),
    "no id in a row": ("id,label\n,1\n", "line 2: no id"),
    "ids of no case": ("id,label\ncase000,1\nx,0\ny,1\n", "2 of 3 ids are no case of .*, as x"),
    "another split": ("id,label,split\ncase000,1,training\n", "the split of case000 is 'training'"),
    "one class": ("id,label\ncase000,1\ncase001,1\n", "one class"),
    "only blanks": ("id,label\ncase000,\n", "no labels"),
    "only ids": ("id\ncase000\n", "no labels"),
    "findings that are none": ("id,a,b\ncase000,1,7\ncase001,0,0\n", "b of case000 is '7'"),
    "not text": ("id,label\0\ncase000,1\n", "no label|not a readable|no case|one class|header"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_wrong_files(store, tmp_path, kind):
    text, says = WRONG[kind]
    with pytest.raises(FeatliftError, match=says) as caught:
        read(store, tmp_path, text)
    assert "\n" not in str(caught.value)


def test_splits_that_will_not_do(store, tmp_path):
    (task,) = read(store, tmp_path, "id,label\ncase000,1\ncase001,0\ncase002,0\n")
    with pytest.raises(FeatliftError, match="no column split: add one that says train, test for each case"):
        task.of("train", "test")
    with pytest.raises(FeatliftError, match="class 1 of label does not occur twice"):
        task.everything()
    (task,) = read(store, tmp_path, "id,label,split\ncase000,1,train\ncase001,0,train\ncase002,0,test\n")
    with pytest.raises(FeatliftError, match="class 1 of label does not occur in the split test; it has 1 case there"):
        task.of("train", "test")
    with pytest.raises(FeatliftError, match="class 0 of label does not occur in the split val; it has 0 cases"):
        task.of("train", "val")
    for path, columns, says in [("none.csv", (), "no such file"), ("l.csv", ("age",), "no column age; its labels are label")]:  # fmt: skip  # noqa: E501
        with pytest.raises(FeatliftError, match=says):
            read_labels(store, tmp_path / path, columns)
