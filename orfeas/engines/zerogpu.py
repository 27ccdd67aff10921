"""On Hugging Face's ZeroGPU a Space owns no GPU: each shape is made in a forked process that is lent one.

What its package `spaces` (0.51) asks for, and how it is met here:

- It is imported before CUDA is touched, and stands in for CUDA in this process: `prepare`, the first thing app.py does.
- Networks go to "cuda" before the server starts, in the thread that imported it, for only there does it watch: app.py
  calls `Studio.load`. They are packed on the disk and come to the GPU in the forked process; this one never has a
  CUDA context, or no fork could use the GPU, which `ZeroGPUEngine.load` checks.
- ``@spaces.GPU`` wraps a synchronous generator. What goes in and comes out is pickled; what the forked process changes
  in the engine is lost with it. Of an exception only the name of its class comes back, so failures travel as values
  (`orfeas.engines.across`). Closing the generator stops the job at its next step.
- A forked process has none of its parent's threads, but OpenMP counts on them: PyTorch's work on the CPU, of which
  there is little, is done by one thread there (`_forget_threads`).
- ``duration`` is what the visitor's quota is charged for at most: `lent_seconds`.

Tested with the package itself in a process without GPU; never run on a Space.
"""

from __future__ import annotations

import contextlib
import math
import os
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from orfeas.engines.across import receive, send
from orfeas.errors import EngineUnavailable

if TYPE_CHECKING:
    import numpy as np

    from orfeas.cutout import Cutout
    from orfeas.engines import Engine, Step
    from orfeas.mesh import Mesh
    from orfeas.request import Quality

# Seconds, from the counted work of Hunyuan3D-2.1 at 60 TFLOP/s (an RTX 3090; a Space is lent more): not measured.
START_SECONDS = 10.0  # for 7 GB of networks to reach the GPU
STEP_SECONDS = 0.61  # of the diffusion, guided
VOLUME_SECONDS = 6.1  # of a grid of 384; grows with the surface, so with the grid's square
MARGIN = 1.5
LENT_SECONDS = (15, 120)  # a visitor without an account has 120 a day


def is_here() -> bool:
    """Whether this runs on ZeroGPU."""
    return os.environ.get("SPACES_ZERO_GPU", "").lower() in ("1", "t", "true")


def prepare() -> None:
    """On ZeroGPU, import `spaces` now: before torch, whose CUDA it stands in for."""
    if is_here():
        import spaces  # noqa: F401


def lent_seconds(quality: Quality, diffusion: bool = True) -> int:
    """For how long a GPU is asked for: the measured seconds of ``quality`` where there are any, else as estimated."""
    estimated = STEP_SECONDS * quality.steps * diffusion + VOLUME_SECONDS * (quality.grid / 384) ** 2
    seconds = START_SECONDS + (quality.seconds or estimated)
    low, high = LENT_SECONDS
    return min(max(math.ceil(MARGIN * seconds), low), high)


class ZeroGPUEngine:
    """An `orfeas.engines.Engine` around another, whose shapes are made where a GPU is lent.

    gpu: `spaces.GPU`, which off ZeroGPU returns the function as it is.
    """

    def __init__(self, engine: Engine, gpu: Callable[..., Any]):
        self._engine = engine
        self.name, self.title, self.slots = engine.name, engine.title, engine.slots
        self.device = engine.device
        self.reason = f"{engine.reason} ZeroGPU lends it job by job."

        owner = os.getpid()

        def shape(cutout: Cutout, quality: Quality, seed: int):
            _forget_threads(owner)
            yield from send(engine.shape(cutout, quality, seed))

        def remesh(latent: np.ndarray, quality: Quality):
            _forget_threads(owner)
            yield from send(engine.remesh(latent, quality))

        self._shape = gpu(shape, duration=lambda cutout, quality, seed: lent_seconds(quality))
        self._remesh = gpu(remesh, duration=lambda latent, quality: lent_seconds(quality, diffusion=False))
        if hasattr(engine, "remesh"):  # a kept latent is used where this is there
            self.remesh = lambda latent, quality: _receive(self._remesh(latent, quality))

    @property
    def version(self) -> str:
        return self._engine.version

    @property
    def caveat(self) -> str:
        return self._engine.caveat

    def load(self) -> None:
        """Place the networks for all processes that will be forked. Before the server starts, in the main thread."""
        self._engine.load()
        _refuse_cuda_context()

    def health(self) -> dict[str, Any]:
        """The engine's, as this process knows it: what is on the GPU is seen only where it is lent."""
        return {**self._engine.health(), "zerogpu": True}

    def close(self) -> None:
        self._engine.close()

    def shape(self, cutout: Cutout, quality: Quality, seed: int) -> Iterator[Step | Mesh]:
        """As the engine's. Raises `EngineUnavailable` in ZeroGPU's words where it lends no GPU, or takes it back."""
        return _receive(self._shape(cutout, quality, seed))


def _receive(events) -> Iterator[Step | Mesh]:
    try:
        with contextlib.closing(events):
            for event in events:
                yield receive(event)
    except Exception as error:
        if not type(error).__module__.startswith(("gradio.", "spaces.")):
            raise
        title, message = getattr(error, "title", "ZeroGPU"), str(getattr(error, "message", error)).strip().rstrip(".")
        remedy = "try again, or choose a lower quality, which asks for fewer seconds"
        raise EngineUnavailable(f"{title}: {message}: {remedy}.", "zerogpu") from error


def _forget_threads(owner: int) -> None:
    """In a process forked from ``owner``: OpenMP would wait for ever for the threads of its pool, left behind there."""
    if os.getpid() != owner and (torch := sys.modules.get("torch")) is not None:
        torch.set_num_threads(1)


def _refuse_cuda_context() -> None:
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        raise EngineUnavailable(
            "CUDA was started in the app's own process, so ZeroGPU can lend it nothing: start it with `python app.py`,"
            " which imports `spaces` first.",
            "zerogpu",
        )
