"""Several processes that lift into one store: on the devices of a machine, and on a Ray cluster of two nodes."""

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from featlift import open_store
from tests.extraction.test_pipeline import children, wait_for
from tests.extraction.test_resume import contents
from tests.support.scans import patch_mean_options, write_scan

PROC = pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="no /proc to look for processes in")


@pytest.fixture
def options(featlift, tmp_path):
    """Five scans, extracted by one process; the options of it."""
    for seed in range(5):
        write_scan(tmp_path / "scans" / f"{seed}.nii.gz", seed)
    options = ["extract", "scans", "--mode", "2d", *patch_mean_options(tmp_path, patch=4)]
    assert featlift(*options, "-o", "alone.zarr").returncode == 0
    return options


def record_of(store):
    return json.loads(next((store / "runs").glob("*.json")).read_text())


def test_two_devices_fill_one_store(featlift, tmp_path, options):
    """The processor under its two names."""
    (tmp_path / "scans" / "bad.nii.gz").write_bytes(b"no image")
    done = featlift(*options, "-o", "store.zarr", "--devices", "cpu,cpu:0")
    assert done.returncode == 1
    assert "5 extracted, 1 failed" in done.stdout, done.stdout
    assert contents(tmp_path / "store.zarr") == contents(tmp_path / "alone.zarr")
    record = record_of(tmp_path / "store.zarr")
    assert record["device"].count("cpu") == 2
    assert record["bytes"]["read"] == sum((tmp_path / f"scans/{n}.nii.gz").stat().st_size for n in range(5))
    volumes = tmp_path / "store.zarr" / "volumes"
    stored = sum(file.stat().st_size for file in volumes.glob("*/**/*") if file.is_file())
    assert 0 < stored - record["bytes"]["written"] < 5 * 20_000  # but for the metadata of each volume's own group
    assert record["volumes"] == {"done": 5, "skipped": 0, "failed": 1}
    assert len(list((tmp_path / "store.zarr" / "runs").iterdir())) == 1
    assert (
        "nothing to do" in featlift(*options, "--exclude", "bad*", "-o", "store.zarr", "--devices", "cpu,cpu:0").stdout
    )


@PROC
def test_a_lifter_that_the_system_ends_is_replaced(featlift, tmp_path, options):
    def kill_one():
        started = wait_for(lambda: [child for child in children() if "lifter" in environment(child)])
        os.kill(started[0], signal.SIGKILL)

    def environment(child):
        try:
            return Path(f"/proc/{child}/cmdline").read_text().replace("spawn_main", "lifter")
        except OSError:
            return ""

    killer = threading.Thread(target=kill_one)
    killer.start()
    done = featlift(*options, "-o", "store.zarr", "--devices", "cpu,cpu:0")
    killer.join()
    assert done.returncode == 0, done.stderr
    assert contents(tmp_path / "store.zarr") == contents(tmp_path / "alone.zarr")


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (["--engine", "dask"], "choose one of local, ray"),
        (["--devices", "cpu,cpu"], "name each device once"),
        (["--actors", "2"], "give --engine ray"),
        (["--engine", "ray", "--devices", "cpu,cpu:0"], "--actors says how many"),
    ],
)
def test_options_that_do_not_go_together(featlift, options, wrong, says):
    refused = featlift(*options, "-o", "store.zarr", *wrong)
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert says in refused.stderr


@pytest.fixture
def cluster():
    """Two nodes of a Ray cluster, each with processes of its own, on this machine."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    cluster.add_node(num_cpus=1)
    yield cluster
    cluster.shutdown()


@PROC
@pytest.mark.soak
def test_a_ray_cluster_fills_one_store_although_an_actor_is_killed(tmp_path, options, cluster):
    command = [sys.executable, "-m", "featlift.cli.main", *options, "-o", "store.zarr", "--engine", "ray"]
    environment = {**os.environ, "RAY_ADDRESS": cluster.address, "PYTHONPATH": str(Path(__file__).parents[2])}
    with subprocess.Popen(
        command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        claims = tmp_path / "store.zarr" / ".staging"
        wait_for(lambda: process.poll() is not None or (claims.is_dir() and list(claims.glob("claim~*"))), 300)
        for claim in claims.glob("claim~*"):
            try:
                os.kill(json.loads(claim.read_text())["pid"], signal.SIGKILL)
                break
            except (OSError, ValueError):
                continue
        stdout, stderr = process.communicate(timeout=300)
    assert process.returncode == 0, stderr
    assert "5 extracted" in stdout or "complete" in stdout, stdout
    assert contents(tmp_path / "store.zarr") == contents(tmp_path / "alone.zarr")
    assert list(open_store(tmp_path / "store.zarr")) == list("01234")
