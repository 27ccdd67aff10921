"""What 3DViewer.net does with our addresses: its engine, served from another origin, loads every format of a result."""

from __future__ import annotations

import functools
import http.server
import threading
from pathlib import Path

import cv2
import httpx
import numpy as np
import pytest
from gradio_client import handle_file

from orfeas.web.ui import EXAMPLES
from tests import npm
from tests.browser.conftest import Visit
from tests.browser.test_page import sketch, sketch_url  # noqa: F401 (fixtures)
from tests.web.conftest import connect, free_port

VERSION = "0.18.0"
PAGE = """<!doctype html><title>viewer</title><link rel="icon" href="data:,"><body style="margin:0">
<div id="viewer" style="width:500px;height:500px"></div>
<script src="node_modules/online-3d-viewer/build/engine/o3dv.min.js"></script><script>
const sides = ["posx", "negx", "posy", "negy", "posz", "negz"].map(side =>
  `node_modules/online-3d-viewer/website/assets/envmaps/fishermans_bastion/${side}.jpg`);
function load(address) {
  return new Promise((resolve, reject) => {
    const holder = document.getElementById("viewer");
    holder.replaceChildren();
    new OV.EmbeddedViewer(holder, {
      backgroundColor: new OV.RGBAColor(255, 255, 255, 255),
      environmentSettings: new OV.EnvironmentSettings(sides, false),
      defaultColor: new OV.RGBColor(200, 200, 200),
      onModelLoaded: () => setTimeout(resolve, 300),
      onModelLoadFailed: () => reject(new Error("not loaded: " + address)),
    }).LoadModelFromUrlList([address]);
  });
}
</script>"""
MEDIA_TYPES = {
    "stl": "model/stl", "glb": "model/gltf-binary", "obj": "model/obj", "ply": "model/ply", "3mf": "model/3mf",
}  # fmt: skip


@pytest.fixture(scope="module")
def viewer_url(tmp_path_factory):
    """The engine of Online3DViewer in a page of another origin."""
    folder = npm.install(tmp_path_factory.mktemp("viewer"), f"online-3d-viewer@{VERSION}")
    (folder / "index.html").write_text(PAGE)

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", free_port()), functools.partial(Quiet, directory=folder))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/index.html"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def addresses(sketch_url) -> dict[str, str]:  # noqa: F811
    """{format: address} of one result: a mug, which looks different from each side, mirrored and upside down."""
    client = connect(sketch_url)
    _, answer = client.predict(
        picture=handle_file(EXAMPLES / "mug.jpg"), quality="draft", size_mm=60, api_name="/generate"
    )
    client.close()
    return {key: f"{sketch_url}r/{answer['id']}/{answer['name']}_60mm.{key}" for key in MEDIA_TYPES}


def test_every_format_loads_from_another_origin_right_way_up_and_in_colour(browser, viewer_url, addresses):
    visit = Visit(browser, viewer_url, ready="canvas, #viewer", viewport={"width": 500, "height": 500})
    try:
        seen = {}
        for key, address in addresses.items():
            visit.page.evaluate("address => load(address)", address)
            png = visit.page.locator("#viewer canvas").screenshot()
            seen[key] = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR)
        assert not visit.errors
    finally:
        visit.context.close()
    shape = {key: (np.abs(image.astype(int) - 255).max(axis=2) > 12) for key, image in seen.items()}
    for key, mask in shape.items():
        assert mask.mean() > 0.05, f"{key} is drawn"
        assert overlap(mask, shape["glb"]) > 0.93, f"{key} stands as the GLB does"
        assert overlap(mask[:, ::-1], shape["glb"]) < 0.9, f"{key} is not mirrored"
        assert overlap(mask[::-1], shape["glb"]) < 0.93, f"{key} is not upside down"
        inside = seen[key][mask].astype(int)
        colourful = np.median(inside.max(axis=1) - inside.min(axis=1))
        assert colourful > 25 if key != "stl" else colourful < 5, key


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    return (a & b).sum() / (a | b).sum()


def test_the_addresses_answer_as_other_origins_and_players_need(addresses):
    with httpx.Client(timeout=60) as http:
        for key, address in addresses.items():
            whole = http.get(address, headers={"Origin": "https://3dviewer.net"})
            head = http.head(address)
            part = http.get(address, headers={"Range": "bytes=10-29"})
            for answer in (whole, head, part):
                assert answer.headers["access-control-allow-origin"] == "*", key
                assert answer.headers["content-type"] == MEDIA_TYPES[key]
                assert answer.headers["x-content-type-options"] == "nosniff"
            assert (whole.status_code, head.status_code, part.status_code) == (200, 200, 206)
            assert head.content == b""
            assert int(head.headers["content-length"]) == len(whole.content)
            assert part.content == whole.content[10:30]
            assert part.headers["content-range"] == f"bytes 10-29/{len(whole.content)}"
        other = address.replace(Path(address).parent.name, "0" * 32)
        assert http.get(other).status_code == 404
