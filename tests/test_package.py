"""The public face, and what importing costs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import orfeas
from orfeas import errors
from orfeas.settings import explain_unknown, load_settings

ROOT = Path(__file__).resolve().parents[1]


def run_python(code: str, tmp_path: Path, **environment) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False,
        env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "PYTHONPATH": str(ROOT), **environment},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_public_names_exist_and_are_sorted():
    assert orfeas.__all__ == sorted(orfeas.__all__)
    for name in orfeas.__all__:
        assert getattr(orfeas, name) is not None
    with pytest.raises(AttributeError):
        _ = orfeas.nothing_of_that_name


def test_importing_orfeas_loads_nothing_heavy_and_makes_nothing(tmp_path):
    code = "import sys, json, orfeas; print(json.dumps(sorted(m.split('.')[0] for m in sys.modules)))"
    loaded = set(json.loads(run_python(code, tmp_path)))
    assert not loaded & {"torch", "gradio", "numpy", "scipy", "cv2", "skimage", "pydantic"}
    assert list(tmp_path.iterdir()) == []


def test_importing_app_starts_nothing_and_makes_nothing(tmp_path):
    code = "import sys, threading, app; print('torch' in sys.modules, threading.active_count())"
    torch_loaded, threads = run_python(code, tmp_path, GRADIO_ANALYTICS_ENABLED="False").split()
    assert torch_loaded == "False"
    assert int(threads) == 1
    assert [path.name for path in tmp_path.iterdir() if path.name != ".cache"] == []


def test_errors_keep_their_code_across_processes():
    import pickle

    for kind in errors.OrfeasError.__subclasses__():
        error = pickle.loads(pickle.dumps(kind("A sentence.", "some_code")))
        assert (type(error), str(error), error.code) == (kind, "A sentence.", "some_code")
        assert kind("A sentence.").code != "error"


def test_the_error_tree_in_the_docstring_is_the_real_one():
    for kind in errors.OrfeasError.__subclasses__():
        assert f"── {kind.__name__} " in errors.__doc__


def test_settings_come_from_variables(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ORFEAS_PORT", "9000")
    monkeypatch.setenv("ORFEAS_PUBLIC_URL", "https://app.example.org/")
    (tmp_path / ".env").write_text("ORFEAS_PORT=8000\nORFEAS_QUEUE_SIZE=3\n")
    settings = load_settings()
    assert (settings.port, settings.queue_size) == (9000, 3)
    assert settings.public_url == "https://app.example.org"


@pytest.mark.parametrize(
    ("variable", "value", "remedy"),
    [
        ("ORFEAS_PORT", "70000", "use a whole number from 1 to 65535"),
        ("ORFEAS_PORT", "http", "use a whole number from 1 to 65535"),
        ("ORFEAS_JOBS_PER_ADDRESS", "2.5", "use a whole number of 0 or more"),
        ("ORFEAS_KEEP_DAYS", "-1", "use a number of 0 or more"),
        ("ORFEAS_KEEP_GB", "inf", "use a number of 0 or more"),
        ("ORFEAS_DRAIN_SECONDS", "", "use a number from 0 to 3600"),
        ("ORFEAS_ENGINE", "magic", "use auto, sketch, hunyuan3d or ray"),
        ("ORFEAS_LOG_LEVEL", "", "use debug, info, warning or error"),
        ("ORFEAS_ACCEPT_HUNYUAN3D_LICENSE", "maybe", "use 1 or 0"),
        ("ORFEAS_PUBLIC_URL", "ftp://x", "it has to start with http:// or https://"),
    ],
)
def test_a_bad_setting_is_named_in_one_sentence(monkeypatch, variable, value, remedy):
    monkeypatch.setenv(variable, value)
    with pytest.raises(errors.BadRequest) as refused:
        load_settings(_env_file=None)
    assert str(refused.value) == f"{variable} cannot be {value!r}: {remedy}."


def test_a_name_that_no_setting_has_is_told_with_the_nearest(tmp_path):
    (tmp_path / ".env").write_text("ORFEAS_PROT=9000\nORFEAS_TAG=v1\nGRAFANA_PASSWORD=x\n")
    given = {"orfeas_port": "1", "ORFEAS_KEEPDAYS": "3", "ORFEAS_XYZ": "", "ORFEAS_WEB_SERVICE_PORT_HTTP": "80"}
    assert explain_unknown(given, tmp_path / ".env") == [
        "ORFEAS_KEEPDAYS is no setting and does nothing: did you mean ORFEAS_KEEP_DAYS?",
        "ORFEAS_PROT is no setting and does nothing: did you mean ORFEAS_PORT?",
        "ORFEAS_XYZ is no setting and does nothing: .env.example names those there are.",
    ]


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda path: path.write_bytes(b"ORFEAS_HOST=\xff"), "it is not UTF-8"),
        (lambda path: path.symlink_to("/proc/self/mem"), "Input/output error"),  # which not even root can read
    ],
)
def test_an_env_file_that_cannot_be_read_is_one_sentence(monkeypatch, tmp_path, make, reason):
    if not Path("/proc/self/mem").exists():
        pytest.skip("a file that nobody can read is found on Linux")
    monkeypatch.chdir(tmp_path)
    make(tmp_path / ".env")
    sentence = f"The file .env of this folder cannot be read: {reason}; mend it or run in another folder."
    for read in (load_settings, explain_unknown):
        with pytest.raises(errors.BadRequest) as refused:
            read()
        assert str(refused.value) == sentence
    code = "import sys, app; sys.exit(app.main())"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False,
        env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (2, f"orfeas: {sentence}\n")
