"""Find a Chromium for the browser tests, or install one: ``python -m tests.browser.chromium [--install]``.

In this order: one on the PATH, Debian's package (as root), Playwright's own download.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")


def find_chromium() -> str | None:
    """The path of a Chromium that can be started, or None. ORFEAS_TEST_CHROMIUM names one explicitly."""
    named = os.environ.get("ORFEAS_TEST_CHROMIUM")
    if named:
        return named if Path(named).is_file() else None
    for name in NAMES:
        if path := shutil.which(name):
            return path
    try:
        from playwright.sync_api import sync_playwright

        with sync_playwright() as playwright:
            path = playwright.chromium.executable_path
        return path if Path(path).is_file() else None
    except ImportError:
        return None


def install_chromium() -> str | None:
    """Install one if there is none; returns its path, or None if none can be had."""
    if found := find_chromium():
        return found
    attempts = [[sys.executable, "-m", "playwright", "install", "chromium"]]
    if shutil.which("apt-get") and hasattr(os, "geteuid") and os.geteuid() == 0:
        debian = "apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq chromium"
        attempts.insert(0, ["sh", "-c", debian])
    for command in attempts:
        print("browser tests: trying", " ".join(command), flush=True)
        done = subprocess.run(command, check=False, stdout=subprocess.DEVNULL)
        if done.returncode == 0 and (found := find_chromium()):
            return found
    return None


def main() -> int:
    path = install_chromium() if "--install" in sys.argv else find_chromium()
    if path:
        print("browser tests: using", path)
        return 0
    print(
        "\n*** NO CHROMIUM COULD BE FOUND OR INSTALLED: THE BROWSER TESTS WILL BE SKIPPED. ***\n"
        "*** Install Chromium (Debian: apt-get install chromium) and run the tests again. ***\n",
        file=sys.stderr,
    )
    return 1


if __name__ == "__main__":
    sys.exit(main())
