"""The docs within the page: what they show is true, and the programs in them run as they stand."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys

import pytest
from playwright.sync_api import expect

from orfeas.request import GenerationRequest
from orfeas.web.api import MEANINGS
from orfeas.web.docs import licence
from tests import npm
from tests.test_readme import ROOT


@pytest.fixture(scope="module")
def programs() -> dict[str, str]:
    """The snippets as the page showed them; filled in by the first test."""
    return {}


def run(command: list[str], folder, **options) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=240, check=False, **options)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_docs_show_every_setting_every_endpoint_and_the_licence(visit, url, engine, programs):
    visit = visit()
    page = visit.page
    page.goto("about:blank")
    page.goto(f"{url}/#docs-api")
    visit.errors.clear()  # Gradio's client complains of the streams that the first page left
    page.wait_for_selector("#docs-title")
    assert page.locator("#docs-api").bounding_box()["y"] < 300, "the address leads to its part"
    expect(page.locator('#nav a[data-page="api"]')).to_have_attribute("aria-current", "page")
    text = page.inner_text("#docs")
    for name in set(GenerationRequest.__dataclass_fields__) - {"taps", "name", "picture"}:
        assert MEANINGS[name] in text, name
    for endpoint in page.evaluate("fetch('gradio_api/info').then(info => info.json())")["named_endpoints"]:
        assert endpoint in text
    assert licence(engine.name) in text
    for snippet in page.locator("code[data-snippet]").all():
        programs[snippet.get_attribute("data-snippet")] = snippet.inner_text()
    assert len(programs) == 4
    page.set_viewport_size({"width": 390, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") == 390, "no sideways scroll on a phone"
    clipped = "Array.from(document.querySelectorAll('.docs .table'), one => one.scrollWidth - one.clientWidth)"
    assert max(page.evaluate(clipped)) <= 0, "no table is cut off there"
    for snippet in page.locator(".snippet").all():
        button = snippet.get_by_role("button", name="Copy").bounding_box()
        assert snippet.locator("code").bounding_box()["y"] >= button["y"] + button["height"]
    visit.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.evaluate("""() => new MutationObserver(() => {
        window.said ??= document.querySelector(".snippet button").textContent;
    }).observe(document.querySelector(".snippet button"), {childList: true})""")
    page.locator(".snippet").first.get_by_role("button", name="Copy").click()
    page.wait_for_function("window.said === 'Copied'")  # the button soon says what it said before
    assert page.evaluate("navigator.clipboard.readText()") == programs["Python"]


@pytest.mark.parametrize("language", ["Python", "curl", "JavaScript", "Command line"])
def test_the_programs_run_as_they_stand(programs, photo, tmp_path, language):
    if not programs:
        pytest.skip("the page was not read: run the test before this one too")
    program = programs[language]
    shutil.copy(photo, tmp_path / "mug.jpg")
    if language == "Python":
        said = run([sys.executable, "-c", program], tmp_path)
        assert "mug_100mm.stl Ready" in said
    elif language == "curl":
        if not shutil.which("curl"):
            pytest.skip("curl is not installed")
        said = run(["sh", "-c", program], tmp_path)
        assert "event: complete" in said
        assert "mug_100mm.stl" in said
    elif language == "JavaScript":
        npm.install(tmp_path, "@gradio/client@2.7.0")
        (tmp_path / "mug.mjs").write_text(program)
        assert "100mm.stl Ready" in run(["node", "mug.mjs"], tmp_path)
    else:
        python, *words = shlex.split(program)
        assert python == ".venv/bin/python"
        environment = {"PYTHONPATH": str(ROOT), "ORFEAS_ENGINE": "sketch", "ORFEAS_DATA_DIR": str(tmp_path)}
        run([sys.executable, *words], tmp_path, env={"PATH": "/usr/bin:/bin", **environment})
        assert (tmp_path / "mug.stl").stat().st_size > 1000
