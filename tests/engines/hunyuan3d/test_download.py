"""The download against a local server that speaks as much of the hub's protocol as its client needs."""

import argparse
import errno
import hashlib
import os
import sys
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import save_file

from orfeas.engines.hunyuan3d import download as room
from orfeas.engines.hunyuan3d import integrity, locate
from orfeas.engines.hunyuan3d.download import PAUSES, add_download_parser, ask_for_acceptance
from orfeas.engines.hunyuan3d.locate import (
    CONVERTED,
    KNOWN_FILES,
    RELEASE,
    Release,
    check_weights,
    explain_missing,
    find_weights,
    tell_integrity,
)
from orfeas.errors import BadRequest, BadWeights, OrfeasError
from orfeas.settings import Settings
from orfeas.verify import hash_file
from tests.engines.hunyuan3d.tiny import FIXTURE, WEIGHTS, tiny_config

COMMIT = "c0ffee" + "0" * 34
FILENAME = "folder/model.fp16.safetensors"
SIDECAR = CONVERTED + ".sha256"


class Hub(ThreadingHTTPServer):
    """Serves one file, with ranges; can break off in the middle, and then refuses more."""

    def __init__(self, data: bytes):
        super().__init__(("127.0.0.1", 0), HubHandler)
        self.data, self.served = data, []
        self.break_off = self.broke_off = False
        self.refuse_after_break = True
        self.sign = False  # whether the file lies at addresses that hold for one request
        self.signed = 0
        self.faults = []  # statuses to answer the next requests of a kind with: ("HEAD", 503)
        self.tells_length = True
        self.etag = hashlib.sha256(data).hexdigest()


class HubHandler(BaseHTTPRequestHandler):
    def do_HEAD(self):
        self.answer(with_body=False)

    def do_GET(self):
        self.answer(with_body=True)

    def answer(self, with_body):
        hub = self.server
        if hub.faults and hub.faults[0][0] == self.command:
            self.refuse(hub.faults.pop(0)[1], "")
            return
        if hub.sign and not with_body:
            hub.signed += 1
            self.send_response(302)
            self.send_header("Location", f"http://localhost:{hub.server_address[1]}/signed/{hub.signed}")
            self.send_header("X-Linked-ETag", f'"{hub.etag}"')
            self.send_header("X-Linked-Size", str(len(hub.data)))
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if hub.sign and self.path != f"/signed/{len(hub.served) + 1}":
            self.refuse(403, "")
            return
        if not hub.sign and self.path != f"/tiny/model/resolve/{COMMIT}/{FILENAME}":
            self.refuse(404, "EntryNotFound")
            return
        if with_body and hub.broke_off and hub.refuse_after_break:
            self.refuse(403, "")
            return
        start = 0
        if wanted := self.headers.get("Range"):
            start = int(wanted.removeprefix("bytes=").split("-")[0])
        body = hub.data[start:]
        self.send_response(206 if start else 200)
        self.send_header("ETag", f'"{hub.etag}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Accept-Ranges", "bytes")
        if hub.tells_length or not with_body:
            self.send_header("Content-Length", str(len(body)))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(hub.data) - 1}/{len(hub.data)}")
        self.end_headers()
        if with_body:
            hub.served.append(start)
            if hub.break_off and not hub.broke_off:
                body = body[: len(body) // 2]
                hub.broke_off = True
            self.wfile.write(body)

    def refuse(self, status, code):
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args):
        pass


@pytest.fixture
def hub():
    server = Hub(WEIGHTS.read_bytes())
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def names_in(folder):
    return sorted(path.name for path in folder.iterdir() if path.is_file())


@pytest.fixture
def fetch(hub, tmp_path, monkeypatch):
    """Run the whole download against the hub; returns what was said. The client reads its variables when it is
    imported, which it may be already, so its constants are set."""
    cache = tmp_path / "home" / "hub"
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    address = f"http://127.0.0.1:{hub.server_address[1]}"
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(room, "PAUSES", (0.0, 0.0, 0.0))

    def run(folder, *, offline=False, **changes):
        release = Release("tiny/model", COMMIT, FILENAME, hub.etag, len(hub.data), len(hub.data))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", offline)
        monkeypatch.setenv("HF_HUB_OFFLINE", "1" if offline else "0")
        said = []
        path = room.download(
            folder,
            release=replace(release, **changes),
            config=tiny_config(),
            report=lambda message, fraction: said.append(message),
        )
        assert path == folder / CONVERTED
        return said

    return run


def test_download_checks_converts_and_is_found(hub, fetch, tmp_path):
    folder = tmp_path / "weights"
    with pytest.raises(OrfeasError, match="HF_HUB_OFFLINE"):
        fetch(folder, offline=True)
    assert not hub.served

    said = fetch(folder)
    assert said[0].startswith("Fetching")
    assert {"Checking SHA-256", "Converting to safetensors"} <= set(said)
    assert "South Korea" in (folder / "NOTICE").read_text()
    assert names_in(folder) == ["NOTICE", CONVERTED, SIDECAR]  # the original is gone
    (folder / "config.json").write_text((FIXTURE / "tiny_config.json").read_text())
    weights = find_weights(Settings(_env_file=None, hunyuan3d_path=folder))
    assert weights.path == folder / CONVERTED
    check_weights(weights)

    fetched = len(hub.served)
    assert "there already" in fetch(folder)[0]
    assert len(hub.served) == fetched


def test_what_another_program_fetched_is_used_and_left_alone(hub, fetch, tmp_path):
    cached = tmp_path / "home" / "hub" / "models--tiny--model" / "snapshots" / COMMIT / FILENAME
    cached.parent.mkdir(parents=True)
    cached.write_bytes(hub.data)
    assert fetch(tmp_path / "weights", offline=True)[0] == "Checking SHA-256"
    assert not hub.served
    assert cached.is_file()


def test_interrupted_download_says_so_and_goes_on(hub, fetch, tmp_path):
    hub.break_off = True
    with pytest.raises(OrfeasError, match="goes on where it stopped"):
        fetch(tmp_path)
    assert not (tmp_path / CONVERTED).exists()
    hub.break_off = hub.broke_off = False
    hub.served.clear()
    fetch(tmp_path)
    assert hub.served == [len(hub.data) // 2]


def test_a_break_within_one_run_is_mended(hub, fetch, tmp_path):
    hub.break_off, hub.refuse_after_break = True, False
    fetch(tmp_path)
    half = len(hub.data) // 2
    assert hub.served == [0, half]


def test_the_address_is_asked_anew_after_a_break(hub, fetch, tmp_path):
    hub.sign = hub.break_off = True
    hub.refuse_after_break = False
    fetch(tmp_path)
    assert hub.served == [0, len(hub.data) // 2]
    assert hub.signed == 2


def test_a_hub_that_is_not_there_is_a_sentence_about_that(hub, fetch, tmp_path, monkeypatch):
    monkeypatch.setattr(room, "urlopen", lambda *a, **k: (_ for _ in ()).throw(ConnectionError("line is cut")))
    with pytest.raises(OrfeasError, match="line is cut"):
        fetch(tmp_path)


def test_a_wrong_file_of_another_program_is_named_and_left_alone(hub, fetch, tmp_path):
    snapshot = tmp_path / "home" / "hub" / "models--tiny--model" / "snapshots" / COMMIT / FILENAME
    blob = tmp_path / "home" / "hub" / "models--tiny--model" / "blobs" / "1234"
    for path in (snapshot, blob):
        path.parent.mkdir(parents=True)
    blob.write_bytes(hub.data)
    snapshot.symlink_to(blob)
    for wrong, what in (({"sha256": "0" * 64}, "SHA-256"), ({"size": 5}, "bytes")):
        with pytest.raises(BadWeights, match=f"{FILENAME} is not the published file.*{what}.*remove it") as caught:
            fetch(tmp_path / "weights", **wrong)
        assert str(snapshot) in str(caught.value)
    assert snapshot.is_symlink()
    assert blob.read_bytes() == hub.data
    assert not hub.served


def test_tampered_file_is_refused_and_kept_for_whoever_knows_better(hub, fetch, tmp_path):
    folder = tmp_path / "weights"
    with pytest.raises(BadWeights, match=f"{hub.etag} instead.*renamed to .*with --sha256"):
        fetch(folder, sha256="0" * 64)
    assert names_in(folder) == ["model.fp16.safetensors.refused"]
    with pytest.raises(BadWeights, match="renamed to"):  # once more, from the network
        fetch(folder, sha256="1" * 64)
    assert hub.served == [0, 0]
    fetch(folder, size=None)  # as with --sha256
    assert hub.served == [0, 0]
    assert names_in(folder) == ["NOTICE", CONVERTED, SIDECAR]


def test_a_file_of_another_size_is_told_before_it_is_fetched_and_the_remedy_works(hub, fetch, tmp_path):
    with pytest.raises(BadWeights, match=r"bytes instead of.*--sha256"):
        fetch(tmp_path / "weights", size=len(hub.data) + 1)
    assert not hub.served
    fetch(tmp_path / "weights", size=None)


@pytest.mark.parametrize("code", ["corrupt_checkpoint", "wrong_keys"])
def test_a_damaged_converted_file_is_set_aside_and_made_anew(hub, fetch, tmp_path, code):
    fetch(tmp_path)
    damaged = hub.data[:100_000]
    if code == "wrong_keys":
        save_file({"other.x": torch.zeros(1)}, tmp_path / CONVERTED)
        damaged = (tmp_path / CONVERTED).read_bytes()
    (tmp_path / CONVERTED).write_bytes(damaged)
    said = fetch(tmp_path)
    assert said[0].startswith(f"{CONVERTED} ")
    assert said[0].endswith(f"Setting it aside as {CONVERTED}.refused")
    assert hub.served == [0, 0]
    assert (tmp_path / f"{CONVERTED}.refused").read_bytes() == damaged
    assert "there already" in fetch(tmp_path)[0]


@pytest.mark.parametrize("name", [FILENAME, "model.fp16.safetensors"])
def test_a_published_file_in_the_folder_is_converted_and_stays(hub, fetch, tmp_path, name):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(hub.data[:-1] + b"x")
    with pytest.raises(BadWeights, match=f"{path} is not the published file: its SHA-256"):
        fetch(tmp_path)
    path.write_bytes(hub.data)
    fetch(tmp_path, offline=True)
    assert not hub.served
    assert path.read_bytes() == hub.data


def test_questions_to_the_hub_are_asked_again_with_growing_pauses(hub, fetch, tmp_path, monkeypatch):
    monkeypatch.setattr(room, "PAUSES", PAUSES)
    waited = []
    monkeypatch.setattr(room.time, "sleep", waited.append)
    hub.faults = [("HEAD", 503), ("HEAD", 429), ("GET", 500)]
    fetch(tmp_path / "one")
    assert waited == [1, 2, 4]
    hub.faults = [("HEAD", 503)] * 4
    with pytest.raises(OrfeasError, match="503"):
        fetch(tmp_path / "two")
    assert waited == [1, 2, 4] * 2
    with pytest.raises(OrfeasError, match="404"):
        fetch(tmp_path / "two", filename="another.safetensors")
    assert len(waited) == 6, "what is not there is not asked for again"


def test_a_short_body_of_unknown_length_is_a_break(hub, fetch, tmp_path):
    hub.tells_length, hub.break_off, hub.refuse_after_break = False, True, False
    fetch(tmp_path)
    assert hub.served == [0, len(hub.data) // 2]


def test_a_disk_that_refuses_is_a_sentence_and_is_not_asked_again(hub, fetch, tmp_path, monkeypatch):
    def refuse(self, mode="r", *arguments, original=Path.open, **options):
        if "a" in mode and self.name == "download.partial":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return original(self, mode, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", refuse)
        with pytest.raises(OrfeasError, match=r"download\.partial cannot be written \(No space left") as caught:
            fetch(tmp_path)
    assert caught.value.code == "disk"
    assert len(hub.served) <= 1
    (tmp_path / "NOTICE").mkdir()
    with pytest.raises(OrfeasError, match=r"NOTICE cannot be read or written \(Is a directory\)"):
        fetch(tmp_path)


def test_the_notice_is_there_before_the_weights(fetch, tmp_path, monkeypatch):
    def interrupt(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)  # the last thing before the converted file appears
    with pytest.raises(KeyboardInterrupt):
        fetch(tmp_path)
    assert "South Korea" in (tmp_path / "NOTICE").read_text()
    assert not (tmp_path / CONVERTED).exists()


def test_two_downloads_at_once_do_not_share_a_file(hub, fetch, tmp_path, monkeypatch):
    def meanwhile(*arguments, original=room.verify):
        with pytest.raises(OrfeasError, match=r"Another download to .* is running") as caught:
            fetch(tmp_path)
        assert caught.value.code == "busy"
        return original(*arguments)

    monkeypatch.setattr(room, "verify", meanwhile)
    fetch(tmp_path)
    assert hub.served == [0]
    assert names_in(tmp_path) == ["NOTICE", CONVERTED, SIDECAR]


def test_file_that_the_hub_does_not_have_is_a_sentence(fetch, tmp_path):
    with pytest.raises(OrfeasError, match="404"):
        fetch(tmp_path, filename="another.safetensors")


def test_full_disk_is_told_before_anything_is_fetched(hub, fetch, tmp_path):
    with pytest.raises(OrfeasError, match="make room"):
        fetch(tmp_path, converted_size=10**18)
    assert not hub.served


# --- finding, without a network ---------------------------------------------------------------------------------------


@pytest.fixture
def empty_home(monkeypatch, tmp_path):
    for name in ("HF_HUB_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def settings_with(path=None):
    return Settings(_env_file=None, hunyuan3d_path=path)


def test_nothing_is_found_in_an_empty_home(empty_home):
    assert find_weights(settings_with()) is None
    assert "python -m orfeas download" in explain_missing(settings_with())
    assert "7.4 GB" in explain_missing(settings_with())
    assert not empty_home.exists()


@pytest.mark.parametrize("name", KNOWN_FILES)
def test_a_folder_with_any_known_file_is_found(tmp_path, name):
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x")
    assert find_weights(settings_with(tmp_path)).path == path
    assert find_weights(settings_with(path)).path == path


def test_a_named_place_without_weights_is_not_replaced_by_another(empty_home, tmp_path):
    made = locate.default_folder() / CONVERTED
    made.parent.mkdir(parents=True)
    made.write_bytes(b"x")
    assert find_weights(settings_with()).path == made
    missing = settings_with(tmp_path / "nowhere")
    assert find_weights(missing) is None
    assert "nowhere" in explain_missing(missing)


def test_the_hub_cache_is_used_as_it_is(empty_home):
    folder = empty_home / "hub" / "models--tencent--Hunyuan3D-2.1" / "snapshots" / RELEASE.revision
    path = folder / RELEASE.filename
    path.parent.mkdir(parents=True)
    path.write_bytes(b"x")
    assert find_weights(settings_with()).path == path


def test_truncated_weights_are_refused(tmp_path):
    path = tmp_path / CONVERTED
    path.write_bytes(WEIGHTS.read_bytes()[:100_000])
    (tmp_path / "config.json").write_text((FIXTURE / "tiny_config.json").read_text())
    with pytest.raises(BadWeights, match=r"model\.safetensors"):
        check_weights(find_weights(settings_with(tmp_path)))


# --- byte for byte ----------------------------------------------------------------------------------------------------


def test_a_converted_file_is_hashed_when_it_was_changed_since(fetch, empty_home, tmp_path, monkeypatch):
    folder = tmp_path / "weights"
    fetch(folder)
    path = folder / CONVERTED
    assert (folder / SIDECAR).read_text() == f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {CONVERTED}\n"
    (folder / "config.json").write_text((FIXTURE / "tiny_config.json").read_text())
    weights = find_weights(settings_with(folder))
    with monkeypatch.context() as patch:
        patch.setattr(integrity, "hash_file", lambda path: pytest.fail("it was just written"))
        check_weights(weights, hashes=True)
    assert tell_integrity(weights) == "SHA-256 checked"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    assert "not checked yet" in tell_integrity(weights)
    check_weights(weights)  # which reads names and shapes only
    with pytest.raises(
        BadWeights, match=r"is not what was converted: its SHA-256 is .* instead of .*Remove it"
    ) as caught:
        check_weights(weights, hashes=True)
    assert caught.value.code == "wrong_hash"
    said = fetch(folder)
    assert "Setting it aside" in said[0]
    check_weights(find_weights(settings_with(folder)), hashes=True)
    (folder / SIDECAR).unlink()
    assert "not known" in tell_integrity(weights)


def test_the_published_file_is_measured_always_and_hashed_once(empty_home, tmp_path, monkeypatch):
    path = tmp_path / "model.fp16.ckpt"
    path.write_bytes(WEIGHTS.read_bytes())
    release = replace(RELEASE, size=path.stat().st_size, sha256=hashlib.sha256(path.read_bytes()).hexdigest())
    monkeypatch.setattr(locate, "RELEASE", release)
    monkeypatch.setattr(locate.Weights, "load_config", lambda self: tiny_config())  # the released one names no other
    weights = find_weights(settings_with(tmp_path))
    assert "not checked yet" in tell_integrity(weights)
    hashed = []
    monkeypatch.setattr(integrity, "hash_file", lambda path, original=hash_file: hashed.append(path) or original(path))
    for _ in range(2):
        check_weights(weights, hashes=True)
    assert hashed == [path]
    assert tell_integrity(weights) == "SHA-256 checked"
    (locate.default_folder() / "checked.json").write_text("[]")
    check_weights(weights, hashes=True)
    assert hashed == [path, path]
    monkeypatch.setattr(locate, "RELEASE", replace(release, sha256="0" * 64))
    with pytest.raises(BadWeights, match="is not what was published: its SHA-256"):
        check_weights(weights, hashes=True)
    monkeypatch.setattr(locate, "RELEASE", replace(release, size=release.size + 1))
    with pytest.raises(BadWeights, match=r"is not what was published: it has [\d,]+ bytes instead of"):
        check_weights(weights)


def test_where_nothing_can_be_remembered_the_file_is_hashed_each_time(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"abc")
    (tmp_path / "not-a-folder").touch()
    memory = integrity.Memory(tmp_path / "not-a-folder" / "checked.json")
    for _ in range(2):
        assert integrity.explain_change(path, hashlib.sha256(b"abc").hexdigest(), memory) == ""
        assert not memory.knows(path, hashlib.sha256(b"abc").hexdigest())


# --- licence ----------------------------------------------------------------------------------------------------------


def test_terms_and_size_are_shown_and_acceptance_is_needed(capsys, monkeypatch):
    class Terminal:
        def isatty(self):
            return True

    ask_for_acceptance(True)
    shown = capsys.readouterr().out
    for word in ("Tencent Hunyuan 3D 2.1 Community", "European Union", "United Kingdom", "South Korea", "7.4 GB"):
        assert word in shown
    with pytest.raises(BadRequest, match="--accept-license"):  # pytest's standard input is no terminal
        ask_for_acceptance(False)
    monkeypatch.setattr(sys, "stdin", Terminal())
    monkeypatch.setattr("builtins.input", lambda prompt: "yes")
    ask_for_acceptance(False)
    monkeypatch.setattr("builtins.input", lambda prompt: "")
    with pytest.raises(BadRequest):
        ask_for_acceptance(False)

    def end(prompt):
        raise EOFError

    monkeypatch.setattr("builtins.input", end)
    with pytest.raises(BadRequest, match="not accepted"):
        ask_for_acceptance(False)


def test_command_refuses_before_it_fetches(monkeypatch, empty_home):
    monkeypatch.setattr(room, "download", lambda *args, **options: pytest.fail("nothing may be fetched"))
    parser = argparse.ArgumentParser()
    add_download_parser(parser.add_subparsers())
    arguments = parser.parse_args(["download"])
    with pytest.raises(BadRequest, match="not accepted"):
        arguments.func(arguments)
    arguments = parser.parse_args(["download", "--accept-license", "--sha256", "abc"])
    with pytest.raises(BadRequest, match="64 hexadecimal"):
        arguments.func(arguments)


@pytest.mark.parametrize("named", ["mine", ""])
def test_command_downloads_what_is_accepted_to_the_named_folder(monkeypatch, empty_home, tmp_path, capsys, named):
    """Named by nothing, as a compose file hands on what is not set, it is the usual folder and not the working one."""
    asked = []
    monkeypatch.setattr(
        room, "download", lambda folder, **options: asked.append((folder, options)) or folder / CONVERTED
    )
    monkeypatch.setenv("ORFEAS_ACCEPT_HUNYUAN3D_LICENSE", "1")
    monkeypatch.setenv("ORFEAS_HUNYUAN3D_PATH", named and str(tmp_path / named))
    parser = argparse.ArgumentParser()
    add_download_parser(parser.add_subparsers())
    arguments = parser.parse_args(["download", "--sha256", "A" * 64])
    assert arguments.func(arguments) == 0
    ((folder, options),) = asked
    assert folder == (tmp_path / named if named else locate.default_folder())
    assert options["release"].sha256 == "a" * 64
    assert options["release"].size is None  # of a file that this project does not know
    assert options["release"].revision == RELEASE.revision
    assert "Ready" in capsys.readouterr().out
