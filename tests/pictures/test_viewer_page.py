"""The page in a real browser: what it shows is what Python computes, and it asks nobody for anything."""

from __future__ import annotations

import numpy as np
import pytest

from featlift.demo import copy_brain
from featlift.drawing.anatomy import views
from featlift.evaluation import Protocol, score_case
from featlift.evaluation.featdice.segmentation import cosine_similarity
from featlift.metrics.scores import best_dice, dice
from featlift.pictures.fitting import fit_colours
from featlift.pictures.viewer import Scene, write_view
from featlift.pictures.viewer.reduction import reduce
from featlift.store import open_store
from featlift.store.features import features_of, grid_of, labels_of
from featlift.volumes import read
from featlift.volumes.nifti import write_nifti
from tests.support.planted import AFFINE, SHAPE, STRIDE, body, in_slabs, plant

HW, DW, DH = range(3)


def shown_map(page, store=0):
    """The similarity map of the page, scaled to 0 to 1, and the cosines that became 0 and 1."""
    found = page(f"() => {{ const {{ values, low, high }} = viewer.maps[{store}]; return [[...values], low, high]; }}")
    cells = page(f"() => viewer.content.stores[{store}].cells")
    return np.array(found[0]).reshape(cells), found[1], found[2]


def scaled(cosines):
    return (cosines - cosines.min()) / (cosines.max() - cosines.min())


def text_of(page, selector):
    return page.page.locator(selector).inner_text()


def test_a_click_into_a_brain_shows_the_map_and_the_dice_that_python_computes(tmp_path, featlift, browse):
    copy_brain(tmp_path)
    extracted = featlift(
        "extract", "scans", "-o", "brain.zarr", "--model", "vit_tiny_patch16_224", "--weights", "random:0",
        "--model-arg", "depth=2", "--mode", "pcg", "--size", "128", "--depth-stride", "6",
    )  # fmt: skip
    assert extracted.returncode == 0, extracted.stderr
    done = featlift("view", "brain.zarr", "--masks", "labels", "-o", "brain.html")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("brain.html: 1 case, ")

    page = browse(tmp_path / "brain.html")
    page.click(HW, 0, down=0.5, right=0.35)
    case = open_store(tmp_path / "brain.zarr")["brain"]
    grid = grid_of(case, case)
    voxel = page("() => viewer.state.query")
    assert voxel[1:] == pytest.approx([0.5 * case.scan_shape[1], 0.35 * case.scan_shape[2]], abs=1)

    features = features_of(case)
    reduced = reduce(in_slabs(features), 64)
    cell = grid.cell_at(voxel)
    cosines = reduced.similarity(cell)
    values, low, high = shown_map(page)
    np.testing.assert_allclose(values, scaled(cosines), atol=5e-4)  # a step of eight bits, where another sum rounds it
    assert [low, high] == pytest.approx([cosines.min(), 1], abs=5e-4)
    full = cosine_similarity(features, features[:, *cell])
    assert np.abs(low + (high - low) * values - full).max() < 1.5 * reduced.error[1]

    label = int(page("() => viewer.content.labelValues[viewer.state.label - 1]"))
    mask = labels_of(case, read(tmp_path / "labels" / "brain.nii.gz")) == label
    everywhere = grid.upsample(scaled(cosines))
    for threshold in (0.5, 0.8):
        page(f"() => viewer.set({{ threshold: {threshold} }})")
        page.page.wait_for_selector("#scores tr:not(.counting)")
        expected = dice(everywhere > threshold, mask)
        assert float(text_of(page, "#scores .score")) == pytest.approx(expected, abs=1e-3)
    best, at = map(float, text_of(page, "#scores button").split(", "))
    expected, expected_at = best_dice(everywhere, mask)
    assert (best, at) == (pytest.approx(expected, abs=2e-3), pytest.approx(expected_at, abs=0.02))
    page.page.click("#scores button")
    page.settle()
    assert float(text_of(page, "#scores .score")) == best


def test_a_page_of_all_channels_opens_with_what_featdice_says(tmp_path, featlift, browse):
    store = plant(tmp_path / "s.zarr", ids=("one",))
    lesion = np.kron(body() == 3, np.ones(STRIDE)).astype(np.uint8)
    write_nifti(tmp_path / "one.nii.gz", lesion, AFFINE)
    assert featlift("view", "s.zarr", "--masks", "one.nii.gz", "--channels", "12").returncode == 0
    page = browse(tmp_path / "view.html")
    page.page.wait_for_selector("#scores tr:not(.counting)")
    for threshold in (0.5, 0.9):  # the latter is that of the start, and of the released script
        page(f"() => viewer.set({{ threshold: {threshold} }})")
        score = score_case(store["one"], read(tmp_path / "one.nii.gz"), Protocol("centre", "lesion", threshold)).labels[
            1
        ]
        assert float(text_of(page, "#scores .score")) == pytest.approx(score.dice, abs=0.01)
        assert float(text_of(page, "#scores button").split(", ")[0]) == pytest.approx(score.best_dice, abs=0.01)


def test_a_planted_lesion_lights_up_in_all_planes(planted, browse):
    page = browse(planted)
    lesion = np.kron(body() == 2, np.ones(STRIDE)) > 0
    page.click(HW, 0, down=(11.5 + 0.5) / SHAPE[1], right=(13.5 + 0.5) / SHAPE[2])  # slice 2, where it is
    position = page("() => viewer.state.position")
    assert lesion[tuple(position)]
    page("() => { viewer.content.scan = null; viewer.set({ opacity: { similarity: 1 }, smooth: false }); }")
    for plane, view in enumerate(views(AFFINE).values()):
        pixels = page(f"() => {{ const {{ picture }} = viewer.tiles.find((t) => t.plane === {plane});"
                      " return [picture.height, picture.width, [...picture.getContext('2d').getImageData(0, 0,"
                      " picture.width, picture.height).data]]; }")  # fmt: skip
        bright = np.array(pixels[2]).reshape(*pixels[:2], 4)[..., :3].sum(axis=-1)
        inside = view.picture(lesion, position[view.normal])
        assert bright.shape == inside.shape
        assert bright[inside].min() > 600  # the pale end of the colours
        assert bright[~inside].max() < 450
    page.page.wait_for_selector("#scores tr:not(.counting)")
    assert float(text_of(page, "#scores tr:first-child button").split(", ")[0]) > 0.8


def test_a_real_lesion_lights_up(tmp_path, featlift, shared, browse):
    lesions = shared / "lesions"
    done = featlift(
        "extract", lesions, "-o", "s.zarr", "--glob", "brain1*", "--mask-pattern", "*_label.nrrd", "--mode", "2d",
        "--model", "efficientnet-lite0", "--layers", "stride16", "--size", "320",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    done = featlift("view", "s.zarr", "--masks", lesions, "--mask-pattern", "*_label.nrrd", "--channels", "112")
    assert done.returncode == 0, done.stderr
    page = browse(tmp_path / "view.html")
    page.page.wait_for_selector("#scores tr:not(.counting)")
    mask = read(lesions / "brain1_label.nrrd")
    score = score_case(open_store(tmp_path / "s.zarr")["brain1_image"], mask, Protocol("centre", "lesion")).labels[1]
    best = float(text_of(page, "#scores button").split(", ")[0])
    assert best == pytest.approx(score.best_dice, abs=0.01)
    assert best > 0.4


def test_planes_are_those_of_python_for_any_orientation(tmp_path, browse):
    turned = AFFINE[:, [1, 2, 0, 3]] @ np.diag([-1.0, 1, -1, 1])  # D to the front, H upwards, W to the right
    store = plant(tmp_path / "s.zarr", ids=("one",), affine=turned)
    write_view(Scene([store], ["one"], fit_colours([store])), tmp_path / "page.html")
    page = browse(tmp_path / "page.html")
    scan = np.rint(255 * store["one"].scan[...].astype(np.float32))
    for view in views(turned).values():
        index = SHAPE[view.normal] // 3
        shown = page(f"() => {{ const view = viewer.views.find((v) => v.plane === '{view.plane}');"
                     f" return [[...view.slice(viewer.content.scan, {index})], view.letters]; }}")  # fmt: skip
        expected = view.picture(scan, index)
        np.testing.assert_array_equal(np.reshape(shown[0], expected.shape), expected)
        assert tuple(shown[1]) == view.letters
        assert page(f"() => viewer.views.find((v) => v.plane === '{view.plane}').height / 1") == pytest.approx(
            view.extent(SHAPE)[0]
        )
    x, y, z = turned[:3] @ [*page("() => viewer.state.position"), 1]
    assert text_of(page, "#place dd >> nth=0") == f"{x:.1f}, {y:.1f}, {z:.1f} mm".replace("-", "\u2212")


def test_stores_are_shown_in_sync_each_with_its_own_map(planted, browse):
    page = browse(planted)
    page.click(DW, 1, down=0.4, right=0.6)
    assert page("() => viewer.state.layer") == "similarity"
    stores = [open_store(planted.parent / f"{name}.zarr") for name in ("one", "two")]
    voxel = page("() => viewer.state.query")
    for number, store in enumerate(stores):
        case = store["one"]
        expected = reduce(in_slabs(features_of(case)), 64).similarity(grid_of(case, case).cell_at(voxel))
        np.testing.assert_allclose(
            shown_map(page, number)[0], scaled(expected), atol=5e-4
        )  # a step of eight bits, where another sum rounds it
    assert not np.allclose(shown_map(page, 0)[0], shown_map(page, 1)[0], atol=1e-3)
    slider = page.page.locator(".plane input").nth(HW)
    slider.fill("1")
    assert page("() => viewer.state.position[0]") == 1
    assert page("() => viewer.state.query") == voxel  # sliders look around, they do not ask
    labels = [page.page.locator("canvas").nth(tile).get_attribute("aria-label") for tile in (0, 1)]
    assert labels == [
        f"{name}, HW axial: slice 2 of 6, crosshair at H {voxel[1]}, W {voxel[2]}" for name in ("one", "two")
    ]


def test_everything_can_be_done_by_keys(planted, browse):
    page = browse(planted)

    def press(key):
        page.page.keyboard.press(key)
        page.settle()

    page.page.locator("canvas").first.focus()
    start = page("() => viewer.state.position")
    for key in ("ArrowDown", "ArrowRight", "ArrowRight", "PageUp"):
        press(key)
    assert page("() => viewer.state.position") == [start[0] + 1, start[1] + 1, start[2] + 2]
    assert page("() => viewer.state.query") == start
    press("2")
    press("Enter")
    assert page("() => [viewer.state.layer, viewer.state.query]") == [
        "similarity",
        [start[0] + 1, start[1] + 1, start[2] + 2],
    ]
    before = page("() => viewer.state.threshold")
    press("[")
    assert page("() => viewer.state.threshold") == pytest.approx(before - 0.01)
    for key, layer in (("1", "scan"), ("2", "colours"), ("3", "similarity")):
        press(key)
        assert page("() => viewer.state.layer") == layer
        assert page.page.locator("input[name=layer]:checked").get_attribute("value") == layer
    press("o")
    assert not page.page.locator("#outlines").is_checked()
    press("n")
    page.page.wait_for_selector("body[aria-busy=false]")
    assert page.page.title() == "two · featlift"
    press("?")
    assert page.page.locator("dialog").is_visible()
    press("Escape")
    page.page.locator(".plane input").nth(DH).focus()
    before = page("() => viewer.state.position[2]")
    press("ArrowRight")
    assert page("() => viewer.state.position[2]") == before + 1  # the slider's own keys stay its own


def test_maps_are_layers_with_the_values_of_their_files(tmp_path, featlift, browse):
    """Attention of a slice, and a map that covers a half of the scan only, on a grid of its own."""
    plant(tmp_path / "one.zarr", ids=("one",))
    attention = np.zeros(SHAPE, np.float32)
    attention[2] = 0.8
    (tmp_path / "maps").mkdir()
    write_nifti(tmp_path / "maps/one_attention.nii.gz", attention, AFFINE)
    half = np.linspace(-3, 5, 6 * 16 * 40, dtype=np.float32).reshape(6, 16, 40)
    write_nifti(tmp_path / "maps/one_logits.nii.gz", half, AFFINE)
    done = featlift("view", "one.zarr", "--overlay", "maps", "--maps", "attention,logits", "-o", "page.html")
    assert done.returncode == 0, done.stderr
    page = browse(tmp_path / "page.html")
    labels = page.page.locator("#layers label").all_inner_texts()
    assert labels == ["Scan", "PCA", "Similarity", "attention", "logits"]

    def shown(voxel):
        page(f"() => viewer.ask({list(voxel)}, false)")
        place = page("() => viewer.panel._place()")
        return dict(place)["attention"], dict(place)["logits"]

    for voxel in ((2, 3, 5), (3, 3, 5), (5, 15, 39)):
        told = shown(voxel)
        assert float(told[0]) == pytest.approx(attention[voxel], abs=1e-3)
        assert float(told[1].replace("\N{MINUS SIGN}", "-")) == pytest.approx(half[voxel], abs=0.02)
    assert shown((2, 25, 5))[1] == "none"

    page.page.keyboard.press("4")
    assert page("() => viewer.state.layer") == "map attention"
    page.page.wait_for_timeout(100)
    pixels = page("() => [...viewer.tiles[1].picture.getContext('2d').getImageData(0, 0, 40, 6).data]")
    darkest = np.reshape(pixels, (6, 40, 4))[..., 0].min(axis=1)  # of each slice; air is black
    assert sorted(darkest > 180) == [False] * 5 + [True]
    assert sorted(darkest)[4] == 0


def test_wheel_and_drag(planted, browse):
    page = browse(planted)
    canvas = page.page.locator("canvas").first
    box = canvas.bounding_box()
    middle = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.page.mouse.move(*middle)
    before = page("() => viewer.state.position[0]")
    page.page.mouse.wheel(0, -80)
    page.page.wait_for_timeout(100)
    assert page("() => viewer.state.position[0]") == before + 2
    page.page.mouse.down()
    page.page.mouse.move(middle[0] + 30, middle[1], steps=3)
    page.page.mouse.up()
    dragged = page("() => viewer.state.query")
    page.click(HW, 0, down=0.3, right=0.3, modifiers=["Shift"])
    assert page("() => viewer.state.query") == dragged
    assert page("() => viewer.state.position") != dragged


def test_a_phone_shows_it_without_scrolling_sideways_and_takes_taps(planted, browse):
    page = browse(planted, 390, 844, has_touch=True, is_mobile=True, device_scale_factor=2)
    assert page("() => document.documentElement.scrollWidth") == 390
    box = page.page.locator("canvas").first.bounding_box()
    page.page.touchscreen.tap(box["x"] + box["width"] * 0.4, box["y"] + box["height"] * 0.4)
    assert page("() => viewer.state.layer") == "similarity"
    assert page("() => document.documentElement.scrollWidth") == 390
    small = page("() => [...document.querySelectorAll('button, select, #layers span, .plane input')]"
                 ".filter((e) => e.offsetParent && e.offsetHeight < 40).length")  # fmt: skip
    assert small == 0  # large enough for fingers


def test_a_finger_asks_sideways_and_scrolls_upwards(planted, browse):
    page = browse(planted, 390, 844, has_touch=True, is_mobile=True)
    box = page.page.locator("canvas").first.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    touch = page.page.context.new_cdp_session(page.page)

    def draw_finger(right, down):
        steps = [(x + right * step / 8, y + down * step / 8) for step in range(9)]
        kinds = ["touchStart", *["touchMove"] * 8]
        for kind, (left, top) in zip(kinds, steps, strict=True):
            touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": left, "y": top}]})
            page.settle()
        touch.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
        page.settle()

    start = page("() => viewer.state.query")
    draw_finger(60, 0)
    assert page("() => scrollY") == 0
    asked = page("() => viewer.state.query")
    assert asked[2] > start[2]
    draw_finger(0, -120)  # last, because the page rolls on
    assert page("() => scrollY") > 50
    assert page("() => viewer.state.query") == asked


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_light_and_dark_as_the_system_has_it_or_as_asked(planted, browse, scheme):
    page = browse(planted, color_scheme=scheme)

    def lightness():
        colour = page("() => getComputedStyle(document.body).backgroundColor")
        return sum(map(int, colour.removeprefix("rgb(").removesuffix(")").split(","))) / 3

    first = lightness()
    assert first > 200 if scheme == "light" else first < 60
    page.page.click("#theme")
    assert lightness() < 60 if scheme == "light" else lightness() > 200


def test_without_geometry_scan_and_masks(tmp_path, browse):
    store = plant(tmp_path / "s.zarr", ids=("one",), affine=None)
    write_view(Scene([store], ["one"], fit_colours([store])), tmp_path / "page.html")
    page = browse(tmp_path / "page.html")
    page.click(HW, 0, down=0.5, right=0.5)
    assert page("() => viewer.views.map((view) => view.letters)") == [None] * 3
    assert "geometry unknown" in text_of(page, "#summary")
    assert "mm" not in text_of(page, "#place")
    assert not page.page.locator("#table").is_visible()


def test_the_page_is_not_allowed_to_reach_anything(planted, chromium):
    page = chromium.new_page()
    requests = []
    page.on("request", lambda request: requests.append(request.url))
    page.goto(planted.as_uri())
    page.wait_for_selector("body[aria-busy=false]")
    attempt = "() => fetch('http://127.0.0.1:9/').then(() => 'reached', (error) => error.name)"
    assert page.evaluate(attempt) == "TypeError"
    script = "const script = document.createElement('script'); script.textContent = 'window.broken = 1'"
    page.evaluate(f"() => {{ {script}; document.body.append(script); }}")
    assert page.evaluate("() => window.broken ?? null") is None
    assert requests == [planted.as_uri()]
    page.close()
