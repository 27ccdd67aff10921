"""What SECURITY.md promises of headers, uploads and limits; the rest of it is tested where it is done."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from orfeas.mesh import load as meshes
from orfeas.picture import MAX_BYTES, MAX_PIXELS
from orfeas.web.limits import CONTENT_POLICY, HEADERS, JSON_BYTES
from tests.web.conftest import file_data, upload

POLICY = (Path(__file__).parents[2] / "SECURITY.md").read_text(encoding="utf-8")
PAYLOADS = {
    "page.html": b"<script>document.title = 'taken'</script>",
    "drawing.svg": b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>',
    "feed.xml": b'<?xml version="1.0"?><x:script xmlns:x="http://www.w3.org/1999/xhtml">alert(1)</x:script>',
    "script.js": b"alert(1)",
    "page.xhtml": b'<html xmlns="http://www.w3.org/1999/xhtml"><script>alert(1)</script></html>',
}


def test_every_answer_carries_the_headers(http, photo):
    answers = [
        http.get("/"),
        http.get("/health"),
        http.get("/no/such/page"),
        http.get("/gradio_api/file=/etc/passwd"),
        http.post("/gradio_api/call/v2/generate", content=b"x" * (JSON_BYTES + 1)),
        http.get(f"/gradio_api/file={upload(http, photo)}"),
        http.post("/gradio_api/call/v2/cutout", json={"picture": file_data("/etc/passwd")}),
        http.get(f"/r/{'0' * 32}/model.glb"),
    ]
    assert {answer.status_code for answer in answers} >= {200, 404, 413}
    for answer in answers:
        for name, value in HEADERS.items():
            assert answer.headers[name.decode()] == value.decode(), (answer.url, name)


def test_the_content_policy_names_no_other_host_but_those_that_may_frame_the_page():
    policy = dict(directive.split(" ", 1) for directive in CONTENT_POLICY.split("; "))
    hosts = {name: re.findall(r"\S*[.:]//\S+|\*\S*", sources) for name, sources in policy.items()}
    assert [name for name, found in hosts.items() if found] == ["frame-ancestors"]
    assert policy["default-src"] == "'self'"
    assert policy["object-src"] == "'none'"
    assert policy["base-uri"] == policy["form-action"] == "'self'"


@pytest.mark.parametrize("name", PAYLOADS)
def test_an_upload_that_is_no_picture_is_not_handed_out(http, tmp_path, name):
    path = tmp_path / name
    path.write_bytes(PAYLOADS[name])
    got = http.get(f"/gradio_api/file={upload(http, path)}")
    assert got.status_code == 404
    assert PAYLOADS[name] not in got.content


def test_the_limits_in_the_policy_are_those_of_the_code():
    assert f"{MAX_BYTES >> 20} MiB" in POLICY
    assert f"{MAX_PIXELS // 1_000_000} megapixels" in POLICY
    assert f"{JSON_BYTES // 1_000_000} MB of JSON" in POLICY
    assert meshes.MAX_FACES > 500_000
    from orfeas.web.mesh_api import MAX_UPLOADED_FACES

    assert f"{MAX_UPLOADED_FACES:,} faces" in POLICY


def test_what_the_policy_refers_to_exists():
    root = Path(__file__).parents[2]
    named = set(re.findall(r"`((?:orfeas|tests|deploy)/[\w./-]+)`", POLICY))
    assert len(named) >= 5
    for path in named:
        assert (root / path).exists(), path
    from orfeas.settings import Settings

    for variable in set(re.findall(r"ORFEAS_[A-Z0-9_]+", POLICY)):
        assert variable.removeprefix("ORFEAS_").lower() in Settings.model_fields, variable
