"""axe-core, the rules that browsers' own audits use, finds nothing serious in any state of the page."""

from __future__ import annotations

import shutil
import subprocess

import pytest

VERSION = "4.14.1"
COUNT = """
axe.run(document, {resultTypes: ["violations"]}).then(result => result.violations
  .filter(one => ["serious", "critical"].includes(one.impact))
  .map(one => `${one.id}: ${one.help}: ${one.nodes[0].html.slice(0, 200)}`))
"""


@pytest.fixture(scope="module")
def axe(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("axe")
    if not shutil.which("npm"):
        pytest.skip("npm is not installed: axe-core cannot be fetched, accessibility is not tested")
    (folder / "package.json").write_text('{"private": true}')
    install = ["npm", "install", "--no-audit", "--no-fund", "--prefer-offline", f"axe-core@{VERSION}"]
    done = subprocess.run(install, cwd=folder, capture_output=True, text=True, timeout=120)
    if done.returncode:
        pytest.skip(f"npm could not install axe-core: {done.stderr[-300:]}")
    return (folder / "node_modules" / "axe-core" / "axe.min.js").read_text(encoding="utf-8")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_serious_issue_in_any_state(visit, axe, engine, photo, pace, scheme):
    visit = visit(color_scheme=scheme)
    visit.page.wait_for_timeout(500)
    visit.page.evaluate(axe)

    def issues():
        return visit.page.evaluate(COUNT)

    assert issues() == [], "empty"
    visit.generate()
    visit.wait_for_state("told")
    assert issues() == [], "without a picture"
    visit.page.evaluate("document.querySelector('#generate').click()")  # a script's press is sent all the same
    visit.wait_for_state("failed")
    assert issues() == [], "failed"
    visit.choose(photo)
    assert issues() == [], "with a picture"
    visit.generate()
    visit.wait_for_state("running")
    assert issues() == [], "running"
    pace.release(50)
    visit.wait_for_state("done")
    visit.wait_for_canvas()
    assert issues() == [], "done"
    visit.page.get_by_role("link", name="Docs", exact=True).click()
    visit.page.wait_for_selector("#docs-title")
    assert issues() == [], "docs"


FOCUSED = """() => {
  const at = document.activeElement;
  const part = at.closest("#nav, #source, #stage, #options, #right, #about, footer");
  const ring = [at, at.closest("label")].some(one => one && getComputedStyle(one).outlineStyle !== "none");
  return [part?.id ?? "", at.id || at.getAttribute("aria-label") || at.textContent.trim(), ring];
}"""


def test_a_whole_job_by_keyboard(visit):
    visit = visit()
    page = visit.page
    page.wait_for_selector("#examples .gallery-item[aria-label]")
    page.keyboard.press("Tab")
    assert page.evaluate(FOCUSED)[1] == "Skip to the studio"
    assert page.evaluate("getComputedStyle(document.activeElement).opacity") == "1", "it shows when it has the focus"
    parts = []
    for _ in range(60):
        page.keyboard.press("Tab")
        part, name, ring = page.evaluate(FOCUSED)
        assert ring, f"{name} shows that it has the focus"
        parts.append(part)
        if name == "Example: mug":
            page.keyboard.press("Enter")
            page.wait_for_selector("#cutout-view img", timeout=30_000)
        if name == "generate":
            break
    assert list(dict.fromkeys(parts)) == ["nav", "source", "stage", "options"], "the order in which one works"
    page.keyboard.press("Enter")
    visit.wait_for_state("done")
    visit.wait_for_canvas()
    page.locator("a.download.first").focus()
    with page.expect_download():
        page.keyboard.press("Enter")
