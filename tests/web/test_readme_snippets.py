"""The README's snippets, run as they stand (but for the address) against a real server."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest

from tests import npm
from tests.test_readme import ROOT, blocks

ADDRESS = "http://127.0.0.1:7860"


def snippet(language: str, contains: str) -> str:
    return next(block for block in blocks(language) if contains in block)


@pytest.fixture
def folder(tmp_path, photo):
    shutil.copy(photo, tmp_path / "mug.jpg")
    return tmp_path


def run(command: list[str], folder, **environment) -> str:
    environment = {**os.environ, "ORFEAS_ENGINE": "sketch", **environment}
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=240, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_python_client(folder, url):
    said = run([sys.executable, "-c", snippet("python", "gradio_client").replace(ADDRESS, url)], folder)
    assert "mug_80mm.stl Ready" in said


def test_python_without_a_server(folder):
    said = run([sys.executable, "-c", snippet("python", "import orfeas")], folder, PYTHONPATH=str(ROOT))
    assert "mug_80mm.3mf Ready" in said
    assert list((folder / "library" / "results").glob("*/mug_80mm.3mf"))


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed: its snippet is not tested")
def test_curl(folder, url):
    said = run(["sh", "-c", snippet("sh", "curl").replace(ADDRESS, url)], folder)
    assert "event: complete" in said
    assert "mug_80mm.stl" in said


def test_javascript(folder, url):
    npm.install(folder, "@gradio/client@2.7.0")
    (folder / "mug.mjs").write_text(snippet("js", "@gradio/client").replace(ADDRESS, url))
    said = run(["node", "mug.mjs"], folder)
    assert "mug_80mm.stl Ready" in said
