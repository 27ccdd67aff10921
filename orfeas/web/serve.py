"""Start the server, and stop it so that the running job is not lost."""

from __future__ import annotations

import asyncio
import functools
import os
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from orfeas.errors import BadRequest
from orfeas.telemetry import log
from orfeas.telemetry.logs import adopt_loggers, short
from orfeas.web.heap import bound_arenas
from orfeas.web.jobs import MOST_WAITING, Jobs

if TYPE_CHECKING:
    import gradio as gr

    from orfeas.settings import Settings
    from orfeas.studio import Studio
    from orfeas.web.bench import Bench
    from orfeas.web.groups import Groups
    from orfeas.web.housekeeper import Housekeeper
    from orfeas.web.slow import Sweeper
    from orfeas.web.watchdog import Watchdog

LOST_STATUS = 3
CACHE = "orfeas-gradio"  # the folder of what Gradio keeps
FETCH_SECONDS = 2.0  # after the last event was read, for its caller to fetch the file
DELIVER_SECONDS = 10.0  # for the events of jobs to be read, which a script may do late


@dataclass
class Server:
    """A running server. ``url``: where it answers on this machine."""

    demo: gr.Blocks
    groups: Groups
    url: str
    benches: tuple[Bench, ...] = ()
    keepers: tuple[Housekeeper | Sweeper | Watchdog, ...] = ()

    @property
    def jobs(self) -> Jobs:
        return self.groups.jobs

    def close(self, drain_seconds: float = 0.0) -> bool:
        """Refuse new jobs, wait for those there are, then stop; True if none had to be stopped."""
        has_readers = bool(self.jobs.active()) or self._has_unread()
        finished = self.jobs.drain(drain_seconds)
        if has_readers and finished:
            deadline = time.monotonic() + DELIVER_SECONDS
            while self._has_unread() and time.monotonic() < deadline:
                time.sleep(0.05)
            time.sleep(FETCH_SECONDS)
        for bench in self.benches:
            bench.close()
        for keeper in self.keepers:
            keeper.close()
        self.demo.close(verbose=False)
        return finished

    def _has_unread(self) -> bool:
        """Whether somebody has yet to read how their job ended."""
        return any(list(self.demo._queue.pending_event_ids_session.values()))


def start(
    studio: Studio, settings: Settings, port: int | None = None, on_lost: Callable[[], None] = lambda: None
) -> Server:
    """Serve the page and the API; returns once they answer.

    port: instead of the settings' one. on_lost: called when only a new process can do more jobs.
    """
    prepare_gradio(settings)
    from fastapi.exceptions import RequestValidationError
    from starlette.exceptions import HTTPException
    from starlette.middleware import Middleware

    from orfeas.accounts import Accounts
    from orfeas.picture import MAX_BYTES
    from orfeas.telemetry.metrics import Metrics
    from orfeas.web.access import Access
    from orfeas.web.bench import Bench
    from orfeas.web.callers import Allowance, Turnstile
    from orfeas.web.calls import Calls, explain_status, explain_validation
    from orfeas.web.door import Door
    from orfeas.web.groups import Groups
    from orfeas.web.handlers import Cutter
    from orfeas.web.heads import bound_heads
    from orfeas.web.history_routes import build_history_routes
    from orfeas.web.housekeeper import Housekeeper
    from orfeas.web.leftovers import Leftovers
    from orfeas.web.limits import Gate
    from orfeas.web.mesh_api import MeshBench
    from orfeas.web.proxies import Here, Proxies
    from orfeas.web.readiness import Readiness, Room
    from orfeas.web.repeats import KEYED, check_key
    from orfeas.web.routes import build_routes
    from orfeas.web.scrape import build_scrape
    from orfeas.web.sessions import Remains, Sessions
    from orfeas.web.slow import KEEP_ALIVE_SECONDS, Patience, Sweeper
    from orfeas.web.theme import build_theme
    from orfeas.web.ui import build_app, login_message, page_head
    from orfeas.web.uploads import Uploads
    from orfeas.web.watchdog import Watchdog

    metrics = Metrics()
    allowance = Allowance(int(settings.limit("jobs_per_session")), int(settings.limit("jobs_per_address")))
    folders = [studio.library.root, Path(os.environ["GRADIO_TEMP_DIR"])]
    room = Room(folders, settings.min_free_mb * 1_000_000)
    jobs = Jobs(studio, settings.queue_size, metrics, allowance, room)
    jobs.history.read(studio.library, studio.engine)
    cutter, meshes = Cutter(studio, jobs.limit, metrics), MeshBench(jobs.limit, metrics)
    converter = Bench("files", 1, max(32, jobs.limit), metrics)  # light, and asked for by people who wait
    readiness = Readiness(jobs, settings.min_free_mb * 1_000_000)
    bundler = Bench("archives", 1, max(8, jobs.limit), metrics)
    drawer = Bench("pictures", 1, max(32, jobs.limit), metrics)  # a costly picture keeps but other pictures waiting
    remover = Bench("deletions", 4, max(32, jobs.limit), metrics)  # threads of their own: each may wait for a job
    workers = {
        "cutouts": cutter, "meshes": meshes, "files": converter, "archives": bundler, "pictures": drawer,
        "deletions": remover,
    }  # fmt: skip
    groups = Groups(jobs)
    routes = [
        *build_history_routes(jobs, groups, bundler, remover),
        *build_routes(jobs, converter, readiness, remover, settings.tag),
        build_scrape(metrics, readiness, workers, settings),
    ]
    demo = build_app(jobs, cutter, meshes, groups)
    benches = {"cutout": cutter, "inspect": meshes, "repair": meshes}
    accounts = Accounts(settings.auth)

    async def may_log_in(name: str, password: str) -> bool:
        return await asyncio.to_thread(accounts.check, name, password)

    port = port or settings.port
    _check_port(settings.host, port)
    _, url, _ = demo.launch(
        server_name=settings.host,
        server_port=port,
        prevent_thread_lock=True,
        quiet=True,
        share=False,
        root_path=settings.root_path,
        auth=may_log_in if settings.auth else None,
        auth_message=login_message(),
        inbrowser=False,
        show_error=False,
        ssr_mode=False,
        run_history=False,
        enable_monitoring=False,
        max_file_size=MAX_BYTES,
        # Gradio does so many events at once, and the others wait unseen: one for each who may wait for a job, or for a
        # job's page, and those that are over soon
        max_threads=2 * MOST_WAITING * (settings.queue_size + studio.slots) + 200,
        footer_links=["api"],
        mcp_server=offers_mcp(settings),
        theme=build_theme(),
        head=page_head(),
        app_kwargs={
            "routes": routes,
            "middleware": [
                Middleware(Proxies, trusted=settings.trusted_proxies),
                Middleware(Access, observer=metrics, routes=routes),
                Middleware(Gate, jobs=jobs, benches=benches, observer=metrics, room=room),
                Middleware(
                    Turnstile,
                    per_minute=settings.limit("requests_per_minute"),
                    at_once=int(settings.limit("requests_at_once")),
                    observer=metrics,
                ),
                Middleware(Patience),
                *([Middleware(Door, accounts=accounts, demo=demo)] if settings.auth else []),
                Middleware(Here, demo=demo),
                Middleware(Uploads, demo=demo, bench=drawer),
                Middleware(
                    Calls,
                    demo=demo,
                    observer=metrics,
                    checks={endpoint: functools.partial(check_key, groups, endpoint) for endpoint in KEYED},
                ),
            ],
            "exception_handlers": {
                RequestValidationError: functools.partial(explain_validation, metrics),
                HTTPException: functools.partial(explain_status, metrics),
            },
            "docs_url": None,
            "redoc_url": None,
            "openapi_url": None,
        },
    )
    demo.limiter = None  # of threads, of which an event that waits has none: as many at once as by default
    Sessions.keep(demo)
    bound_heads(demo.server.config)
    demo.server.config.timeout_keep_alive = KEEP_ALIVE_SECONDS  # read at each new connection; Gradio has no such option
    adopt_loggers()
    readiness.load()
    watchdog = Watchdog(jobs, settings.stall_seconds, on_lost)
    cache = Path(os.environ["GRADIO_TEMP_DIR"])
    leftovers = Leftovers(demo, cache, is_short=functools.partial(room.measure, cache), in_use=jobs.pictures)
    housekeeper = Housekeeper(studio.library, leftovers, remains=Remains(demo))
    room.on_short = housekeeper.call
    keepers = (housekeeper, Sweeper(demo.server), watchdog)
    return Server(demo, groups, url, tuple(workers.values()), keepers)


def serve(studio: Studio, settings: Settings) -> int:
    """Serve until SIGTERM or SIGINT; the running job may finish. A second signal stops at once. Returns 0 or 1.

    Where the engine hangs and only a new process helps, the exit status is `LOST_STATUS`: a supervisor starts it again.
    """
    stopping, twice, lost = threading.Event(), threading.Event(), threading.Event()

    def on_lost():
        lost.set()
        stopping.set()

    def on_signal(number, frame):
        if stopping.is_set():
            twice.set()
            log.warning("stopped_at_once")
            os._exit(1)
        stopping.set()

    bound_arenas()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, on_signal)
    studio.library.open()
    for job in studio.library.clean():
        log.warning("job_lost", job=short(job.token), kept="nothing")
    server = start(studio, settings, on_lost=on_lost)
    log.info("serving", url=settings.public_url or server.url, engine=studio.engine.title, reason=studio.engine.reason)
    if shows_address(settings):
        print(f"ORFEAS is at {settings.public_url or server.url}: open it in a browser. Ctrl+C stops it.", flush=True)
    while not stopping.wait(1.0):  # without a limit, Ctrl+C does not end it on Windows
        pass
    log.info("draining", jobs=len(server.jobs.active()), seconds=settings.drain_seconds)
    finished = server.close(settings.drain_seconds)
    if lost.is_set():
        os._exit(LOST_STATUS)  # not by a return: the interpreter's end may wait for the engine that hangs
    studio.close()
    return 0 if finished else 1


def shows_address(settings: Settings) -> bool:
    """Whether a line for people goes to standard output: not into the file or pipe that gets a log in JSON."""
    if sys.stdout is None or settings.log_format == "json":
        return False
    try:
        is_logs = os.path.sameopenfile(sys.stdout.fileno(), sys.stderr.fileno())
    except (OSError, AttributeError):  # closed
        return False
    return not is_logs or settings.log_format == "text" or sys.stderr.isatty()


def _check_port(host: str, port: int) -> None:
    """Raise `BadRequest` if the port cannot be listened on; Gradio's own words for that name no remedy of ours."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise BadRequest(
                f"The app cannot listen on {host}:{port} ({error.strerror}): end what uses that port, or set"
                " ORFEAS_PORT to another.",
                "bad_port",
            ) from error


def offers_mcp(settings: Settings) -> bool:
    """Whether the endpoints become MCP tools. Raises `BadRequest` where that was asked for and cannot be."""
    there = find_spec("mcp") is not None
    if settings.mcp == "on" and not there:
        raise BadRequest(
            'ORFEAS_MCP=on needs the package mcp: pip install "gradio[mcp]", or set ORFEAS_MCP=auto.', "bad_setting"
        )
    return there and settings.mcp != "off"


def prepare_gradio(settings: Settings) -> None:
    """Gradio reads these when its components are made: no telemetry, and its files below our data folder.

    Where GRADIO_TEMP_DIR names another folder they lie in one of our own below it, which can be cleaned without harm
    to what else is there. Gradio has one such folder a process.
    """
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["FORWARDED_ALLOW_IPS"] = ""  # uvicorn believes no proxy: `orfeas.web.proxies` decides that
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    data_dir = settings.data_dir.expanduser().absolute()
    given = os.environ.get("GRADIO_TEMP_DIR")
    cache = Path(given).expanduser().absolute() if given else data_dir
    os.environ["GRADIO_TEMP_DIR"] = str(cache if cache.name == CACHE else cache / CACHE)
    try:
        tempfile.gettempdir()
    except FileNotFoundError:  # a read-only system: Gradio asks for this folder whenever it hands out a file
        folder = data_dir / "tmp"
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.tempdir = str(folder)
