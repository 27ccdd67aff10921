"""The studio of the page: nothing jumps, the views of the model are real, and a lost connection loses no result."""

from __future__ import annotations

import base64
import re
import time
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from playwright.sync_api import expect

from orfeas.web import panels
from tests.browser.test_page import PHONE, share_drawn
from tests.web.conftest import wait_until, write_photo

PARTS = ("#nav", "#header", "#source", "#stage", "#options", "#right")
PLACES = """parts => parts.map(part => {
  const box = document.querySelector(part).getBoundingClientRect();
  return [part, box.left, box.top, box.width].map(value => typeof value === "number" ? Math.round(value) : value);
})"""
SHIFT = """new Promise(resolve => {
  const told = ({node, previousRect: was, currentRect: is}) =>
    `${node?.id || node?.className || node?.nodeName}: ${JSON.stringify(was)} to ${JSON.stringify(is)}`;
  const watch = new PerformanceObserver(list => resolve(list.getEntries().map(
    shift => ({value: shift.value, after: shift.startTime, moved: shift.sources.map(told)}))));
  watch.observe({type: "layout-shift", buffered: true});
  setTimeout(() => resolve([]), 2000);
})"""
PIXELS = """view => new Promise(resolve => {
  document.querySelector(`#switch-view [data-value="${view}"]`).click();
  const canvas = document.querySelector("#viewer canvas");
  const scene = window.orfeas.sceneOf(canvas);
  const draw = () => {
    if (scene.isReady()) scene.onAfterRenderObservable.addOnce(() => resolve(canvas.toDataURL()));
    else requestAnimationFrame(draw);
    scene.render();
  };
  setTimeout(draw, 300);
})"""
DRAWN_NEXT = """new Promise(resolve => {
  const canvas = document.querySelector("#viewer canvas");
  const scene = window.orfeas.sceneOf(canvas);
  scene.onAfterRenderObservable.addOnce(() => resolve(canvas.toDataURL()));
  scene.render();
})"""
JOB = re.compile("/jobs/[0-9a-f]{32}$")
LIT_WHEN_SHOWN = """() => {
  new MutationObserver(() => {
    if (document.documentElement.dataset.canvas !== "yes" || window.litWhenShown !== undefined) return;
    const scene = window.orfeas.sceneOf(document.querySelector("#viewer canvas"));
    window.litWhenShown = Boolean(scene.environmentTexture?.isReady() && scene.isReady());
  }).observe(document.documentElement, {attributeFilter: ["data-canvas"]});
}"""
CAMERA = """() => {
  const camera = window.orfeas.sceneOf(document.querySelector("#viewer canvas")).activeCamera;
  return [camera.alpha, camera.beta, camera.radius];
}"""


def places(visit) -> list:
    return visit.page.evaluate(PLACES, PARTS)


def view(visit, name: str) -> np.ndarray:
    """The canvas as it is drawn in that view: (h, w, 4) uint8."""
    png = base64.b64decode(visit.page.evaluate(PIXELS, name).split(",")[1])
    return cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_UNCHANGED)


def again_drawn(visit) -> np.ndarray:
    """The canvas once it has been drawn anew, in the view that it is in: (h, w, 4) uint8."""
    png = base64.b64decode(visit.page.evaluate(DRAWN_NEXT).split(",")[1])
    return cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_UNCHANGED)


def visible(image: np.ndarray) -> np.ndarray:
    """The colours of the pixels that are drawn: (n, 3)."""
    return image[image[..., 3] > 100][:, :3]


def test_nothing_jumps_while_a_job_runs_and_the_views_are_real(visit, engine, photo, pace):
    visit = visit()
    page = visit.page
    page.wait_for_selector("#examples img")
    empty = places(visit)
    shifts = page.evaluate(SHIFT)
    assert sum(shift["value"] for shift in shifts) < 0.1, f"nor while the page is loaded: {shifts}"
    foot = page.locator("#act").bounding_box()
    assert foot["y"] + foot["height"] <= 900, "Generate is in sight, without scrolling"
    seeds = page.locator("#best-of").bounding_box()
    assert seeds["y"] + seeds["height"] <= foot["y"], "and covers no option"
    visit.choose(photo)
    assert places(visit) == empty, "with a picture"
    button = page.locator("#generate").bounding_box()
    visit.generate()
    wait_until(lambda: engine.running, "the job runs")
    visit.wait_for_state("running")
    assert places(visit) == empty, "running"
    assert page.locator("#stop").bounding_box() == button, "Stop is where Generate was"
    pace.release(50)
    visit.wait_for_state("done")
    visit.wait_for_canvas()
    assert places(visit) == empty, "done"

    solid, wireframe, normals = (view(visit, name) for name in ("solid", "wireframe", "normals"))
    for image in (solid, normals):
        assert (image[..., 3] > 200).mean() > 0.05, "a model is drawn"
    assert (wireframe[..., 3] > 60).sum() < 0.97 * (solid[..., 3] > 60).sum(), "lines leave gaps"
    inside = (solid[..., 3] > 200) & (normals[..., 3] > 200)
    assert np.abs(solid[inside].astype(int) - normals[inside])[:, :3].max(axis=1).mean() > 30
    # an ellipsoid seen from the front and the right: its upper half faces up (green), its right half right (red)
    rows, columns = np.nonzero(inside)
    green, red = normals[rows, columns, 1].astype(int), normals[rows, columns, 2].astype(int)
    middle = np.median(rows)
    assert green[rows < middle].mean() > green[rows > middle].mean() + 30
    assert red[columns > np.median(columns)].mean() > red[columns < np.median(columns)].mean() + 30
    again = view(visit, "solid")
    assert np.abs(again.astype(int) - solid).max() <= 2, "solid is as it was"

    start = page.evaluate(CAMERA)
    assert start == pytest.approx([np.radians(panels.CAMERA[0]), np.radians(panels.CAMERA[1]), panels.CAMERA[2]])
    box = page.locator("#viewer canvas").bounding_box()
    page.mouse.move(box["x"] + 250, box["y"] + 300)
    page.mouse.down()
    page.mouse.move(box["x"] + 400, box["y"] + 340, steps=5)
    page.mouse.up()
    away = f"start => Math.abs(({CAMERA})()[0] - start) > 0.005"  # the viewer moves at its next frame, however slow
    page.wait_for_function(away, arg=start[0])
    page.get_by_role("button", name="Reset the view").click()
    page.wait_for_timeout(300)
    assert page.evaluate(CAMERA) == pytest.approx(start, abs=0.01)
    page.focus("#viewer canvas")
    page.keyboard.down("ArrowRight")
    page.wait_for_function(away, arg=start[0])
    page.keyboard.up("ArrowRight")

    page.get_by_role("button", name="Full screen").click()
    page.wait_for_function("document.fullscreenElement?.id === 'stage'")
    page.wait_for_function("document.querySelector('#viewer canvas')?.clientHeight === innerHeight")
    # without waiting for the button to stand still, which takes frames: these are drawn in software, as large as can be
    page.get_by_role("button", name="Full screen").click(force=True)
    page.wait_for_function("!document.fullscreenElement")

    # light and dark: the ground changes, the model stays, and lines stand out from either ground
    light = visit.see("#stage")
    view(visit, "wireframe")
    page.get_by_role("button", name="Dark colours").click()
    page.wait_for_function("document.body.classList.contains('dark')")
    lines = np.median(visible(wireframe), axis=0), np.median(visible(again_drawn(visit)), axis=0)
    assert lines[1].mean() > lines[0].mean() + 60, "dark on light, light on dark"
    view(visit, "solid")
    dark = visit.see("#stage")
    assert light[-40:, 40:80].mean() > 200
    assert dark[-40:, 40:80].mean() < 80
    assert share_drawn(dark) > 0.05
    page.set_viewport_size({"width": 768, "height": 1024})
    page.wait_for_function("(canvas => canvas.clientWidth < 420)(document.querySelector('#viewer canvas'))")
    tall = view(visit, "solid")[..., 3] > 100
    assert tall.mean() > 0.05
    assert not tall[:, [0, -1]].any(), "nothing is cut off where the stage is taller than wide"
    page.reload()
    visit.errors.clear()  # Gradio's client complains of the streams that the old page left
    page.wait_for_selector("#generate")
    assert page.evaluate("document.body.classList.contains('dark')"), "the choice is remembered"


def test_parts_that_come_in_another_order_move_nothing(visit, photo, pace):
    pace.release(50)
    late = []

    def prepare(page):
        page.route(re.compile(r"/assets/HTML-[^/]*\.js$"), lambda route: late.append(route))
        page.add_init_script("performance.setResourceTimingBufferSize(1)")  # as full as after minutes of a job

    visit = visit(ready="body", prepare=prepare)
    page = visit.page
    page.wait_for_selector("#stage", state="attached")
    page.wait_for_timeout(500)  # what is drawn too early is drawn by now
    (part,) = late
    part.continue_()
    page.wait_for_selector("#examples img")
    page.wait_for_selector("#generate")
    shifts = page.evaluate(SHIFT)
    assert sum(shift["value"] for shift in shifts) < 0.05, shifts
    visit.choose(photo)
    visit.generate()
    visit.wait_for_state("done")
    visit.wait_for_canvas()
    assert page.evaluate("performance.getEntriesByType('resource').length") <= 1
    expect(page.locator("#switch-view button").first).to_be_enabled()


def test_the_same_once_more_the_time_it_takes_and_the_docs_meanwhile(visit, server, engine, photo, pace, tmp_path):
    visit = visit()
    page = visit.page
    visit.choose(photo)
    page.locator("#quality").get_by_text("Draft").click()
    pace.release(50)
    visit.generate()
    visit.wait_for_state("done")
    first = page.get_attribute(".result[data-result]", "data-result")
    seed = page.inner_text(".result dl code")

    # another seed, of the same picture, though another one is chosen now
    for _ in range(50):
        pace.acquire(blocking=False)
    visit.choose(write_photo(tmp_path / "blue.jpg", (200, 70, 60)))
    assert page.evaluate("document.documentElement.dataset.show") == "cutout", "a new picture shows its cutout"
    page.get_by_role("button", name="Another seed").click()
    wait_until(lambda: engine.running, "the job runs")
    visit.wait_for_state("running")
    page.wait_for_function("document.querySelector('#clock')?.textContent.includes('left, from the last')")
    held = page.get_by_role("button", name="High quality")
    expect(held).to_have_attribute("aria-disabled", "true")
    expect(held).to_have_attribute("title", "A job is running: wait until it is done, or stop it.")
    clock = page.inner_text("#clock")
    assert " s left, from the last" in clock
    assert "here" in clock
    assert page.title().endswith("% · ORFEAS")

    # the docs are read while it runs, and while its model arrives
    page.get_by_role("link", name="Docs", exact=True).click()
    page.wait_for_selector("#docs-title")
    expect(page.locator("#studio")).not_to_be_visible()
    expect(page.locator("#docs")).to_contain_text("Photos that make good models", use_inner_text=True)
    pace.release(50)
    page.wait_for_function("first => (document.querySelector('.result')?.dataset.result ?? first) !== first", arg=first)
    page.wait_for_timeout(300)
    page.get_by_role("link", name="Studio", exact=True).click()
    visit.wait_for_canvas()
    page.wait_for_timeout(300)
    assert share_drawn(visit.see("#stage")) > 0.05, "the model is there"
    expect(page.locator(".result h2")).to_have_text("red-egg", use_inner_text=True)
    assert page.inner_text(".result dl code") != seed
    second = page.get_attribute(".result[data-result]", "data-result")

    visit.wait_for_state("done")
    expect(page.get_by_role("button", name="High quality")).to_have_attribute("aria-disabled", "false")
    page.get_by_role("button", name="High quality").click()
    third = "second => (document.querySelector('.result')?.dataset.result ?? second) !== second"
    page.wait_for_function(third, arg=second)
    visit.wait_for_state("done")
    assert page.title() == "ORFEAS"
    report = page.inner_text(".result dl").splitlines()
    assert (
        report[report.index("Quality") + 1] == "high"
        if "Quality" in report
        else "high" in page.inner_text(".result dl")
    )


def test_a_lost_connection_loses_no_result(visit, server, engine, photo, pace, monkeypatch):
    now = time.monotonic()  # stands still: the page has just asked, however long it is cut off
    monkeypatch.setattr("orfeas.web.jobs.time", SimpleNamespace(monotonic=lambda: now))
    monkeypatch.setattr("orfeas.web.jobs.RELOAD_GRACE_SECONDS", 1)
    visit = visit(**PHONE)
    page = visit.page
    visit.choose(photo)
    visit.generate()
    wait_until(lambda: engine.running, "the job runs")
    visit.wait_for_state("running")
    visit.context.set_offline(True)
    page.wait_for_function("document.querySelector('#message')?.textContent.includes('connection is lost')")
    visit.context.set_offline(False)
    page.wait_for_function("!document.querySelector('#message').textContent.includes('connection is lost')")

    refused = []

    def refuse(route):  # a proxy or a limit answers for the server
        refused.append(route.request.url)
        route.fulfill(status=429 if len(refused) % 2 else 502, json={"error": "Too many requests came."})

    page.route(JOB, refuse)
    page.wait_for_function("document.querySelector('#message')?.textContent.includes('connection is lost')")
    assert page.evaluate("document.documentElement.dataset.job") == "running"
    page.unroute(JOB)
    page.wait_for_function("!document.querySelector('#message').textContent.includes('connection is lost')")
    page.route(JOB, lambda route: route.fulfill(status=401, json={"error": "Log in."}), times=1)
    with page.expect_navigation():
        pass  # to the login, where there is one
    visit.wait_for_state("running")
    pace.release(50)
    visit.wait_for_state("done")
    page.wait_for_selector("a.download.first", timeout=20_000)
    visit.wait_for_canvas()
    page.wait_for_timeout(300)
    assert share_drawn(visit.see("#stage")) > 0.05
    # the last two are Gradio's, of the page that was left while it waited
    expected = "ERR_INTERNET_DISCONNECTED|status of (401|429|502)|AbortError|Connection errored out"
    visit.errors[:] = [error for error in visit.errors if not re.search(expected, error)]


def test_a_slow_network_shows_the_model_all_the_same(visit, photo):
    visit = visit()
    page = visit.page
    visit.choose(photo)
    network = page.context.new_cdp_session(page)
    network.send("Network.enable")
    slow = {"offline": False, "latency": 300, "downloadThroughput": 400_000, "uploadThroughput": 100_000}
    network.send("Network.emulateNetworkConditions", slow)
    visit.generate()
    visit.wait_for_state("done")
    visit.wait_for_canvas()
    assert share_drawn(visit.see("#stage")) > 0.05
    network.detach()


def test_the_wireframe_of_a_fine_mesh_is_no_flat_patch(visit, engine, photo, monkeypatch):
    monkeypatch.setattr(engine, "rings", 110)
    visit = visit()
    visit.page.evaluate(LIT_WHEN_SHOWN)
    visit.choose(photo)
    visit.generate()
    visit.wait_for_state("done")
    visit.wait_for_canvas()
    assert visit.page.evaluate("window.litWhenShown"), "or it would be gone again while its light is prepared"
    solid, lines = (view(visit, name)[..., 3] for name in ("solid", "wireframe"))
    inside = solid > 200
    assert inside.any(), "it is there"
    assert (lines[inside] > 25).mean() > 0.5, "it has more lines than there are pixels"
    assert (lines[inside] > 230).mean() < 0.3, "and they are drawn so lightly that one sees them"


def test_a_picture_is_replaced_and_pasted(visit, photo, tmp_path):
    visit = visit()
    page = visit.page
    visit.choose(photo)
    first = page.get_attribute("#cutout-view img", "src")
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Replace picture").click()
    chooser.value.set_files(str(write_photo(tmp_path / "green.jpg", (70, 180, 80))))
    changed = "first => (document.querySelector('#cutout-view img')?.src ?? first) !== first"
    page.wait_for_function(changed, arg=first)
    second = page.get_attribute("#cutout-view img", "src")
    pasted = write_photo(tmp_path / "blue.jpg", (200, 70, 60)).read_bytes()
    page.evaluate(
        """bytes => {
          const data = new DataTransfer();
          data.items.add(new File([new Uint8Array(bytes)], "blue.jpg", {type: "image/jpeg"}));
          document.body.dispatchEvent(new ClipboardEvent("paste", {clipboardData: data, bubbles: true}));
        }""",
        list(pasted),
    )
    page.wait_for_function(changed, arg=second)
