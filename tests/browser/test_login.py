"""The page of the login, in ORFEAS' look, and the way out again."""

from __future__ import annotations

import pytest

from orfeas.accounts import hash_password
from orfeas.library import Library
from orfeas.settings import Settings
from orfeas.studio import Studio
from orfeas.web.serve import start
from tests.browser.test_accessibility import COUNT, axe  # noqa: F401 (a fixture)
from tests.browser.test_page import PHONE
from tests.conftest import PacedEngine
from tests.web.conftest import free_port

PASSWORD = "correct horse"


@pytest.fixture
def guarded(tmp_path):
    settings = Settings(
        _env_file=None, engine="sketch", data_dir=tmp_path, port=free_port(), auth=f"ada:{hash_password(PASSWORD)}"
    )
    server = start(Studio(settings, PacedEngine(), Library(tmp_path)), settings)
    yield server.url
    server.close()


def test_one_logs_in_and_out_again(visit, guarded, axe):  # noqa: F811
    visit = visit(guarded, ready="input[type=password]", **PHONE)
    page = visit.page
    panel = page.locator(".panel").bounding_box()
    assert panel["x"] > 0
    assert panel["x"] + panel["width"] < 390
    assert panel["y"] > 80, "it stands in the middle"
    assert "One photo in." in page.inner_text(".panel")
    page.evaluate(axe)
    assert page.evaluate(COUNT) == []

    def log_in(password: str) -> None:
        page.get_by_label("username").fill("ada")
        page.get_by_label("password").fill(password)
        page.keyboard.press("Enter")

    log_in("wrong horse")
    page.wait_for_selector(".creds")
    visit.errors[:] = [error for error in visit.errors if "status of 400" not in error]
    log_in(PASSWORD)
    page.wait_for_selector("#generate")
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    page.get_by_role("link", name="Log out").click()
    page.wait_for_selector("input[type=password]")
    visit.errors.clear()  # Gradio's client complains of the streams that the old page left
    assert page.request.get(f"{guarded}config").status == 401
