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
