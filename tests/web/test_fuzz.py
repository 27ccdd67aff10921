"""Requests and pictures that nobody thought of: made up from the server's own description, and from valid headers."""

from __future__ import annotations

import io
import time
from collections import Counter

import numpy as np
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from PIL import Image

from orfeas.errors import BadPicture
from orfeas.picture import load_picture

SECONDS = 12.0
FUZZ = settings(
    max_examples=6, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck),
    phases=[Phase.generate],
)  # fmt: skip
STREAMS = ("/heartbeat/", "/queue/data", "/{event_id}", "/upload_progress", "/playlist", "/gradio_api/run-history")
TEXT = {"type": "string"}
TOKENS = {"content": {"application/json": {"schema": {"type": "object", "properties": {"tokens": {"type": "array"}}}}}}


def _our_paths() -> dict:
    """A description of our own routes, which FastAPI does not know."""

    def operation(*names: str) -> dict:
        parameters = [{"name": name, "in": "path", "required": True, "schema": TEXT} for name in names]
        return {"parameters": parameters, "responses": {"200": {"description": "well"}}}

    return {
        "/health": {"get": operation()},
        "/ready": {"get": operation()},
        "/jobs/{token}": {"get": operation("token"), "delete": operation("token")},
        "/jobs/{token}/stop": {"post": operation("token")},
        "/jobs/look": {"post": {**operation(), "requestBody": TOKENS}},
        "/groups/{token}": {"delete": operation("token")},
        "/groups/{token}/stop": {"post": operation("token")},
        "/groups/{token}/models.zip": {"get": operation("token")},
        "/r/{result_id}/{name}": {"get": operation("result_id", "name")},
    }


def test_no_request_is_answered_with_a_server_error(server, url):
    description = server.demo.app.openapi()
    ours = _our_paths()
    description["paths"] |= ours
    schema = schemathesis.openapi.from_dict(description)
    operations = [found.ok() for found in schema.get_all_operations()]
    operations = [found for found in operations if not any(stream in found.path for stream in STREAMS)]
    assert len(operations) > 60
    tried, until = Counter(), time.monotonic() + SECONDS
    # our own come first, and then what a body goes to
    for operation in sorted(operations, key=lambda one: (one.path not in ours, one.method != "post")):

        @FUZZ
        @given(case=operation.as_strategy())
        def ask(case):
            if case.path in ours or not tried[case.path] or time.monotonic() < until:
                answer = case.call(base_url=url, timeout=60)
                tried[case.path] += 1
                assert answer.status_code < 500, (case.as_curl_command(), answer.text[:500])
                assert "Traceback" not in answer.text

        ask()
    assert {found.path for found in operations} <= set(tried)
    assert not server.jobs.active()


def _encoded(kind: str, **options) -> bytes:
    pixels = np.zeros((48, 64, 4), np.uint8)
    pixels[8:40, 8:56] = (200, 90, 40, 255)
    file = io.BytesIO()
    image = Image.fromarray(pixels)
    (image if kind != "JPEG" else image.convert("RGB")).save(file, kind, **options)
    return file.getvalue()


VALID = [_encoded("PNG"), _encoded("JPEG"), _encoded("WEBP"), _encoded("WEBP", lossless=True)]


@st.composite
def _mutated(draw) -> bytes:
    """A valid file in which a few bytes, most of them of the header, are other ones, are missing or are doubled."""
    data = bytearray(draw(st.sampled_from(VALID)))
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.one_of(st.integers(0, 64), st.integers(0, len(data) - 1)))
        change = draw(st.sampled_from(["set", "flip", "cut", "double", "number"]))
        if change == "set":
            data[at : at + 1] = bytes([draw(st.integers(0, 255))])
        elif change == "flip" and at < len(data):
            data[at] ^= 1 << draw(st.integers(0, 7))
        elif change == "cut":
            del data[at : at + draw(st.integers(1, 40))]
        elif change == "double":
            data[at:at] = data[at : at + draw(st.integers(1, 40))]
        else:  # a size that is as large as it can be
            data[at : at + 4] = draw(st.sampled_from([b"\xff" * 4, b"\x7f\xff\xff\xff", b"\0\0\0\0", b"\x80\0\0\0"]))
        if not data:
            break
    return bytes(data)


@settings(FUZZ, max_examples=400)
@given(data=_mutated())
def test_the_picture_gate_takes_a_picture_or_says_why_not(data):
    try:
        picture = load_picture(data)
    except BadPicture as refused:
        assert str(refused).endswith(".")  # noqa: PT017 (a picture that is taken is right as well)
    else:
        assert picture.rgba.dtype == np.uint8
        assert picture.rgba.shape[2] == 4
        assert min(picture.rgba.shape[:2]) >= 32
