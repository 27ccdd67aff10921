"""The page as a proxy shows it: TLS, HTTP/2, and a path of its own."""

# ruff: noqa: F401, F811 (pytest finds fixtures by the names imported here)

from __future__ import annotations

from tests.deploy.conftest import below_a_path


def test_a_model_is_made_below_a_path(visit, below_a_path, photo):
    """Everything the page asks for lies below the path; nothing is missing, and the model is drawn."""
    asked = []
    visit = visit(f"{below_a_path.url}/", ignore_https_errors=True)
    visit.page.on("response", lambda answer: asked.append((answer.status, answer.url)))
    visit.choose(photo)
    visit.generate()
    visit.wait_for_state("done")
    visit.wait_for_canvas()
    assert visit.page.evaluate("performance.getEntriesByType('navigation')[0].nextHopProtocol") == "h2"
    wrong = [(status, url) for status, url in asked if status >= 400 or not url.startswith((below_a_path.url, "blob:"))]
    assert asked
    assert wrong == []
    with visit.page.expect_download() as download:
        visit.page.locator("a.download.first").click()
    assert download.value.url.startswith(below_a_path.url)
    visit.reload()
    visit.page.wait_for_selector("#generate")
