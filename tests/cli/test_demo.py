"""`make demo`, in a file of its own: it takes a while, and others can run beside it."""

import subprocess
from pathlib import Path

from featlift import open_store
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
