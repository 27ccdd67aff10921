"""/inspect and /repair through gradio_client, and through HTTP as curl speaks it."""

from __future__ import annotations

import asyncio
import inspect
import json
import threading
import time
from pathlib import Path

import pytest
import trimesh
from gradio_client import handle_file
from gradio_client.exceptions import AppError

from orfeas.errors import BadMesh
from orfeas.export import export
from orfeas.mesh.load import load_mesh
from orfeas.mesh.repair import repair
from orfeas.mesh.report import inspect as inspect_mesh
from orfeas.web.inputs import MeshFile
from orfeas.web.mesh_api import MESH_THREADS, MeshBench
from tests.mesh import shapes
from tests.web.conftest import call, file_data, upload

ENDINGS = ("stl", "3mf", "glb", "obj", "ply")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("meshes")
    for ending in ENDINGS:
        export(shapes.cube(20.0), folder / f"cube.{ending}", ending)
    export(shapes.without_faces(shapes.cube(20.0), [0, 5]), folder / "open.ply", "ply")
    export(shapes.ball(30, 40), folder / "ball.stl", "stl")
    export(shapes.moebius(), folder / "strip.stl", "stl")
    (folder / "cube.blend").write_bytes(b"BLENDER")
    (folder / "broken.stl").write_bytes((folder / "cube.stl").read_bytes()[:300])
    (folder / "empty.obj").write_bytes(b"# nothing\n")
    return folder


@pytest.mark.parametrize("ending", ENDINGS)
def test_inspect_reads_every_format(client, folder, ending):
    report = client.predict(handle_file(folder / f"cube.{ending}"), api_name="/inspect")

    assert report["verdict"] == "Ready"
    assert report["printable"] is True
    assert report["extents_mm"] == pytest.approx([20, 20, 20], abs=0.01)
    assert report["volume_cm3"] == pytest.approx(8, rel=1e-3)


def test_inspect_says_what_the_room_says_and_takes_a_size(client, folder):
    report = client.predict(handle_file(folder / "open.ply"), api_name="/inspect")
    assert report == json.loads(json.dumps(inspect_mesh(load_mesh(folder / "open.ply")).to_dict()))
    larger = client.predict(handle_file(folder / "cube.stl"), size_mm=50, api_name="/inspect")
    assert larger["extents_mm"] == pytest.approx([50, 50, 50])
    assert larger["volume_cm3"] == pytest.approx(125)


@pytest.mark.parametrize("ending", [*ENDINGS, "obj_zip"])
def test_repair_writes_every_format(client, folder, ending):
    file, report = client.predict(handle_file(folder / "open.ply"), size_mm=40, format=ending, api_name="/repair")

    assert Path(file).name == f"open_40mm.{ending.replace('_', '.')}"
    assert report["verdict"] == "Ready after repair"
    assert "close_holes" in [change["step"] for change in report["changes"]]
    assert all(change["sentence"].endswith(".") for change in report["changes"])
    if ending != "obj_zip":
        made = inspect_mesh(load_mesh(file))
        assert made.printable
        assert made.extents_mm == pytest.approx((40, 40, 40), abs=0.01)


def test_repair_takes_every_option_and_gives_the_room_s_bytes(client, folder, tmp_path):
    options = {"max_faces": 4000, "orientation": "flattest", "flat_base": "cut", "base_mm": 3, "drain_mm": 4}
    file, report = client.predict(
        handle_file(folder / "ball.stl"), size_mm=50, hollow=2.5, **options, api_name="/repair"
    )
    solid, expected, changes = repair(load_mesh(folder / "ball.stl"), size_mm=50.0, wall_mm=2.5, **options)
    export(solid, tmp_path / "ball.stl", "stl", title="ball")

    assert Path(file).read_bytes() == (tmp_path / "ball.stl").read_bytes()
    assert [change["sentence"] for change in report["changes"]] == [change.sentence for change in changes]
    assert report["faces"] == expected.faces <= 4000


def test_without_a_size_the_mesh_keeps_its_own(client, folder):
    file, report = client.predict(handle_file(folder / "cube.3mf"), api_name="/repair")
    assert Path(file).name == "cube_20mm.stl"
    assert trimesh.load(file).is_watertight
    assert report["extents_mm"] == pytest.approx([20, 20, 20])


BAD = [
    ("inspect", "cube.stl", {"size_mm": 0.1}, "size_mm cannot be 0.1: use 1 to 1000."),
    ("inspect", "cube.stl", {"size_mm": "wide"}, "size_mm cannot be 'wide': use a number."),
    ("inspect", "cube.stl", {"size_mm": True}, "size_mm cannot be 'True': use a number."),
    ("repair", "cube.stl", {"size_mm": 1001}, "size_mm cannot be 1001.0: use 1 to 1000 mm."),
    ("repair", "cube.stl", {"size_mm": [5]}, "size_mm cannot be '[5]': use a number."),
    ("repair", "cube.stl", {"max_faces": 3}, "max_faces cannot be 3: use 100 to 2000000."),
    ("repair", "cube.stl", {"max_faces": 500.5}, "max_faces cannot be 500.5: use 100 to 2000000."),
    ("repair", "cube.stl", {"orientation": "up"}, "orientation cannot be 'up': use upright, standing or flattest."),
    ("repair", "cube.stl", {"flat_base": "none"}, "flat_base cannot be 'none': use cut or plinth, or leave it out."),
    (
        "repair", "cube.stl", {"flat_base": "cut", "base_mm": 9},
        "base_mm cannot be 9.0: use 0.01 to 6.667 mm, a third of the size at most.",
    ),
    ("repair", "cube.stl", {"hollow": 0.1}, "hollow cannot be 0.1: use 0.4 to 5 mm, a quarter of the size at most."),
    (
        "repair", "cube.stl", {"hollow": 1, "drain_mm": 0.1},
        "drain_mm cannot be 0.1: use 0.5 to 5 mm, a quarter of the size at most.",
    ),
    ("repair", "cube.stl", {"format": "fbx"}, "format cannot be 'fbx': use stl, 3mf, glb, obj, obj_zip, ply or usdz."),
    ("repair", "cube.stl", {"format": ["stl"]}, "format cannot be \"['stl']\": use stl, 3mf, glb, obj"),
    ("repair", "strip.stl", {}, "The surface has only one side, like a Moebius strip"),
    ("inspect", "cube.blend", {}, "cube.blend cannot be read: give a file that ends in .stl, .3mf, .glb, .obj"),
    ("repair", "broken.stl", {}, "broken.stl cannot be used: the file is shorter than its header says"),
    ("inspect", "empty.obj", {}, "empty.obj cannot be used: it holds no faces."),
]  # fmt: skip


@pytest.mark.parametrize(("endpoint", "name", "options", "sentence"), BAD)
def test_bad_input_is_one_sentence(http, folder, endpoint, name, options, sentence):
    event, data = call(http, endpoint, {"mesh": file_data(upload(http, folder / name)), **options})
    assert event == "error"
    assert data["error"].startswith(sentence)
    assert data["error"].endswith(".")
    assert "\n" not in data["error"]


@pytest.mark.parametrize("endpoint", ["inspect", "repair"])
def test_no_mesh_is_a_sentence(client, endpoint):
    with pytest.raises(AppError, match="No mesh was given: upload an STL"):
        client.predict(None, api_name=f"/{endpoint}")


@pytest.mark.parametrize("endpoint", ["inspect", "repair"])
def test_a_file_of_the_server_cannot_be_read_as_a_mesh(http, url, folder, endpoint):
    for path in (str(folder / "cube.stl"), "/etc/passwd", "app.py", "../../../../etc/passwd", f"{url}/health"):
        for data in ({"path": path}, {"path": path, "orig_name": "x.stl"}, {"path": path, "url": path}):
            event, answer = call(http, endpoint, {"mesh": data})
            assert event == "error", data
            assert answer["error"] == (
                "The mesh must be uploaded: a path or an address of another file is not accepted; in Python,"
                ' gradio_client uploads what you give it as handle_file("part.stl").'
            ), data
        event, _ = call(http, endpoint, {"mesh": file_data(path)})
        assert event == "error"
    event, _ = call(http, endpoint, {"mesh": {"path": None, "url": f"{url}/health"}})
    assert event == "error"


def test_every_input_that_takes_a_file_is_guarded(server):
    names = {function.api_name: function for function in server.demo.fns.values()}
    for name in ("inspect", "repair"):
        assert isinstance(names[name].inputs[0], MeshFile)
        assert inspect.iscoroutinefunction(names[name].fn)


def test_a_mesh_of_too_many_faces_is_refused(http, tmp_path, monkeypatch):
    monkeypatch.setattr("orfeas.web.mesh_api.MAX_UPLOADED_FACES", 10)
    export(shapes.cube(20.0), tmp_path / "cube.3mf", "3mf")
    event, data = call(http, "inspect", {"mesh": file_data(upload(http, tmp_path / "cube.3mf"))})
    assert event == "error"
    assert data["error"].startswith("cube.3mf cannot be used: it has 12 faces, at most 10 are taken")


def test_the_docs_name_every_option_with_its_default_and_meaning(http):
    endpoints = http.get("/gradio_api/info").json()["named_endpoints"]
    parameters = {p["parameter_name"]: p for p in endpoints["/repair"]["parameters"]}
    defaults = {name: p["parameter_default"] for name, p in parameters.items() if p["parameter_has_default"]}
    assert defaults == {
        "size_mm": None, "max_faces": None, "orientation": "upright", "flat_base": None, "base_mm": None,
        "hollow": None, "drain_mm": 5.0, "format": "stl",
    }  # fmt: skip
    assert set(parameters) == {"mesh", *defaults}
    assert [p["parameter_name"] for p in endpoints["/inspect"]["parameters"]] == ["mesh", "size_mm"]
    for name in ("/inspect", "/repair"):
        assert all(p["python_type"]["description"].endswith(".") for p in endpoints[name]["parameters"])
        assert endpoints[name]["description"].endswith(".")
    assert [r["label"] for r in endpoints["/repair"]["returns"]] == ["file", "report"]


def test_two_at_once_the_rest_waits_and_too_many_are_refused():
    bench, gate, lock = MeshBench(limit=1), threading.Event(), threading.Lock()
    running, most, begun = 0, 0, threading.Semaphore(0)

    def work():
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        begun.release()
        assert gate.wait(30)
        with lock:
            running -= 1
        return threading.current_thread().name

    def fail():
        raise BadMesh("It is bent.")

    async def play():
        tasks = [asyncio.create_task(bench.run(work)) for _ in range(MESH_THREADS + 1)]
        for _ in range(MESH_THREADS):
            assert await asyncio.to_thread(begun.acquire, timeout=30)  # the loop is free while they work
        with pytest.raises(Exception, match="The queue is full, 1 meshes are waiting"):
            await bench.run(work)
        gate.set()
        names = await asyncio.gather(*tasks)
        assert all(name.startswith("mesh") for name in names)
        with pytest.raises(Exception, match="It is bent"):
            await bench.run(fail)
        return await bench.run(time.monotonic)

    assert asyncio.run(play()) > 0
    assert most == MESH_THREADS
