"""Which engine runs here, and why, in words."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from orfeas.errors import BadWeights, EngineUnavailable

if TYPE_CHECKING:
    from orfeas.engines import Engine
    from orfeas.engines.hunyuan3d.download import Weights
    from orfeas.settings import Settings

log = logging.getLogger("orfeas")


def choose_engine(settings: Settings) -> Engine:
    """Hunyuan3D where a CUDA GPU and its weights are, else the built-in engine; ``.reason`` says why.

    ``ORFEAS_ENGINE`` forces one: then what stands in its way is an `EngineUnavailable` or `BadWeights`, and Hunyuan3D
    also runs on ``ORFEAS_DEVICE=cpu``. Nothing heavy is imported unless weights are there; no weights are read yet.
    """
    engine = _choose(settings)
    log.info("engine: %s on %s. %s", engine.title, engine.device, engine.reason)
    return engine


def _choose(settings: Settings) -> Engine:
    if settings.engine == "sketch":
        return _sketch("The built-in engine was asked for (ORFEAS_ENGINE=sketch).")
    forced = settings.engine == "hunyuan3d"
    try:
        return _hunyuan3d(settings, forced)
    except (EngineUnavailable, BadWeights) as error:
        if forced:
            raise
        return _sketch(f"{error} Until then the built-in engine runs.")


def _sketch(reason: str) -> Engine:
    from orfeas.engines.sketch import SketchEngine

    return SketchEngine(reason=reason)


def _hunyuan3d(settings: Settings, forced: bool) -> Engine:
    from orfeas.engines.hunyuan3d.download import check_weights, explain_missing, find_weights

    weights = find_weights(settings)
    if weights is None:
        raise EngineUnavailable(explain_missing(settings), "no_weights")
    try:
        import torch  # noqa: F401
    except ImportError as error:
        raise EngineUnavailable(
            "Hunyuan3D's weights are here but PyTorch is not: install it (`pip install torch`).", "no_torch"
        ) from error
    device, why = choose_device(settings.device, forced)
    check_weights(weights)
    _refuse_too_little_memory(weights, device)
    from orfeas.engines.hunyuan3d.approximations import Approximations
    from orfeas.engines.hunyuan3d.engine import Hunyuan3DEngine

    approximations = Approximations.parse(settings.hunyuan3d_approximate)
    asked = "Hunyuan3D was asked for (ORFEAS_ENGINE=hunyuan3d)" if forced else "Hunyuan3D can run"
    reason = f"{asked}: its weights were found ({weights.found}), and {why}."
    return Hunyuan3DEngine(
        weights.path, config=weights.load_config(), device=device, reason=reason, approximations=approximations
    )


def choose_device(asked: str, forced: bool) -> tuple[str, str]:
    """("cuda:0", why): the device that Hunyuan3D would run on. asked: ``ORFEAS_DEVICE``. Imports torch.

    forced: Hunyuan3D was asked for by name; only then does it run on a CPU, and only if that is asked for too.
    Raises `EngineUnavailable`.
    """
    import torch

    asked = asked.strip().lower()
    if asked == "cpu":
        if not forced:
            raise EngineUnavailable(
                "ORFEAS_DEVICE=cpu keeps Hunyuan3D off the GPU, and on a CPU it takes hours: it runs there only with"
                " ORFEAS_ENGINE=hunyuan3d.",
                "slow_device",
            )
        return "cpu", "ORFEAS_DEVICE=cpu has it run on the CPU, where a model takes hours"
    kind, _, number = asked.partition(":")
    if (kind, number) != ("auto", "") and (kind != "cuda" or (number and not number.isdecimal())):
        raise EngineUnavailable(f"ORFEAS_DEVICE cannot be {asked!r}: use auto, cpu, cuda or cuda:N.", "bad_device")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if count == 0:
        raise EngineUnavailable(f"Hunyuan3D needs a CUDA GPU, and {explain_no_gpu()}.", "no_gpu")
    index = int(number or 0)
    if index >= count:
        raise EngineUnavailable(
            f"ORFEAS_DEVICE={asked} names a GPU that is not there: use cuda:0"
            + (f" to cuda:{count - 1}." if count > 1 else "."),
            "no_gpu",
        )
    return f"cuda:{index}", f"a {torch.cuda.get_device_name(index)} is there"


def explain_no_gpu() -> str:
    """Why PyTorch sees no CUDA GPU: half a sentence with the remedy."""
    import torch

    if torch.version.hip is not None:
        return "this PyTorch is built for ROCm, and it sees no GPU"
    if torch.version.cuda is None:
        return f"this PyTorch ({torch.__version__}) is built without CUDA (a build with it is at pytorch.org)"
    build = f"PyTorch {torch.__version__}, built for CUDA {torch.version.cuda}"
    return f"{build}, sees none (nvidia-smi shows whether the driver does)"


def _refuse_too_little_memory(weights: Weights, device: str) -> None:
    import torch

    from orfeas.engines.hunyuan3d.residency import choose_residency, free_gigabytes, model_gigabytes

    where = torch.device(device)
    dtype = torch.float16 if where.type == "cuda" else torch.float32
    choose_residency(free_gigabytes(where), model_gigabytes(weights.load_config(), dtype), device)
