"""The systemd unit, as far as systemd judges one that it does not run."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from orfeas.settings import Settings
from tests.deploy.caddy import ROOT

UNIT = (ROOT / "deploy" / "orfeas.service").read_text(encoding="utf-8")
INTERPRETER = "/srv/orfeas/.venv/bin/python"


@pytest.fixture
def unit(tmp_path):
    if not shutil.which("systemd-analyze"):
        pytest.skip("systemd is not installed: its unit is not checked (Debian: apt install systemd)")
    assert INTERPRETER in UNIT
    (tmp_path / "orfeas.service").write_text(UNIT.replace(INTERPRETER, "/bin/true"))
    return tmp_path / "orfeas.service"


def analyze(*words) -> subprocess.CompletedProcess:
    return subprocess.run(["systemd-analyze", *words], capture_output=True, text=True, timeout=60)


def test_systemd_understands_every_line(unit):
    done = analyze("verify", unit)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    unit.write_text(UNIT.replace(INTERPRETER, "/bin/true").replace("NoNewPrivileges", "NoNewPrivilegs"))
    assert "NoNewPrivilegs" in analyze("verify", unit).stderr


def test_systemd_calls_the_service_well_hardened(unit):
    """0 is closed in wholly, 10 not at all; 1.3 was measured with systemd 252."""
    done = analyze("security", "--offline=true", "--threshold=20", unit)
    assert done.returncode == 0, done.stdout[-400:]


def test_a_stop_outlasts_the_running_job():
    seconds = next(line for line in UNIT.splitlines() if line.startswith("TimeoutStopSec=")).split("=")[1]
    assert float(seconds) >= Settings.model_fields["drain_seconds"].default + 10


@pytest.mark.parametrize(
    "listed", [("nvidia-frontend", "nvidia-uvm", "nvidia-caps"), ("nvidia", "nvidiactl", "nvidia-uvm", "nvidia-caps")]
)
def test_every_device_of_the_driver_is_allowed(listed):
    """listed: as /proc/devices has them with driver 535, and with 550."""
    allowed = {line.removeprefix("DeviceAllow=") for line in UNIT.splitlines() if line.startswith("DeviceAllow=")}
    assert {f"char-{name} rw" for name in listed} <= allowed
