"""One thing is no several things, in whatever a command says."""

import re
import shutil

from featlift.counting import number_of
from tests.test_fixtures import FIXTURES, OPTIONS

_ONE_OF_SEVERAL = re.compile(r"(?<![\d.,])(?<!of )1 (?!s\b)\w+s\b")


def test_numbers_and_what_they_count():
    assert number_of(1, "volume") == "1 volume"
    assert number_of(0, "volume") == "0 volumes"
    assert number_of(12_345, "series", "series") == "12,345 series"


def test_a_store_of_one_volume(featlift, tmp_path):
    shutil.copytree(FIXTURES, tmp_path, dirs_exist_ok=True)
    for folder in ("scans", "labels"):
        for path in (tmp_path / folder).glob("[a-df]*"):
            path.unlink()
    extract = (
        "extract",
        "scans",
        "-o",
        "one.zarr",
        *OPTIONS["layers.zarr"],
        "--precision",
        "fp32",
    )  # as the head's store
    commands = [
        extract,
        extract,
        ("check", "scans"),
        ("verify", "one.zarr"),
        ("info", "one.zarr"),
        ("index", "one.zarr"),
        ("merge", "one.zarr", "-o", "merged.zarr"),
        ("featdice", "one.zarr", "--masks", "labels"),
        ("segment", "predict", "one.zarr", "--head", "head", "-o", "masks"),
        ("segment", "score", "one.zarr", "--predictions", "masks", "--masks", "labels"),
        ("pca", "one.zarr"),
        ("view", "one.zarr"),
        ("report", "one.zarr"),
    ]
    said = ""
    for command in commands:
        done = featlift(*command)
        assert done.returncode == 0, (command, done.stderr)
        said += done.stdout + done.stderr
    assert said.count("1 volume") > 4
    assert not _ONE_OF_SEVERAL.findall(said)
