"""`make demo` and `make vit`, in a file of their own: it takes a while, and others can run beside it."""

import shlex
import subprocess
from pathlib import Path

import nibabel as nib

from featlift import open_store
from featlift.demo import copy_brain
from featlift.evaluation import read_result

ROOT = Path(__file__).resolve().parents[2]


def test_the_demo_runs():
    """`make demo` itself: everything it needs is in the test environment too."""
    done = subprocess.run(["make", "demo"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "where to look next" in done.stdout.lower()
    for mode in ("2d", "pcg"):
        case = open_store(ROOT / "demo" / f"brain-{mode}.zarr")["brain"]
        assert min(case.dense.shape[2:]) >= 14  # cells a side
        assert case.affine is not None
        result = read_result(ROOT / "demo" / "results" / f"brain-{mode}-featdice-prototype-nearest-centre.json")
        assert result.details["labels"] == [1, 2]
        assert 0.5 < result.measures["dice"].mean < result.measures["best_dice"].mean + 0.05 < 1

    assert (ROOT / "demo" / "pictures" / "brain.png").read_bytes().startswith(b"\x89PNG")
    assert "<!doctype html>" in (ROOT / "demo" / "view.html").read_text()[:200].lower()
    for shown in ("demo/pictures/brain.png", "demo/view.html"):
        assert str(ROOT / shown) in done.stdout


def test_the_commands_of_the_vit_run(featlift, tmp_path):
    """Each as it stands in the Makefile, on a few slices and without the download: with random weights."""
    copy_brain(tmp_path / "mni")
    for name in ("scans", "labels"):
        (tmp_path / "demo" / name).mkdir(parents=True)
        few = nib.load(tmp_path / "mni" / name / "brain.nii.gz").slicer[::2, ::2, 60:72]
        nib.save(few, tmp_path / "demo" / name / "brain.nii.gz")

    told = subprocess.run(["make", "-n", "-o", "demo", "vit"], cwd=ROOT, capture_output=True, text=True, check=True)
    commands = [shlex.split(line)[1:] for line in told.stdout.splitlines() if line.startswith(".venv/bin/featlift ")]
    assert [command[0] for command in commands] == ["extract", "extract", "featdice", "pca", "view"]
    for command in commands:
        done = featlift(*command, *(["--weights", "random:0"] if command[0] == "extract" else []))
        assert done.returncode == 0, done.stdout + done.stderr
    cells = [open_store(tmp_path / "demo" / f"vit-{mode}.zarr")["brain"].dense.shape[1:] for mode in ("2d", "pcg")]
    assert cells[0] == cells[1]
    assert cells[0][0] == 4  # every third slice
    for shown in ("demo/pictures/vit/brain.png", "demo/view-vit.html"):
        assert (tmp_path / shown).is_file()
        assert shown in told.stdout
