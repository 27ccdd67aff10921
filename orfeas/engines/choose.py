"""Which engine runs here, and why, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orfeas.engines import zerogpu
from orfeas.engines.gpu import explain_broken_gpu, explain_no_gpu, rule_out_gpu, try_gpu
from orfeas.engines.hunyuan3d.approximations import Approximations
from orfeas.errors import BadWeights, EngineUnavailable
from orfeas.telemetry import log

if TYPE_CHECKING:
    from orfeas.engines import Engine
    from orfeas.settings import Settings


def choose_engine(settings: Settings, *, hashes: bool = True) -> Engine:
    """Hunyuan3D where a CUDA GPU and its weights are, else the built-in engine; ``.reason`` says why.

    ``ORFEAS_ENGINE`` forces one: then what stands in its way is an `EngineUnavailable` or `BadWeights`, and Hunyuan3D
    also runs on ``ORFEAS_DEVICE=cpu``; "ray" has the workers of a cluster run theirs. Nothing heavy is imported unless
    weights are there or a cluster is asked for; no weights are read yet, but for their SHA-256, once (``hashes``).
    Raises `BadRequest` for approximations that there are none of, whichever engine it would be: the mistake is told
    now, not on the day of the GPU.
    """
    engine = _choose(settings, Approximations.parse(settings.hunyuan3d_approximate), hashes)
    log.info("engine_chosen", engine=engine.title, device=engine.device, reason=engine.reason)
    return engine


def _choose(settings: Settings, approximations: Approximations, hashes: bool) -> Engine:
    if settings.engine == "sketch":
        return _sketch(settings, "The built-in engine was asked for (ORFEAS_ENGINE=sketch).")
    if settings.engine == "ray":
        return _cluster(settings)
    forced = settings.engine == "hunyuan3d"
    try:
        return _hunyuan3d(settings, approximations, forced, hashes)
    except (EngineUnavailable, BadWeights) as error:
        if forced:
            raise
        then = "Until then" if error.code == "no_weights" else "So"
        return _sketch(settings, f"{error} {then} the built-in engine runs.")


def _sketch(settings: Settings, reason: str) -> Engine:
    from orfeas.engines.sketch import SketchEngine

    if settings.sketch_shape == "inflation":
        return SketchEngine(reason)
    from orfeas.engines.sketch.learned import LearnedShape

    return SketchEngine(reason, LearnedShape())


def _cluster(settings: Settings) -> Engine:
    try:
        from orfeas.engines.cluster.client import connect
    except ImportError as error:
        raise EngineUnavailable(
            "ORFEAS_ENGINE=ray needs Ray: install it with `pip install -r requirements-cluster.txt`.", "no_ray"
        ) from error
    return connect(settings)


def _hunyuan3d(settings: Settings, approximations: Approximations, forced: bool, hashes: bool) -> Engine:
    from orfeas.engines.hunyuan3d.locate import check_weights, explain_missing, find_weights

    weights = find_weights(settings)
    if weights is None:
        _refuse_vain_download(settings, forced)
        raise EngineUnavailable(explain_missing(settings), "no_weights")
    try:
        import torch  # noqa: F401
    except ImportError as error:
        raise EngineUnavailable(
            "Hunyuan3D's weights are here but PyTorch is not: install it (`pip install torch`).", "no_torch"
        ) from error
    device, why = choose_device(settings.device, forced)
    check_weights(weights, hashes=hashes)
    from orfeas.engines.hunyuan3d.engine import Hunyuan3DEngine

    asked = "Hunyuan3D was asked for (ORFEAS_ENGINE=hunyuan3d)" if forced else "Hunyuan3D can run"
    reason = f"{asked}: its weights were found ({weights.found}), and {why}."
    engine = Hunyuan3DEngine(
        weights.path, config=weights.load_config(), device=device, reason=reason, approximations=approximations
    )
    engine.plan_residency()  # raises where too little memory is free
    return _on_zerogpu(engine) if device != "cpu" and zerogpu.is_here() else engine


def _on_zerogpu(engine: Engine) -> Engine:
    import spaces

    return zerogpu.ZeroGPUEngine(engine, spaces.GPU)


def _refuse_vain_download(settings: Settings, forced: bool) -> None:
    """Raise what would stand in the way even with the weights, as far as can be told without torch."""
    if settings.device.strip().lower() == "cpu":
        choose_device("cpu", forced)
    elif reason := rule_out_gpu():
        raise _without_gpu(reason, forced)


def choose_device(asked: str, forced: bool) -> tuple[str, str]:
    """("cuda:0", why): the device that Hunyuan3D would run on. asked: ``ORFEAS_DEVICE``. A GPU is asked of torch.

    forced: Hunyuan3D was asked for by name; only then does it run on a CPU, and only if that is asked for too.
    Raises `EngineUnavailable`.
    """
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
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if count == 0:
        raise _without_gpu(explain_no_gpu(), forced)
    index = int(number or 0)
    if index >= count:
        raise EngineUnavailable(
            f"ORFEAS_DEVICE={asked} names a GPU that is not there: use cuda:0"
            + (f" to cuda:{count - 1}." if count > 1 else "."),
            "no_gpu",
        )
    try:
        name = torch.cuda.get_device_name(index)
        if not zerogpu.is_here():
            try_gpu(f"cuda:{index}")
        return f"cuda:{index}", f"a {name} is there"
    except (RuntimeError, torch.cuda.DeferredCudaCallError) as error:
        raise EngineUnavailable(explain_broken_gpu(f"cuda:{index}", error), "broken_gpu") from error


def _without_gpu(reason: str, forced: bool) -> EngineUnavailable:
    remedy = ": ORFEAS_ENGINE=auto runs the built-in engine" if forced else ""
    return EngineUnavailable(f"Hunyuan3D needs a CUDA GPU, and {reason}{remedy}.", "no_gpu")
