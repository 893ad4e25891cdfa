"""What is free: sizes as people write them, and limits as systems state them."""

import pytest
import torch

from featlift import lift
from featlift.errors import OptionError
from featlift.lifting.budget import free_bytes
from featlift.sizes import parse_size

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("text", "nbytes"),
    [
        ("8GB", 8 * 10**9), ("8g", 8 * 10**9), ("1.5 GiB", 3 * 2**29), ("500MiB", 500 * 2**20), ("500mb", 5 * 10**8),
        ("4096", 4096), (4096, 4096), ("10KB", 10**4), ("10 B", 10), ("1TiB", 2**40), ("auto", None),
    ],
)  # fmt: skip
def test_sizes(text, nbytes):
    assert parse_size(text) == nbytes


@pytest.mark.parametrize("text", ["", "much", "-1GB", "0", "0GB", "8GX", "GB", "1,5GB", -1, 0])
def test_no_sizes(golden_backbone, text):
    with pytest.raises(OptionError, match="give auto or a size"):
        lift(golden_backbone, memory=text)


def system(root, files):
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    return root


MEMINFO = {"proc/meminfo": "MemTotal:  16000000 kB\nMemFree:  100 kB\nMemAvailable:  8000000 kB\n"}
V2 = {
    "proc/self/cgroup": "0::/job/step\n",
    "sys/fs/cgroup/job/memory.max": "3000000\n",
    "sys/fs/cgroup/job/memory.current": "1000000\n",
    "sys/fs/cgroup/job/memory.stat": "anon 600000\ninactive_file 400000\n",
    "sys/fs/cgroup/job/step/memory.max": "max\n",
    "sys/fs/cgroup/job/step/memory.current": "1000000\n",
}
V1 = {
    "proc/self/cgroup": "3:cpu,cpuacct:/docker/a\n2:memory:/docker/a\n",
    "sys/fs/cgroup/memory/memory.limit_in_bytes": "5000000\n",  # inside a container the own group is the mount
    "sys/fs/cgroup/memory/memory.usage_in_bytes": "2000000\n",
    "sys/fs/cgroup/memory/memory.stat": "total_inactive_file 500000\n",
}


@pytest.mark.parametrize(
    ("files", "free"),
    [
        ({}, None),
        (MEMINFO, 8000000 * 1024),
        ({**MEMINFO, **V2}, 2400000),
        ({**MEMINFO, **V1}, 3500000),
        ({**MEMINFO, **V2, "sys/fs/cgroup/job/step/memory.max": "1500000\n"}, 500000),
    ],
    ids=["nothing known", "machine", "cgroup 2", "cgroup 1", "inner group"],
)
def test_the_least_that_anyone_leaves(tmp_path, monkeypatch, files, free):
    for name in ("SLURM_MEM_PER_NODE", "SLURM_MEM_PER_CPU"):
        monkeypatch.delenv(name, raising=False)
    assert free_bytes(CPU, system(tmp_path, files)) == free


def test_slurm_counts_what_is_resident(tmp_path, monkeypatch):
    root = system(tmp_path, {**MEMINFO, "proc/self/status": "VmHWM:  900000 kB\nVmRSS:  500000 kB\n"})
    monkeypatch.setenv("SLURM_MEM_PER_NODE", "2000")
    assert free_bytes(CPU, root) == 2000 * 2**20 - 500000 * 1024
    monkeypatch.setenv("SLURM_MEM_PER_NODE", "0")  # Slurm's word for all of the node
    assert free_bytes(CPU, root) == 8000000 * 1024
    monkeypatch.setenv("SLURM_MEM_PER_CPU", "1000")
    monkeypatch.setenv("SLURM_CPUS_ON_NODE", "3")
    assert free_bytes(CPU, root) == 3000 * 2**20 - 500000 * 1024


def test_this_machine_has_some():
    free = free_bytes(CPU)
    assert free is None or 2**20 < free < 2**50
