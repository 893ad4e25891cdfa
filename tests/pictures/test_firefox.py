"""Both pages in Firefox: they draw, and take keys and the wheel, without a complaint of their scripts."""

from __future__ import annotations

import numpy as np
from PIL import Image

from featlift.pictures.fitting import fit_colours
from featlift.pictures.viewer import Scene, write_view
from featlift.volumes.nifti import write_nifti
from tests.pictures.test_report import cohort
from tests.support.planted import AFFINE, STRIDE, body, plant

PAGE_UP = "\ue00e"
CONTROL = "\ue009"


def colourful(path):
    """The share of a screenshot's pixels that are no grey."""
    pixels = np.asarray(Image.open(path).convert("RGB")).astype(int)
    return (np.ptp(pixels, axis=-1) > 60).mean()


def test_the_viewer_in_firefox(tmp_path, firefox):
    store = plant(tmp_path / "s.zarr", ids=("one",))
    write_nifti(tmp_path / "one.nii.gz", np.kron(body() == 3, np.ones(STRIDE)).astype(np.uint8), AFFINE)
    write_view(Scene([store], ["one"], fit_colours([store]), {"one": tmp_path / "one.nii.gz"}), tmp_path / "page.html")
    firefox.open(tmp_path / "page.html")
    look = "const look = () => (window.viewer?.scores ? done() : setTimeout(look, 50)); look();"
    firefox.evaluate(f"new Promise((done) => {{ {look} }})")
    assert firefox.evaluate("viewer.scores[0].dice(1, viewer.state.threshold)") > 0.8
    firefox.screenshot(tmp_path / "similarity.png")
    assert colourful(tmp_path / "similarity.png") > 0.02
    d, h, w = firefox.evaluate("viewer.state.position")
    firefox.evaluate("document.querySelector('canvas').focus()")
    firefox.press(PAGE_UP)
    assert firefox.evaluate("viewer.state.position") == [d + 1, h, w]
    firefox.press("2")
    firefox.screenshot(tmp_path / "colours.png")
    assert colourful(tmp_path / "colours.png") > 0.02
    scroll = {"type": "scroll", "x": 200, "y": 250, "deltaX": 0}
    firefox.act("wheel", scroll | {"deltaY": 80})
    assert firefox.evaluate("viewer.state.position[0]") < d + 1
    firefox.act("key", {"type": "keyDown", "value": CONTROL})
    firefox.act("wheel", scroll | {"deltaY": -400})
    assert firefox.evaluate("[viewer.frames[0].zoom > 2, devicePixelRatio]") == [True, 1]


def test_the_report_in_firefox(tmp_path, featlift, firefox):
    cohort(featlift, tmp_path)
    assert featlift("report", "features.zarr").returncode == 0
    firefox.open(tmp_path / "report.html")
    firefox.evaluate("document.querySelector('#plot canvas').focus()")
    firefox.press("\ue014")  # to the right
    assert (
        firefox.evaluate("[...document.querySelectorAll('#tip img')].map((image) => image.naturalWidth)") == [128] * 2
    )
    assert firefox.evaluate("document.querySelectorAll('#gallery .card').length") == 12
