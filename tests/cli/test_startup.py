"""What a command imports: what it uses, and nothing besides that takes long. docs/performance.md has the seconds."""

import re

import pytest

from tests.support.scans import write_scan
from tests.support.stores import clouds, splits_of, write_store

#: What takes a tenth of a second and more.
SLOW = {"numpy", "zarr", "nibabel", "pydicom", "pyarrow", "scipy", "skimage", "sklearn", "matplotlib", "torch", "timm"}

SUBCOMMANDS = (
    *("embed", "extract", "check", "featdice", "knn", "probe", "retrieve", "compare", "info", "doctor", "merge"),
)
USED = {
    "--help": set(),
    "--version": set(),
    "register run --help": set(),
    "register train --help": set(),
    "pretrain 3dme --help": set(),
    **{f"{name} --help": set() for name in SUBCOMMANDS},
    "models": set(),
    "info features.zarr": {"numpy", "zarr"},
    "verify features.zarr": {"numpy", "zarr", "pyarrow"},
    "check a.nii.gz": {"numpy", "zarr", "nibabel", "pydicom", "scipy"},
    "check a.nii.gz --model vit7b16 --mode 2d --no-norm": {"numpy", "zarr", "nibabel", "pydicom", "scipy"},
    "knn features.zarr -k 3": {"numpy", "zarr", "pyarrow", "torch"},
}


@pytest.mark.parametrize(("call", "used"), USED.items(), ids=list(USED))
def test_nothing_slow_is_imported_that_is_not_used(featlift_process, tmp_path, call, used):
    if "features.zarr" in call:
        tokens, classes = clouds(24)
        splits = splits_of(classes)
        rows = {case_id: {"label": label, "split": splits[case_id]} for case_id, label in classes.items()}
        write_store(tmp_path / "features.zarr", tokens, rows)
    if "a.nii.gz" in call:
        write_scan(tmp_path / "a.nii.gz")
    done = featlift_process(*call.split(), PYTHONPROFILEIMPORTTIME="1")
    assert done.returncode == 0, done.stderr[-1000:]
    imported = set(re.findall(r"\| +([\w.]+)$", done.stderr, re.MULTILINE))  # reading processes' included
    assert "featlift.cli.main" in imported or "featlift.cli.check" in imported
    assert imported & SLOW <= used
    assert "torch._dynamo" not in imported
