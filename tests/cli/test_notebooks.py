"""Every notebook runs, cell after cell, in a kernel of its own; none of them is kept with what it gave."""

from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))
DRAWN = {"cohort-study": 1, "first-look": 2, "train-your-own-head": 3}


def test_all_are_known():
    assert {path.stem for path in NOTEBOOKS} == set(DRAWN)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_runs_and_draws(path, tmp_path, monkeypatch):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        assert not cell.get("outputs"), "outputs are kept: strip them"
        assert cell.get("execution_count") is None
    monkeypatch.delenv("MPLBACKEND", raising=False)
    for name, value in {
        "HF_HUB_OFFLINE": "1",
        "TMPDIR": str(tmp_path),
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(ROOT),
    }.items():
        monkeypatch.setenv(name, value)
    resources = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, timeout=300, kernel_name="python3", resources=resources).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    pictures = [output for output in outputs if "image/png" in output.get("data", {})]
    assert len(pictures) == DRAWN[path.stem]
    assert all(len(output["data"]["image/png"]) > 10_000 for output in pictures)
