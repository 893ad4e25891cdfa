"""The report in a real browser: by pointer, by keyboard and on a telephone, without a complaint or a request."""

import pytest

from tests.pictures.test_report import cohort


@pytest.fixture
def page(featlift, tmp_path):
    cohort(featlift, tmp_path)
    done = featlift("report", "features.zarr")
    assert done.returncode == 0, done.stderr
    return tmp_path / "report.html"


def test_a_case_shows_its_picture_where_it_is_touched(browse, page):
    opened = browse(page)
    canvas, tip = opened.page.locator("#plot canvas"), opened.page.locator("#tip")
    canvas.focus()
    opened.page.keyboard.press("ArrowRight")
    assert tip.is_visible()
    assert tip.locator("img").count() == 2
    opened.settle()
    assert opened("() => [...document.querySelectorAll('#tip img')].every((image) => image.naturalWidth === 128)")
    opened.page.keyboard.press("Enter")
    opened.page.keyboard.press("Escape")
    assert not tip.is_visible()
    seen = []
    for key in ["ArrowLeft"] * 12 + ["ArrowRight"] * 12:
        opened.page.keyboard.press(key)
        seen.append(tip.locator("b").inner_text())
    assert len(set(seen)) >= 8
    assert seen[-1] == "l"  # which is far from all others, to the right
    whole = opened.page.locator("#whole")
    assert not whole.is_visible()
    opened.page.keyboard.press("+")  # the case is in the middle now
    opened.page.keyboard.press("Escape")
    box = canvas.bounding_box()
    opened.page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    assert tip.locator("b").inner_text() == "l"
    whole.click()
    assert not whole.is_visible()
    opened.page.locator("#find").focus()
    assert not tip.is_visible()
    box = canvas.bounding_box()
    for step in range(3, 100, 8):
        opened.page.mouse.move(box["x"] + box["width"] - 26, box["y"] + box["height"] * step / 100)
        if tip.is_visible():
            break
    assert tip.locator("b").inner_text() == "l"
    assert "unlike" not in tip.inner_text()
    assert "times as far from its 5 nearest cases as usual" in tip.inner_text()


def test_cases_are_found_ordered_and_coloured(browse, page):
    opened = browse(page, color_scheme="dark")
    ids = opened.page.locator("#gallery .card b")
    assert ids.all_inner_texts() == list("abcdefghijkl")
    opened.page.fill("#find", "healthy")
    assert ids.all_inner_texts() == list("adgj")
    opened.page.fill("#find", "")
    opened.page.select_option("#order", label="strangest first")
    assert ids.first.inner_text() == "l"
    assert opened.page.locator("#strange .card").count() == 1
    assert opened.page.locator("#legend button").all_inner_texts() == ["healthy\n4", "tumour\n8"]
    healthy = opened.page.locator("#legend button").first
    healthy.click()
    assert healthy.get_attribute("aria-pressed") == "false"
    opened.page.select_option("#colour", label="age")
    assert opened.page.locator("#legend").inner_text().split() == ["60", "65.5"]
    ids.first.click()
    assert opened.page.locator("#tip").is_visible()
    dark = opened("() => getComputedStyle(document.body).backgroundColor")
    opened.page.click("#theme")
    assert opened("() => getComputedStyle(document.body).backgroundColor") != dark


def test_a_telephone_needs_no_sideways_scrolling(browse, page):
    opened = browse(page, width=390, height=844, has_touch=True, is_mobile=True)
    assert opened("() => document.documentElement.scrollWidth") == 390
    box = opened.page.locator("#plot canvas").bounding_box()
    for step in range(5, 100, 5):
        opened.page.touchscreen.tap(box["x"] + box["width"] * step / 100, box["y"] + box["height"] / 2)
        if opened.page.locator("#tip").is_visible():
            break
        box = opened.page.locator("#plot canvas").bounding_box()
    assert opened.page.locator("#tip img").count() == 2
