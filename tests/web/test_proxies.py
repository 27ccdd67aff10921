"""Whose forwarding headers are believed, and what is said of jobs that run elsewhere."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import httpx
import pytest
from starlette.responses import JSONResponse

from orfeas.errors import BadRequest
from orfeas.settings import load_settings
from orfeas.web.callers import Caller, machine, machine_of
from orfeas.web.proxies import Proxies
from tests.web.conftest import file_data, upload

SPOOFED = {
    "X-Forwarded-Host": "evil.example", "X-Forwarded-Proto": "https", "X-Forwarded-For": "203.0.113.9",
    "X-Forwarded-Prefix": "/evil", "Forwarded": "host=evil.example", "X-Real-IP": "203.0.113.9", "X-Other": "kept",
}  # fmt: skip


async def _tell(scope, receive, send):
    names = sorted(name.decode() for name, _ in scope["headers"])
    await JSONResponse({"client": scope["client"][0], "scheme": scope["scheme"], "names": names})(scope, receive, send)


def seen(trusted: str, client: str, headers=SPOOFED) -> dict:
    """What an app is told by a request from ``client`` that claims to have been forwarded."""

    async def ask():
        transport = httpx.ASGITransport(Proxies(_tell, trusted), client=(client, 1234))
        async with httpx.AsyncClient(transport=transport, base_url="http://app") as http:
            return (await http.get("/", headers=headers)).json()

    return asyncio.run(ask())


@pytest.mark.parametrize("trusted", ["127.0.0.1", "*"])
def test_the_start_of_the_app_is_passed_on(trusted):
    """It has no headers. uvicorn goes on without it if it fails, and what Gradio starts with it (MCP) is dead then."""
    events = []

    async def app(scope, receive, send):
        events.append((scope["type"], await receive()))

    async def receive():
        return {"type": "lifespan.startup"}

    asyncio.run(Proxies(app, trusted)({"type": "lifespan"}, receive, None))
    assert events == [("lifespan", {"type": "lifespan.startup"})]


@pytest.mark.parametrize(
    ("trusted", "client"),
    [
        ("127.0.0.1,::1", "10.0.0.5"),
        ("172.30.77.0/24", "172.30.78.1"),
        ("", "127.0.0.1"),
        ("10.0.0.0/8", "not-an-address"),
    ],
)
def test_headers_of_others_are_removed(trusted, client):
    told = seen(trusted, client)
    assert told["client"] == client
    assert told["scheme"] == "http"
    assert "x-other" in told["names"]
    assert not {name.lower() for name in SPOOFED} - {"x-other"} & set(told["names"])


@pytest.mark.parametrize(
    ("trusted", "client"),
    [("127.0.0.1, ::1", "::1"), ("172.30.77.0/24", "172.30.77.9"), ("10.1.2.3/8", "10.9.9.9"), ("*", "198.51.100.7")],
)
def test_headers_of_trusted_proxies_are_believed(trusted, client):
    told = seen(trusted, client)
    assert told["client"] == "203.0.113.9"
    assert told["scheme"] == "https"
    assert "x-forwarded-host" in told["names"]


@pytest.mark.parametrize(
    ("forwarded", "client"),
    [
        (["1.1.1.1, 203.0.113.9"], "203.0.113.9"),
        (["1.1.1.1", "203.0.113.9"], "203.0.113.9"),  # a proxy may add a line of its own
        (["1.1.1.1, 203.0.113.9, 10.1.2.3"], "203.0.113.9"),  # the proxy's own network
        (["10.0.0.7, 10.0.0.8"], "10.0.0.8"),
        (["1.1.1.1, nonsense"], "nonsense"),
        ([" , "], "198.51.100.7"),
    ],
)
def test_where_all_are_trusted_a_client_cannot_write_its_own_address(forwarded, client):
    """Whatever it sends stands before what the proxy adds."""
    assert seen("*", "198.51.100.7", [("X-Forwarded-For", value) for value in forwarded])["client"] == client


@pytest.mark.parametrize(
    ("host", "counted"),
    [
        ("203.0.113.9", "203.0.113.9"),
        ("::ffff:203.0.113.9", "203.0.113.9"),
        ("2001:db8:1:2:aaaa::1", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::", "2001:db8:1:2::/64"),
        ("::1", "::/64"),
        ("testclient", "testclient"),
        ("", ""),
    ],
)
def test_limits_count_what_one_machine_has_to_itself(host, counted):
    assert machine(host) == counted
    request = SimpleNamespace(session_hash="s", client=SimpleNamespace(host=host))
    assert Caller.of(request).address == machine_of({"client": (host, 1)}) == counted
    assert machine_of({"client": None}) == ""


def test_a_space_trusts_the_hub_s_proxy(monkeypatch):
    assert load_settings(_env_file=None).trusted_proxies == "127.0.0.1,::1"
    monkeypatch.setenv("SPACE_ID", "somebody/orfeas")
    assert load_settings(_env_file=None).trusted_proxies == "*"


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("ORFEAS_TRUSTED_PROXIES", "127.0.0.1,10.0.0.0/33"),
        ("ORFEAS_TRUSTED_PROXIES", "proxy.example.org"),
        ("ORFEAS_ROOT_PATH", "studio"),
        ("ORFEAS_ROOT_PATH", "/a b"),
        ("ORFEAS_ROOT_PATH", "//evil.example"),
        ("ORFEAS_ROOT_PATH", "https://app.example.org/studio"),
    ],
)
def test_a_setting_that_cannot_be_is_named(monkeypatch, variable, value):
    monkeypatch.setenv(variable, value)
    with pytest.raises(BadRequest, match=variable):
        load_settings(_env_file=None)


def test_a_root_path_has_no_slash_at_its_end():
    assert load_settings(_env_file=None, root_path="/tools/studio/").root_path == "/tools/studio"
    assert load_settings(_env_file=None, root_path="/").root_path == ""


def test_events_of_a_job_that_is_not_here(http, photo):
    for path in (
        "call/v2/generate/0123456789abcdef",
        "call/generate/0123456789abcdef",
        "queue/data?session_hash=nobody",
    ):
        answer = http.get(f"/gradio_api/{path}")
        assert answer.status_code == 404, path
        assert "another server" in answer.json()["detail"]
    event = http.post("/gradio_api/call/v2/cutout", json={"picture": file_data(upload(http, photo))}).json()["event_id"]
    with http.stream("GET", f"/gradio_api/call/v2/cutout/{event}") as events:
        assert events.status_code == 200
        assert "event: complete" in list(events.iter_lines())
    assert http.get(f"/gradio_api/call/v2/cutout/{event}").status_code == 404, "it has been delivered"
