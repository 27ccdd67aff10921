"""From one version to another, so that no job is lost."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from operate.config import Config, Failed
from operate.drivers import Driver, Running

READY_SECONDS = 180.0
SETTLE_SECONDS = 2.0  # for requests that the proxy was about to hand to the old version


@dataclass(frozen=True)
class Switched:
    """seconds without a server that takes new requests (the proxy holds them meanwhile), and the rest in seconds."""

    beside: bool
    away: float
    started: float
    drained: float


def switch(driver: Driver, tag: str, beside: bool, between: Callable[[], None] | None = None) -> Switched:
    """Let ``tag`` take over from what runs. Raises `Failed`, with the old version running, if it does not get ready.

    beside: start the new version before the old one stops. between: done while none runs, which needs ``beside`` False.
    """
    old = driver.running()
    return _beside(driver, tag, old) if beside and old else _after(driver, tag, old, between)


def _beside(driver: Driver, tag: str, old: list[Running]) -> Switched:
    began = time.monotonic()
    route(driver, old[-1].address)  # by its own name: the one that both share leads to either while the new one starts
    new = None
    try:
        new = driver.start(tag)
        _wait_until_ready(driver, new)
        ready = time.monotonic()
        # Events and states of the jobs that the old version still has are found there.
        route(driver, newest=new.address, oldest=old[-1].address)
    except Failed:
        if new:
            driver.stop(new)
        route(driver, driver.at_rest(old[-1]))
        raise
    time.sleep(SETTLE_SECONDS)
    for running in old:
        driver.stop(running)
    route(driver, driver.at_rest(new))
    return Switched(True, 0.0, ready - began, time.monotonic() - ready)


def _after(driver: Driver, tag: str, old: list[Running], between: Callable[[], None] | None) -> Switched:
    began = time.monotonic()
    for running in old:
        driver.stop(running)
    stopped = time.monotonic()
    new = None
    try:
        if between:
            between()
        new = driver.start(tag)
        _wait_until_ready(driver, new)
    except Failed:
        if new:
            driver.stop(new)
        if old:
            back = driver.start(old[-1].tag)
            _wait_until_ready(driver, back)
            route(driver, driver.at_rest(back))
        raise
    route(driver, driver.at_rest(new))
    ready = time.monotonic()
    return Switched(False, ready - stopped if old else 0.0, ready - stopped, stopped - began)


def route(driver: Driver, newest: str, oldest: str = "") -> None:
    """Tell the proxy where new requests go, and where jobs may be that began before: it reads both at each request."""
    driver.upstreams.mkdir(parents=True, exist_ok=True)
    for name, address in (("oldest", oldest or newest), ("newest", newest)):
        part = driver.upstreams / f".{name}.part"
        part.write_text(f"{address}\n", encoding="utf-8")
        part.chmod(0o644)  # whoever the proxy runs as
        part.replace(driver.upstreams / name)


def _wait_until_ready(driver: Driver, running: Running) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while not driver.is_ready(running):
        if time.monotonic() > deadline:
            raise Failed(f"{running.tag} was not ready within {READY_SECONDS:.0f} s: see its log.")
        time.sleep(0.2)


def fits_beside(config: Config) -> tuple[bool, str]:
    """Whether memory allows two versions at once, and why."""
    needed, free = config.number("ORFEAS_BESIDE_MB", 2000), free_memory_mb()
    if free < needed:
        return False, f"{free} MB of memory are free, two versions need {needed} (ORFEAS_BESIDE_MB)"
    if config.get("ORFEAS_RUNTIME") == "nvidia" and config.get("ORFEAS_ENGINE", "auto") != "sketch":
        needed, free = config.number("ORFEAS_BESIDE_VRAM_MB", 16000), free_gpu_memory_mb()
        if free < needed:
            return False, f"{free} MB of GPU memory are free, two versions need {needed} (ORFEAS_BESIDE_VRAM_MB)"
    return True, "memory allows both"


def free_memory_mb() -> int:
    lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) // 1024 for line in lines if line.startswith("MemAvailable:"))


def free_gpu_memory_mb() -> int:
    """Of the GPU with the most; 0 if nvidia-smi does not say."""
    if not shutil.which("nvidia-smi"):
        return 0
    command = ["nvidia-smi", "--query-gpu=memory.free", "--format=csv,noheader,nounits"]
    told = subprocess.run(command, capture_output=True, text=True)
    return max((int(line) for line in told.stdout.split() if line.isdigit()), default=0)
