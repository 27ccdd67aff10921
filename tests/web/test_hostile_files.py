"""Every file of the hostile manifest, uploaded to the program itself, whose memory is watched from outside."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.web.conftest import START_SECONDS, call, file_data, upload, wait_until
from tests.web.test_program import Program

HOSTILE = Path(__file__).parents[1] / "fixtures" / "hostile"
MANIFEST = json.loads((HOSTILE / "manifest.json").read_text())
PICTURES = [entry for entry in MANIFEST["files"] if not entry["file"].startswith("ckpt/")]
REFUSAL_MB = 64


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    program = Program(tmp_path_factory.mktemp("program"))
    wait_until(program.health, "the app answers", START_SECONDS)
    yield program
    program.end()


def _cut(program, path: Path) -> tuple[str, object]:
    return call(program.http, "cutout", {"picture": file_data(upload(program.http, path))})


def test_every_file_has_its_expected_answer(program):
    assert len(PICTURES) == 35
    for entry in PICTURES:
        event, answer = _cut(program, HOSTILE / entry["file"])
        if entry["verdict"] == "reject":
            assert event == "error", entry
            sentence = answer["error"]
            assert sentence[0].isupper(), entry
            assert sentence.endswith("."), entry
            assert "went wrong" not in sentence, entry
        else:
            assert event == "complete", (entry, answer)
    assert "Traceback" not in program.log.read_text()


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="Linux tells and resets a process's peak memory")
def test_a_refused_file_costs_little_memory(program, photo):
    assert _cut(program, photo)[0] == "complete"  # so that what is loaded once is loaded
    process = Path(f"/proc/{program.process.pid}")

    def memory_mb(field: str) -> float:
        lines = (process / "status").read_text().splitlines()
        return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(field))

    for entry in PICTURES:
        if entry["verdict"] == "reject":
            idle = memory_mb("VmRSS:")
            (process / "clear_refs").write_text("5")
            assert _cut(program, HOSTILE / entry["file"])[0] == "error"
            assert memory_mb("VmHWM:") - idle < REFUSAL_MB, entry
