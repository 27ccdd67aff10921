import argparse
import json
import os
import sys

import pytest

from orfeas import doctor
from orfeas.doctor import MISSING, NOTE, OK, add_doctor_parser, diagnose, render
from orfeas.engines.hunyuan3d import integrity
from orfeas.settings import Settings, load_settings
from tests.engines.hunyuan3d.tiny import FIXTURE, WEIGHTS
from tests.engines.test_choose import refuse_to_look_into


@pytest.fixture(autouse=True)
def empty_home(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    monkeypatch.chdir(tmp_path)  # no .env of the developer's


@pytest.fixture
def driver(monkeypatch):
    """What makes a GPU possible: a lent one leaves no file behind, so none is needed."""
    monkeypatch.setenv("SPACES_ZERO_GPU", "true")


@pytest.fixture
def no_gpu(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")


def found(diagnosis):
    return {finding.name: finding for finding in diagnosis.findings}


def run(*options):
    parser = argparse.ArgumentParser()
    add_doctor_parser(parser.add_subparsers())
    arguments = parser.parse_args(["doctor", *options])
    return arguments.func(arguments)


def test_bare_machine_runs_the_built_in_engine(tmp_path, driver):
    before = set(tmp_path.rglob("*"))
    diagnosis = diagnose(Settings(_env_file=None, data_dir=tmp_path / "not" / "there"))
    assert (diagnosis.engine, diagnosis.device) == ("sketch", "cpu")
    assert "python -m orfeas download" in diagnosis.reason
    findings = found(diagnosis)
    assert findings["python"].state in (OK, NOTE)
    assert findings["numpy"].state == OK
    assert findings["weights"].state == NOTE
    assert "South Korea" in findings["weights"].detail
    assert "GB free" in findings["results"].detail
    assert findings["cutout"].state == OK
    assert "Chromium" in findings["browser"].detail
    assert set(tmp_path.rglob("*")) == before  # it makes nothing


def test_weights_are_opened_and_judged(tmp_path):
    folder = tmp_path / "weights"
    folder.mkdir()
    (folder / "config.json").symlink_to(FIXTURE / "tiny_config.json")
    (folder / "model.safetensors").symlink_to(WEIGHTS)
    finding = found(diagnose(Settings(_env_file=None, hunyuan3d_path=folder)))["weights"]
    assert finding.state == OK
    assert "names and shapes fit, SHA-256 not checked, for it is not known" in finding.detail
    (folder / "model.safetensors.sha256").write_text("0" * 64 + "  model.safetensors\n")
    finding = found(diagnose(Settings(_env_file=None, hunyuan3d_path=folder)))["weights"]
    assert "not checked yet: that is done once, when Hunyuan3D starts" in finding.detail
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors").write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    finding = found(diagnose(Settings(_env_file=None, hunyuan3d_path=folder)))["weights"]
    assert finding.state == NOTE
    assert "git lfs pull" in finding.detail


def test_seven_gigabytes_are_not_hashed_here(tmp_path, monkeypatch):
    (tmp_path / "config.json").symlink_to(FIXTURE / "tiny_config.json")
    (tmp_path / "model.safetensors").symlink_to(WEIGHTS)
    (tmp_path / "model.safetensors.sha256").write_text("0" * 64 + "  model.safetensors\n")
    monkeypatch.setattr(integrity, "hash_file", lambda path: pytest.fail("it was hashed"))
    diagnosis = diagnose(Settings(_env_file=None, engine="hunyuan3d", device="cpu", hunyuan3d_path=tmp_path))
    assert diagnosis.engine == "hunyuan3d"
    memory = found(diagnosis)["memory"]
    assert memory.state == OK
    assert memory.detail.startswith("resident: ")
    assert memory.detail.endswith(" enough, so all networks stay in memory.")


def test_what_this_user_may_not_read_is_a_note(tmp_path, monkeypatch):
    refuse_to_look_into(tmp_path / "closed", monkeypatch)
    diagnosis = diagnose(
        Settings(_env_file=None, hunyuan3d_path=tmp_path / "closed" / "weights", data_dir=tmp_path / "closed" / "data")
    )
    findings = found(diagnosis)
    for name in ("weights", "weights folder", "results"):
        assert findings[name].state == NOTE
        assert "cannot be read: Permission denied" in findings[name].detail
    assert diagnosis.engine == "sketch"
    assert "cannot be read: Permission denied" in diagnosis.reason


def test_forced_engine_that_cannot_run_is_exit_1(monkeypatch, capsys, driver):
    assert run() == 0
    assert "Will run: sketch on cpu." in capsys.readouterr().out
    monkeypatch.setenv("ORFEAS_ENGINE", "hunyuan3d")
    assert run() == 1
    assert "Nothing can run here. The weights of Hunyuan3D-2.1 are not here" in capsys.readouterr().out


def test_without_a_gpu_nothing_asks_for_a_download(no_gpu):
    diagnosis = diagnose(Settings(_env_file=None))
    assert "download" not in diagnosis.reason
    assert "hides every GPU" in diagnosis.reason
    assert "of no use here" in found(diagnosis)["weights"].detail
    assert "hides every GPU" in found(diagnosis)["cuda"].detail


def test_settings_that_are_given_and_such_as_do_nothing(monkeypatch):
    monkeypatch.setenv("ORFEAS_ENGINE", "sketch")
    monkeypatch.setenv("ORFEAS_DEVISE", "cpu")
    lines = render(diagnose(load_settings())).splitlines()
    given, unknown = (line.split(maxsplit=2) for line in lines if line.split()[1] == "settings")
    assert given == [OK, "settings", "given: ORFEAS_DATA_DIR, ORFEAS_ENGINE"]
    assert unknown[:2] == [NOTE, "settings"]
    assert "did you mean ORFEAS_DEVICE?" in unknown[2]


def test_json_holds_everything(capsys):
    assert run("--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["can_run"] is True
    assert document["engine"] == "sketch"
    assert {"name", "state", "detail"} == set(document["findings"][0])


def test_missing_package_stops_all_and_names_the_remedy(monkeypatch):
    monkeypatch.setitem(doctor.REQUIRED, "a-package-that-is-not-there", "everything")
    diagnosis = diagnose(Settings(_env_file=None))
    assert not diagnosis.can_run
    assert found(diagnosis)["a-package-that-is-not-there"].state == MISSING
    assert "pip install -r requirements.txt" in render(diagnosis)


def test_old_python_is_told(monkeypatch):
    monkeypatch.setattr(doctor, "PYTHONS", ((99, 0), (99, 1)))
    diagnosis = diagnose(Settings(_env_file=None))
    assert not diagnosis.can_run
    assert "99.0 or later" in diagnosis.reason


def test_driver_is_asked_whatever_torch_says(monkeypatch, tmp_path):
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 'NVIDIA GeForce RTX 3090, 550.54, 24576 MiB, 24000 MiB'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert found(diagnose(Settings(_env_file=None)))["driver"].detail == (
        "NVIDIA GeForce RTX 3090, driver 550.54, 24000 MiB of 24576 MiB free"
    )
    program.write_text("#!/bin/sh\nexit 9\n")
    finding = found(diagnose(Settings(_env_file=None)))["driver"]
    assert finding.state == NOTE
    assert "failed" in finding.detail


@pytest.mark.parametrize("broken", ["mem_get_info", "get_device_capability"])
def test_a_gpu_that_does_not_answer_is_a_note(monkeypatch, broken):
    torch = pytest.importorskip("torch")

    def fail(index):
        raise RuntimeError("CUDA error: unspecified launch failure")

    answers = {"is_available": lambda: True, "device_count": lambda: 1, "get_device_name": lambda index: "RTX 3090"}
    answers |= {"mem_get_info": lambda index: (23e9, 24e9), "get_device_capability": lambda index: (8, 6)}
    for name, answer in answers.items():
        monkeypatch.setattr(torch.cuda, name, answer)
    assert found(diagnose(Settings(_env_file=None)))["cuda:0"].state == OK
    monkeypatch.setattr(torch.cuda, broken, fail)
    finding = found(diagnose(Settings(_env_file=None)))["cuda:0"]
    assert finding.state == NOTE
    assert "does not answer (CUDA error: unspecified launch failure)" in finding.detail


def test_torch_is_not_needed(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    diagnosis = diagnose(Settings(_env_file=None, hunyuan3d_path=WEIGHTS))
    assert diagnosis.engine == "sketch"
    assert "PyTorch" in diagnosis.reason
    assert "not checked" in found(diagnosis)["weights"].detail
