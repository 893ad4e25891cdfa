"""Vectors of another program go through the same labels, splits and statistics as a store's embeddings."""

import csv
import json
import re

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from featlift.errors import InputError
from featlift.store.vectors import VectorTable
from tests.support.stores import clouds, splits_of, write_labels, write_store


@pytest.fixture
def same(tmp_path):
    """The mean patch tokens of a store's cases as Parquet and as CSV."""
    cases, labels = clouds()
    store = write_store(tmp_path / "store.zarr", {name: (None, tokens) for name, tokens in cases.items()})
    write_labels(tmp_path / "labels.csv", labels, splits_of(labels))
    rows = {}
    for case_id in store:
        start, stop = store[case_id].embedding_parts["patch-mean"]
        rows[case_id] = np.asarray(store[case_id].embedding[start:stop], dtype=np.float32)
    pq.write_table(
        pa.table({"id": list(rows), "vector": [row.tolist() for row in rows.values()]}), tmp_path / "v.parquet"
    )
    header = ",".join(["id", *(f"c{number}" for number in range(len(rows[next(iter(rows))])))])
    lines = [",".join([case_id, *map(repr, map(float, values))]) for case_id, values in rows.items()]
    (tmp_path / "v.csv").write_text("\n".join([header, *lines]) + "\n")
    return tmp_path, rows


def results_in(folder):
    return [json.loads(file.read_text()) for file in sorted(folder.glob("*.json"))]


@pytest.mark.parametrize("file", ["v.parquet", "v.csv"])
@pytest.mark.parametrize("command", [("knn", "-k", "3"), ("probe", "--protocol", "logistic")])
def test_results_are_those_of_the_store(same, featlift, file, command):
    folder, _ = same
    name, *options = command
    options = [*options, "--labels", "labels.csv", "--input", "patch-mean"]
    of_store = featlift(name, "store.zarr", *options, "-o", "of-store")
    assert of_store.returncode == 0, of_store.stderr
    done = featlift(name, file, *options, "-o", "of-vectors")
    assert done.returncode == 0, done.stderr
    wanted, found = results_in(folder / "of-store"), results_in(folder / "of-vectors")
    assert [result["measures"] for result in found] == [result["measures"] for result in wanted]
    assert found[0]["measures"]
    assert found[0]["recipe"]["mode"] == "vectors"
    compared = featlift("compare", "of-store", "of-vectors")
    assert compared.returncode == 0, compared.stderr


def test_a_store_and_vectors_stand_side_by_side(same, featlift):
    """Of the same numbers a comparison finds no difference between them, and a report shows both."""
    options = ("--labels", "labels.csv", "--input", "patch-mean", "-k", "3", "-o", "results")
    assert featlift("knn", "store.zarr", "v.parquet", *options).returncode == 0
    compared = featlift("compare", "results", "--to", "json")
    assert compared.returncode == 0, compared.stderr
    told = json.loads(compared.stdout)
    assert [row["mode"] for row in told["rows"]] == ["2d", "vectors"]
    assert {each["mean"] for each in told["differences"]} == {0}
    done = featlift("report", "v.parquet", "store.zarr", "--results", "results", "--labels", "labels.csv")
    assert done.returncode == 0, done.stderr
    page = (same[0] / "report.html").read_text()
    data = json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)[1])
    ours, theirs = ({k: m[k] for k in ("cases", "x", "y")} for m in data["maps"] if m["name"].startswith("PCA"))
    assert ours == theirs
    assert data["tiles"] == ["scan", "PCA"]
    assert "vectors_sha256" in page
    assert all(data["facts"])


@pytest.mark.parametrize("file", ["v.parquet", "v.csv"])
def test_labels_may_stand_in_the_file(same, featlift, file):
    """So may splits; a report of vectors alone has a map in their colours, and no pictures."""
    folder, rows = same
    told = {row["id"]: row for row in csv.DictReader((folder / "labels.csv").read_text().splitlines())}
    assert featlift("knn", "v.parquet", "--labels", "labels.csv", "-k", "3", "-o", "apart").returncode == 0
    labels = {name: [told[case_id][name] for case_id in rows] for name in ("label", "split")}
    if file.endswith("parquet"):
        table = pq.read_table(folder / file)
        more = {**labels, "boxes": [[1, 2]] * len(rows)}
        for name, values in more.items():
            table = table.append_column(name, pa.array(values))
        pq.write_table(table, folder / file)
    else:
        header, *lines = (folder / file).read_text().splitlines()
        ends = zip(*labels.values(), strict=True)
        lines = [f"{line},{','.join(end)}" for line, end in zip(lines, ends, strict=True)]
        (folder / file).write_text("\n".join([f"{header},label,split", *lines]) + "\n")
    done = featlift("knn", file, "-k", "3", "-o", "within")
    assert done.returncode == 0, done.stderr
    (wanted,), (found,) = results_in(folder / "apart"), results_in(folder / "within")
    assert found["measures"] == wanted["measures"]

    done = featlift("report", file)
    assert done.returncode == 0, done.stderr
    assert f"{len(rows)} cases, 0 with pictures" in done.stdout
    page = (folder / "report.html").read_text()
    data = json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)[1])
    assert [column["name"] for column in data["columns"]] == ["label", "split"]
    assert data["facts"] == [""] * len(rows)
    assert data["pictures"] == {}


def test_the_nearest_cases_are_those_of_the_store(same, featlift):
    _, rows = same
    case = next(iter(rows))
    options = ("--case", case, "--input", "patch-mean", "--top", "3")
    wanted = featlift("retrieve", "store.zarr", *options).stdout
    assert featlift("retrieve", "v.parquet", *options).stdout == wanted
    done = featlift("retrieve", "v.parquet", "--case", case, "--voxel", "0,0,0")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("id,a\nx,1\nx,2\n", "id x stands twice"),
        ("id,a\nx,one\n", "could not convert"),
        ("id,a\nx,nan\ny,1\n", "1 of 2 vectors hold NaN"),
        ("name,a\nx,1\n", "vectors are a Parquet with id,vector"),
        ("id\nx\n", "vectors are a Parquet with id,vector"),
        ("id,a\n", "no rows"),
        (None, "vectors are a Parquet with id,vector"),
    ],
)
def test_what_is_no_table_of_vectors_is_refused(tmp_path, text, says):
    if text is not None:
        (tmp_path / "v.csv").write_text(text)
    with pytest.raises(InputError, match=says):
        VectorTable(tmp_path / "v.csv")


def test_parquets_of_other_kinds_are_refused(tmp_path, featlift, same):
    for column, says in (([[1.0], [1.0, 2.0]], "several lengths"), (["a", "b"], "no lists of numbers")):
        pq.write_table(pa.table({"id": ["x", "y"], "vector": column}), tmp_path / "w.parquet")
        with pytest.raises(InputError, match=says):
            VectorTable(tmp_path / "w.parquet")
    (tmp_path / "w.parquet").write_bytes(b"no parquet at all")
    with pytest.raises(InputError, match="vectors are a Parquet"):
        VectorTable(tmp_path / "w.parquet")
    done = featlift("knn", "v.parquet")
    assert "give them with --labels" in done.stderr
