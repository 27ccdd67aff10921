"""The page as people use it, in Chromium."""

from __future__ import annotations

import asyncio
import re
import threading

import cv2
import numpy as np
import pytest
import trimesh
from gradio.routes import file_upload_statuses
from playwright.sync_api import expect

from orfeas.errors import OrfeasError
from orfeas.library import Library
from orfeas.picture import MAX_BYTES
from orfeas.recipe import read_recipe
from orfeas.render.still import render_poster_and_turn
from orfeas.settings import Settings
from orfeas.studio import Studio
from orfeas.web import handlers
from orfeas.web.serve import start
from orfeas.web.ui import example_pictures
from tests.web.conftest import free_port, wait_until

PHONE = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True, "device_scale_factor": 2}


@pytest.fixture(scope="module")
def sketch(tmp_path_factory):
    """A server with the engine that everybody has."""
    from orfeas.engines.sketch import SketchEngine

    folder = tmp_path_factory.mktemp("sketch")
    settings = Settings(_env_file=None, engine="sketch", data_dir=folder, port=free_port())
    server = start(Studio(settings, SketchEngine(reason="the test asked for it"), Library(folder)), settings)
    yield server
    server.close()


@pytest.fixture(scope="module")
def sketch_url(sketch) -> str:
    return sketch.url


def share_drawn(image: np.ndarray) -> float:
    """Share of the pixels that are clearly not the ground, which is what the corners show."""
    corner = np.median(image[20:60, 20:60].reshape(-1, 3), axis=0)
    return float((np.abs(image.astype(float) - corner).max(axis=2) > 40).mean())


def test_from_an_example_to_a_file(visit, sketch, sketch_url, monkeypatch):
    studio, seen = sketch.jobs.studio, {"shape": threading.Event(), "files": threading.Event()}
    shape = studio.engine.shape

    def shape_once_seen(*arguments):
        assert seen["shape"].wait(300)
        yield from shape(*arguments)

    def draw_once_seen(mesh):
        assert seen["files"].wait(300)
        return render_poster_and_turn(mesh)

    monkeypatch.setattr(studio.engine, "shape", shape_once_seen)
    monkeypatch.setattr(studio, "_draw_views", draw_once_seen)
    visit = visit(sketch_url)
    page = visit.page
    before = visit.see("#stage")
    page.locator("#examples button").first.click()
    page.wait_for_selector("#cutout-view img", timeout=30_000)
    page.locator("#quality").get_by_text("Draft").click()
    visit.generate()
    for stage, was_seen in seen.items():  # stages are shown as they go by
        page.wait_for_selector(f".stages li.now[data-stage={stage}]", timeout=60_000)
        assert visit.state == "running"
        was_seen.set()
    visit.wait_for_state("done")
    visit.wait_for_canvas()
    page.wait_for_timeout(2500)
    after = visit.see("#stage")
    assert share_drawn(before) < 0.06
    assert share_drawn(after) > 0.05, "the model is drawn"
    box = page.locator("#viewer canvas").bounding_box()
    middle = (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.move(*middle)
    page.mouse.down()
    page.mouse.move(middle[0] + 160, middle[1], steps=6)
    page.mouse.up()

    def has_turned():
        return (np.abs(visit.see("#stage").astype(int) - after).max(axis=2) > 25).mean() > 0.01

    wait_until(has_turned, "it turns when dragged")

    with page.expect_download() as download:
        page.click("a.download.first")
    path = download.value.path()
    assert download.value.suggested_filename.endswith("100mm.stl")
    model = trimesh.load(path, file_type="stl")
    assert model.is_watertight
    assert max(model.extents) == pytest.approx(100, abs=0.01)
    expect(page.locator(".verdict >> visible=true")).to_contain_text("Ready", use_inner_text=True)
    assert page.inner_text("#result").count("mm") >= 1
    page.get_by_text("Full report").click()
    grams = re.search(r"Weight in PLA, printed solid\s+([\d,.]+) g", page.inner_text("#result"))
    assert float(grams[1].replace(",", "")) == pytest.approx(model.volume / 1000 * 1.24, abs=0.06)


def test_there_are_examples(visit):
    assert len(example_pictures()) >= 6
    page = visit().page
    drawn = "count => document.querySelectorAll('#examples button img').length === count"
    page.wait_for_function(drawn, arg=len(example_pictures()))
    page.get_by_role("button", name=f"Example: {example_pictures()[0].stem}").wait_for()


def test_the_cutout_is_shown_and_can_be_corrected(visit, photo):
    visit = visit()
    visit.choose(photo)
    page = visit.page
    expect(page.locator("#explanation")).to_contain_text("covers", use_inner_text=True)
    first = page.get_attribute("#cutout-view img", "src")
    page.get_by_text("+ include").click()
    box = page.locator("#cutout-view img").bounding_box()
    page.evaluate("""window.dots = 0; new MutationObserver(changes => {
        const added = changes.flatMap(change => [...change.addedNodes]);
        window.dots += added.filter(one => one.className === "tapped").length;
    }).observe(document.querySelector("#cutout-view"), {childList: true})""")
    page.mouse.click(box["x"] + box["width"] * 0.08, box["y"] + box["height"] * 0.5)
    page.wait_for_function("first => document.querySelector('#cutout-view img').src !== first", arg=first)
    page.wait_for_function("!document.querySelector('.tapped')")
    assert page.evaluate("window.dots") == 1, "the tap was seen before its answer was there"
    page.wait_for_function("document.querySelector('#explanation')?.innerText.includes('1 correction')")
    page.click("#reset-taps")
    page.wait_for_function("!document.querySelector('#explanation').innerText.includes('correction')")


def test_a_bad_picture_is_explained_in_the_page(visit, tmp_path):
    path = tmp_path / "blank.png"
    cv2.imwrite(str(path), np.full((300, 300, 3), 200, np.uint8))
    visit = visit()
    visit.page.set_input_files("#picture input[type=file]", str(path))
    visit.page.wait_for_selector("#explanation .bad")
    expect(visit.page.locator("#explanation")).to_have_text(re.compile(r"\.$"), use_inner_text=True)
    visit.generate()
    visit.wait_for_state("failed")
    expect(visit.page.locator("#error")).to_have_text(re.compile(r"\.$"), use_inner_text=True)
    expect(visit.page.locator("#generate")).to_be_visible()
    # the next press is a new one: it does not wait for the end of an event that is over
    visit.page.evaluate("""() => {
      const {begin, whenThere} = window.orfeas;
      window.begun = 0;
      window.orfeas.begin = seed => { window.begun += 1; return begin(seed); };
      window.orfeas.whenThere = (found, seconds) => seconds === 3 ? new Promise(() => {}) : whenThere(found, seconds);
    }""")
    visit.page.wait_for_function(
        "() => { if (!window.begun) document.querySelector('#generate').click(); return window.begun > 0; }",
        polling=200,
    )
    visit.wait_for_state("failed")

    unreadable, large = tmp_path / "text.png", tmp_path / "large.png"
    unreadable.write_text("no picture")
    large.write_bytes(bytes(MAX_BYTES + 1))
    visit.page.get_by_role("button", name="Remove Image").click()
    for path, said in (
        (large, "large.png has 16.0 MiB, and at most 16 can be used"),
        (unreadable, "Only JPEG, PNG and"),
    ):
        visit.page.set_input_files("#picture input[type=file]", str(path))
        visit.page.wait_for_function("said => document.querySelector('#told')?.innerText.startsWith(said)", arg=said)
        visit.page.wait_for_selector("#picture input[type=file]", state="attached")  # the drop zone is empty again
        expect(visit.page.locator("#picture .image-frame img")).to_have_count(0)
    expect(visit.page.locator("#cutout-tools")).not_to_be_visible()


def test_a_job_that_is_not_let_in_says_why(visit, server, photo, monkeypatch):
    visit = visit()
    visit.generate()
    visit.page.get_by_text("Choose a picture first").wait_for()
    assert visit.state == "told"
    visit.choose(photo)
    monkeypatch.setattr(server.jobs, "draining", True)  # as when it is about to stop
    visit.generate()
    sentence = "This server is about to restart: try again in a minute."
    visit.page.wait_for_function("said => document.querySelector('#error')?.innerText === said", arg=sentence)
    visit.wait_for_state("failed")
    visit.page.wait_for_timeout(800)
    assert visit.state == "failed", "nothing asks after a job that is not there"
    assert "currently busy" not in visit.page.inner_text("body")
    visit.errors[:] = [error for error in visit.errors if "status of 503" not in error]


def test_stop_frees_the_lane(visit, server, engine, photo, pace):
    cancelled = engine.cancelled
    visit = visit()
    visit.choose(photo)
    visit.generate()
    wait_until(lambda: engine.running, "the job runs")
    visit.wait_for_state("running")
    expect(visit.page.locator("#generate")).not_to_be_visible()
    visit.page.click("#stop")
    wait_until(lambda: any(job.stop.is_set() for job in server.jobs.active()), "the server was asked to stop")
    pace.release(2)
    visit.wait_for_state("cancelled")
    assert engine.cancelled == cancelled + 1
    expect(visit.page.locator("#generate")).to_be_visible()
    expect(visit.page.locator(".when-cancelled p")).to_have_text(
        re.compile(r"Press Generate to start again\.$"), use_inner_text=True
    )

    visit.page.get_by_role("button", name="Remove Image").click()  # as after a reload, there is no picture
    visit.page.wait_for_function("document.documentElement.dataset.cutout === 'no'")
    expect(visit.page.locator(".when-cancelled p")).to_have_text(
        re.compile(r"Choose the picture again to start anew\.$"), use_inner_text=True
    )

    visit.choose(photo)
    pace.release(50)
    visit.generate()
    visit.wait_for_state("done")
    visit.page.wait_for_selector(".result[data-result]")

    while pace.acquire(blocking=False):  # and once more: what was made before is not what is made now
        pass
    visit.generate()
    wait_until(lambda: engine.running, "the job runs")
    visit.wait_for_state("running")
    expect(visit.page.locator(".verdict >> visible=true")).to_have_text("Earlier result", use_inner_text=True)
    visit.page.click("#stop")
    wait_until(lambda: any(job.stop.is_set() for job in server.jobs.active()), "the server was asked to stop")
    pace.release(2)
    visit.wait_for_state("done")
    expect(visit.page.locator("#stage-note")).to_have_text(re.compile(r"^Stopped\."), use_inner_text=True)
    expect(visit.page.locator(".when-cancelled")).not_to_be_visible()
    assert visit.page.locator(".verdict >> visible=true").inner_text() != "Earlier result"


def test_a_press_that_comes_too_soon_waits_and_the_second_of_two_does_not_stop(
    visit, url, server, engine, pace, monkeypatch, tmp_path
):
    finish = handlers.finish

    async def finish_late(job, progress=None):
        try:
            return await finish(job, progress)
        finally:
            await asyncio.sleep(1.5)  # as over a slow network: the page has heard meanwhile that the job is over

    monkeypatch.setattr(handlers, "finish", finish_late)
    visit = visit()
    page = visit.page
    large = tmp_path / "noise.png"
    noise = np.random.default_rng(0).integers(0, 255, (700, 900, 3), np.uint8)
    cv2.imwrite(str(large), cv2.ellipse(noise, (450, 350), (300, 250), 0, 0, 360, (60, 70, 200), -1))
    network = page.context.new_cdp_session(page)
    network.send("Network.enable")
    slow = {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": 100_000}  # it takes 19 s
    network.send("Network.emulateNetworkConditions", slow)
    uploads, before = file_upload_statuses._statuses, set(file_upload_statuses._statuses)

    def ask_for_progress(route):  # of an upload whose first bytes take Gradio 3 s it says that there is none
        wait_until(lambda: set(uploads) - before, "the first bytes are there", 60)
        route.continue_()

    page.route("**/upload_progress?*", ask_for_progress)
    page.set_input_files("#picture input[type=file]", str(large))
    page.wait_for_selector("#picture .uploading")
    sending, frame = (page.locator(part).bounding_box() for part in ("#picture .wrap.progress", "#picture"))
    assert sending["y"] >= frame["y"] - 1, "what is said meanwhile stays in its frame"
    assert sending["y"] + sending["height"] <= frame["y"] + frame["height"] + 1
    visit.generate()  # while the picture is on its way
    visit.wait_for_state("told")
    expect(page.locator("#told-title")).to_have_text("The picture is on its way", use_inner_text=True)
    network.send("Network.emulateNetworkConditions", {**slow, "uploadThroughput": -1})
    wait_until(lambda: engine.running, "the job runs", 60)
    visit.wait_for_state("running")
    page.evaluate(
        """() => new MutationObserver((changes, watch) => {
          if (document.documentElement.dataset.job !== "done") return;
          watch.disconnect();
          document.querySelector("#generate").click();  // before Gradio has heard that the job is over
        }).observe(document.documentElement, {attributes: true, attributeFilter: ["data-job"]})"""
    )
    (first,) = server.jobs.active()
    pace.release(4)
    wait_until(lambda: first.is_over and engine.running, "a second one runs")
    visit.wait_for_state("running")
    pace.release(50)
    visit.wait_for_state("done")
    page.wait_for_function("document.querySelectorAll('.history-card[data-state=done]').length === 2")

    while pace.acquire(blocking=False):  # what the second did not use: the third would be done before it is looked at
        pass
    cancelled = engine.cancelled
    page.evaluate(
        """() => {
          new MutationObserver((changes, watch) => {
            if (document.documentElement.dataset.job !== "waiting") return;
            watch.disconnect();
            document.querySelector("#stop").dispatchEvent(new MouseEvent("click", {bubbles: true, detail: 2}));
          }).observe(document.documentElement, {attributes: true, attributeFilter: ["data-job"]});
          document.querySelector("#generate").click();
        }"""
    )
    visit.wait_for_state("running", "stopping", "cancelled")
    pace.release(50)
    visit.wait_for_state("done")
    page.wait_for_function("document.querySelectorAll('.history-card[data-state=done]').length === 3")
    assert engine.cancelled == cancelled

    # while the next one runs an earlier one is looked at: the job is neither lost nor begun twice
    while pace.acquire(blocking=False):
        pass
    other = visit.context.new_page()
    other.goto(url)
    other.wait_for_selector(".history-card[data-state=done]")
    visit.generate()
    wait_until(lambda: engine.running, "the job runs")
    visit.wait_for_state("running")
    other.wait_for_selector(".history-card progress")
    other.close()
    page.locator(".history-card[data-state=done]").last.get_by_role("button", name="Open").last.click()
    visit.wait_for_state("done")
    visit.generate()
    visit.wait_for_state("told")
    expect(page.locator("#told-title")).to_have_text("Your job is still running", use_inner_text=True)
    shown = page.get_attribute(".result", "data-result")
    pace.release(50)
    page.wait_for_function("shown => document.querySelector('.result')?.dataset.result !== shown", arg=shown)
    visit.wait_for_state("done")
    page.get_by_text("Your new model is here.").wait_for()
    assert not engine.running

    # what is said after the end of a job stays, also when Gradio hears of that end
    monkeypatch.setattr(engine, "error", OrfeasError("The engine had no more memory: choose a lower quality."))
    visit.generate()
    visit.wait_for_state("failed")
    page.get_by_role("button", name="Remove Image").click()
    page.wait_for_function("document.documentElement.dataset.cutout === 'no'")
    visit.generate()
    visit.wait_for_state("told")
    page.wait_for_timeout(2000)
    assert visit.state == "told"


def test_a_waiting_job_says_how_many_are_before_it(visit, engine, photo, pace):
    first, second = visit(), visit()
    for user in (first, second):
        user.choose(photo)
    first.generate()
    wait_until(lambda: engine.running, "the first job runs")
    second.generate()
    second.wait_for_state("queued")
    expect(second.page.locator("#message")).to_contain_text("one job", use_inner_text=True)
    pace.release(50)
    for user in (first, second):
        user.wait_for_state("done")
    shown = [user.page.get_attribute(".result[data-result]", "data-result") for user in (first, second)]
    assert shown[0] != shown[1]


def test_a_reload_finds_the_running_job_again_with_its_picture_and_options(visit, server, engine, photo, pace):
    cancelled = engine.cancelled
    visit = visit()
    page = visit.page
    visit.choose(photo)
    page.locator("#quality").get_by_text("Draft").click()
    page.locator("#format").get_by_text("3MF").click()
    page.fill("#size input", "42")
    visit.generate()
    wait_until(lambda: engine.running, "the job runs")
    visit.wait_for_state("running")
    page.reload()
    visit.errors.clear()  # Gradio's client complains of the streams that the old page left
    page.wait_for_selector("#generate", state="attached")
    visit.wait_for_state("running")
    page.wait_for_selector("#picture .image-frame img")
    pace.release(50)
    visit.wait_for_state("done")
    page.wait_for_selector("a.download.first")
    visit.wait_for_canvas()
    assert engine.cancelled == cancelled

    while pace.acquire(blocking=False):
        pass
    made = page.get_attribute(".result[data-result]", "data-result")
    visit.generate()  # and once more, to be stopped after a reload
    wait_until(lambda: engine.running, "the job runs")
    visit.wait_for_state("running")
    page.reload()
    visit.errors.clear()
    visit.wait_for_state("running")
    page.wait_for_selector("#picture .image-frame img")
    page.click("#stop")
    wait_until(lambda: any(job.stop.is_set() for job in server.jobs.active()), "the server was asked to stop")
    pace.release(2)
    visit.wait_for_state("done")
    expect(page.locator("#stage-note")).to_have_text("Stopped. This is the model from before.", use_inner_text=True)
    visit.wait_for_canvas()
    for _ in range(2):  # at once, and after one more reload
        page.wait_for_selector(f".result[data-result='{made}']")
        page.wait_for_function("document.documentElement.dataset.show === 'model'")
        visit.reload()
    page.wait_for_selector("#picture .image-frame img")
    page.wait_for_selector("#quality .selected:has-text('Draft')")  # the options may be drawn after the picture
    page.wait_for_selector("#format .selected:has-text('3MF')")
    page.wait_for_function("document.querySelector('#size input').value === '42'")
    page.get_by_text("More options").click()
    expect(page.locator("#seed textarea, #seed input"), "it was left to chance").to_have_value("")
    page.get_by_role("button", name="Cutout", exact=True).click()
    page.wait_for_selector("#cutout-view img")


def test_a_closed_page_frees_the_lane(visit, server, engine, photo, pace, monkeypatch):
    monkeypatch.setattr("orfeas.web.jobs.RELOAD_GRACE_SECONDS", 0.2)
    visit = visit()
    visit.choose(photo)
    visit.generate()
    wait_until(lambda: engine.running, "the job runs")
    job = server.jobs.active()[0]
    visit.page.close()
    wait_until(job.stop.is_set, "the server noticed")
    pace.release(2)
    wait_until(lambda: not server.jobs.active(), "the lane is free")


def test_on_a_phone(visit, photo):
    visit = visit(**PHONE)
    page = visit.page
    visit.choose(photo)
    assert page.evaluate("document.documentElement.scrollWidth") == 390, "no sideways scroll"
    page.wait_for_function("document.querySelector('#stage')?.getBoundingClientRect().bottom <= innerHeight + 1")
    visit.generate()
    visit.wait_for_state("done")
    visit.wait_for_canvas()
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    assert page.locator("#viewer canvas").bounding_box()["height"] <= 0.6 * 844
    assert page.evaluate("document.querySelector('#stage').getBoundingClientRect().top") < 844 * 0.6, "it is in sight"
    canvas, file = (page.locator(part).bounding_box() for part in ("#viewer canvas", "#stage-download"))
    assert 0 <= file["y"] - canvas["y"] - canvas["height"] <= 20, "the file is right below the model"
    assert file["y"] + file["height"] <= 844
    sizes = [
        [min(box["width"], box["height"]) for part in page.locator(part).all() if (box := part.bounding_box())]
        for part in (
            "#picture .icon-button-wrapper button",
            "#switch-show button",
            "#switch-view button",
            "#result .pill",
        )
    ]
    assert all(found and min(found) >= 40 for found in sizes), sizes
    with page.expect_download() as download:
        page.tap("#stage-download")
    assert trimesh.load(download.value.path(), file_type="stl").is_watertight


def test_without_webgl_a_still_turns_and_the_file_is_there(visit, browser_without_webgl, photo):
    visit = visit(with_browser=browser_without_webgl)
    page = visit.page
    visit.choose(photo)
    visit.generate()
    visit.wait_for_state("done")
    page.wait_for_selector("#turntable:not([hidden])")
    expect(page.locator("#viewer")).not_to_be_visible()
    first = visit.see("#turntable")
    assert share_drawn(first) > 0.05
    box = page.locator("#turntable").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.8, box["y"] + box["height"] / 2, steps=5)
    page.mouse.up()
    turned = visit.see("#turntable")
    assert (np.abs(first.astype(int) - turned).max(axis=2) > 10).mean() > 0.005
    page.focus("#turntable")
    frame = page.get_attribute("#turntable", "aria-valuenow")
    page.keyboard.press("ArrowRight")
    assert page.get_attribute("#turntable", "aria-valuenow") != frame
    with page.expect_download() as download:
        page.click("a.download.first")
    assert trimesh.load(download.value.path(), file_type="stl").is_watertight


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_light_and_dark(visit, scheme):
    visit = visit(color_scheme=scheme)
    brightness = visit.see("#stage").mean()
    assert brightness > 200 if scheme == "light" else brightness < 80


def test_the_engine_is_named_with_its_reason(visit, engine):
    text = visit().page.inner_text("header.top")
    assert engine.title in text
    assert engine.reason in text


def test_use_via_api_shows_both_endpoints(visit):
    visit = visit()
    page = visit.page
    page.get_by_role("button", name="Use via API").click()
    page.wait_for_selector("text=/generate")
    text = page.inner_text("body")
    assert "/generate" in text
    assert "/cutout" in text
    assert "longest side of the model in millimetres" in text
    # Gradio's panel asks for its monitoring page and for MCP, which are both closed, and goes on
    visit.errors[:] = [error for error in visit.errors if "Failed to load resource" not in error]


def test_more_options_may_be_opened_and_left_alone(visit, photo):
    visit = visit()
    page = visit.page
    visit.choose(photo)
    more = page.get_by_role("button", name="More options")
    expect(more).to_have_attribute("aria-expanded", "false")
    more.click()
    page.wait_for_function(  # they open below the fold
        """() => {
          const [more, seed, faces, seeds, foot] = ["advanced", "seed", "max-faces", "best-of", "act"].map(
            (id) => document.getElementById(id)?.getBoundingClientRect());
          const areThere = seed?.height > 0 && faces.height > 0;
          return areThere && more.top >= 56 && seeds.bottom <= foot.top && foot.bottom <= innerHeight;
        }"""
    )
    expect(more).to_have_attribute("aria-expanded", "true")
    page.wait_for_timeout(500)  # Gradio's number fields turn into 0 only after they have been drawn
    visit.generate()
    visit.wait_for_state("done", "failed")
    assert visit.state == "done"
    assert page.inner_text(".result dl code") != "0"


def test_options_that_are_set_act_and_come_back(visit, server, photo):
    visit = visit()
    page = visit.page
    visit.choose(photo)
    page.get_by_text("More options").click()
    page.locator("#seed textarea, #seed input").fill("77")
    page.locator("#max-faces textarea, #max-faces input").fill("900")
    page.locator("#orientation").get_by_text("Standing").click()
    more = page.get_by_role("button", name="More options")
    said = "Orientation: standing · seed 77 · up to 900 faces"
    expect(more, "what is set is said where it is folded away").to_have_attribute("data-set", said)
    visit.generate()
    visit.wait_for_state("done", "failed")
    assert visit.state == "done"
    expect(page.locator(".result dl code")).to_have_text("77", use_inner_text=True)
    faces = page.locator(".result dl div").filter(has=page.get_by_text("Faces", exact=True)).locator("dd").inner_text()
    assert int(faces.replace(",", "")) <= 900
    expect(page.locator(".result .notes")).to_contain_text("ilted")
    folder = server.jobs.studio.library.find(page.get_attribute(".result[data-result]", "data-result"))
    made = read_recipe(folder / "recipe.json").options
    assert (made["orientation"], made["seed"], made["base"]) == ("standing", 77, "none")
    page.reload()
    visit.errors.clear()
    visit.wait_for_state("done")
    more.click()  # what is folded away is not drawn before
    expect(page.locator("#orientation .selected")).to_have_text("Standing", use_inner_text=True)
    expect(more).to_have_attribute("data-set", said)
