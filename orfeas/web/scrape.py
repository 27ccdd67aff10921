"""GET /metrics: what was counted, the state of this moment, and who may read it."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import ipaddress
import shutil
import sqlite3
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from prometheus_client import CONTENT_TYPE_LATEST, ProcessCollector, disable_created_metrics, generate_latest
from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily
from prometheus_client.registry import Collector
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from orfeas import __version__
from orfeas.errors import OrfeasError
from orfeas.telemetry.gpu import GpuReadings
from orfeas.web.proxies import CAME_BY_PROXY
from orfeas.web.readiness import nearest_folder

if TYPE_CHECKING:
    from starlette.requests import Request

    from orfeas.settings import Settings
    from orfeas.telemetry.metrics import Metrics
    from orfeas.web.bench import Bench
    from orfeas.web.readiness import Readiness

# A request with one of these came through a proxy, whatever address it seems to come from.
_FORWARDED = (
    "forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-forwarded-port", "x-real-ip",
    "x-client-ip", "cf-connecting-ip", "true-client-ip",
)  # fmt: skip
_HEADERS = {"Cache-Control": "no-store"}


def build_scrape(metrics: Metrics, readiness: Readiness, benches: Mapping[str, Bench], settings: Settings) -> Route:
    """The route. benches: what works outside the lane, by the word that its metrics are labelled with."""
    disable_created_metrics()  # the time at which each counter began: a third of the page, and nobody asks for it
    metrics.registry.register(State(metrics, readiness, benches, settings))
    metrics.registry.register(GpuReadings())
    ProcessCollector(registry=metrics.registry)

    async def scrape(request: Request) -> Response:
        if settings.metrics == "off":
            return JSONResponse({"error": "Metrics are off: set ORFEAS_METRICS."}, 404, headers=_HEADERS)
        if not may_read(request, settings):
            sentence = "Metrics are read from this machine itself, or with ORFEAS_METRICS_TOKEN as a bearer token."
            return JSONResponse({"error": sentence}, 403, headers=_HEADERS)
        page = await asyncio.to_thread(generate_latest, metrics.registry)
        return Response(page, headers={"Content-Type": CONTENT_TYPE_LATEST, **_HEADERS})

    return Route("/metrics", scrape)


def may_read(request: Request, settings: Settings) -> bool:
    """Whether the caller shows the token, or metrics are open, or it is on this machine and not behind a proxy of it.

    Nobody else reads them below ORFEAS_ROOT_PATH, where only proxies ask: one that removes it from addresses, and keeps
    /metrics to itself, would pass on an address in which it stands twice.
    A proxy is known by its headers and by the host that was asked for; one that hides both must not pass /metrics on.
    """
    token = settings.metrics_token.get_secret_value()
    scheme, _, shown = request.headers.get("authorization", "").partition(" ")
    if token and scheme.lower() == "bearer" and hmac.compare_digest(shown.strip().encode(), token.encode()):
        return True
    if settings.root_path and request.scope["path"].startswith(f"{settings.root_path}/"):
        return False
    if settings.metrics == "open":
        return True
    if request.scope.get(CAME_BY_PROXY) or any(name in request.headers for name in _FORWARDED):
        return False
    return _is_loopback(request.client.host if request.client else "") and _is_loopback(request.url.hostname or "")


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback


class State(Collector):
    """What holds at the moment of the scrape: queue, readiness, library, disk."""

    def __init__(self, metrics: Metrics, readiness: Readiness, benches: Mapping[str, Bench], settings: Settings):
        self.metrics = metrics
        self.readiness = readiness
        self.jobs = readiness.jobs
        self.benches = benches
        self.settings = settings

    def describe(self) -> list:
        return []  # the registry would collect, to learn the names

    def collect(self) -> Iterator[GaugeMetricFamily]:
        engine = self.jobs.studio.engine
        runs = {
            "version": __version__, "release": self.settings.tag,
            "engine": engine.name, "engine_version": engine.version, "device": engine.device,
        }  # fmt: skip
        yield InfoMetricFamily("orfeas", "what runs", runs)
        active = self.jobs.active()
        waiting = sum(job.state == "waiting" for job in active)
        yield GaugeMetricFamily("orfeas_queue_depth", "jobs that wait", waiting)
        yield GaugeMetricFamily("orfeas_queue_limit", "jobs that may wait", self.jobs.limit)
        yield GaugeMetricFamily("orfeas_jobs_running", "jobs that run, or are being stopped", len(active) - waiting)
        yield GaugeMetricFamily(
            "orfeas_job_idle_seconds",
            "how long the running job has made no step",
            self.metrics.seconds_without_progress(),
        )
        depth = GaugeMetricFamily(
            "orfeas_bench_depth", "cutouts, meshes, files and pictures that wait or are made", labels=("things",)
        )
        for things, bench in self.benches.items():
            depth.add_metric([things], bench.depth)
        yield depth
        yield GaugeMetricFamily("orfeas_ready", "1 if GET /ready says so", int(self.readiness.find_problem() is None))
        expected = self.settings.engine == "hunyuan3d" or any(
            device.startswith("cuda") for device in (self.settings.device, engine.device)
        )
        yield GaugeMetricFamily("orfeas_gpu_expected", "1 if the settings or the engine call for a GPU", int(expected))
        yield from self._look_at_disk()

    def _look_at_disk(self) -> Iterator[GaugeMetricFamily]:
        library = self.jobs.studio.library
        with contextlib.suppress(OSError):
            disk = shutil.disk_usage(nearest_folder(library.root))
            yield GaugeMetricFamily("orfeas_disk_free_bytes", "room on the volume of the data folder", disk.free)
            yield GaugeMetricFamily("orfeas_disk_total_bytes", "size of the volume of the data folder", disk.total)
        yield GaugeMetricFamily("orfeas_disk_min_free_bytes", "below this GET /ready is 503", self.readiness.min_free)
        try:
            results, size = library.index.count_results() if library.root.is_dir() else (0, 0)
        except (OrfeasError, OSError, sqlite3.Error):  # said by orfeas_ready; no figure is better than a wrong one
            return
        yield GaugeMetricFamily("orfeas_library_results", "results that are kept", results)
        yield GaugeMetricFamily("orfeas_library_bytes", "bytes of the results that are kept", size)
