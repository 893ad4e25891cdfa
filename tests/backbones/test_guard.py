"""timm beside a torchvision whose compiled operators do not load."""

import subprocess
import sys

import pytest


def python(code, **options):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, **options)


def test_the_guard_imports_timm_where_timm_alone_does_not():
    alone = python("import timm")
    if alone.returncode == 0:
        pytest.skip("the torchvision of this machine works")
    assert "operator torchvision::nms does not exist" in alone.stderr

    guarded = python(
        "from featlift.backbones.torchvision_guard import import_timm\n"
        "timm = import_timm()\n"
        "import gc, sys, torch; gc.collect()\n"
        "assert timm is import_timm() is sys.modules['timm']\n"
        "print(timm.create_model('test_vit', num_classes=0).eval()(torch.zeros(1, 3, 160, 160)).shape)\n"
        "import torchvision.ops\n"  # what others import afterwards
    )
    assert guarded.returncode == 0, guarded.stderr
    assert guarded.stdout.startswith("torch.Size([1, ")


def test_the_guard_passes_on_every_other_error(tmp_path):
    (tmp_path / "timm.py").write_text("print('imported')\nraise RuntimeError('something else')\n")
    done = python("from featlift.backbones.torchvision_guard import import_timm; import_timm()", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stdout == "imported\n"  # and not tried again
    assert done.stderr.endswith("RuntimeError: something else\n")
