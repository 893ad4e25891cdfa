"""A disk that is full, slow to keep its promises or gone: the store ends up as if nothing had happened."""

import os
import resource
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

from featlift import open_store
from tests.extraction.test_resume import contents
from tests.support.scans import patch_mean_options, write_scan

HERE = Path(__file__).parent


@pytest.fixture
def command(tmp_path):
    """A call of extract for four scans, the third of which is the largest."""
    for seed, name in enumerate("abcd"):
        write_scan(tmp_path / "scans" / f"{name}.nii.gz", seed, (96, 96, 80) if name == "c" else (96, 96, 16))
    return ["extract", "scans", "--mode", "2d", *patch_mean_options(tmp_path, patch=4)]


@contextmanager
def small_disk(folder):
    """A file system of its own with room for two of the four volumes."""
    if shutil.which("mount") is None or os.geteuid() != 0:
        pytest.skip("needs root to mount a small disk")
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting is not allowed here")
    try:
        yield lambda: subprocess.run(["mount", "-o", "remount,size=200m", folder], check=True)
    finally:
        subprocess.run(["umount", folder], check=True)


@contextmanager
def small_files(folder):
    """A limit of the kernel on the size of a file, which the third volume goes beyond."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (800_000, before[1]))
    try:
        yield lambda: resource.setrlimit(resource.RLIMIT_FSIZE, before)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize(("limit", "says"), [(small_disk, "No space left"), (small_files, "File too large")])
def test_no_room(featlift, tmp_path, command, limit, says):
    """One line, exit 2, nothing half-written; with room again the same command goes on where it was."""
    assert featlift(*command, "-o", "uninterrupted.zarr").returncode == 0
    folder = tmp_path / "disk"
    folder.mkdir()
    store = folder / "store.zarr"
    with limit(folder) as make_room:
        done = featlift(*command, "-o", store)
        assert done.returncode == 2
        assert says in done.stderr
        about, error = done.stderr.splitlines()
        assert about.startswith("featlift: about")
        assert error.startswith("featlift: cannot write")
        make_room()
        complete = list(open_store(store))
        assert complete
        assert "c" not in complete
        assert list((store / ".staging").iterdir()) == []
        assert featlift("verify", store).returncode == 0
        again = featlift(*command, "-o", store)
        assert f"{4 - len(complete)} extracted, {len(complete)} complete before" in again.stdout
        assert contents(store) == contents(tmp_path / "uninterrupted.zarr")


def run(script, folder, *arguments):
    done = subprocess.run(
        [sys.executable, HERE / script, *arguments],
        cwd=folder, capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()[-1].split()


@pytest.mark.parametrize("stride", [97, pytest.param(1, marks=pytest.mark.soak)])
def test_a_disk_that_fails_at_every_step(featlift, tmp_path, command, stride):
    """File operations fail in turn, then every n-th one, then all is well again (see fail_at_every_step.py)."""
    assert featlift(*command, "-o", "uninterrupted.zarr").returncode == 0
    arguments = [str(stride), "uninterrupted.zarr", *command, "--limit", "1"]
    failures = int(run("fail_at_every_step.py", tmp_path, *arguments)[0])
    assert failures > 100 / stride


def test_everything_is_on_the_disk_before_it_is_published(tmp_path, command):
    """The order of fsync and rename (see sync_order.py): of extraction, of repair, of a merge."""
    published = run("sync_order.py", tmp_path, *command, "-o", "store.zarr")
    assert published[:5] == ["store.zarr", "a", "b", "c", "d"]
    assert published[-1] == "index.parquet"
    (tmp_path / "store.zarr/volumes/b/scan/zarr.json").unlink()
    merge = ["then", "merge", "store.zarr", "-o", "merged.zarr"]
    published = run("sync_order.py", tmp_path, *command, "-o", "store.zarr", *merge)
    assert published[0] == "b"
    assert published[3:8] == ["merged.zarr", "a", "b", "c", "d"]
