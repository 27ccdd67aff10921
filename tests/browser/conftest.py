"""A real Chromium before a real server. Without one these tests are skipped, loudly."""

# ruff: noqa: F401, F811 (pytest finds fixtures by the names imported here)

from __future__ import annotations

import warnings
from urllib.parse import urlsplit

import pytest

from tests.browser.chromium import find_chromium
from tests.web.conftest import (  # fixtures
    _leave_it_idle,
    engine,
    http,
    pace,
    photo,
    server,
    url,
)

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
]
LEFT_STREAMS = ("signal is aborted without reason",)  # Gradio's client says so of the streams of a page that was left
KNOWN_ERRORS = ("WebGPU",)  # Gradio's viewer tries it first, says so, and goes on with WebGL


def pytest_collection_modifyitems(items):
    for item in items:
        if "tests/browser/" in item.path.as_posix():
            item.add_marker(pytest.mark.browser)


@pytest.fixture(scope="package")
def playwright():
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=60_000)  # what is expected may come late on a busy machine
    with sync_playwright() as playwright:
        yield playwright


@pytest.fixture(scope="package")
def launch(playwright):
    path = find_chromium()
    if path is None:
        warnings.filterwarnings("default", "NO CHROMIUM")
        warnings.warn("NO CHROMIUM WAS FOUND: the browser tests are skipped.", stacklevel=1)
        pytest.skip("NO CHROMIUM WAS FOUND: install one (Debian: apt-get install chromium)")
    opened = []

    def launch(*flags: str):
        opened.append(playwright.chromium.launch(executable_path=path, args=[*FLAGS, *flags]))
        return opened[-1]

    yield launch
    for browser in opened:
        browser.close()


@pytest.fixture(scope="package")
def browser(launch):
    return launch()


@pytest.fixture(scope="package")
def browser_without_webgl(launch):
    return launch("--disable-3d-apis")


class Visit:
    """A page in a context of its own, with everything it said and asked for."""

    def __init__(self, browser, at: str, ready: str = "#generate", prepare=lambda page: None, **context):
        self.context = browser.new_context(**{"viewport": {"width": 1440, "height": 900}, **context})
        self.page = self.context.new_page()
        self.errors: list[str] = []
        self.foreign: list[str] = []
        self.page.on("console", self._on_console)
        self.page.on("pageerror", self._on_page_error)
        self.page.on("request", self._on_request)
        prepare(self.page)
        self.page.goto(at)
        self.page.wait_for_selector(ready)

    def _on_page_error(self, error):
        if not any(known in str(error) for known in LEFT_STREAMS):
            self.errors.append(f"uncaught: {error}")

    def _on_console(self, message):
        if message.type == "error" and not any(known in message.text for known in (*KNOWN_ERRORS, *LEFT_STREAMS)):
            self.errors.append(message.text)

    def _on_request(self, request):
        address = urlsplit(request.url)
        if address.scheme in ("http", "https") and address.hostname != "127.0.0.1":
            self.foreign.append(request.url)

    def reload(self) -> None:
        """Load the page again. Of a request that the old page left behind, Gradio's client says that it broke off."""
        before = len(self.errors)
        self.page.reload()
        self.errors[before:] = [error for error in self.errors[before:] if "Connection errored out" not in error]

    def choose(self, path) -> None:
        """Upload a picture, another than there is, and wait for its own cutout."""
        chosen = "document.querySelector('#picture .image-frame img')?.src ?? ''"
        before = self.page.evaluate(chosen)
        self.page.set_input_files("#picture input[type=file]", str(path))
        self.page.wait_for_function(
            f"before => ![before, ''].includes({chosen}) && document.documentElement.dataset.cutout === 'yes'",
            arg=before,
        )
        self.page.wait_for_selector("#cutout-view img", timeout=30_000)

    def generate(self) -> None:
        self.page.click("#generate")

    def wait_for_state(self, *states: str, seconds: float = 60) -> None:
        self.page.wait_for_function(
            "states => states.includes(document.documentElement.dataset.job)",
            arg=list(states),
            timeout=seconds * 1000,
        )

    @property
    def state(self) -> str:
        return self.page.evaluate("document.documentElement.dataset.job")

    def wait_for_canvas(self) -> None:
        self.page.wait_for_function("document.documentElement.dataset.canvas === 'yes'", timeout=60_000)

    def see(self, selector: str):
        """What is drawn there: (h, w, 3) uint8."""
        import cv2
        import numpy as np

        png = self.page.locator(selector).screenshot()
        return cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]


@pytest.fixture(autouse=True)
def _patience(monkeypatch):
    """A busy machine takes long to load a page: its job is not stopped meanwhile."""
    monkeypatch.setattr("orfeas.web.jobs.RELOAD_GRACE_SECONDS", 300)


@pytest.fixture
def visit(browser, url):
    """A function that opens the page; at the end nothing may have gone wrong in it, and no other host been asked."""
    visits = []

    def open_page(at: str = url, with_browser=browser, **context) -> Visit:
        visits.append(Visit(with_browser, at, **context))
        return visits[-1]

    yield open_page
    errors = [error for visit in visits for error in visit.errors]
    foreign = [address for visit in visits for address in visit.foreign]
    for visit in visits:
        visit.context.close()
    assert not errors
    assert not foreign
