"""Every scan is in one shard, and every job finds the same shards."""

import random

import pytest

from featlift.errors import OptionError
from featlift.extraction.shards import Shard
from featlift.volumes import Scan
from featlift.volumes.source import Source


@pytest.fixture
def scans(tmp_path):
    """Forty scans of very different size, one that is gone, and ten frames of one file."""
    sizes = random.Random(0)
    found = []
    for number in range(40):
        path = tmp_path / f"{number}.nii.gz"
        with path.open("wb") as file:
            file.truncate(int(sizes.lognormvariate(10, 1.5)))
        found.append(Scan(path.name, path.name, (Source(path),)))
    found.append(Scan("gone", "gone", (Source(tmp_path / "gone.nii.gz"),)))
    (tmp_path / "frames.nii").write_bytes(bytes(50_000))
    found += [Scan(f"f{n}", "frames.nii", (Source(tmp_path / "frames.nii", frame=n),)) for n in range(10)]
    return sorted(found, key=lambda scan: scan.id)


def size(scan):
    path = scan.sources[0].path
    return path.stat().st_size / (10 if path.name == "frames.nii" else 1) if path.exists() else 0


@pytest.mark.parametrize("count", [1, 2, 3, 8, 60])
def test_every_scan_is_in_one_shard(scans, count):
    shards = [Shard(number, count).take(scans) for number in range(1, count + 1)]
    assert sorted(scan.id for shard in shards for scan in shard) == [scan.id for scan in scans]
    assert all([scan.id for scan in shard] == sorted(scan.id for scan in shard) for shard in shards)


@pytest.mark.parametrize("count", [2, 3, 8])
def test_shards_weigh_the_same(scans, count):
    """No shard is heavier than the best possible one by more than a third."""
    weights = [sum(map(size, Shard(number, count).take(scans))) for number in range(1, count + 1)]
    ideal = max(sum(map(size, scans)) / count, max(map(size, scans)))
    assert max(weights) <= (4 / 3 - 1 / (3 * count)) * ideal  # Graham 1969; the optimum is no less than `ideal`


def test_scans_without_bytes_are_shared_out_too(tmp_path):
    gone = [Scan(f"{n:02}", f"{n:02}", (Source(tmp_path / f"{n}.nii"),)) for n in range(20)]
    assert [len(Shard(number, 4).take(gone)) for number in range(1, 5)] == [5, 5, 5, 5]


def test_the_order_on_disk_does_not_matter(scans):
    shuffled = random.Random(1).sample(scans, len(scans))
    for number in range(1, 5):
        assert {s.id for s in Shard(number, 4).take(shuffled)} == {s.id for s in Shard(number, 4).take(scans)}


@pytest.mark.parametrize("text", ["0/8", "9/8", "8", "1/0", "-1/8", "a/b", "", "1/8/2", "1.0/2"])
def test_a_shard_that_is_none(text):
    with pytest.raises(OptionError, match="counted from 1"):
        Shard.parse(text)


def test_a_shard():
    assert Shard.parse("3/8") == Shard.parse(" 3 / 8 ") == Shard(3, 8)
    assert str(Shard(3, 8)) == "3/8"


def slurm(task, count, first, last, step="1"):
    names = ("ID", "COUNT", "MIN", "MAX", "STEP")
    return {f"SLURM_ARRAY_TASK_{n}": str(v) for n, v in zip(names, (task, count, first, last, step), strict=True)}


@pytest.mark.parametrize(
    ("environment", "shard"),
    [
        ({}, None),
        ({"SLURM_ARRAY_TASK_ID": "3"}, None),
        (slurm(0, 8, 0, 7), Shard(1, 8)),  # --array=0-7
        (slurm(8, 8, 1, 8), Shard(8, 8)),  # --array=1-8
        (slurm(8, 4, 0, 12, 4), Shard(3, 4)),  # --array=0-15:4
        (slurm(8, 4, 0, 15, 4), Shard(3, 4)),
        (slurm(5, 1, 5, 5), Shard(1, 1)),
    ],
)
def test_the_shard_of_a_slurm_task(environment, shard):
    assert Shard.of_slurm(environment) == shard


@pytest.mark.parametrize("environment", [slurm(3, 2, 3, 7), slurm(1, 3, 1, 4), slurm(4, 3, 1, 4)])
def test_an_array_that_is_no_range_is_refused(environment):
    """Tasks that were resubmitted one by one: two of them are not two halves of the cohort."""
    with pytest.raises(OptionError, match="--shard I/N"):
        Shard.of_slurm(environment)
