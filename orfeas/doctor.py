"""``python -m orfeas doctor``: what was found, what is missing, what will run here, and why."""

from __future__ import annotations

import argparse
import json
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from orfeas import __version__
from orfeas.errors import OrfeasError
from orfeas.settings import Settings, explain_unknown, load_settings

if TYPE_CHECKING:
    from orfeas.engines import Engine

OK, NOTE, MISSING = "ok", "note", "missing"
PYTHONS = ((3, 10), (3, 12))
# Package -> what it is for. Without one of these nothing runs.
REQUIRED = {
    "numpy": "all geometry",
    "scipy": "geometry",
    "opencv-python-headless": "pictures and the cutout",
    "pillow": "pictures",
    "scikit-image": "surfaces",
    "manifold3d": "solid meshes",
    "fast-simplification": "fewer triangles",
    "pydantic-settings": "settings",
    "structlog": "logs",
}
OPTIONAL = {
    "gradio": "the page and its API",
    "prometheus-client": "the server's metrics",
    "nvidia-ml-py": "the GPU's readings in the metrics",
    "rich": "the command line's progress bar",
    "torch": "Hunyuan3D",
    "safetensors": "Hunyuan3D's weights",
    "huggingface-hub": "`python -m orfeas download`",
}
MODULES = {
    "opencv-python-headless": "cv2",
    "pillow": "PIL",
    "scikit-image": "skimage",
    "fast-simplification": "fast_simplification",
    "pydantic-settings": "pydantic_settings",
    "huggingface-hub": "huggingface_hub",
    "prometheus-client": "prometheus_client",
    "nvidia-ml-py": "pynvml",
}
MIN_FREE_GB = 1.0  # of disk for results


@dataclass(frozen=True)
class Finding:
    """state: "ok", "note" (works, worth knowing) or "missing" (with the remedy in ``detail``)."""

    name: str
    state: str
    detail: str


@dataclass(frozen=True)
class Diagnosis:
    """engine: "sketch", "hunyuan3d", or "" if none can run; reason: why, or what stands in the way."""

    orfeas: str
    findings: tuple[Finding, ...]
    engine: str
    device: str
    reason: str

    @property
    def can_run(self) -> bool:
        return bool(self.engine)

    def to_dict(self) -> dict:
        return {**asdict(self), "can_run": self.can_run}


def diagnose(settings: Settings) -> Diagnosis:
    """Look at everything. Changes nothing, downloads nothing, reads no weights beyond their names and shapes.

    Of their SHA-256 it tells whether it was checked: 7 GB are hashed once, by ``download`` or where the engine starts.
    """
    findings = (
        *_look_at_python(),
        *_look_at_packages(),
        *_look_at_settings(settings),
        *_look_at_gpu(),
        *_look_at_weights(settings),
        *_look_at_cutout(),
        *_look_at_disk(settings),
        Finding("browser", OK, "none is needed here: stills and turns are drawn without GPU, display or Chromium"),
    )
    lacking = [finding for finding in findings if finding.state == MISSING and finding.name in (*REQUIRED, "python")]
    if lacking:
        return Diagnosis(__version__, findings, "", "", f"{lacking[0].name}: {lacking[0].detail}")
    from orfeas.engines.choose import choose_engine

    try:
        engine = choose_engine(settings, hashes=False)
    except OrfeasError as error:
        return Diagnosis(__version__, findings, "", "", str(error))
    findings = (*findings, *_look_at_memory(engine))
    return Diagnosis(__version__, findings, engine.name, engine.device, engine.reason)


def _look_at_python() -> Iterator[Finding]:
    text = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    low, high = PYTHONS
    if low <= sys.version_info[:2] <= high:
        yield Finding("python", OK, text)
    elif sys.version_info[:2] < low:
        yield Finding("python", MISSING, f"{text}: {low[0]}.{low[1]} or later is needed")
    else:
        yield Finding("python", NOTE, f"{text}: tested up to {high[0]}.{high[1]}")


def _look_at_packages() -> Iterator[Finding]:
    for packages, absent in ((REQUIRED, MISSING), (OPTIONAL, NOTE)):
        for name, purpose in packages.items():
            try:
                yield Finding(name, OK, f"{version(name)}, for {purpose}")
            except PackageNotFoundError:
                if find_spec(MODULES.get(name, name)):  # by another name, such as opencv-python or a distribution's
                    yield Finding(name, OK, f"the module is there, for {purpose}")
                else:
                    yield Finding(name, absent, f"not installed (for {purpose}): pip install -r requirements.txt")


def _look_at_settings(settings: Settings) -> Iterator[Finding]:
    given = ", ".join(sorted(f"ORFEAS_{name.upper()}" for name in settings.model_fields_set))
    yield Finding("settings", OK, f"given: {given}" if given else "none is given, all have their defaults")
    for sentence in explain_unknown():
        yield Finding("settings", NOTE, sentence)


def _look_at_gpu() -> Iterator[Finding]:
    yield from _ask_driver()
    try:
        import torch
    except ImportError:
        return
    from orfeas.engines.gpu import explain_broken_gpu, explain_no_gpu

    if not torch.cuda.is_available():
        yield Finding("cuda", NOTE, explain_no_gpu())
        return
    for index in range(torch.cuda.device_count()):
        try:
            free, total = torch.cuda.mem_get_info(index)
            major, minor = torch.cuda.get_device_capability(index)
            name = f"{torch.cuda.get_device_name(index)} (compute {major}.{minor}), PyTorch {torch.__version__}"
        except (RuntimeError, torch.cuda.DeferredCudaCallError) as error:
            yield Finding(f"cuda:{index}", NOTE, explain_broken_gpu(f"cuda:{index}", error))
            continue
        yield Finding(f"cuda:{index}", OK, f"{name}, {free / 1e9:.1f} of {total / 1e9:.1f} GB free")


def _ask_driver() -> Iterator[Finding]:
    """What the NVIDIA driver says, whatever PyTorch thinks of it."""
    program = shutil.which("nvidia-smi")
    if program is None:
        yield Finding("driver", NOTE, "no nvidia-smi here: no NVIDIA driver, or not in the PATH")
        return
    query = ["--query-gpu=name,driver_version,memory.total,memory.free", "--format=csv,noheader"]
    try:
        answer = subprocess.run([program, *query], capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError) as error:
        yield Finding("driver", NOTE, f"nvidia-smi failed ({error}): the driver may need a restart of the machine")
        return
    for line in answer.strip().splitlines():
        name, driver, total, free = (part.strip() for part in line.split(","))
        yield Finding("driver", OK, f"{name}, driver {driver}, {free} of {total} free")


def _look_at_weights(settings: Settings) -> Iterator[Finding]:
    from orfeas.engines.gpu import rule_out_gpu
    from orfeas.engines.hunyuan3d.locate import (
        LICENSE,
        check_weights,
        explain_missing,
        find_weights,
        tell_integrity,
    )

    try:
        weights = find_weights(settings)
    except OrfeasError as error:
        yield Finding("weights", NOTE, str(error))
        return
    if weights is None and (reason := rule_out_gpu()):
        yield Finding("weights", NOTE, f"Hunyuan3D's are not here, and of no use here: {reason}")
        return
    if weights is None:
        yield Finding(
            "weights", NOTE, f"{explain_missing(settings)} Licence: {LICENSE}, not for the EU, UK, South Korea."
        )
        return
    where = f"{weights.path} ({weights.path.stat().st_size / 1e9:.2f} GB, from {weights.found})"
    try:
        check_weights(weights)
        yield Finding("weights", OK, f"{where}, names and shapes fit, {tell_integrity(weights)}")
    except ImportError:
        yield Finding("weights", NOTE, f"{where}; not checked, for PyTorch is not installed")
    except OrfeasError as error:
        yield Finding("weights", NOTE, f"{where} cannot be used: {error}")


def _look_at_memory(engine: Engine) -> Iterator[Finding]:
    """What the engine would keep in memory, of one that has to choose: on ZeroGPU that is known where a GPU is lent."""
    if not hasattr(engine, "plan_residency"):
        return
    try:
        plan = engine.plan_residency()
    except OrfeasError as error:
        yield Finding("memory", NOTE, str(error))
    else:
        yield Finding("memory", OK, f"{plan.name}: {plan.reason}")


def _look_at_cutout() -> Iterator[Finding]:
    try:
        from orfeas.cutout.net import WEIGHTS
        from orfeas.cutout.rembg_models import find_rembg_model
    except ImportError:
        return  # a package is missing, which is said above
    if WEIGHTS.is_file():
        yield Finding("cutout", OK, f"the built-in network {WEIGHTS.name}")
    else:
        yield Finding("cutout", NOTE, f"{WEIGHTS} is missing, so subjects are found by saliency: install ORFEAS again")
    model = find_rembg_model()
    if model is not None:
        yield Finding("rembg", OK, f"the model {model.name} at {model.path}")
    else:
        yield Finding(
            "rembg", NOTE, "no rembg model is installed; none is needed, one of them cuts out a little better"
        )


def _look_at_disk(settings: Settings) -> Iterator[Finding]:
    from orfeas.engines.hunyuan3d.locate import default_folder

    for name, folder in (
        ("results", settings.data_dir),
        ("weights folder", settings.hunyuan3d_path or default_folder()),
    ):
        there = Path(folder).expanduser().absolute()
        try:
            while not there.exists():
                there = there.parent
            free = shutil.disk_usage(there).free / 1e9
        except OSError as error:
            yield Finding(name, NOTE, f"{folder} cannot be read: {error.strerror or error}")
            continue
        text = f"{folder}, {free:.1f} GB free"
        if name == "results" and free < MIN_FREE_GB:
            yield Finding(name, NOTE, f"{text}: little for results; make room or set ORFEAS_DATA_DIR")
        else:
            yield Finding(name, OK, text)


# --- the command ------------------------------------------------------------------------------------------------------


def add_doctor_parser(commands) -> argparse.ArgumentParser:
    """Add ``doctor`` to the command line's subparsers."""
    parser = commands.add_parser(
        "doctor",
        help="what was found, what is missing, what will run and why",
        description="Look at this installation and say what will run here and why. Exit status: 0 if an engine can run,"
        " 1 if none can.",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    parser.set_defaults(func=run_doctor)
    return parser


def run_doctor(arguments: argparse.Namespace) -> int:
    """``python -m orfeas doctor``."""
    diagnosis = diagnose(load_settings())
    if arguments.json:
        print(json.dumps(diagnosis.to_dict()))
    else:
        print(render(diagnosis))
    return 0 if diagnosis.can_run else 1


def render(diagnosis: Diagnosis) -> str:
    """The diagnosis as lines for people."""
    width = max(len(finding.name) for finding in diagnosis.findings)
    lines = [f"ORFEAS {diagnosis.orfeas}"]
    lines += [f"  {finding.state:<8}{finding.name:<{width}}  {finding.detail}" for finding in diagnosis.findings]
    if diagnosis.can_run:
        lines.append(f"Will run: {diagnosis.engine} on {diagnosis.device}. {diagnosis.reason}")
    else:
        lines.append(f"Nothing can run here. {diagnosis.reason}")
    return "\n".join(lines)
