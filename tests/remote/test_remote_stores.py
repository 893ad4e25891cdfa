"""Stores in an object store: as those on a disk, complete or absent, whatever the network does."""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from featlift import FeaturePatches, open_store
from featlift.errors import InputError, OutputError, StoreError
from featlift.store.backends import backend_of
from tests.support.scans import patch_mean_options, write_scan

KILL = Path(__file__).with_name("kill_while_publishing.py")


@pytest.fixture
def cohort(featlift, bucket, tmp_path):
    """Three scans in the bucket, and a function that extracts them into it."""
    for seed, name in enumerate(("a", "b", "deeper/c")):
        path = write_scan(tmp_path / "scans" / f"{name}.nii.gz", seed)
        bucket.put(f"scans/{name}.nii.gz", path.read_bytes())
    options = patch_mean_options(tmp_path, patch=4)

    def extract(*more, scans=f"{bucket.url}/scans", store=f"{bucket.url}/features.zarr"):
        return featlift("extract", scans, "-o", store, "--mode", "2d", "--layers", "0", *options, *more)

    return extract


def features(contents):
    """The volumes of a store without what tells where their scans came from."""
    return {name: data for name, data in contents.items() if name.startswith("volumes/") and name.count("/") > 2}


def arrays(bucket):
    """Of the volume a, but for its metadata: that has the time of the scan."""
    found = bucket.contents("features.zarr/volumes/a")
    return {name: data for name, data in found.items() if name != "zarr.json"}


def without_runs(contents):
    return {name: data for name, data in contents.items() if not name.startswith("runs/")}


def test_a_store_in_a_bucket_is_the_one_on_a_disk(cohort, featlift, bucket, tmp_path):
    url = f"{bucket.url}/features.zarr"
    done = cohort("--workers", 1)  # a reading process fetches them
    assert (done.returncode, f"{url}: 3 extracted, 0 failed" in done.stdout) == (0, True), done.stderr
    assert cohort(scans="scans", store="local.zarr").returncode == 0
    local = {p.relative_to(tmp_path / "local.zarr").as_posix(): p for p in (tmp_path / "local.zarr").rglob("*")}
    local = {name: path.read_bytes() for name, path in local.items() if path.is_file()}
    remote = bucket.contents("features.zarr")
    assert features(remote) == features(local)
    assert without_runs(remote).keys() == without_runs(local).keys()
    store, other = open_store(url), open_store(tmp_path / "local.zarr")
    assert list(store) == ["a", "b", "deeper__c"]
    for case_id, case in store.items():
        np.testing.assert_array_equal(case.dense[...], other[case_id].dense[...])
        source = case.attributes["source"]
        assert source["sha256"] == other[case_id].attributes["source"]["sha256"]
        assert source["name"] == other[case_id].attributes["source"]["name"]
    (patch,) = FeaturePatches(url, (2, 2, 2), {"a": f"{bucket.url}/scans/a.nii.gz"})
    assert patch["features"].shape == (8, 2, 2, 2)
    again = cohort()
    assert "3 volumes complete, nothing to do" in again.stdout, again.stdout + again.stderr
    assert without_runs(bucket.contents("features.zarr")) == without_runs(remote)
    assert "3 volumes" in featlift("info", url).stdout
    assert featlift("verify", url).stdout == f"{url}: 3 volumes, all as written\n"
    for place in ([], ["--voxel", "5,5,1"]):
        here, there = (featlift("retrieve", each, "--case", "a", *place).stdout for each in ("local.zarr", url))
        assert here == there != ""
    (tmp_path / "labels.csv").write_text("id,split\na,test\n")
    assert featlift("index", url, "--labels", "labels.csv").stdout == f"{url}/index.parquet: 3 cases\n"
    record = next(data for name, data in remote.items() if name.startswith("runs/"))
    assert json.loads(record)["volumes"] == {"done": 3, "skipped": 0, "failed": 0}
    assert list((tmp_path / "tmp").glob("featlift*")) == []


def test_what_changed_is_made_again_and_what_was_only_copied_is_not(cohort, featlift, bucket, tmp_path):
    cohort()
    bucket.put("scans/a.nii.gz", bucket.get("scans/a.nii.gz"))  # another time, the same content
    assert "nothing to do" in cohort().stdout
    other = write_scan(tmp_path / "other.nii.gz", seed=7, shape=(40, 36, 3))
    bucket.put("scans/b.nii.gz", other.read_bytes())
    before = arrays(bucket)
    assert "1 extracted, 2 complete before" in cohort().stdout
    assert open_store(f"{bucket.url}/features.zarr")["b"].dense.shape[1] == 3
    assert arrays(bucket) == before
    shard = "features.zarr/volumes/a/dense/c/0/0/0/0"
    bucket.put(shard, bucket.get(shard)[:-1] + b"?")
    bucket.delete("features.zarr/volumes/b/scan/c/0/0/0")
    found = featlift("verify", f"{bucket.url}/features.zarr")
    assert (found.returncode, found.stdout.count("\ndamaged") + found.stdout.startswith("damaged")) == (1, 2)
    assert "2 extracted, 1 complete before" in cohort().stdout
    assert featlift("verify", f"{bucket.url}/features.zarr").returncode == 0
    assert arrays(bucket) == before
    refused = cohort("--intensity", "minmax")
    assert (refused.returncode, "intensity" in refused.stderr) == (2, True)
    erased = cohort("--intensity", "minmax", "--overwrite", "--limit", 1)
    assert "erased 3 volumes" in erased.stderr
    assert list(open_store(f"{bucket.url}/features.zarr")) == ["a"]
    names = bucket.contents("features.zarr")
    assert not any(name.startswith(("volumes/b/", "volumes/deeper__c/")) for name in names)


def test_a_scan_that_is_gone_or_broken_stops_no_other(cohort, bucket):
    bucket.put("scans/b.nii.gz", b"not an image")
    rows = "id,path\na,scans/a.nii.gz\nb,scans/b.nii.gz\nz,scans/gone.nii.gz\n"
    bucket.put("list.csv", rows.encode())
    done = cohort(scans=f"{bucket.url}/list.csv")
    assert (done.returncode, "1 extracted, 2 failed" in done.stdout) == (1, True), done.stderr
    assert "gone.nii.gz: no such bucket or key" in done.stderr
    assert list(open_store(f"{bucket.url}/features.zarr")) == ["a"]


def test_a_server_that_fails_every_few_requests(cohort, bucket):
    """In turn it is busy and closes the connection."""
    cohort()
    want = without_runs(bucket.contents("features.zarr"))
    bucket.empty()
    failed = []

    def mishap(number, method):
        if number % 7 == 0:
            failed.append(number)
            return ("503", "reset")[len(failed) % 2]
        return None

    bucket.server.mishap = mishap
    done = cohort()
    bucket.server.mishap = lambda number, method: None
    assert len(failed) > 5
    assert done.returncode == 0, done.stderr
    assert without_runs(bucket.contents("features.zarr")) == want


def test_a_network_that_is_lost_fails_volumes_and_the_next_run_makes_them(cohort, bucket, monkeypatch):
    cohort()
    want = without_runs(bucket.contents("features.zarr"))
    bucket.empty()
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()
    uploads = "features.zarr/volumes/b/"
    bucket.server.mishap = lambda number, method: (
        "reset" if method == "PUT" and uploads in bucket.server.requests[-1][1] else None
    )
    done = cohort()
    bucket.server.mishap = lambda number, method: None
    assert (done.returncode, "2 extracted, 1 failed" in done.stdout) == (1, True), done.stdout + done.stderr
    assert "cannot be reached" in done.stderr
    assert list(open_store(f"{bucket.url}/features.zarr")) == ["a", "deeper__c"]
    assert cohort().returncode == 0
    assert without_runs(bucket.contents("features.zarr")) == want


@pytest.mark.parametrize("every", [13, pytest.param(1, marks=pytest.mark.soak)])
def test_killed_while_publishing(bucket, tmp_path, every):
    """SIGKILL at every n-th write of a run, then run again (see kill_while_publishing.py)."""
    write_scan(tmp_path / "old.nii.gz", 0, (40, 36, 9))
    write_scan(tmp_path / "new.nii.gz", 1)
    options = ["--workers", "0", "--mode", "2d", "--layers", "0", *patch_mean_options(tmp_path, patch=4)]
    paths = os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-m", "tests.remote.kill_while_publishing", str(every), "extract", "scan.nii.gz", *options],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    assert int(done.stdout.split()[0]) >= 32 // every, done.stdout


def test_a_basis_lies_in_the_bucket(cohort, bucket, featlift):
    """Fitted by the first run, taken by the next, and missed when it is gone."""
    url, reduced = f"{bucket.url}/features.zarr", ("--reduce", "pca:2")
    done = cohort(*reduced, "--limit", 2)
    assert (done.returncode, "fitting the basis" in done.stderr) == (0, True), done.stderr
    done = cohort(*reduced)
    assert "1 extracted, 2 complete before" in done.stdout, done.stdout + done.stderr
    assert "fitting" not in done.stderr
    assert open_store(url)["a"].dense.shape[0] == 2
    assert featlift("verify", url).returncode == 0
    bucket.delete("features.zarr/basis.safetensors")
    done = featlift("verify", url)
    assert (done.returncode, "basis.safetensors: missing" in done.stdout) == (1, True), done.stdout
    assert "basis.safetensors: missing" in cohort(*reduced).stderr


def test_reading_processes_leave_no_copies(featlift_process, bucket, tmp_path, monkeypatch):
    """That of a file with several volumes stays until another is fetched, or the process ends."""
    np.save(tmp_path / "frames.npy", np.random.default_rng(0).random((3, 5, 24, 24), np.float32))
    bucket.put("frames/frames.npy", (tmp_path / "frames.npy").read_bytes())
    (tmp_path / "drafts").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "drafts"))
    options = ["--mode", "2d", "--frame", "all", "--workers", 1, *patch_mean_options(tmp_path, patch=4)]
    done = featlift_process("extract", f"{bucket.url}/frames", "-o", "frames.zarr", *options)
    assert "3 extracted" in done.stdout, done.stdout + done.stderr
    assert list((tmp_path / "drafts").glob("featlift~*")) == []


def test_check_fetches_what_it_looks_at(cohort, featlift, bucket):
    """Headers of scans behind URLs; what `extract` forecasts rests on a few of them."""
    bucket.put("scans/broken.nii.gz", b"no volume")
    done = featlift("check", f"{bucket.url}/scans", "--model", "vit_tiny_patch16_224")
    assert (done.returncode, "4 of 4 scans are behind URLs" in done.stderr) == (1, True), done.stderr
    assert "broken" in done.stdout


def test_merge_is_of_folders(featlift, bucket):
    for stores in (["a.zarr", "-o", f"{bucket.url}/b.zarr"], [f"{bucket.url}/a.zarr", "-o", "b.zarr"]):
        done = featlift("merge", *stores)
        assert (done.returncode, "folders of this machine only" in done.stderr) == (2, True), done.stderr


def test_an_unfinished_upload_is_no_volume(cohort, bucket, featlift):
    cohort("--limit", 2)
    url = f"{bucket.url}/features.zarr"
    bucket.delete("features.zarr/volumes/b/zarr.json")
    assert list(open_store(url)) == ["a"]
    assert "1 volume, all as written" in featlift("verify", url).stdout
    bucket.put("features.zarr/volumes/b/layers/9/zarr.json", b"of another time")
    assert "2 extracted, 1 complete before" in cohort().stdout
    assert "features.zarr/volumes/b/layers/9/zarr.json" not in bucket.contents("features.zarr/volumes/b")
    assert "layers/9/zarr.json" not in bucket.contents("features.zarr/volumes/b")


@pytest.mark.soak
def test_two_jobs_on_one_store(cohort, featlift_process, bucket, tmp_path):
    """Both finish, and the store is the one that a single job makes."""
    cohort()
    want = without_runs(bucket.contents("features.zarr"))
    bucket.empty()
    options = patch_mean_options(tmp_path, patch=4)
    command = ["extract", f"{bucket.url}/scans", "-o", f"{bucket.url}/features.zarr", "--mode", "2d", "--layers", "0"]
    with ThreadPoolExecutor() as pool:
        done = list(pool.map(lambda _: featlift_process(*command, *options), range(3)))
    assert [each.returncode for each in done] == [0, 0, 0], [each.stderr for each in done]
    assert without_runs(bucket.contents("features.zarr")) == want


def test_two_writers_of_one_store(bucket, tmp_path):
    """Of two that make a store at once one wins; the other sees that the recipe is not its own."""
    place = backend_of(f"{bucket.url}/features.zarr")
    place._put_unless_there("zarr.json", b"first")
    place._put_unless_there("zarr.json", b"second")
    assert place.read("zarr.json") == b"first"


def test_what_is_wrong_with_a_place(cohort, featlift, bucket):
    done = cohort(store="s3://no-such-bucket/features.zarr")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "cannot write s3://no-such-bucket/features.zarr: no such bucket" in done.stderr
    with pytest.raises(InputError, match="no such store"):
        open_store(f"{bucket.url}/nothing.zarr")
    with pytest.raises(StoreError, match="not a featlift store"):
        open_store(f"{bucket.url}/scans")
    with pytest.raises(InputError, match="a web server holds no store"):
        open_store(f"{bucket.server.url}/{bucket.name}/features.zarr")
    with pytest.raises(OutputError, match="cannot write"):
        backend_of("s3://no-such-bucket/features.zarr").check_writable()
