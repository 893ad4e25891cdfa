"""Several jobs at once, on one store or on their shares of a cohort, make what one job would have made."""

import json
import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from featlift import open_store
from featlift.store import Claims
from tests.extraction.test_resume import contents
from tests.support.scans import patch_mean_options, write_scan


@pytest.fixture
def cohort(tmp_path):
    """Scans of several sizes with labels, and the call that extracts them."""
    rows = ["id,path,site"]
    for seed in range(16):
        write_scan(tmp_path / "scans" / f"{seed:02}.nii.gz", seed, (96, 96, 8 + seed))
        rows.append(f"{seed:02},scans/{seed:02}.nii.gz,{'north' if seed % 3 else 'south'}")
    (tmp_path / "cohort.csv").write_text("\n".join(rows) + "\n")
    return ["extract", "cohort.csv", "--mode", "2d", *patch_mean_options(tmp_path, patch=4)]


def start(folder, command):
    return subprocess.Popen(
        [sys.executable, "-m", "featlift.cli.main", *command],
        cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
    )  # fmt: skip


def watch(store, over, seen):
    """Note which folders stand under each final name as time goes by."""
    while not over.wait(0.002):
        for volume in store.glob("volumes/*/zarr.json"):
            try:
                seen.setdefault(volume.parent.name, set()).add(volume.stat().st_ino)
            except FileNotFoundError:
                seen.setdefault(volume.parent.name, set()).add("gone")


@pytest.mark.parametrize("count", [2, pytest.param(4, marks=pytest.mark.soak)])
def test_jobs_on_one_store(featlift, tmp_path, cohort, count):
    """Each volume is published once, by one of them, and the store is the one that a single run makes."""
    assert featlift(*cohort, "-o", "alone.zarr").returncode == 0
    store, seen, over = tmp_path / "shared.zarr", {}, threading.Event()
    watching = threading.Thread(target=watch, args=(store, over, seen))
    watching.start()
    jobs = [start(tmp_path, [*cohort, "-o", "shared.zarr"]) for _ in range(count)]
    said = [job.communicate(timeout=300) for job in jobs]
    over.set()
    watching.join()
    assert [job.returncode for job in jobs] == [0] * count, said
    assert contents(store) == contents(tmp_path / "alone.zarr")
    assert all(len(folders) == 1 for folders in seen.values()), seen
    assert list((store / ".staging").iterdir()) == []
    records = [json.loads(path.read_text()) for path in (store / "runs").glob("*.json")]
    assert sum(record["volumes"]["done"] for record in records) == 16


@pytest.mark.soak
def test_jobs_that_are_killed_again_and_again(featlift, tmp_path, cohort):
    assert featlift(*cohort, "-o", "alone.zarr").returncode == 0
    command, rng = [*cohort, "-o", "shared.zarr"], np.random.default_rng(0)
    jobs = [start(tmp_path, command) for _ in range(3)]
    for _ in range(30):
        time.sleep(rng.uniform(0.5, 3))
        victim = rng.integers(3)
        jobs[victim].send_signal(signal.SIGKILL)
        jobs[victim].communicate()
        jobs[victim] = start(tmp_path, command)
        for volume in (tmp_path / "shared.zarr" / "volumes").glob("*/"):
            assert (volume / "zarr.json").is_file()
    for job in jobs:
        job.communicate(timeout=300)
    assert featlift(*command).returncode == 0
    assert contents(tmp_path / "shared.zarr") == contents(tmp_path / "alone.zarr")
    assert list((tmp_path / "shared.zarr" / ".staging").iterdir()) == []


def test_what_another_job_works_on_is_left_to_it(featlift, tmp_path, cohort):
    assert featlift(*cohort, "-o", "store.zarr", "--limit", "1").returncode == 0
    with Claims(tmp_path / "store.zarr") as another:
        assert another.take("05")
        done = featlift(*cohort, "-o", "store.zarr", "--limit", "8")
        assert done.returncode == 0
        assert "6 extracted, 1 complete before, 1 in the hands of another job, 0 failed" in done.stdout
        assert done.stdout.splitlines()[-1].startswith("left to other jobs: ")
        assert "05" not in open_store(tmp_path / "store.zarr")
    assert "1 extracted, 7 complete before" in featlift(*cohort, "-o", "store.zarr", "--limit", "8").stdout


def test_shards_make_the_store_of_one_run(featlift, tmp_path, cohort, monkeypatch):
    """In one store, or merged from one each."""
    assert featlift(*cohort, "-o", "alone.zarr").returncode == 0
    taken = 0
    for number in (1, 2, 3):
        done = featlift(*cohort, "-o", "shared.zarr", "--shard", f"{number}/3")
        assert done.returncode == 0
        held = len(open_store(tmp_path / "shared.zarr")) - taken
        taken += held
        assert f"shard {number} of 3: {held} of 16 scans, {16 - held} left to the other shards" in done.stderr
        own = tmp_path / f"part{number}.zarr"
        monkeypatch.setenv("SLURM_ARRAY_TASK_ID", str(number - 1))
        for name, value in (("COUNT", 3), ("MIN", 0), ("MAX", 2)):
            monkeypatch.setenv(f"SLURM_ARRAY_TASK_{name}", str(value))
        done = featlift(*cohort, "-o", own.name)
        assert "by the Slurm array, --shard 1/1 takes all" in done.stderr
        assert len(open_store(own)) == held
    assert featlift("merge", "part3.zarr", "part1.zarr", "part2.zarr", "-o", "merged.zarr").returncode == 0
    for store in ("shared.zarr", "merged.zarr"):
        assert contents(tmp_path / store) == contents(tmp_path / "alone.zarr")
    done = featlift(*cohort, "-o", "alone.zarr", "--shard", "1/1")
    assert "16 volumes complete" in done.stdout
    assert "shard" not in done.stderr


def test_a_shard_that_is_none(featlift, tmp_path, cohort):
    done = featlift(*cohort, "--shard", "0/3")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "counted from 1" in done.stderr
    assert not (tmp_path / "features.zarr").exists()
