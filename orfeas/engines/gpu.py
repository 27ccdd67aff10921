"""Whether a GPU could be here: asked of the system, without importing torch or waking the GPU."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

# What NVIDIA's driver leaves behind on Linux, under WSL and on Jetson boards; and AMD's, for a PyTorch built for it.
NVIDIA_FILES = ("dev/nvidia[0-9]*", "dev/dxg", "dev/nvhost-gpu")
AMD_FILES = ("dev/kfd",)


def rule_out_gpu(root: Path = Path("/"), environment: Mapping[str, str] | None = None) -> str:
    """Why PyTorch cannot find a GPU here, half a sentence; "" if it may, for which it has to be asked.

    root, environment: of the machine asked about; this one by default.
    """
    environment = os.environ if environment is None else environment
    if environment.get("CUDA_VISIBLE_DEVICES", "0").strip() in ("", "-1"):
        return "CUDA_VISIBLE_DEVICES hides every GPU"
    if environment.get("SPACES_ZERO_GPU"):  # a Space is lent its GPU job by job
        return ""
    if sys.platform == "win32":
        found = (Path(environment.get("SYSTEMROOT", r"C:\Windows")) / "System32" / "nvcuda.dll").is_file()
    else:
        files = NVIDIA_FILES + (AMD_FILES if _is_built_for_amd() else ())
        found = any(any(root.glob(pattern)) for pattern in files)
    if found or shutil.which("nvidia-smi", path=environment.get("PATH", "")):
        return ""
    return "no NVIDIA GPU was found here"


def explain_no_gpu() -> str:
    """Why PyTorch sees no CUDA GPU: half a sentence, with the remedy if there is one. Imports torch."""
    if reason := rule_out_gpu():
        return reason
    import torch

    if torch.version.hip is not None:
        return "this PyTorch is built for ROCm, and it sees no GPU"
    if torch.version.cuda is None:
        return f"this PyTorch ({torch.__version__}) is built without CUDA (a build with it is at pytorch.org)"
    build = f"PyTorch {torch.__version__}, built for CUDA {torch.version.cuda}"
    return f"{build}, sees none (nvidia-smi shows whether the driver does)"


def explain_broken_gpu(device: str, error: Exception) -> str:
    """The sentence about a GPU that is there but answers with an error, as a full or broken one does."""
    why = _first_line(error)
    if "no kernel image" in why:
        return f"{device} is older than this PyTorch runs on ({why}): pytorch.org has earlier builds."
    return (
        f"{device} is there but does not answer ({why}): it may be full (nvidia-smi shows by whom), or its driver may"
        " need a restart of the machine."
    )


def explain_lost_gpu(device: str, error: Exception) -> str:
    """The sentence about a GPU that failed at work: this process gets nothing more out of it."""
    why = _first_line(error)
    return f"{device} failed at work ({why}): start the program again, or the machine if that does not help."


def try_gpu(device: str) -> None:
    """Compute something there: an older GPU answers, while this PyTorch may hold nothing that it can run.

    Raises `RuntimeError`.
    """
    import torch

    (torch.ones((), device=device) + 1).item()


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")[:120]


def _is_built_for_amd() -> bool:
    try:
        return "rocm" in version("torch")
    except PackageNotFoundError:
        return False
