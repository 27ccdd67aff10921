"""Packages of npm for tests that run JavaScript, installed into a folder of the test run."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest


def install(folder: Path, package: str) -> Path:
    """``folder`` with the package in it; a script run there finds it. Skips, saying why, where that cannot be done."""
    if not shutil.which("node") or not shutil.which("npm"):
        pytest.skip(f"node and npm are not installed: {package} is not run (Debian: apt install nodejs npm)")
    (folder / "package.json").write_text('{"type": "module", "private": true}')
    command = ["npm", "install", "--no-audit", "--no-fund", "--prefer-offline", package]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)
    except subprocess.TimeoutExpired:
        pytest.skip(f"npm did not install {package} within two minutes")
    if done.returncode:
        pytest.skip(f"npm could not install {package}: {done.stderr[-300:]}")
    return folder
