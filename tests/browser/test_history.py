"""The list of this browser's results: found again, opened as they were, deleted, several at once, compared."""

from __future__ import annotations

import io
import json
import re
import zipfile

import cv2
import numpy as np
import pytest
import trimesh
from playwright.sync_api import expect

from orfeas.index import StoredJob
from orfeas.library import LOST, Library
from orfeas.request import GenerationRequest
from orfeas.settings import Settings
from orfeas.web.serve import start
from tests.browser.test_accessibility import COUNT, axe  # noqa: F401 (a fixture)
from tests.browser.test_page import PHONE, share_drawn
from tests.conftest import PacedEngine, open_studio
from tests.web.conftest import free_port, wait_until, write_photo

CARD = "#history-list > .history-card"
GROUP = "#history-list > .history-group"
CAMERAS = """Array.from(document.querySelectorAll(".compare-view canvas"), (canvas) => {
  const { alpha, beta, radius } = window.orfeas.sceneOf(canvas).activeCamera;
  return [alpha, beta, radius];
})"""


def remembered(page) -> list[str]:
    return page.evaluate("JSON.parse(localStorage.getItem('orfeas-history') || '[]')")


def fetch(page, address: str) -> bytes:
    answer = page.request.get(address)
    assert answer.ok, address
    return answer.body()


def test_a_result_is_listed_opened_as_it_was_downloaded_and_deleted(visit, server, photo, tmp_path, url):
    visit_ = visit()
    page = visit_.page
    expect(page.locator("#history-empty")).to_be_visible()
    visit_.choose(photo)
    page.get_by_text("Draft").click()
    page.fill("#size input", "42")
    page.get_by_text("+ include").click()
    box = page.locator("#cutout-view img").bounding_box()
    page.mouse.click(box["x"] + box["width"] * 0.08, box["y"] + box["height"] * 0.5)
    page.wait_for_function("document.querySelector('#explanation')?.textContent.includes('1 correction')")
    visit_.generate()
    visit_.wait_for_state("done")
    page.wait_for_selector(f"{CARD}[data-state=done] img")
    (token,) = remembered(page)
    made = server.jobs.get(token)
    expect(page.locator(CARD)).to_contain_text("42 mm · draft · STL", use_inner_text=True)
    expect(page.locator(f"{CARD} time")).to_have_text("just now", use_inner_text=True)
    page.evaluate("now => { Date.now = () => now + 180000; }", made.created * 1000)
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    expect(page.locator(f"{CARD} time")).to_have_text("3 min ago", use_inner_text=True)

    visit_.reload()
    page.wait_for_selector(f"{CARD}[data-state=done] img")
    page.wait_for_function("document.querySelector('.history-thumb img')?.naturalWidth > 100")
    page.wait_for_selector(".result[data-result]")
    page.wait_for_selector("#picture img")  # the reload brought all of it back
    page.wait_for_function("document.querySelector('#size input')?.value === '42'")
    page.locator("#switch-show [data-value=cutout]").click()
    page.wait_for_function("document.querySelector('#explanation')?.textContent.includes('1 correction')")
    visit_.choose(write_photo(tmp_path / "other.jpg", (200, 80, 40)))
    page.get_by_text("High", exact=False).first.click()
    page.fill("#size input", "99")
    page.locator(CARD).get_by_role("button", name="Open: red-egg").click()
    page.wait_for_function("document.querySelector('#size input')?.value === '42'")
    page.wait_for_function("document.querySelector('#picture img')?.src.endsWith('/red-egg.png')")
    page.wait_for_function("document.querySelector('#explanation')?.textContent.includes('1 correction')")
    expect(page.locator("#quality .selected")).to_have_text(re.compile(r"^Draft"), use_inner_text=True)
    visit_.wait_for_state("done")
    page.wait_for_function(f"document.querySelector('.result')?.dataset.result === '{made.result.id}'")
    visit_.wait_for_canvas()
    page.wait_for_function("document.documentElement.dataset.show === 'model'")
    visit_.generate()  # the same once more
    page.wait_for_selector(f"{CARD}[data-state=done]:nth-child(2)")
    page.wait_for_selector(f"{CARD}[data-state=done]:nth-child(1)")
    visit_.wait_for_state("done")
    again = server.jobs.get(remembered(page)[0])
    assert again.options == made.options
    assert again.result.files["model"].read_bytes() == made.result.files["model"].read_bytes()

    first = page.locator(f'{CARD}[data-token="{token}"]')
    first.locator("summary").click()
    addresses = {a.inner_text(): a.get_attribute("href") for a in first.locator("details a").all()}
    assert next(iter(addresses)) == "STL"
    mesh = trimesh.load(io.BytesIO(fetch(page, f"{url}/{addresses['OBJ']}")), file_type="obj")
    assert max(mesh.extents) == pytest.approx(42, abs=0.01)

    expect(visit().page.locator(CARD), "nobody else sees it").to_have_count(0)

    delete = first.get_by_role("button", name="Delete: red-egg")
    delete.focus()
    page.keyboard.press("Enter")
    page.wait_for_selector("[data-sure]")
    assert server.jobs.get(token), "one press deletes nothing"
    page.keyboard.press("Enter")
    page.wait_for_function(f"!localStorage.getItem('orfeas-history').includes('{token}')")
    expect(first).to_have_count(0)
    assert not made.result.folder.exists()
    assert page.request.get(f"{url}/jobs/{token}").json()["state"] == "unknown"
    expect(page.locator(".result[data-result]"), "another one is shown, which is still there").to_be_visible()

    page.get_by_role("button", name="Delete: red-egg").click()
    page.get_by_role("button", name="Delete: red-egg").click()
    page.wait_for_selector(".result.idle")
    expect(page.locator("a.download")).to_have_count(0)
    expect(page.locator(".when-empty")).to_be_visible()
    expect(page.locator("#history-empty")).to_be_visible()
    visit_.generate()
    visit_.wait_for_state("done")
    visit_.wait_for_canvas()
    assert share_drawn(visit_.see("#stage")) > 0.05, "the viewer goes on"
    page.wait_for_selector(f"{CARD}[data-state=done]")  # the list knows that it is over

    assert page.request.delete(f"{url}/jobs/{remembered(page)[0]}").ok  # as from another tab
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    page.wait_for_selector(".when-gone", state="visible")
    page.wait_for_selector(".result.idle")
    expect(page.locator("#generate")).to_be_visible()


def test_several_pictures_with_a_bad_one_survive_a_reload_and_end_in_one_zip(visit, engine, pace, tmp_path, axe):  # noqa: F811
    pictures = [write_photo(tmp_path / f"egg {k}.jpg", (60, 70, 60 * k)) for k in range(4)]
    pictures[1].write_bytes(cv2.imencode(".jpg", np.zeros((20, 20, 3), np.uint8))[1].tobytes())  # the server refuses it
    pictures[3].write_text("no picture")  # and this the page knows
    visit = visit(**PHONE)
    page = visit.page
    page.evaluate(axe)
    page.set_input_files("#several-input", [str(path) for path in pictures])
    page.wait_for_selector("#several li:nth-child(4) em")
    expect(page.locator("#several em")).to_have_text(
        "It cannot be read as a picture: choose a JPEG, PNG or WebP.", use_inner_text=True
    )
    page.get_by_text("Draft").click()
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    assert page.evaluate(COUNT) == []
    page.get_by_role("button", name="Make 3 models").click()
    wait_until(lambda: engine.running, "the first of them runs")
    page.wait_for_selector(f"{GROUP} progress")
    page.wait_for_function("document.querySelector('.history-group')?.innerText.includes('2 waiting')")
    expect(page.locator("#several-refused")).to_have_text(
        re.compile(r"^Left out: egg 3\.jpg\. It cannot be read"), use_inner_text=True
    )
    expect(page.locator("#several")).not_to_be_visible()
    assert page.evaluate(COUNT) == []
    page.reload()
    visit.errors.clear()  # Gradio's client complains of the streams that the old page left
    page.wait_for_selector(f"{GROUP} progress")
    pace.release(50)
    page.wait_for_selector(f"{GROUP}[data-state=over]", timeout=60_000)
    page.wait_for_function("document.querySelector('.history-group')?.innerText.includes('2 done, 1 failed')")
    assert page.locator(f"{GROUP} .history-error").inner_text().endswith(".")
    expect(page.locator('[data-history="again"]'), "this picture would fail again").to_have_count(0)
    page.evaluate(axe)
    assert page.evaluate(COUNT) == []
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    with page.expect_download() as download:
        page.click(f"{GROUP} a.strong")
    with zipfile.ZipFile(download.value.path()) as archive:
        names = archive.namelist()
        manifest = json.loads(archive.read("manifest.json"))
    assert names == ["egg-0_100mm.stl", "egg-2_100mm.stl", "manifest.json"]
    assert [failed["picture"] for failed in manifest["failed"]] == ["egg 1.jpg"]
    assert manifest["made"][0]["request"]["quality"] == "draft"


def compare_two(page) -> None:
    first, second = page.locator('#history-list [data-history="compare"]').all()[:2]
    first.click()
    page.get_by_text("Choose a second one to compare it with.").and_(page.locator(".compare-next")).wait_for()
    expect(second).to_have_text("Compare with this", use_inner_text=True)
    second.click()
    page.wait_for_selector("#compare[open] td")


def drag(page, part) -> None:
    """A hundred pixels to the right."""
    box = part.bounding_box()
    page.mouse.move(box["x"] + 20, box["y"] + 60)
    page.mouse.down()
    page.mouse.move(box["x"] + 120, box["y"] + 60, steps=4)
    page.mouse.up()


def test_the_best_of_several_seeds_is_shown_and_two_are_compared(
    visit,
    browser_without_webgl,
    engine,
    pace,
    photo,
    axe,  # noqa: F811
):
    open_page, visit = visit, visit(color_scheme="dark")
    page = visit.page
    page.get_by_role("button", name="Best of 4").click()
    page.wait_for_function("document.querySelector('#best-of-error')?.innerText.startsWith('No picture was given')")
    visit.choose(photo)
    page.get_by_text("Draft").click()
    page.get_by_text("More options").click()
    seed = page.locator("#seed textarea, #seed input")
    seed.fill("abc")
    visit.generate()
    visit.wait_for_state("failed")
    seed.fill("")
    page.select_option("#best-of-count", "3")
    page.route("**/gradio_api/run/**", lambda route: route.fulfill(status=500, json={"error": None}))
    page.get_by_role("button", name="Best of 3").click()
    expect(page.locator("#best-of-error")).to_have_text("The server did not take it: try again in a moment.")
    page.unroute("**/gradio_api/run/**")
    visit.errors[:] = [error for error in visit.errors if "status of 500" not in error]
    page.get_by_role("button", name="Best of 3").click()
    wait_until(lambda: engine.running, "the first of them runs")
    visit.wait_for_state("empty")  # what was refused before is not what is being done
    page.wait_for_selector(f"{GROUP} progress")
    pace.release(100)
    page.wait_for_selector(f"{GROUP}[data-state=over]", timeout=60_000)
    visit.wait_for_state("done")
    best = page.locator(f"{GROUP} .history-card").first
    expect(best).to_contain_text("Best", use_inner_text=True)
    seed = best.inner_text().split("seed\u00a0")[1].split()[0]
    page.wait_for_function(f"document.querySelector('.result dl code')?.innerText === '{seed}'")
    page.wait_for_function("document.documentElement.dataset.show === 'model'")
    expect(page.get_by_role("button", name="Model", exact=True)).to_have_attribute("aria-pressed", "true")
    expect(page.get_by_role("button", name="Cutout", exact=True)).to_have_attribute("aria-pressed", "false")
    expect(page.locator("#history-count")).to_have_text("3 models in this browser", use_inner_text=True)
    note = page.locator(f"{GROUP} > p").bounding_box()
    assert 8 <= page.locator(f"{GROUP} > ul").bounding_box()["y"] - note["y"] - note["height"] <= 20

    compare_two(page)
    page.wait_for_function("document.querySelectorAll('.compare-view.live').length === 2", timeout=60_000)
    page.evaluate(axe)
    assert page.evaluate(COUNT) == []
    for image in (visit.see(".compare-view >> nth=0"), visit.see(".compare-view >> nth=1")):
        assert share_drawn(image) > 0.05, "both are drawn"
    start = page.evaluate(CAMERAS)
    assert start[0] == start[1]
    drag(page, page.locator(".compare-view canvas").first)
    page.wait_for_function(f"start => Math.abs({CAMERAS}[1][0] - start) > 0.1", arg=start[1][0])
    page.wait_for_function("Number(document.querySelector('#compare-turn').value) > 0")
    page.locator(".compare-view canvas").last.focus()
    page.keyboard.down("ArrowUp")  # until it was seen: a key that is up again before the next frame does nothing
    page.wait_for_function(f"start => Math.abs({CAMERAS}[0][1] - start) > 1e-3", arg=start[0][1])
    page.keyboard.up("ArrowUp")
    moved, before = page.evaluate(CAMERAS), None
    while moved != before:  # the viewers come to rest
        page.wait_for_timeout(800)
        moved, before = page.evaluate(CAMERAS), moved
    assert moved[0] == pytest.approx(moved[1]), "the first follows the second as well"
    page.locator("#compare-turn").press("ArrowRight")
    turned = page.evaluate(CAMERAS)
    assert turned[0] == pytest.approx(turned[1])
    assert abs(turned[0][0] - moved[0][0]) > 0.01
    differing = page.locator("#compare tr.differs th").all_inner_texts()
    assert "Seed" in differing
    assert "Quality" not in differing
    page.keyboard.press("Escape")
    pressed = page.locator('[data-history="compare"][aria-pressed="true"]')
    pressed.first.wait_for(state="detached")  # a dialog tells of its end a moment later
    expect(page.locator("#compare canvas")).to_have_count(0)

    stills = open_page(with_browser=browser_without_webgl)
    plain = stills.page
    plain.evaluate("tokens => localStorage.setItem('orfeas-history', JSON.stringify(tokens))", remembered(page))
    plain.reload()
    stills.errors.clear()  # Gradio's client complains of the streams that the old page left
    plain.wait_for_selector(f"{GROUP}[data-state=over]")
    compare_two(plain)
    places = "Array.from(document.querySelectorAll('.compare-view'), view => view.style.backgroundPosition)"
    start = plain.evaluate(places)
    assert start[0] == start[1]
    plain.locator("#compare-turn").press("ArrowRight")
    turned = plain.evaluate(places)
    assert turned[0] == turned[1] != start[0]
    drag(plain, plain.locator(".compare-view").first)
    dragged = plain.evaluate(places)
    assert dragged[0] == dragged[1] != turned[0]
    expect(plain.locator("#compare-hint")).to_have_text("Drag to turn both.", use_inner_text=True)

    for left in (2, 1):  # the best goes first, and it is the one that is shown
        for _ in range(2):
            page.locator(f"{GROUP} .history-card").first.locator('[data-history="delete"]').click()
        page.wait_for_function(f"document.querySelectorAll('.history-group .history-card').length === {left}")
        page.wait_for_selector(".result.idle")
        expect(page.locator("a.download")).to_have_count(0)
        if left == 2:
            ranks = page.locator(f"{GROUP} .history-rank").all_inner_texts()
            assert [rank.split(" · ")[0] for rank in ranks] == ["Best", "No. 2"], "of those that are left"
    expect(page.locator(".when-empty")).to_be_visible()
    text = page.inner_text(GROUP)
    assert "What is left of several seeds" in text
    assert "Best" not in text
    assert "No. " not in text
    assert "order" not in text


def test_after_a_restart_results_are_there_and_what_was_lost_or_has_expired_says_so(visit, tmp_path, photo):
    folder = tmp_path / "data"
    library = Library(folder)
    studio = open_studio(Settings(_env_file=None, data_dir=folder), PacedEngine(), library)
    tokens = {name: digit * 32 for name, digit in zip(("made", "expired", "lost", "gone"), "abcd", strict=True)}
    results = {}
    for name in ("made", "expired"):
        request = GenerationRequest(photo, quality="draft", size_mm=33, name=name)
        results[name] = list(studio.run(request, owner=tokens[name]))[-1].id
    library.remove(results["expired"])
    upload = folder / "gradio" / "upload.jpg"
    upload.parent.mkdir()
    upload.write_bytes(photo.read_bytes())
    for name, picture in (("lost", upload), ("gone", folder / "nothing.jpg")):
        options = GenerationRequest(photo, quality="draft", size_mm=44, seed=5, name=name).options()
        library.index.put_job(StoredJob(tokens[name], "dead", "running", name, 1.0, options, picture=str(picture)))
    assert len(library.clean()) == 2
    settings = Settings(_env_file=None, engine="sketch", data_dir=folder, port=free_port(), host="127.0.0.1")
    server = start(studio, settings)
    try:
        page = (visit := visit(server.url)).page
        unknown = "e" * 32
        remember = "tokens => localStorage.setItem('orfeas-history', JSON.stringify(tokens))"
        page.evaluate(remember, [*tokens.values(), unknown])
        visit.reload()
        cards = {name: page.locator(f'{CARD}[data-token="{token}"]') for name, token in tokens.items()}
        cards["made"].locator("img").wait_for()
        expect(cards["expired"]).to_contain_text("expired", use_inner_text=True)
        expect(cards["lost"]).to_contain_text(LOST, use_inner_text=True)
        cards["gone"].get_by_role("button", name="Start again: gone").click()
        page.get_by_text("The picture of this job is no longer here: choose it again.").wait_for()
        page.wait_for_function("document.querySelector('#size input').value === '44'")
        cards["lost"].get_by_role("button", name="Start again: lost").click()
        visit.wait_for_state("done")
        page.wait_for_function("document.querySelector('.result dl code')?.innerText === '5'")
        cards["lost"].wait_for(state="detached")
        cards["expired"].get_by_role("button", name="Remove").click()
        page.keyboard.press("Enter")
        cards["expired"].wait_for(state="detached")
        cards["made"].get_by_role("button", name="Open: made").first.click()
        page.wait_for_function(f"document.querySelector('.result')?.dataset.result === '{results['made']}'")
        # the options come by an event of their own
        page.wait_for_function("document.querySelector('#size input').value === '33'")
        assert remembered(page)[-2:] == [tokens["gone"], unknown], "what the server does not know now is kept"
        page.close()  # before the server that it may be asking for something
    finally:
        server.close()
