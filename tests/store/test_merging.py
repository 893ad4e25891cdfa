"""Stores of one recipe become one, which is the store that a single run makes."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from featlift import open_store
from featlift.store import read_index
from tests.extraction.test_resume import contents, damage_delete, damage_flip, damage_group, damage_group_truncated
from tests.support.scans import patch_mean_options, write_scan

KILL = Path(__file__).parents[1] / "extraction" / "kill_at_every_step.py"
MANIFEST = "id,path,site,grade\na,a.nii.gz,north,1\nb,b.nii.gz,south,\nc,c.nii.gz,,3\n"


@pytest.fixture
def extract(featlift, tmp_path):
    """A function that extracts rows of a manifest of three scans into a store."""
    for seed, name in enumerate("abc"):
        write_scan(tmp_path / f"{name}.nii.gz", seed)
    head, *rows = MANIFEST.splitlines()
    options = [*patch_mean_options(tmp_path, patch=4), "--mode", "2d"]

    def run(store, cases="abc", *more):
        lines = [head, *(row for row in rows if row[0] in cases)]
        (tmp_path / "cases.csv").write_text("\n".join(lines) + "\n")
        done = featlift("extract", "cases.csv", "-o", store, *options, *more)
        assert done.returncode == 0, done.stderr
        return tmp_path / store

    return run


@pytest.fixture(scope="module")
def shelf(tmp_path_factory):
    """Where what `parts` makes is kept from test to test."""
    return tmp_path_factory.mktemp("shelf")


@pytest.fixture
def parts(extract, tmp_path, shelf):
    """What one run makes, and two stores of its parts that share a case."""
    if any(shelf.iterdir()):
        return shutil.copytree(shelf, tmp_path, dirs_exist_ok=True)
    extract("alone.zarr")
    extract("one.zarr", "ab")
    extract("two.zarr", "bc")
    return shutil.copytree(tmp_path, shelf, dirs_exist_ok=True) and tmp_path


def test_a_merge_is_what_one_run_makes(parts, featlift):
    before = contents(parts / "one.zarr"), contents(parts / "two.zarr")
    done = featlift("merge", "one.zarr", "two.zarr", "-o", "all.zarr")
    assert (done.returncode, done.stdout) == (0, "all.zarr: 3 volumes of 2 stores\n")
    assert contents(parts / "all.zarr") == contents(parts / "alone.zarr")
    assert (contents(parts / "one.zarr"), contents(parts / "two.zarr")) == before
    assert featlift("verify", "all.zarr").returncode == 0
    records = {path.name for store in ("one.zarr", "two.zarr") for path in (parts / store / "runs").iterdir()}
    assert {path.name for path in (parts / "all.zarr" / "runs").iterdir()} == records
    assert len(records) == 2
    assert [(row["id"], row["site"], row["grade"]) for row in read_index(parts / "all.zarr").to_pylist()] == [
        ("a", "north", 1),
        ("b", "south", None),
        ("c", "", 3),
    ]


def test_a_basis_comes_along(parts, featlift, extract):
    extract("reduced.zarr", "ab", "--reduce", "pca:1")
    assert featlift("merge", "reduced.zarr", "-o", "all.zarr").returncode == 0
    assert contents(parts / "all.zarr") == contents(parts / "reduced.zarr")
    assert "basis.safetensors" in contents(parts / "all.zarr")
    assert featlift("verify", "all.zarr").returncode == 0


def test_extract_finds_a_merge_complete(parts, featlift, extract):
    featlift("merge", "one.zarr", "two.zarr", "-o", "all.zarr")
    before = contents(parts / "all.zarr")
    extract("all.zarr")
    assert contents(parts / "all.zarr") == before


def test_nothing_is_copied_on_one_disk(parts, featlift):
    featlift("merge", "one.zarr", "two.zarr", "-o", "all.zarr")
    for key in ("volumes/a/dense/c/0/0/0/0", "volumes/a/zarr.json"):
        assert (parts / "all.zarr" / key).samefile(parts / "one.zarr" / key)
    shutil.rmtree(parts / "one.zarr")
    assert featlift("verify", "all.zarr").returncode == 0


@pytest.mark.skipif(not os.access("/dev/shm", os.W_OK), reason="no second disk at hand")
def test_copies_where_there_are_two_disks(parts, featlift):
    other = Path("/dev/shm") / f"featlift-{os.getpid()}.zarr"
    if other.parent.stat().st_dev == parts.stat().st_dev:
        pytest.skip("no second disk at hand")
    try:
        assert featlift("merge", "one.zarr", "two.zarr", "-o", other).returncode == 0
        assert contents(other) == contents(parts / "alone.zarr")
    finally:
        shutil.rmtree(other)


def test_a_store_is_added_to(parts, featlift):
    """Of one that holds some cases already nothing is written again."""
    stamps = {path: path.stat().st_ino for path in (parts / "one.zarr" / "volumes").rglob("*")}
    assert featlift("merge", "two.zarr", "-o", "one.zarr").returncode == 0
    assert contents(parts / "one.zarr") == contents(parts / "alone.zarr")
    assert {path: path.stat().st_ino for path in stamps} == stamps


def test_other_recipes_are_refused(parts, featlift, extract):
    extract("other.zarr", "c", "--intensity", "minmax")
    for arguments in (["one.zarr", "other.zarr", "-o", "all.zarr"], ["other.zarr", "-o", "one.zarr"]):
        done = featlift("merge", *arguments)
        assert done.returncode == 2
        assert "intensity (" in done.stderr
        assert 'other.zarr "minmax"' in done.stderr
        assert "mode" not in done.stderr
        assert done.stderr.count("\n") == 1
    assert not (parts / "all.zarr").exists()


def test_two_scans_of_one_id_are_refused(parts, featlift, extract):
    write_scan(parts / "b.nii.gz", seed=9)
    extract("other.zarr", "b")
    done = featlift("merge", "one.zarr", "other.zarr", "-o", "all.zarr")
    assert done.returncode == 2
    assert "case b is another in other.zarr than in one.zarr" in done.stderr
    assert not (parts / "all.zarr").exists()
    assert featlift("merge", "other.zarr", "-o", "one.zarr").returncode == 2


def test_a_source_that_was_touched_is_the_same(parts, featlift, extract):
    os.utime(parts / "b.nii.gz")
    extract("other.zarr", "b")
    assert featlift("merge", "one.zarr", "other.zarr", "-o", "all.zarr").returncode == 0
    assert list(open_store(parts / "all.zarr")) == ["a", "b"]


def test_labels_that_contradict_are_refused(parts, featlift):
    (parts / "labels.csv").write_text("id,site\nb,west\n")
    featlift("index", "two.zarr", "--labels", "labels.csv")
    done = featlift("merge", "one.zarr", "two.zarr", "-o", "all.zarr")
    assert done.returncode == 2
    assert "case b: site is west in two.zarr and south" in done.stderr


@pytest.mark.parametrize("damage", [damage_flip, damage_delete, damage_group, damage_group_truncated])
def test_a_damaged_volume_is_left_out_and_named(parts, featlift, damage):
    shutil.copytree(parts / "one.zarr", parts / "sound.zarr")
    key = damage(parts / "one.zarr")
    done = featlift("merge", "one.zarr", "two.zarr", "-o", "all.zarr")
    assert done.returncode == 1
    assert f"damaged  a  {key}: " in done.stdout
    assert "2 volumes, 1 damaged" in done.stdout
    assert list(open_store(parts / "all.zarr")) == ["b", "c"]
    assert featlift("verify", "all.zarr").returncode == 0
    assert featlift("merge", "one.zarr", "two.zarr", "sound.zarr", "-o", "all.zarr").returncode == 0
    assert contents(parts / "all.zarr") == contents(parts / "alone.zarr")


def test_what_is_no_store(parts, featlift):
    (parts / "folder").mkdir()
    (parts / "folder" / "thesis.txt").write_text("five years")
    for arguments, says in (
        (["nowhere.zarr", "-o", "all.zarr"], "no such store"),
        (["folder", "-o", "all.zarr"], "not a featlift store"),
        (["one.zarr", "-o", "folder"], "not a featlift store"),
    ):
        done = featlift("merge", *arguments)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)
        assert says in done.stderr
    (parts / "two.zarr" / "index.parquet").unlink()
    done = featlift("merge", "one.zarr", "two.zarr", "-o", "all.zarr")
    assert (done.returncode, "run `featlift index two.zarr`" in done.stderr) == (2, True)
    assert not (parts / "all.zarr").exists()


@pytest.mark.parametrize("stride", [23, pytest.param(1, marks=pytest.mark.soak)])
def test_a_merge_killed_at_every_step(parts, extract, stride):
    """SIGKILL at each file operation of a merge in turn, then merge again (see kill_at_every_step.py)."""
    extract("a.zarr", "a")
    done = subprocess.run(
        [sys.executable, KILL, str(stride), parts / "a.zarr", "merge", "a.zarr"],
        cwd=parts, capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(done.stdout.split()[0]) > 40 // stride, done.stdout


def test_records_of_runs_can_be_read(parts, featlift):
    featlift("merge", "one.zarr", "two.zarr", "-o", "all.zarr")
    summary = json.loads(featlift("info", "all.zarr", "--json").stdout)
    assert summary["last_run"]["volumes"] == {"done": 2, "skipped": 0, "failed": 0}
