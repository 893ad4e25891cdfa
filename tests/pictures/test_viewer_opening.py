"""Where the page opens, and how its planes are enlarged."""

from __future__ import annotations

import numpy as np
import pytest

from featlift.pictures.fitting import fit_colours
from featlift.pictures.viewer import Scene, write_view
from featlift.volumes.nifti import write_nifti
from tests.support.planted import AFFINE, SHAPE, STRIDE, body, plant


def text_of(page, selector):
    return page.page.locator(selector).inner_text()


def test_it_opens_on_the_label_that_is_outlined_best_at_the_threshold_of_the_best_dice(tmp_path, featlift, browse):
    plant(tmp_path / "s.zarr", ids=("one",))
    kinds = body()
    labels = np.where(kinds > 1, kinds, 0)
    labels[:, 3:5, 1:-1] = 9  # larger than the others, and no kind of tissue
    labels[kinds == 3] = 3
    write_nifti(tmp_path / "one.nii.gz", np.kron(labels, np.ones(STRIDE)).astype(np.uint8), AFFINE)
    (tmp_path / "names.json").write_text('{"3": "spleen", "9": "stripe"}')
    done = featlift("view", "s.zarr", "--masks", "one.nii.gz", "--label-names", "names.json")
    assert done.returncode == 0, done.stderr
    page = browse(tmp_path / "view.html")
    page.page.wait_for_selector("#scores tr:not(.counting)")
    state = page("() => viewer.state")
    assert state["query"] == state["position"]
    d, h, w = state["query"]
    assert labels[d, h // 4, w // 4] == 3
    assert page("() => viewer.content.labelValues[viewer.state.label - 1]") == 3
    assert state["layer"] == "similarity"
    assert float(text_of(page, "#scores .score")) == float(text_of(page, "#scores button").split(", ")[0]) > 0.8
    asked = text_of(page, "#asked")
    assert f"at d {d}, h {h}, w {w} (spleen). s: made-up, 2d, layer 0; " in asked
    page("() => viewer.ask([0, 1, 1])")
    assert "at d 0, h 1, w 1. s: made-up" in text_of(page, "#asked")
    page.page.wait_for_selector("#scores tr:not(.counting)")
    assert page("() => viewer.state.threshold") == state["threshold"]  # which a later question leaves alone


def test_a_mask_smaller_than_a_cell_and_none_at_all(tmp_path, browse):
    store = plant(tmp_path / "s.zarr", ids=("one",))
    labels = np.zeros(SHAPE, np.uint8)
    labels[2, 12, 16] = 1  # at the corner of a cell, not at its centre
    write_nifti(tmp_path / "one.nii.gz", labels, AFFINE)
    write_view(Scene([store], ["one"], fit_colours([store]), {"one": tmp_path / "one.nii.gz"}), tmp_path / "page.html")
    assert browse(tmp_path / "page.html")("() => viewer.state.query") == [2, 12, 16]
    write_view(Scene([store], ["one"], fit_colours([store])), tmp_path / "page.html")
    state = browse(tmp_path / "page.html")("() => viewer.state")
    d, h, w = state["query"]
    assert body()[d, h // 4, w // 4] > 1  # an organ, of which there is less than of the body
    assert state["layer"] == "similarity"


def test_planes_are_enlarged_and_moved_by_wheel_pointer_and_keys(planted, browse):
    page = browse(planted)
    canvas = page.page.locator("canvas").first
    frame = canvas.bounding_box()
    x, y = frame["x"] + 0.25 * frame["width"], frame["y"] + 0.4 * frame["height"]
    place = f"() => viewer.tiles[0]._placeUnder({{ clientX: {x}, clientY: {y} }})"
    before, asked = page(place), page("() => viewer.state.query")
    slice_before = page("() => viewer.state.position[0]")
    page.page.mouse.move(x, y)
    page.page.keyboard.down("Control")
    page.page.mouse.wheel(0, -400)
    page.page.wait_for_timeout(100)
    zoom = page("() => viewer.frames[0].zoom")
    assert zoom > 2
    assert page("() => [viewer.frames[1].zoom, devicePixelRatio]") == [1, 1]  # neither other planes nor the page
    assert page(place) == pytest.approx(before, abs=2e-3)  # whole pixels of the wheel
    page.page.mouse.down()
    page.page.mouse.move(x + 20, y + 10, steps=2)
    page.page.mouse.up()
    page.page.keyboard.up("Control")
    box = page("() => viewer.tiles[0].box")
    moved = page(place)
    assert moved["right"] == pytest.approx(before["right"] - 20 / box["width"], abs=2e-3)
    assert moved["down"] == pytest.approx(before["down"] - 10 / box["height"], abs=2e-3)
    assert page("() => [viewer.state.query, viewer.state.position[0]]") == [asked, slice_before]
    assert "enlarged" in canvas.get_attribute("aria-label")
    page.page.mouse.click(x, y)  # asks at the place that is seen there
    voxel = page(f"() => viewer.views[0].voxelAt({moved['down']}, {moved['right']}, viewer.state.position)")
    assert page("() => viewer.state.query") == voxel
    page.page.mouse.dblclick(x, y)
    assert page("() => viewer.frames[0]") == {"zoom": 1, "down": 0.5, "right": 0.5}

    canvas.focus()
    for _ in range(8):
        page.page.keyboard.press("z")
    assert page("() => viewer.frames[0].zoom") == pytest.approx(1.25**8)
    page.page.keyboard.press("x")
    for _ in range(40):
        page.page.keyboard.press("ArrowRight")
    box = page("() => viewer.tiles[0].box")
    right = page("() => viewer.views[0].placeOf(viewer.state.position).right")
    assert 0 < box["left"] + right * box["width"] < frame["width"]  # the crosshair stays in sight
    page.page.keyboard.press("0")
    assert page("() => viewer.frames[0].zoom") == 1
