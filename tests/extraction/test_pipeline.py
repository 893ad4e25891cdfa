"""Reading, lifting and writing at the same time: the same store, whatever happens to one of them."""

import os
import signal
import subprocess
import sys
import threading
import time
import weakref
from pathlib import Path

import numpy as np
import pytest
import torch

from featlift import lift, open_store
from featlift.errors import LiftingMemoryError, VolumeError
from featlift.extraction import Extraction, Pipeline
from featlift.extraction import readers as readers_module
from featlift.extraction.readers import Readers
from featlift.volumes import Preparation, Reading, find_scans
from featlift.volumes.loading import Loaded, load
from tests.extraction.test_resume import contents
from tests.support.networks import load_backbone
from tests.support.scans import patch_mean_options, write_scan


@pytest.fixture
def scans(tmp_path):
    """Six small scans, of two shapes."""
    for seed in range(6):
        write_scan(tmp_path / "scans" / f"{seed}.nii.gz", seed, shape=(40, 36, 5 if seed == 3 else 6))
    return find_scans([tmp_path / "scans"]).scans


def children(process="self"):
    """Process ids of the children of a process."""
    tasks = Path(f"/proc/{process}/task").glob("*/children")
    return [int(child) for task in tasks for child in task.read_text().split()]


def wait_for(condition, seconds=60):
    """Wait until something is so; fail if it never is."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.005)
    return found


def reading(path):
    """The children of this process that have a file open."""
    found = []
    for child in children():
        try:
            opened = [os.readlink(file) for file in Path(f"/proc/{child}/fd").iterdir()]
        except OSError:
            continue
        found += [child] if str(path) in opened else []
    return found


def test_reading_ahead_gives_what_reading_gives(scans):
    with Readers(Preparation(), Reading(), workers=2) as readers:
        ahead = list(readers.read(scans))
    assert [scan for scan, _ in ahead] == scans
    for scan, loaded in ahead:
        here = load(scan, Preparation())
        np.testing.assert_array_equal(loaded.prepared.scan, here.prepared.scan)
        assert (loaded.source, loaded.notes) == (here.source, here.notes)
        assert set(loaded.seconds) == {"read", "prepare"}


@pytest.mark.parametrize("workers", [0, 1])
def test_one_bad_scan_is_one_bad_scan(scans, workers):
    path = scans[1].sources[0].path
    path.write_bytes(path.read_bytes()[:-40])
    with Readers(Preparation(), Reading(), workers) as readers:
        results = [loaded for _, loaded in readers.read(scans)]
    assert [isinstance(result, Loaded) for result in results] == [True, False, True, True, True, True]
    assert isinstance(results[1], VolumeError)
    assert "1.nii.gz" in str(results[1])


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="no /proc to look for processes in")
def test_a_reading_process_that_the_system_ends_costs_one_scan(tmp_path, scans):
    large = tmp_path / "scans" / "0.nii.gz"
    write_scan(large, shape=(400, 400, 60))
    with Readers(Preparation(), Reading(), workers=1) as readers:
        coming = readers.read(scans)
        killer = threading.Thread(target=lambda: os.kill(wait_for(lambda: reading(large))[0], signal.SIGKILL))
        killer.start()
        _, killed = next(coming)
        killer.join()
        assert isinstance(killed, VolumeError)
        assert "killed, most often for lack of memory" in str(killed)
        assert all(isinstance(loaded, Loaded) for _, loaded in coming)


def test_a_scan_that_takes_forever_is_given_up(tmp_path, scans, monkeypatch):
    write_scan(tmp_path / "scans" / "0.nii.gz", shape=(300, 300, 60))
    monkeypatch.setattr(readers_module, "LONGEST_READ", 0.05)
    with Readers(Preparation(), Reading(), workers=1) as readers:
        (_, slow), *_ = readers.read(scans[:1])
    assert isinstance(slow, VolumeError)
    assert "not read within" in str(slow)


def test_what_waits_stays_within_the_prefetch(scans):
    """Bytes of prepared volumes on their way, counted at every step of a consumer slower than any reader."""
    size = load(scans[0], Preparation()).prepared.scan.nbytes
    most = 0
    with Readers(Preparation(), Reading(), workers=2, prefetch=2 * size + 4096) as readers:
        folder = readers._folder
        reading = readers.read(scans * 2)
        for number, _ in enumerate(reading):
            time.sleep(0.2)
            if number:  # before the first one nothing is known of their size
                most = max(most, sum(file.stat().st_size for file in folder.iterdir()))
    assert 0 < most <= 3 * size
    assert not folder.exists()


def test_workers_do_not_change_the_store(featlift, tmp_path, scans):
    options = ["extract", "scans", "--mode", "pcg", *patch_mean_options(tmp_path, patch=4)]
    assert featlift(*options, "-o", "here.zarr", "--workers", 0).returncode == 0
    done = featlift(*options, "-o", "ahead.zarr", "--workers", 2, "--prefetch", "1MB")
    assert done.returncode == 0, done.stderr
    assert "the bottleneck was" in done.stdout
    assert contents(tmp_path / "here.zarr") == contents(tmp_path / "ahead.zarr")


def test_volumes_of_one_shape_are_lifted_together(scans):
    """As many as follow each other, with the same features as alone; a bad one between them fails alone."""
    path = scans[4].sources[0].path
    path.write_bytes(b"no image")
    lifted = lift(load_backbone("vit_tiny_patch16_224", "random:0", depth=3, init_values=0.5))
    cases = {}
    groups = []

    class Noted(Extraction):
        def lift(self, loaded):
            groups.append([each.scan.id for each in loaded])
            return super().lift(loaded)

    for together, writers in ((1, 1), (2, 3)):

        def publish(case, together=together):
            cases[together, case.id] = case
            return 1

        pipeline = Pipeline(Noted(lifted, Preparation()), publish, together=together, writers=writers)
        outcomes = {outcome.id: outcome.status for outcome in pipeline.run(scans)}
        assert outcomes == {scan.id: "failed" if scan.id == "4" else "done" for scan in scans}
    assert groups == [["0"], ["1"], ["2"], ["3"], ["5"], ["0", "1"], ["2"], ["3"], ["5"]]
    for number in "01235":
        alone, together = cases[1, number], cases[2, number]
        np.testing.assert_allclose(
            together.layers[0].dense.astype(np.float32), alone.layers[0].dense.astype(np.float32), atol=2e-2
        )
        np.testing.assert_allclose(together.embedding, alone.embedding, atol=1e-4)
        assert together.attributes == alone.attributes


def test_what_a_pass_took_that_ran_out_of_memory_is_free_for_the_next(scans):
    taken = []

    class Scarce(Extraction):
        def lift(self, loaded):
            if len(loaded) > 1:
                features = torch.zeros(4)
                taken.append(weakref.ref(features))
                try:
                    raise torch.OutOfMemoryError("CUDA out of memory.")
                except torch.OutOfMemoryError as error:
                    raise LiftingMemoryError("one plane needs more") from error
            assert [each() for each in taken] == [None] * len(taken)
            return super().lift(loaded)

    lifted = lift(load_backbone("vit_tiny_patch16_224", "random:0", depth=1))
    pipeline = Pipeline(Scarce(lifted, Preparation()), lambda case: 1, together=3)
    assert [outcome.status for outcome in pipeline.run(scans)] == ["done"] * 6
    assert len(taken) == 2


def start(tmp_path, *more):
    """`featlift extract` of a cohort, as a process of its own; returns it when it has reading processes."""
    options = ["extract", "scans", "-o", "store.zarr", "--mode", "2d", *patch_mean_options(tmp_path, patch=4)]
    command = [sys.executable, "-m", "featlift.cli.main", *options, "--workers", "2", "--size", "32", *more]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    process = subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, stdout=subprocess.PIPE)
    wait_for(lambda: len(children(process.pid)) >= 2 and left_in_memory(process))
    return process


def left_in_memory(process):
    """What a process put on the disk in memory."""
    return list(Path("/dev/shm").glob(f"featlift~*~{process.pid}~*"))


def gone(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z"
    except OSError:
        return True


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="no /proc to look for processes in")
def test_nothing_outlives_a_run_that_was_killed(tmp_path):
    """Reading processes end with it; what they left in memory goes when the next run starts."""
    for seed in range(3):
        write_scan(tmp_path / "scans" / f"{seed}.nii.gz", seed, shape=(300, 300, 60))
    process = start(tmp_path)
    readers = children(process.pid)
    process.kill()
    process.wait()
    wait_for(lambda: all(gone(reader) for reader in readers))
    assert left_in_memory(process)
    again = start(tmp_path)
    assert again.communicate(timeout=300)[1] is not None
    assert not left_in_memory(process) + left_in_memory(again)


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="no /proc to look for processes in")
def test_a_second_interrupt_stops_at_once(tmp_path):
    for seed in range(3):
        write_scan(tmp_path / "scans" / f"{seed}.nii.gz", seed, shape=(300, 300, 60))
    process = start(tmp_path)
    readers = children(process.pid)
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130
    wait_for(lambda: all(gone(reader) for reader in readers))
    again = start(tmp_path)
    assert again.communicate(timeout=300)[1] is not None
    assert again.returncode == 0
    assert len(open_store(tmp_path / "store.zarr")) == 3
