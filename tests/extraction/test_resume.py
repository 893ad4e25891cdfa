"""A second run, an interrupted one, a damaged store: the store ends up as if nothing had happened."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from featlift import open_store
from tests.support.scans import patch_mean_options, write_scan

KILL = Path(__file__).with_name("kill_at_every_step.py")


def contents(store):
    """Every file of a store that the recipe and the scans decide: all but the records of runs."""
    files = sorted(path for path in store.rglob("*") if path.is_file())
    relative = {path.relative_to(store).as_posix(): path.read_bytes() for path in files}
    return {name: data for name, data in relative.items() if not name.startswith("runs/")}


@pytest.fixture
def cohort(featlift, tmp_path):
    """Three scans in a folder and a function that extracts them."""
    for seed, name in enumerate(("a", "b", "deeper/c")):
        write_scan(tmp_path / "scans" / f"{name}.nii.gz", seed)
    options = patch_mean_options(tmp_path, patch=4)

    def extract(*more, store="store.zarr", mode="2d"):
        return featlift("extract", "scans", "-o", store, "--mode", mode, "--layers", "0", *options, *more)

    assert extract(store="uninterrupted.zarr").returncode == 0
    return extract


def test_a_second_run_does_nothing_and_says_so(cohort, tmp_path):
    store = tmp_path / "uninterrupted.zarr"
    before = {path: path.stat().st_mtime_ns for path in store.rglob("*")}
    again = cohort(store="uninterrupted.zarr")
    assert again.returncode == 0
    assert "3 volumes complete, nothing to do" in again.stdout
    assert {path: path.stat().st_mtime_ns for path in store.rglob("*")} == before


def test_ids_and_limit(cohort, tmp_path):
    assert cohort("--limit", 2).returncode == 0
    assert list(open_store(tmp_path / "store.zarr")) == ["a", "b"]
    assert "1 extracted, 2 complete before" in cohort().stdout
    assert list(open_store(tmp_path / "store.zarr")) == ["a", "b", "deeper__c"]
    assert contents(tmp_path / "store.zarr") == contents(tmp_path / "uninterrupted.zarr")


def test_a_changed_source_is_extracted_again_and_a_touched_one_is_not(cohort, tmp_path):
    cohort()
    os.utime(tmp_path / "scans" / "a.nii.gz")
    assert "nothing to do" in cohort().stdout
    write_scan(tmp_path / "scans" / "b.nii.gz", seed=9)
    before = open_store(tmp_path / "store.zarr")["b"].embedding
    assert "1 extracted, 2 complete before" in cohort().stdout
    assert not np.allclose(open_store(tmp_path / "store.zarr")["b"].embedding, before)


def test_another_recipe_is_refused_naming_the_fields(cohort, tmp_path):
    cohort()
    before = contents(tmp_path / "store.zarr")
    other = cohort("--intensity", "minmax", mode="pcg")
    assert other.returncode == 2
    assert other.stderr.count("\n") == 1
    assert 'intensity (store "percentile:0.5,99.5", asked "minmax")' in other.stderr
    assert 'mode (store "2d", asked "pcg")' in other.stderr
    assert "weights_sha256" not in other.stderr
    assert contents(tmp_path / "store.zarr") == before


def test_overwrite_says_what_it_erases(cohort, tmp_path):
    cohort()
    assert "nothing to do" in cohort("--overwrite").stdout  # same recipe: nothing to erase
    done = cohort("--overwrite", "--intensity", "minmax")
    assert done.returncode == 0
    assert "erased 3 volumes" in done.stderr
    assert "intensity" in done.stderr
    assert open_store(tmp_path / "store.zarr").recipe["intensity"] == "minmax"


def damage_flip(store):
    shard = store / "volumes/a/dense/c/0/0/0/0"
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    return "dense/c/0/0/0/0"


def damage_delete(store):
    (store / "volumes/a/scan/c/0/0/0").unlink()
    return "scan/c/0/0/0"


def damage_truncate(store):
    key = store / "volumes/a/slice_mean/zarr.json"
    key.write_bytes(key.read_bytes()[:-20])
    return "slice_mean/zarr.json"


def damage_chunk_truncated(store):
    chunk = store / "volumes/a/dense/c/0/0/0/0"
    os.truncate(chunk, chunk.stat().st_size - 7)
    return "dense/c/0/0/0/0"


def damage_group(store):
    group = store / "volumes/a/zarr.json"
    group.write_text(group.read_text().replace('"shape_read"', '"shape_raed"'))
    return "zarr.json"


def damage_group_lost(store):
    (store / "volumes/a/zarr.json").unlink()
    return "zarr.json"


def damage_group_truncated(store):
    group = store / "volumes/a/zarr.json"
    group.write_bytes(group.read_bytes()[:100])
    return "zarr.json"


DAMAGES = [
    damage_flip,
    damage_delete,
    damage_truncate,
    damage_chunk_truncated,
    damage_group,
    damage_group_lost,
    damage_group_truncated,
]


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_damage_is_found_and_repaired(cohort, featlift, tmp_path, damage):
    cohort()
    store = tmp_path / "store.zarr"
    assert featlift("verify", store).returncode == 0
    key = damage(store)
    found = featlift("verify", store)
    assert found.returncode == 1
    assert f"damaged  a  {key}: " in found.stdout
    assert "1 of 3 volumes damaged" in found.stdout
    assert "1 extracted, 2 complete before" in cohort().stdout
    assert featlift("verify", store).returncode == 0
    assert contents(store) == contents(tmp_path / "uninterrupted.zarr")


def test_a_damaged_case_stops_nothing_else(cohort, featlift, tmp_path):
    """Its neighbours are extracted and indexed, and every command says which case it is."""
    cohort("--limit", 2)
    damage_group_truncated(tmp_path / "store.zarr")
    chunk = tmp_path / "store.zarr/volumes/b/embedding/c/0"
    chunk.write_bytes(bytes(len(chunk.read_bytes())))
    other = cohort("--exclude", "a.nii.gz", "--exclude", "b.nii.gz")
    assert (other.returncode, "1 extracted" in other.stdout) == (0, True)
    assert "damaged         a" in featlift("info", "store.zarr").stdout
    assert "1 case\n" in featlift("index", "store.zarr").stdout
    assert "2 of 3 volumes damaged" in featlift("verify", "store.zarr").stdout
    repaired = cohort()
    assert "2 in the store are made again" in repaired.stderr
    assert contents(tmp_path / "store.zarr") == contents(tmp_path / "uninterrupted.zarr")


def test_a_source_replaced_while_it_is_read_is_seen_as_changed(cohort, tmp_path):
    """What is on record is the file as it was before its voxels were read."""
    from featlift import read
    from featlift.extraction.run import is_current
    from featlift.volumes import find_scans

    cohort()
    scan = find_scans([tmp_path / "scans"]).scans[0]
    assert is_current(tmp_path / "store.zarr", scan)
    path = scan.sources[0].path
    source = read(path).source
    write_scan(path, seed=5)
    assert read(path).source != source
    assert not is_current(tmp_path / "store.zarr", scan)


def test_a_source_that_is_gone_is_a_failed_case(cohort, tmp_path):
    (tmp_path / "scans" / "d.nii.gz").symlink_to(tmp_path / "scans" / "a.nii.gz")
    assert cohort().returncode == 0
    (tmp_path / "scans" / "d.nii.gz").unlink()
    (tmp_path / "scans" / "d.nii.gz").symlink_to(tmp_path / "nowhere")
    done = cohort()
    assert done.returncode == 1
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("damage", [damage_delete, damage_chunk_truncated, damage_group_lost, damage_group_truncated])
def test_missing_bytes_are_repaired_without_verify(cohort, tmp_path, damage):
    cohort()
    damage(tmp_path / "store.zarr")
    assert "1 extracted, 2 complete before" in cohort().stdout
    assert contents(tmp_path / "store.zarr") == contents(tmp_path / "uninterrupted.zarr")


def test_a_flipped_byte_does_not_read_as_a_feature(cohort, tmp_path):
    cohort()
    damage_flip(tmp_path / "store.zarr")
    with pytest.raises(ValueError, match=r"(?i)checksum|crc32c"):
        open_store(tmp_path / "store.zarr")["a"].dense[...]


def test_one_bad_case_does_not_stop_the_others(cohort, tmp_path):
    (tmp_path / "scans" / "b.nii.gz").rename(tmp_path / "b.nii.gz")
    (tmp_path / "scans" / "b.nii.gz").write_bytes(b"not an image")
    done = cohort()
    assert done.returncode == 1
    assert "2 extracted, 1 failed" in done.stdout
    assert [line.split()[0] for line in done.stderr.splitlines() if "b.nii.gz" in line][-1] == "b"
    store = open_store(tmp_path / "store.zarr")
    assert list(store) == ["a", "deeper__c"]
    record = json.loads(next((store.path / "runs").glob("*.json")).read_text())
    assert list(record["failures"]) == ["b"]
    assert record["volumes"] == {"done": 2, "skipped": 0, "failed": 1}
    assert str(tmp_path) not in json.dumps(record)
    (tmp_path / "b.nii.gz").rename(tmp_path / "scans" / "b.nii.gz")
    assert cohort().returncode == 0
    assert contents(store.path) == contents(tmp_path / "uninterrupted.zarr")


@pytest.mark.parametrize("stride", [29, pytest.param(1, marks=pytest.mark.soak)])
def test_killed_at_every_step_of_publishing(cohort, tmp_path, stride):
    """SIGKILL at each file operation of a run in turn, then run again (see kill_at_every_step.py)."""
    options = ["extract", "scans", "--limit", "1", "--mode", "2d", "--layers", "0"]
    options += patch_mean_options(tmp_path, patch=4)
    done = subprocess.run(
        [sys.executable, KILL, str(stride), tmp_path / "uninterrupted.zarr", *options],
        cwd=tmp_path, capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    killed = int(done.stdout.split()[0])
    assert killed > 60 // stride, done.stdout


@pytest.mark.parametrize("repeats", [1, pytest.param(50, marks=pytest.mark.soak)])
def test_killed_at_random_moments(cohort, tmp_path, repeats):
    """A real process killed while it works, again and again, until it gets through."""
    options = ["extract", "scans", "-o", "store.zarr", "--mode", "2d", "--layers", "0"]
    options += patch_mean_options(tmp_path, patch=4)
    command = [sys.executable, "-m", "featlift.cli.main", *options]
    rng = np.random.default_rng(0)
    start = time.monotonic()
    subprocess.run([*command[:-1], command[-1], "-o", "rehearsal.zarr"], cwd=tmp_path, capture_output=True, check=True)
    takes = time.monotonic() - start
    kills = 0
    for _ in range(10 * repeats):
        process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            process.wait(timeout=takes * rng.uniform(0.5, 1.0))
            takes *= 0.9  # it got through: the machine is faster than it was
            shutil.rmtree(tmp_path / "store.zarr")
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            kills += process.wait() == -signal.SIGKILL
        for volume in (tmp_path / "store.zarr" / "volumes").glob("*/"):
            assert (volume / "zarr.json").is_file()  # whatever stands there is complete
        if repeats > 5 and rng.random() < 0.5:
            shutil.rmtree(tmp_path / "store.zarr", ignore_errors=True)
        if kills == repeats:
            break
    assert kills == repeats
    assert cohort().returncode == 0
    assert contents(tmp_path / "store.zarr") == contents(tmp_path / "uninterrupted.zarr")


def test_interrupt_leaves_nothing_half_written(cohort, tmp_path):
    """Ctrl-C: exit 130, a word on how to go on, and only whole volumes."""
    command = [sys.executable, "-m", "featlift.cli.main", "extract", "scans", "-o", "store.zarr", "--mode", "pcg"]
    command += ["--model", "vits16", "--weights", "random:0", "--size", "384", "--precision", "fp32"]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not (tmp_path / "store.zarr").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=120)
    assert process.returncode == 130, stderr
    assert "goes on where this one was" in stderr
    assert "Traceback" not in stderr
    if (tmp_path / "store.zarr").exists():
        assert not list((tmp_path / "store.zarr" / ".staging").iterdir())
