"""In the cluster: workers that hold an engine each, and a desk that says what they are."""

import asyncio
import importlib
import os
import threading
import time
from collections.abc import AsyncIterator, Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import ray
from pydantic import BaseModel, Field, model_validator
from ray import serve

from orfeas import __version__
from orfeas.engines import Step
from orfeas.engines.across import Failure, send

if TYPE_CHECKING:
    import numpy as np

    from orfeas.cutout import Cutout
    from orfeas.engines import Engine
    from orfeas.mesh import Mesh
    from orfeas.request import Quality

APPLICATION = "orfeas"  # in Serve
WORKER, DESK = "Worker", "Desk"  # its deployments
UPSCALE_SECONDS, DOWNSCALE_SECONDS = 2.0, 600.0  # a busy cluster grows at once; loading weights again takes minutes


class Plan(BaseModel):
    """What to deploy; the arguments of `build`, and so of a Serve configuration file."""

    model_config = {"extra": "forbid"}

    engine: str = Field("auto", pattern="^(auto|sketch|hunyuan3d)$", description="as ORFEAS_ENGINE, of every worker")
    min_workers: int = Field(1, ge=0, le=1000, description="that are there at all times")
    max_workers: int = Field(1, ge=1, le=1000, description="that are there while jobs wait")
    gpus: float = Field(1.0, ge=0, le=8, description="of each worker; a half lets two share one; 0 for none")
    cpus: float = Field(1.0, ge=0, le=128, description="of each worker")
    queue: int = Field(20, ge=1, le=1000, description="jobs of one app that may wait for a worker; one more is refused")
    stall_seconds: float = Field(600.0, ge=1, description="without a step, after which a worker is replaced")
    drain_seconds: float = Field(600.0, ge=1, le=7200, description="how long a worker that is replaced may go on")
    environment: dict[str, str] = Field({}, description="variables of the workers, such as ORFEAS_HUNYUAN3D_PATH")
    factory: str = Field("orfeas.engines.cluster.worker:choose_here", description="module:function, makes the engine")

    @model_validator(mode="after")
    def _check_range(self) -> "Plan":
        if self.min_workers > self.max_workers:
            raise ValueError(f"max_workers cannot be {self.max_workers}: {self.min_workers} (min_workers) or more")
        return self


def choose_here(plan: Plan) -> "Engine":
    """The engine that runs on this machine, as in an app of its own."""
    from orfeas.engines.choose import choose_engine
    from orfeas.settings import load_settings

    return choose_engine(load_settings(engine=plan.engine))


def build(plan: Plan) -> serve.Application:
    """The Serve application: ``orfeas.engines.cluster.worker:build`` in a configuration file.

    Serve checks a configuration file by the class of ``plan``, so this module has real annotations, not strings.
    """
    scale: dict[str, Any] = {"num_replicas": plan.max_workers}
    if plan.min_workers < plan.max_workers:
        autoscaling = {
            "min_replicas": plan.min_workers,
            "max_replicas": plan.max_workers,
            "target_ongoing_requests": 1,
            "upscale_delay_s": UPSCALE_SECONDS,
            "downscale_delay_s": DOWNSCALE_SECONDS,
        }
        scale = {"autoscaling_config": autoscaling}
    environment = {"runtime_env": {"env_vars": plan.environment}} if plan.environment else {}
    workers = serve.deployment(Worker, name=WORKER).options(
        **scale,
        ray_actor_options={"num_gpus": plan.gpus, "num_cpus": plan.cpus, **environment},
        max_ongoing_requests=1,
        max_queued_requests=plan.queue + plan.max_workers,  # those about to be taken count as queued
        graceful_shutdown_timeout_s=plan.drain_seconds,
    )
    desk = serve.deployment(Desk, name=DESK).options(ray_actor_options={"num_cpus": 0, **environment})
    return desk.bind(workers.bind(plan), plan.max_workers)


class Worker:
    """One engine and one thread for it. Raises what the engine's `load` raises, and is then not used."""

    def __init__(self, plan: Plan):
        module, _, function = plan.factory.partition(":")
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="engine")
        self._engine = getattr(importlib.import_module(module), function)(plan)
        self._thread.submit(self._engine.load).result()
        context = ray.get_runtime_context()
        self._stall_seconds = plan.stall_seconds
        self._stepped: float | None = None  # when the job that runs made its last step
        self._name = f"{context.get_node_id()[:8]}-{os.getpid()}"

    async def describe(self) -> dict[str, Any]:
        """What `orfeas.engines.Engine` says of itself, plain values."""
        engine = self._engine
        names = ("name", "title", "device", "reason", "caveat", "version")
        described = {name: getattr(engine, name) for name in names}
        more = {"remeshes": hasattr(engine, "remesh"), "stall_seconds": self._stall_seconds, "orfeas": __version__}
        return {**described, **more}

    def check_health(self) -> None:
        """Serve replaces a worker whose engine hangs, cannot say how it is, or has lost its GPU."""
        if problem := self._engine.health().get("problem"):
            raise RuntimeError(problem)
        since = self._stepped
        if since is not None and time.monotonic() - since > self._stall_seconds:
            raise RuntimeError(f"the engine made no step for {self._stall_seconds:g} s")

    async def shape(self, cutout: "Cutout", quality: "Quality", seed: int) -> "AsyncIterator[Step | Mesh | Failure]":
        """`Engine.shape`, its failures as values. Cancelling stops the engine at its next step."""
        async for event in self._run(lambda: self._engine.shape(cutout, quality, seed)):
            yield event

    async def remesh(self, latent: "np.ndarray", quality: "Quality") -> "AsyncIterator[Step | Mesh | Failure]":
        """The engine's ``remesh``, likewise."""
        async for event in self._run(lambda: self._engine.remesh(latent, quality)):
            yield event

    async def _run(self, start: "Callable[[], Generator[Step | Mesh]]") -> "AsyncIterator[Step | Mesh | Failure]":
        """An asynchronous generator around the engine's thread: Serve does not cancel any other kind."""
        loop, events, stop = asyncio.get_running_loop(), asyncio.Queue(), threading.Event()

        def work() -> None:
            making = send(start())
            self._stepped = time.monotonic()
            try:
                for event in making:
                    self._stepped = time.monotonic()
                    if stop.is_set():
                        break
                    loop.call_soon_threadsafe(events.put_nowait, event)
            finally:
                making.close()
                self._stepped = None
                loop.call_soon_threadsafe(events.put_nowait, None)

        ended = asyncio.wrap_future(self._thread.submit(work))
        try:
            engine = self._engine
            facts = {"worker": self._name, "engine_version": engine.version, "device": engine.device}
            yield Step(0.0, "A worker has the job", facts)
            while (event := await events.get()) is not None:
                yield event
        finally:
            stop.set()
            await asyncio.shield(ended)  # the next job finds the engine idle


class Desk:
    """Describes the workers without troubling one that is busy."""

    def __init__(self, workers: serve.handle.DeploymentHandle, slots: int):
        self._workers, self._slots = workers, slots
        self._description: dict[str, Any] | None = None

    async def describe(self) -> dict[str, Any]:
        """`Worker.describe`, and ``slots``: how many jobs run at once when all workers are there."""
        if self._description is None:
            self._description = {**await self._workers.describe.remote(), "slots": self._slots}
        return self._description
