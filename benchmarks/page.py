"""What the page costs: its first load, and the frame rate of its viewer beside a bare one, in a real Chromium.

    python benchmarks/page.py [--repeats 3] [--seconds 4] [--quality standard]

First load: a browser with nothing in its cache, from the same machine: bytes as transferred, requests, and seconds
until Generate can be pressed and until no script has kept the page busy for longer than 50 ms any more. Frame rate: the
camera turns a little every frame, and the frames that Babylon drew are counted, in our page and in a page that is
nothing but `gr.Model3D` with the same file, same canvas size, same browser, one after the other. Chromium draws in
software (SwiftShader): the rates say how the two compare and nothing of what a GPU reaches. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.browser.chromium import find_chromium
from tests.browser.conftest import FLAGS
from tests.web.conftest import free_port

VIEWPORT = {"width": 1440, "height": 900}
CANVAS_PX = 560
PICTURE = Path(__file__).parents[1] / "assets" / "examples" / "mug.jpg"
LONG_TASKS = """
window.busyUntil = 0;
new PerformanceObserver(list => {
  for (const task of list.getEntries()) window.busyUntil = Math.max(window.busyUntil, task.startTime + task.duration);
}).observe({type: "longtask", buffered: true});
"""
FRAMES = """async ([seconds, size]) => {
  const loaded = performance.getEntriesByType("resource").find(one => /\\/engineStore-[^/]*\\.js$/.test(one.name));
  const store = Object.values(await import(loaded.name)).find(part => part && "LastCreatedScene" in part);
  const scene = store.LastCreatedScene, engine = scene.getEngine(), camera = scene.activeCamera;
  const canvas = engine.getRenderingCanvas();
  for (const side of ["width", "height"]) canvas.style.setProperty(side, `${size}px`, "important");
  await new Promise(resolve => setTimeout(resolve, 500)); // the viewer follows its canvas
  let frames = 0, begun = 0;
  return new Promise(resolve => {
    scene.onAfterRenderObservable.add(() => {
      const now = performance.now();
      frames += 1;
      if (frames === 3) begun = now; // the first ones may compile
      if (begun && now - begun > seconds * 1000) {
        const rate = (frames - 3) / ((now - begun) / 1000);
        resolve({rate, frames, size: [engine.getRenderWidth(), engine.getRenderHeight()]});
      }
      camera.alpha += 0.02;
    });
    camera.alpha += 0.02;
  });
}"""


def measure_load(browser, url: str) -> dict[str, float]:
    context = browser.new_context(viewport=VIEWPORT)
    page = context.new_page()
    page.add_init_script(LONG_TASKS)
    network = context.new_cdp_session(page)
    network.send("Network.enable")
    sizes: list[float] = []
    network.on("Network.loadingFinished", lambda event: sizes.append(event["encodedDataLength"]))
    page.goto(url)
    page.wait_for_selector("#generate")
    ready = page.evaluate("performance.now()")
    page.wait_for_function("performance.now() - window.busyUntil > 3000", timeout=120_000)
    busy = page.evaluate("window.busyUntil")
    context.close()
    return {
        "bytes": sum(sizes),
        "requests": len(sizes),
        "seconds_to_generate": ready / 1000,
        "seconds_to_quiet": max(ready, busy) / 1000,
    }


def open_ours(browser, url: str, quality: str):
    """Our page with a model in it, and the viewer's file."""
    page = browser.new_context(viewport=VIEWPORT).new_page()
    page.goto(url)
    page.set_input_files("#picture input[type=file]", str(PICTURE))
    page.wait_for_selector("#cutout-view img", timeout=60_000)
    page.locator("#quality").get_by_text(quality.capitalize()).click()
    page.click("#generate")
    page.wait_for_function("document.documentElement.dataset.canvas === 'yes'", timeout=240_000)
    page.wait_for_timeout(3000)
    return page


def open_bare(browser, url: str):
    page = browser.new_context(viewport=VIEWPORT).new_page()
    page.goto(url)
    page.wait_for_selector("canvas", timeout=60_000)
    page.wait_for_timeout(6000)
    return page


def cpu_seconds(browser) -> float:
    """Of all the browser's processes, since they began. Unlike a rate it does not follow what else the machine does."""
    session = browser.new_browser_cdp_session()
    processes = session.send("SystemInfo.getProcessInfo")["processInfo"]
    session.detach()
    return sum(process["cpuTime"] for process in processes)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--quality", default="standard", choices=("draft", "standard", "high"))
    arguments = parser.parse_args()

    import gradio as gr
    from playwright.sync_api import sync_playwright

    from orfeas.engines.choose import choose_engine
    from orfeas.library import Library
    from orfeas.settings import Settings
    from orfeas.studio import Studio
    from orfeas.web.panels import CAMERA
    from orfeas.web.serve import start

    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        settings = Settings(_env_file=None, engine="sketch", data_dir=Path(folder), port=free_port())
        server = start(Studio(settings, choose_engine(settings), Library(folder)), settings)
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=FLAGS)
        loads = [measure_load(browser, server.url) for _ in range(arguments.repeats)]
        load = {key: round(median(one[key] for one in loads), 2) for key in loads[0]}
        print("first load:", load, flush=True)

        ours = open_ours(browser, server.url, arguments.quality)
        preview = next(Path(folder).glob("results/*/preview.glb"))
        with gr.Blocks(analytics_enabled=False) as bare:
            gr.Model3D(str(preview), clear_color=(0.0, 0.0, 0.0, 0.0), camera_position=CAMERA, height=CANVAS_PX)
        _, bare_url, _ = bare.launch(
            server_name="127.0.0.1", server_port=free_port(), prevent_thread_lock=True, quiet=True, ssr_mode=False,
            allowed_paths=[folder],
        )  # fmt: skip
        theirs = open_bare(browser, bare_url)
        rates: dict[str, list[float]] = {"ours": [], "bare": []}
        costs: dict[str, list[float]] = {"ours": [], "bare": []}
        for _ in range(arguments.repeats):
            for name, page in (("ours", ours), ("bare", theirs)):
                page.bring_to_front()
                before = cpu_seconds(browser)
                seen = page.evaluate(FRAMES, [arguments.seconds, CANVAS_PX])
                costs[name].append(round(1000 * (cpu_seconds(browser) - before) / seen["frames"]))
                assert seen["size"] == [CANVAS_PX, CANVAS_PX], seen
                rates[name].append(round(seen["rate"], 1))
                print(f"{name}: {rates[name][-1]} frames a second, {costs[name][-1]} ms of CPU a frame", flush=True)
        browser.close()
        bare.close(verbose=False)
        server.close()
    machine = {"python": platform.python_version(), "cores": os.cpu_count(), "quality": arguments.quality}
    summary = {
        "frames_per_second": {name: median(values) for name, values in rates.items()},
        "cpu_ms_per_frame": {name: median(values) for name, values in costs.items()},
        "runs": {"frames_per_second": rates, "cpu_ms_per_frame": costs},
    }
    print(json.dumps({"benchmark": "page", **machine, "load": load, **summary}))


if __name__ == "__main__":
    main()
