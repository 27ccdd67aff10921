"""The page of the login, in ORFEAS' look, the way out again, and what the next account finds."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from orfeas.accounts import hash_password
from orfeas.library import Library
from orfeas.settings import Settings
from orfeas.web.serve import start
from tests.browser.test_accessibility import COUNT, axe  # noqa: F401 (a fixture)
from tests.browser.test_page import PHONE
from tests.conftest import PacedEngine, open_studio
from tests.web.conftest import free_port

PASSWORD = "correct horse"


@pytest.fixture
def guarded(tmp_path):
    auth = ",".join(f"{name}:{hash_password(PASSWORD)}" for name in ("ada", "max"))
    settings = Settings(_env_file=None, engine="sketch", data_dir=tmp_path, port=free_port(), auth=auth)
    server = start(open_studio(settings, PacedEngine(), Library(tmp_path)), settings)
    yield server.url
    server.close()


def log_in(page, name: str, password: str = PASSWORD) -> None:
    page.get_by_label("username").fill(name)
    page.get_by_label("password").fill(password)
    page.keyboard.press("Enter")


def log_out(visit) -> None:
    visit.page.get_by_role("link", name="Log out").click()
    visit.page.wait_for_selector("input[type=password]")
    visit.errors.clear()  # Gradio's client complains of the streams that the old page left


def test_one_logs_in_and_out_again(visit, guarded, photo, axe):  # noqa: F811
    visit = visit(guarded, ready="input[type=password]", **PHONE)
    page = visit.page
    panel = page.locator(".panel").bounding_box()
    assert panel["x"] > 0
    assert panel["x"] + panel["width"] < 390
    assert panel["y"] > 80, "it stands in the middle"
    expect(page.locator(".panel")).to_contain_text("One photo in.", use_inner_text=True)
    page.evaluate(axe)
    assert page.evaluate(COUNT) == []

    log_in(page, "ada", "wrong horse")
    page.wait_for_selector(".creds")
    visit.errors[:] = [error for error in visit.errors if "status of 400" not in error]
    log_in(page, "ada")
    page.wait_for_selector("#generate")
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    visit.choose(photo)
    visit.generate()
    visit.wait_for_state("done")
    page.select_option("#best-of-count", "2")
    page.get_by_role("button", name="Best of 2").click()
    page.wait_for_selector(".history-group[data-state=over]", timeout=60_000)
    result = page.wait_for_selector(".result[data-result]").get_attribute("data-result")
    group, token = page.evaluate("JSON.parse(localStorage.getItem('orfeas-history:ada'))")
    log_out(visit)
    assert page.request.get(f"{guarded}config").status == 401

    # the next account on this browser sees nothing of it, and has nothing of it, though it knows the tokens
    log_in(page, "max")
    page.wait_for_selector("#history-empty")
    assert page.evaluate("localStorage.getItem('orfeas-history:max')") is None
    page.evaluate("tokens => localStorage.setItem('orfeas-history:max', JSON.stringify(tokens))", [group, token])
    page.evaluate("token => sessionStorage.setItem('orfeas-job:max', token)", token)
    visit.reload()
    page.wait_for_selector("#generate")
    looked = page.request.post(f"{guarded}jobs/look", data={"tokens": [group, token]}).json()
    assert looked == {group: None, token: None}
    assert page.request.get(f"{guarded}jobs/{token}").json() == {"state": "unknown"}
    for method, path in (("delete", f"jobs/{token}"), ("delete", f"groups/{group}"), ("post", f"groups/{group}/stop")):
        assert getattr(page.request, method)(guarded + path).status == 404, path
    assert page.request.get(f"{guarded}groups/{group}/models.zip").status == 404
    page.evaluate("token => window.orfeas.history.restore(token, 'open')", token)
    page.get_by_text("This job is no longer known here").first.wait_for()
    page.evaluate("result => window.orfeas.actions.again({dataset: {result}})", result)
    page.get_by_text("This result is no longer there").first.wait_for()
    expect(page.locator(".history-card, .result[data-result], #picture .image-frame img")).to_have_count(0)

    log_out(visit)
    log_in(page, "ada")
    page.wait_for_selector("#history-list > .history-card img")
    expect(page.locator(".history-card")).to_have_count(3)
