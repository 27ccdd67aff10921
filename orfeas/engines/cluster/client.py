"""In the app: an engine that asks the workers of a cluster."""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import ray
from ray import exceptions as lost
from ray import serve
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError, RayServeException, RequestCancelledError

from orfeas import __version__
from orfeas.engines import Step
from orfeas.engines.across import receive
from orfeas.engines.cluster.worker import DESK, WORKER
from orfeas.errors import EngineUnavailable, OrfeasError, OutOfMemory

if TYPE_CHECKING:
    import numpy as np
    from ray.serve.handle import DeploymentHandle

    from orfeas.cutout import Cutout
    from orfeas.mesh import Mesh
    from orfeas.request import Quality
    from orfeas.settings import Settings

log = logging.getLogger("orfeas")

HEARTBEAT_SECONDS = 0.5  # a job that is stopped is given up at the latest after this, whatever its worker does
DESCRIBE_SECONDS = 300.0  # for the first worker to load its weights
PATIENCE_SECONDS = 900.0  # for a worker to take a job: machines may have to be started first
REPLACE_SECONDS = 120.0  # for Serve to replace a worker whose engine hangs; it is given up here if it did not
FRESH_SECONDS = 5.0  # how old a count of the workers may be
RERUN_NOTE = "A worker of the cluster was lost, so the shape was begun again on another, with the same seed."
# The machine, the process or what it had sent is gone: the job can be done by another worker.
WORKER_LOST = (
    lost.RayActorError, lost.WorkerCrashedError, lost.NodeDiedError, lost.ObjectLostError, RequestCancelledError,
)  # fmt: skip


# What Ray and Serve raise where there is no cluster, no application, or no answer.
CONNECTION_ERRORS = (
    ConnectionError, RuntimeError, ValueError, KeyError, TimeoutError, lost.RayError, RayServeException,
)  # fmt: skip


class _WorkerLost(Exception):
    pass


def connect(settings: Settings) -> ClusterEngine:
    """The engine whose workers `python -m orfeas.engines.cluster deploy` started. Raises `EngineUnavailable`."""
    address, application = settings.ray_address, settings.ray_app
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if address.startswith("ray://"):
        raise EngineUnavailable(
            f"ORFEAS_RAY_ADDRESS cannot be {address}: progress does not pass through a Ray client; let this machine"
            " join the cluster (`ray start --address=HOST:6379 --num-cpus=0 --num-gpus=0`), and use auto.",
            "bad_cluster",
        )
    ours = not ray.is_initialized()
    try:
        if ours:
            ray.init(address=address, log_to_driver=False, configure_logging=False)
        engine = describe(application, address, ray.shutdown if ours else None)
    except CONNECTION_ERRORS as error:
        if ours:
            ray.shutdown()
        why = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")[:160]
        raise EngineUnavailable(
            f"The workers of the cluster cannot be reached (ORFEAS_RAY_ADDRESS={address}, {why}): start Ray on this"
            " machine as a node of it, and the workers with `python -m orfeas.engines.cluster deploy`; where it has a"
            " token, set RAY_AUTH_MODE=token.",
            "no_cluster",
        ) from error
    return engine


def describe(application: str, address: str, disconnect: Callable[[], None] | None = None) -> ClusterEngine:
    """The engine of a Serve application, in a process that is connected to Ray. Raises what Ray raises."""
    desk = serve.get_deployment_handle(DESK, application)
    description = desk.describe.remote().result(timeout_s=DESCRIBE_SECONDS)
    if description["orfeas"] != __version__:
        log.warning("the cluster runs ORFEAS %s, this is %s: deploy it anew", description["orfeas"], __version__)
    return ClusterEngine(
        serve.get_deployment_handle(WORKER, application), description, address, application, disconnect
    )


class ClusterEngine:
    """An `orfeas.engines.Engine` whose shapes are made by workers, as many at once as there are ``slots``.

    workers: Serve's handle of them. description: of `worker.Desk`. disconnect: what `close` calls. patience: seconds
    that a job may wait for a worker.
    """

    def __init__(
        self,
        workers: DeploymentHandle,
        description: dict[str, Any],
        address: str,
        application: str,
        disconnect: Callable[[], None] | None = None,
        patience: float = PATIENCE_SECONDS,
    ):
        self._workers = workers.options(stream=True)
        self._application, self._address, self._disconnect = application, address, disconnect
        self._patience = patience
        self._silence = description["stall_seconds"] + REPLACE_SECONDS
        self.name, self.title = description["name"], description["title"]
        self.device, self.caveat = description["device"], description["caveat"]
        self.version, self.slots = description["version"], description["slots"]
        if description["remeshes"]:  # a kept latent is used where this is there
            self.remesh = self._remesh
        many = "a worker" if self.slots == 1 else f"up to {self.slots} workers"
        self.reason = f"ORFEAS_ENGINE=ray has it run by {many} of the Ray cluster at {address}. {description['reason']}"
        self._count = _Count(application)

    def load(self) -> None:
        """The workers have loaded theirs."""

    def health(self) -> dict[str, Any]:
        """Plain facts, at once: the count of running workers may be `FRESH_SECONDS` old."""
        workers = self._count.read()
        facts = {"version": self.version, "cluster": self._address, "slots": self.slots, "workers": workers}
        return {**facts, "ready": workers != 0}

    def close(self) -> None:
        """Leave the cluster; its workers go on."""
        if self._disconnect:
            self._disconnect()

    def shape(self, cutout: Cutout, quality: Quality, seed: int) -> Iterator[Step | Mesh]:
        """Yield the worker's steps, then its mesh. Closing it tells the worker to stop at its next step.

        If the worker is lost before the mesh has come, another does the job anew, once, and ``rerun_note`` is among the
        facts. Raises `EngineUnavailable` when the cluster is busy, gone, or loses that one as well.
        """
        return self._run("shape", cutout, quality, seed)

    def _remesh(self, latent: np.ndarray, quality: Quality) -> Iterator[Step | Mesh]:
        return self._run("remesh", latent, quality)

    def _run(self, method: str, *arguments: Any) -> Iterator[Step | Mesh]:
        last = Step(0.0, "Waiting for a worker")
        for attempt in (1, 2):
            try:
                for event in self._ask(method, *arguments):
                    if event is None:  # nothing new: whoever wants to stop the job can
                        yield Step(last.fraction, last.message)
                        continue
                    if hasattr(event, "fraction"):
                        event = last = Step(max(last.fraction, event.fraction), event.message, event.facts)
                    yield event
                return
            except _WorkerLost as error:
                if attempt == 2:
                    raise EngineUnavailable(
                        "Two workers of the cluster were lost over this job: choose a lower quality, or look into the"
                        " workers' logs.",
                        "worker_lost",
                    ) from error
                log.warning("a worker of the cluster was lost: %s", str(error).splitlines()[0])
            last = Step(last.fraction, "The worker was lost: beginning again on another", {"rerun_note": RERUN_NOTE})
            yield last

    def _ask(self, method: str, *arguments: Any) -> Iterator[Step | Mesh | None]:
        """One worker's events, and None every `HEARTBEAT_SECONDS` without one."""
        answer = getattr(self._workers, method).remote(*arguments)
        inbox: queue.SimpleQueue = queue.SimpleQueue()
        threading.Thread(target=_read, args=(answer, inbox), name="cluster-answer", daemon=True).start()
        has_worker, patience_ends = False, time.monotonic() + self._patience
        try:
            while True:
                try:
                    event, error = inbox.get(timeout=HEARTBEAT_SECONDS)
                except queue.Empty:
                    if time.monotonic() > patience_ends:
                        if has_worker:
                            raise _WorkerLost("it said nothing for too long") from None
                        raise self._no_worker() from None
                    yield None
                    continue
                if error is not None:
                    raise self._explain(error) from error
                if event is None:
                    return
                yield receive(event)
                has_worker, patience_ends = True, time.monotonic() + self._silence
        finally:
            # Dropping the answer would let the worker go on. One that was never taken says so again.
            with contextlib.suppress(lost.RayError, RayServeException):
                answer.cancel()

    def _no_worker(self) -> EngineUnavailable:
        return EngineUnavailable(
            f"No worker of the cluster took the job within {self._patience:.0f} s: try again later, or look at"
            " `serve status` on the cluster.",
            "no_worker",
        )

    def _explain(self, error: Exception) -> Exception:
        if isinstance(error, BackPressureError):
            sentence = "All workers of the cluster are busy and its queue is full: try again in a few minutes."
            return EngineUnavailable(sentence, "busy")
        if isinstance(error, lost.OutOfMemoryError):
            return OutOfMemory("A machine of the cluster ran out of memory: choose a lower quality and try again.")
        if isinstance(error, lost.RayTaskError):
            return OrfeasError(f"A worker of the cluster failed ({type(error.cause).__name__}): look into its log.")
        if isinstance(error, WORKER_LOST):
            return _WorkerLost(str(error))
        if isinstance(error, (DeploymentUnavailableError, lost.RayError, RayServeException)):
            sentence = "The cluster does not answer: try again later, or look at `serve status` on it."
            return EngineUnavailable(sentence, "no_cluster")
        return error


def _read(answer, inbox: queue.SimpleQueue) -> None:
    try:
        for event in answer:
            inbox.put((event, None))
        inbox.put((None, None))
    except Exception as error:
        inbox.put((None, error))


class _Count:
    """How many workers run, asked in a thread: Serve's controller may be slow to answer, or gone."""

    def __init__(self, application: str):
        self._application = application
        self._workers: int | None = None  # not known yet
        self._asked = 0.0
        self._asking = threading.Lock()

    def read(self) -> int | None:
        if time.monotonic() - self._asked > FRESH_SECONDS and self._asking.acquire(blocking=False):
            self._asked = time.monotonic()
            threading.Thread(target=self._ask, name="cluster-count", daemon=True).start()
        return self._workers

    def _ask(self) -> None:
        try:
            application = serve.status().applications.get(self._application)
            deployment = application and application.deployments.get(WORKER)
            self._workers = deployment.replica_states.get("RUNNING", 0) if deployment else 0
        except Exception as error:  # whatever it is, health goes on
            log.warning("the cluster does not say how many workers it has: %s", error)
            self._workers = 0
        finally:
            self._asking.release()
