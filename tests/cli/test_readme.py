"""Every example of the README and of the tutorials runs, in order, on a real brain."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import pytest
from safetensors.torch import save_file

from featlift.demo import copy_brain
from tests.support.networks import load_backbone

ROOT = Path(__file__).resolve().parents[2]


def examples(page):
    """(language, code) of each fenced block, as it stands."""
    return re.findall(r"^```(\w+)\n(.*?)^```", (ROOT / page).read_text(), re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder as a reader of the README would have it: scans, and weights in a file."""
    folder = tmp_path_factory.mktemp("reader")
    copy_brain(folder / "mni")
    brain = nib.load(folder / "mni" / "scans" / "brain.nii.gz").slicer[::2, ::2, 60:84]
    (folder / "scans").mkdir()
    nib.save(brain, folder / "scans" / "brain.nii.gz")
    nib.save(brain.slicer[4:], folder / "scans" / "brain_seg.nii.gz")
    for name in ("scans", "labels"):  # what `make demo` leaves
        (folder / "demo" / name).mkdir(parents=True)
        whole = nib.load(folder / "mni" / name / "brain.nii.gz")
        nib.save(whole.slicer[::2, ::2, 60:72], folder / "demo" / name / "brain.nii.gz")
    state = {name: value.contiguous() for name, value in load_backbone("vits16", "random:0").net.state_dict().items()}
    save_file(state, folder / "dinov3_vits16.safetensors")
    return folder


_LONG = pytest.param("docs/tutorials/from-scan-to-picture.md", marks=pytest.mark.soak)


@pytest.mark.parametrize("page", ["README.md", "docs/getting-started.md", _LONG])
def test_examples_run(folder, page, monkeypatch):
    bin_folder = Path(sys.executable).parent
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "PATH": f"{bin_folder}:{os.environ['PATH']}"}
    monkeypatch.chdir(folder)
    names: dict[str, object] = {}
    ran = 0
    for language, code in examples(page):
        if language == "python":
            exec(compile(code, page, "exec"), names)
            ran += 1
            continue
        assert language == "bash"
        for line in code.splitlines():
            command = shlex.split(line, comments=True)
            if command[:1] == ["make"]:
                assert re.search(rf"^{command[1]}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
                continue
            done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
            assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
            ran += 1
    assert ran >= 3


def test_links_lead_somewhere():
    for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        for link in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / link).exists(), f"{page.name}: {link}"
