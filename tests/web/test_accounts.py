"""Accounts: who has none gets nothing but the login, probes and results whose address he was given."""

from __future__ import annotations

import contextlib
import io

import httpx
import pytest
from gradio_client import handle_file

from orfeas.accounts import Accounts, hash_password
from orfeas.cli import main
from orfeas.errors import BadRequest
from orfeas.library import Library
from orfeas.settings import Settings, load_settings
from orfeas.web.serve import start
from tests.conftest import PacedEngine, open_studio
from tests.web.conftest import call, connect, file_data, free_port, upload, wait_until

PASSWORD = "correct horse"


@pytest.fixture(scope="module")
def entry() -> str:
    return f"ada:{hash_password(PASSWORD)}"


@contextlib.contextmanager
def serve(folder, entry):
    settings = Settings(_env_file=None, engine="sketch", data_dir=folder, port=free_port(), auth=entry)
    server = start(open_studio(settings, PacedEngine(), Library(folder)), settings)
    wait_until(lambda: server.jobs.studio.is_loaded, "the engine, which a thread loads, is ready")
    yield server.url.rstrip("/")
    server.close()


@pytest.fixture(scope="module")
def guarded(tmp_path_factory, entry):
    with serve(tmp_path_factory.mktemp("guarded"), entry) as address:
        yield address


def test_a_password_is_kept_as_a_salted_hash(entry):
    accounts = Accounts(f"{entry}, max:{hash_password('another one')}\n")
    assert accounts.check("ada", PASSWORD)
    assert not accounts.check("ada", "another one")
    assert not accounts.check("max", PASSWORD)
    assert not accounts.check("nobody", PASSWORD)
    assert not accounts.check("ada", "\ud800")
    assert PASSWORD not in entry
    assert hash_password(PASSWORD) != hash_password(PASSWORD)
    assert not Accounts("").check("", "")
    with pytest.raises(BadRequest, match="8 characters"):
        hash_password("short")
    for wrong in ("ada", "ada:secret", "ada:scrypt.15.8.3.x.y", "a b:" + entry[4:], entry.replace(".15.", ".25.")):
        with pytest.raises(BadRequest, match="ORFEAS_AUTH") as refused:
            load_settings(_env_file=None, auth=wrong)
        assert "secret" not in str(refused.value)  # somebody's password, maybe


def test_the_command_prints_an_entry(monkeypatch, capsys):
    monkeypatch.setattr("sys.stdin", io.StringIO(PASSWORD + "\n"))
    assert main(["hash-password", "ada"]) == 0
    assert Accounts(capsys.readouterr().out.strip()).check("ada", PASSWORD)
    assert main(["hash-password", "a:b"]) == 2


def test_without_an_account_there_is_a_login_and_nothing_else(guarded):
    with httpx.Client(base_url=guarded, timeout=60) as http:
        assert http.get("/health").status_code == http.get("/ready").status_code == 200
        assert http.get(f"/r/{'0' * 32}/model.stl").status_code == 404
        page = http.get("/")
        assert page.status_code == 200
        assert '"auth_required":true' in page.text
        assert '"api_name":"generate"' not in page.text
        token = "0" * 32
        for method, path in (
            ("POST", "/gradio_api/upload"), ("POST", "/gradio_api/queue/join"), ("GET", "/gradio_api/info"),
            ("POST", "/gradio_api/call/v2/generate"), ("POST", "/gradio_api/run/cutout"), ("GET", "/config"),
            ("GET", f"/jobs/{token}"), ("DELETE", f"/jobs/{token}"), ("POST", f"/jobs/{token}/stop"),
            ("POST", "/gradio_api/cancel"), ("GET", "/gradio_api/heartbeat/x"),
            ("GET", "/gradio_api/file=/etc/passwd"), ("GET", "/gradio_api/queue/data?session_hash=x"),
        ):  # fmt: skip
            answer = http.request(method, path)
            assert answer.status_code == 401, path
            assert "log in" in answer.json()["error"]
        forged = {"Cookie": "access-token-unsecure-x=1; access-token=2"}
        assert http.get("/config", headers=forged).status_code == 401
        for wrong in ("Basic !", ("ada", "wrong horse"), ("eve", PASSWORD)):
            sent = {"headers": {"Authorization": wrong}} if isinstance(wrong, str) else {"auth": wrong}
            answer = http.get("/config", **sent)
            assert answer.status_code == 401
            assert answer.json()["error"].startswith("This app has no account with that name and password")


def test_with_one_everything_works_in_browser_client_and_curl(guarded, photo):
    client = connect(guarded, auth=("ada", PASSWORD))
    _, answer = client.predict(handle_file(photo), size_mm=20, api_name="/generate")
    client.close()
    assert httpx.get(f"{guarded}/r/{answer['id']}/recipe.json", timeout=60).status_code == 200  # a link may be shared

    with httpx.Client(base_url=guarded, timeout=60, auth=("ada", PASSWORD)) as http:  # as curl -u
        assert call(http, "cutout", {"picture": file_data(upload(http, photo))})[0] == "complete"
        assert http.get(f"/jobs/{'0' * 32}").json() == {"state": "unknown"}
    with httpx.Client(base_url=guarded, timeout=60) as http:  # as the page does
        assert http.post("/login", data={"username": "ada", "password": PASSWORD}).status_code == 200
        assert http.get("/config").status_code == 200
        assert "scrypt" not in http.get("/config").text
        for site in ("cross-site", "same-site"):  # a page elsewhere, with the cookie that the browser adds
            from_there = {"Sec-Fetch-Site": site, "Origin": "https://evil.example.org"}
            answer = http.post("/gradio_api/call/v2/cutout", json={}, headers=from_there)
            assert (answer.status_code, answer.json()["error"][:6]) == (403, "A page")
            assert http.get("/gradio_api/info", headers=from_there).status_code == 403
        for site in ("same-origin", "none"):
            assert http.get("/gradio_api/info", headers={"Sec-Fetch-Site": site}).status_code == 200


def test_a_logout_ends_what_came_before_it_and_only_the_page_itself_may_ask_for_it(guarded):
    with httpx.Client(base_url=guarded, timeout=60) as page, httpx.Client(base_url=guarded, timeout=60) as curl:
        curl.auth = ("ada", PASSWORD)
        assert page.post("/login", data={"username": "ada", "password": PASSWORD}).status_code == 200
        assert curl.get("/config").status_code == 200
        for path in ("/logout", "/logout/", "/logout?all_session=true"):
            assert page.get(path, headers={"Sec-Fetch-Site": "cross-site"}).status_code == 403, path
        assert page.get("/config").status_code == 200
        assert page.get("/logout", headers={"Sec-Fetch-Site": "same-origin"}).status_code == 302
        assert page.get("/config").status_code == 401
        assert curl.get("/config").status_code == 200  # it sends its password each time


def test_who_guesses_passwords_is_slowed_down(tmp_path, entry):
    with serve(tmp_path, entry) as guarded:  # where nobody has guessed yet

        def ask(password):
            return httpx.get(f"{guarded}/config", auth=("ada", password), timeout=60).status_code

        assert ask(PASSWORD) == 200
        guess = {"username": "ada", "password": "wrong horse"}
        statuses = [httpx.post(f"{guarded}/login", data=guess, timeout=60).status_code for _ in range(20)]
        assert set(statuses) == {400, 429}
        basic = [ask(f"wrong {k}") for k in range(20)]
        assert set(basic) == {401, 429}
        assert ask(PASSWORD) == 200, "who was let in stays in"
