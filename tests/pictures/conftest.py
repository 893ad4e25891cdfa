"""Real browsers: Debian's Chromium and Firefox, or any that are installed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from featlift.pictures.fitting import fit_colours
from featlift.pictures.viewer import Scene, write_view
from featlift.volumes.nifti import write_nifti
from tests.pictures.firefox import Firefox
from tests.support.planted import AFFINE, STRIDE, body, plant

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """A headless Chromium; ``FEATLIFT_CHROMIUM`` names one that is not on the PATH."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright, which drives the browser, is missing")
    path = os.environ.get("FEATLIFT_CHROMIUM") or next(filter(None, map(shutil.which, _NAMES)), None)
    if path is None:
        pytest.skip("no Chromium is installed (apt-get install chromium, or FEATLIFT_CHROMIUM=its path)")
    sandbox = [] if os.geteuid() else ["--no-sandbox"]  # which Chromium refuses to root
    with sync_api.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=sandbox)
        yield browser
        browser.close()


@pytest.fixture
def firefox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Firefox]:
    """A headless Firefox; ``FEATLIFT_FIREFOX`` names one that is not on the PATH."""
    path = os.environ.get("FEATLIFT_FIREFOX") or shutil.which("firefox-esr") or shutil.which("firefox")
    if path is None:
        pytest.skip("no Firefox is installed (apt-get install firefox-esr, or FEATLIFT_FIREFOX=its path)")
    browser = Firefox(path, tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()
    assert browser.complaints == []


@dataclass
class Opened:
    """A page of featlift's in a browser, and what it did that a page should not."""

    page: Page
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def __call__(self, expression: str, argument: object = None) -> Any:
        """What JavaScript makes of an expression, or of a function of the argument, once the page stands still."""
        value = self.page.evaluate(expression, argument)
        self.settle()
        return value

    def settle(self) -> None:
        """Wait until what has changed is drawn."""
        self.page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")

    def click(self, plane: int, store: int, down: float, right: float, **options: object) -> None:
        """Click into a tile at a place of its picture, from 0 to 1 down and to the right."""
        box = self(f"() => viewer.tiles.find((t) => t.plane === {plane} && t.store === {store}).box")
        tile = self.page.locator(".plane").nth(plane).locator("canvas").nth(store)
        x, y = box["left"] + right * box["width"], box["top"] + down * box["height"]
        tile.click(position={"x": x, "y": y}, **options)
        self.settle()


@pytest.fixture
def browse(chromium: Browser) -> Iterator[Callable[..., Opened]]:
    """Open a file or an address, and see to it at the end that nothing was logged and nothing asked of a network."""
    opened: list[tuple[Opened, str]] = []

    def browse(where: Path | str, width: int = 1280, height: int = 800, **options: Any) -> Opened:
        context = chromium.new_context(viewport={"width": width, "height": height}, **options)
        shown = Opened(context.new_page())
        shown.page.on("request", lambda request: shown.requests.append(request.url))
        shown.page.on("console", lambda message: shown.complaints.append(message.text))
        shown.page.on("pageerror", lambda error: shown.complaints.append(str(error)))
        url = where.as_uri() if isinstance(where, Path) else where
        opened.append((shown, url))
        shown.page.goto(url)
        shown.page.wait_for_selector("body[aria-busy=false]")
        return shown

    yield browse
    for shown, url in opened:
        shown.page.context.close()
        assert shown.complaints == []
        assert all(request.startswith(url) for request in shown.requests), shown.requests
        assert shown.requests == [url] or url.startswith("http://127.0.0.1:")


@pytest.fixture
def planted(tmp_path: Path) -> Path:
    """A page of two stores and two cases with masks, whose label 2 is a lesion that has a feature of its own."""
    stores = [plant(tmp_path / "one.zarr"), plant(tmp_path / "two.zarr", shift=0.3, mode="pcg")]
    labels = np.kron(np.where(body() == 2, 2, np.where(body() == 3, 3, 0)), np.ones(STRIDE)).astype(np.uint8)
    write_nifti(tmp_path / "mask.nii.gz", labels, AFFINE)
    masks = dict.fromkeys(stores[0], tmp_path / "mask.nii.gz")
    write_view(Scene(stores, list(stores[0]), fit_colours(stores), masks), tmp_path / "page.html")
    return tmp_path / "page.html"
