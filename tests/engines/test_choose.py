import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from orfeas.engines import choose
from orfeas.engines import gpu as gpu_room
from orfeas.engines.choose import choose_device, choose_engine
from orfeas.engines.gpu import rule_out_gpu
from orfeas.errors import BadRequest, BadWeights, EngineUnavailable
from orfeas.settings import Settings
from tests.engines.hunyuan3d.tiny import FIXTURE, WEIGHTS


@pytest.fixture(autouse=True)
def empty_home(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)


@pytest.fixture
def folder(tmp_path):
    """Weights of the tiny model, as ``download`` would leave them."""
    folder = tmp_path / "weights"
    folder.mkdir()
    (folder / "model.safetensors").symlink_to(WEIGHTS)
    (folder / "config.json").symlink_to(FIXTURE / "tiny_config.json")
    return folder


@pytest.fixture
def gpu(monkeypatch):
    """A machine with one GPU, as far as torch is asked about it."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: "RTX 3090")
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 0)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 0)
    memory = {"free": 24e9}
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (memory["free"], 24e9))
    monkeypatch.setattr(choose, "try_gpu", lambda device: None)
    return memory


@pytest.fixture
def no_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.fixture
def driver(monkeypatch):
    """A machine with NVIDIA's driver, as far as the system is asked about it."""
    for asker in (choose, gpu_room):
        monkeypatch.setattr(asker, "rule_out_gpu", lambda: "")


@pytest.fixture
def no_driver(monkeypatch):
    for asker in (choose, gpu_room):
        monkeypatch.setattr(asker, "rule_out_gpu", lambda: "no NVIDIA GPU was found here")


def refuse_to_look_into(folder, monkeypatch):
    """As the system does for whoever is not root: asking for what lies in a closed folder raises (before 3.14)."""
    for name in ("is_file", "exists"):
        original = getattr(Path, name)

        def look(self, *arguments, original=original, **options):
            if folder in self.parents:
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self))
            return original(self, *arguments, **options)

        monkeypatch.setattr(Path, name, look)


def settings(**options):
    return Settings(_env_file=None, **options)


def test_without_weights_the_built_in_engine_runs_and_says_how_to_get_them(driver):
    engine = choose_engine(settings())
    assert engine.name == "sketch"
    assert engine.reason == (
        "The weights of Hunyuan3D-2.1 are not here; `python -m orfeas download` fetches them (7.4 GB)."
        " Until then the built-in engine runs."
    )


def test_nobody_is_sent_to_download_in_vain(no_driver):
    engine = choose_engine(settings())
    assert engine.reason == (
        "Hunyuan3D needs a CUDA GPU, and no NVIDIA GPU was found here. So the built-in engine runs."
    )
    with pytest.raises(EngineUnavailable, match="no NVIDIA GPU was found here: ORFEAS_ENGINE=auto runs the built-in"):
        choose_engine(settings(engine="hunyuan3d"))
    assert "download" not in choose_engine(settings(device="cpu")).reason  # it would take hours: it is not chosen
    with pytest.raises(EngineUnavailable, match="python -m orfeas download"):
        choose_engine(settings(engine="hunyuan3d", device="cpu"))


@pytest.mark.skipif(sys.platform == "win32", reason="it looks for other files there")
def test_a_gpu_is_ruled_out_by_what_the_system_shows(tmp_path):
    def ruled_out(**environment):
        return rule_out_gpu(tmp_path / "root", {"PATH": str(tmp_path / "bin"), **environment})

    (tmp_path / "root" / "dev").mkdir(parents=True)
    assert ruled_out() == "no NVIDIA GPU was found here"
    assert ruled_out(SPACES_ZERO_GPU="true") == ""
    (tmp_path / "root" / "dev" / "nvidia0").touch()
    assert ruled_out() == ""
    assert ruled_out(CUDA_VISIBLE_DEVICES="1") == ""
    for hidden in ("", "-1"):
        assert "CUDA_VISIBLE_DEVICES" in ruled_out(CUDA_VISIBLE_DEVICES=hidden)
    (tmp_path / "root" / "dev" / "nvidia0").unlink()
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "nvidia-smi").touch(mode=0o755)
    assert ruled_out() == ""


def test_sketch_can_be_asked_for_where_hunyuan3d_could_run(folder, gpu):
    engine = choose_engine(settings(engine="sketch", hunyuan3d_path=folder))
    assert engine.name == "sketch"
    assert "ORFEAS_ENGINE=sketch" in engine.reason


def test_gpu_and_weights_give_hunyuan3d(folder, gpu):
    engine = choose_engine(settings(hunyuan3d_path=folder))
    assert (engine.name, engine.device) == ("hunyuan3d", "cuda:0")
    assert "RTX 3090" in engine.reason
    assert "ORFEAS_HUNYUAN3D_PATH" in engine.reason


def test_approximations_are_the_settings(folder, gpu):
    assert choose_engine(settings(hunyuan3d_path=folder)).caveat == ""
    engine = choose_engine(settings(hunyuan3d_path=folder, hunyuan3d_approximate="latents"))
    assert engine.approximations.top_latents
    assert "Approximated" in engine.caveat


@pytest.mark.parametrize("engine", ["auto", "sketch", "hunyuan3d", "ray"])
def test_an_approximation_that_there_is_none_of_is_told_whatever_would_run(no_driver, engine):
    with pytest.raises(BadRequest, match="ORFEAS_HUNYUAN3D_APPROXIMATE cannot name 'magic': use solver, guidance or"):
        choose_engine(settings(engine=engine, hunyuan3d_approximate="latents,magic"))


def test_weights_without_a_gpu_give_the_built_in_engine(folder, no_gpu, driver):
    engine = choose_engine(settings(hunyuan3d_path=folder))
    assert engine.name == "sketch"
    assert "needs a CUDA GPU, and " in engine.reason
    assert "PyTorch" in engine.reason  # the driver is there, so it is PyTorch that does not see the GPU


def test_weights_without_a_driver_do_not_blame_pytorch(folder, no_gpu, no_driver):
    reason = choose_engine(settings(hunyuan3d_path=folder)).reason
    assert reason == "Hunyuan3D needs a CUDA GPU, and no NVIDIA GPU was found here. So the built-in engine runs."


def test_forced_hunyuan3d_fails_clearly(folder, no_gpu, driver):
    with pytest.raises(EngineUnavailable, match=r"weights of Hunyuan3D-2\.1 are not here"):
        choose_engine(settings(engine="hunyuan3d"))
    with pytest.raises(EngineUnavailable, match="needs a CUDA GPU"):
        choose_engine(settings(engine="hunyuan3d", hunyuan3d_path=folder))


def test_cpu_runs_it_only_when_both_are_asked_for(folder, gpu):
    engine = choose_engine(settings(device="cpu", hunyuan3d_path=folder))
    assert engine.name == "sketch"
    assert "hours" in engine.reason
    engine = choose_engine(settings(engine="hunyuan3d", device="cpu", hunyuan3d_path=folder))
    assert (engine.name, engine.device) == ("hunyuan3d", "cpu")
    assert "hours" in engine.reason


def test_damaged_weights_are_told_and_not_run(tmp_path, gpu):
    path = tmp_path / "model.safetensors"
    path.write_bytes(WEIGHTS.read_bytes()[:50_000])
    engine = choose_engine(settings(hunyuan3d_path=path))
    assert engine.name == "sketch"
    assert "model.safetensors" in engine.reason
    with pytest.raises(BadWeights):
        choose_engine(settings(engine="hunyuan3d", hunyuan3d_path=path))


def test_weights_that_were_changed_are_told_and_not_run(folder, gpu):
    (folder / "model.safetensors.sha256").write_text("0" * 64 + "  model.safetensors\n")
    engine = choose_engine(settings(hunyuan3d_path=folder))
    assert engine.name == "sketch"
    assert "model.safetensors is not what was converted: its SHA-256 is" in engine.reason
    with pytest.raises(BadWeights, match="python -m orfeas download"):
        choose_engine(settings(engine="hunyuan3d", hunyuan3d_path=folder))
    assert choose_engine(settings(hunyuan3d_path=folder), hashes=False).name == "hunyuan3d"


def test_a_place_that_this_user_may_not_read_is_told_and_not_run(folder, gpu, monkeypatch):
    refuse_to_look_into(folder, monkeypatch)
    engine = choose_engine(settings(hunyuan3d_path=folder))
    assert engine.name == "sketch"
    assert engine.reason == (
        f"The place of Hunyuan3D's weights {folder} cannot be read: Permission denied; let this user read it, or name"
        " another in ORFEAS_HUNYUAN3D_PATH. So the built-in engine runs."
    )
    with pytest.raises(BadWeights, match="cannot be read: Permission denied"):
        choose_engine(settings(engine="hunyuan3d", hunyuan3d_path=folder))


def test_too_little_memory_is_told_with_the_numbers(folder, gpu):
    gpu["free"] = 1e6
    engine = choose_engine(settings(hunyuan3d_path=folder))
    assert engine.name == "sketch"
    assert "cuda:0 has 0.0 GB" in engine.reason
    with pytest.raises(EngineUnavailable, match="free memory"):
        choose_engine(settings(engine="hunyuan3d", hunyuan3d_path=folder))


@pytest.mark.parametrize("broken", ["mem_get_info", "get_device_name"])
def test_a_gpu_that_does_not_answer_is_told_and_not_run(folder, gpu, monkeypatch, broken):
    def fail(device):
        raise torch.OutOfMemoryError("CUDA error: out of memory\nCUDA kernel errors might be reported later.")

    monkeypatch.setattr(torch.cuda, broken, fail)
    engine = choose_engine(settings(hunyuan3d_path=folder))
    assert engine.name == "sketch"
    assert "cuda:0 is there but does not answer (CUDA error: out of memory): " in engine.reason
    assert engine.reason.endswith("So the built-in engine runs.")
    with pytest.raises(EngineUnavailable, match="nvidia-smi"):
        choose_engine(settings(engine="hunyuan3d", hunyuan3d_path=folder))


def test_a_gpu_that_this_pytorch_has_nothing_for_is_told_and_not_run(folder, gpu, monkeypatch):
    def fail(device):
        raise RuntimeError("CUDA error: no kernel image is available for execution on the device\nCompile with")

    monkeypatch.setattr(choose, "try_gpu", fail)
    engine = choose_engine(settings(hunyuan3d_path=folder))
    assert engine.name == "sketch"
    assert engine.reason.startswith("cuda:0 is older than this PyTorch runs on (CUDA error: no kernel image is")
    monkeypatch.setenv("SPACES_ZERO_GPU", "1")  # which lends its GPU job by job: nothing is to touch it before
    assert choose_device("auto", False)[0] == "cuda:0"


def test_devices(gpu):
    assert (
        choose_device("auto", False)[0]
        == choose_device("CUDA", False)[0]
        == choose_device("cuda:0", True)[0]
        == "cuda:0"
    )
    with pytest.raises(EngineUnavailable, match="not there"):
        choose_device("cuda:3", False)
    for wrong in ("gpu", "cuda:x", "auto:1", ""):
        with pytest.raises(EngineUnavailable, match="use auto, cpu, cuda or cuda:N"):
            choose_device(wrong, True)


def test_torch_is_not_imported_where_it_is_not_needed():
    code = (
        "import sys; from orfeas.engines.choose import choose_engine; from orfeas.settings import Settings;"
        "engine = choose_engine(Settings(_env_file=None));"
        "assert engine.name == 'sketch'; assert not {'torch', 'huggingface_hub', 'gradio'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
