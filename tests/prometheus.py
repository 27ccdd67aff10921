"""Find Prometheus and promtool, or fetch Debian's: ``python -m tests.prometheus [--install]``.

Debian's package is unpacked and not installed: installed, it would start a server on the machine.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

FOLDER = Path(sys.prefix) / "prometheus"  # goes with the virtual environment


def find_program(name: str) -> str | None:
    """The path of "prometheus" or "promtool", or None."""
    unpacked = FOLDER / "usr" / "bin" / name
    return shutil.which(name) or (str(unpacked) if unpacked.is_file() else None)


def need(name: str) -> str:
    """The path of that program. Skips, saying why and what to do, where there is none."""
    if found := find_program(name):
        return found
    pytest.skip(
        f"{name.upper()} IS NOT HERE, SO NO RULE AND NO DASHBOARD IS TRIED: python -m tests.prometheus --install"
    )


def install() -> bool:
    """Fetch and unpack Debian's package; whether both programs are there then."""
    for command in (["true"], ["apt-get", "update", "-qq"]):
        if find_program("prometheus") and find_program("promtool"):
            return True
        with tempfile.TemporaryDirectory() as folder:
            try:
                subprocess.run(command, check=False, stdout=subprocess.DEVNULL, timeout=300)
                subprocess.run(["apt-get", "download", "-qq", "prometheus"], cwd=folder, check=True, timeout=300)
                (package,) = Path(folder).glob("*.deb")
                subprocess.run(["dpkg", "-x", str(package), str(FOLDER)], check=True, timeout=300)
            except (OSError, subprocess.SubprocessError):
                continue
    return bool(find_program("prometheus") and find_program("promtool"))


def main() -> int:
    if "--install" in sys.argv:
        install()
    found = {name: find_program(name) for name in ("prometheus", "promtool")}
    if all(found.values()):
        print("alert rules and dashboard: using", *found.values())
        return 0
    print(
        "\n*** PROMETHEUS COULD NOT BE FOUND OR FETCHED: NO ALERT RULE AND NO DASHBOARD WILL BE TRIED. ***\n"
        "*** Put prometheus and promtool on the PATH and run the tests again. ***\n",
        file=sys.stderr,
    )
    return 1


if __name__ == "__main__":
    sys.exit(main())
