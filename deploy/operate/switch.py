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


def switch(
    driver: Driver,
    tag: str,
    beside: bool,
    between: Callable[[], None] | None = None,
    routed: Callable[[], None] = lambda: None,
) -> Switched:
    """Let ``tag`` take over from what runs. If that fails, or is broken off before, the old version gets the requests.

    beside: start the new version before the old one stops. between: done while none runs, which needs ``beside`` False.
    routed: done as soon as the new version gets the requests, before the old one's jobs are waited for: whoever breaks
    the waiting off finds it done. Raises `Failed`, and whatever the driver, ``between`` and ``routed`` raise.
    """
    old = driver.running()
    return _beside(driver, tag, old, routed) if beside and old else _after(driver, tag, old, between, routed)


def _beside(driver: Driver, tag: str, old: list[Running], routed: Callable[[], None]) -> Switched:
    began = time.monotonic()
    try:
        # by its own name: the one that both share leads to either while the new one starts
        route(driver, old[-1].address)
        new = driver.start(tag)
        _wait_until_ready(driver, new)
        ready = time.monotonic()
        # Events and states of the jobs that the old version still has are found there.
        route(driver, newest=new.address, oldest=old[-1].address)
    except BaseException:  # Ctrl-C and a full disk, too: what was begun is taken back
        _stop_all_but(driver, old)
        route(driver, driver.at_rest(old[-1]))
        raise
    routed()
    time.sleep(SETTLE_SECONDS)
    for running in old:
        driver.stop(running)
    route(driver, driver.at_rest(new))
    return Switched(True, 0.0, ready - began, time.monotonic() - ready)


def _after(
    driver: Driver,
    tag: str,
    old: list[Running],
    between: Callable[[], None] | None,
    routed: Callable[[], None],
) -> Switched:
    began = time.monotonic()
    try:
        for running in old:
            driver.stop(running)
        stopped = time.monotonic()
        if between:
            between()
        new = driver.start(tag)
        _wait_until_ready(driver, new)
        route(driver, driver.at_rest(new))
    except BaseException as reason:
        try:
            _stop_all_but(driver, [])
            if old:
                back = driver.start(old[-1].tag)
                _wait_until_ready(driver, back)
                route(driver, driver.at_rest(back))
        except Exception as second:
            raise Failed(
                f"{str(reason) or 'Interrupted.'}\nWhat ran before could not be started again: {second}"
            ) from second
        raise
    ready = time.monotonic()
    routed()
    return Switched(False, ready - stopped if old else 0.0, ready - stopped, stopped - began)


def _stop_all_but(driver: Driver, kept: list[Running]) -> None:
    handles = {running.handle for running in kept}
    for running in driver.running():
        if running.handle not in handles:
            driver.stop(running)


def settle(driver: Driver, say: Callable[[str], None]) -> bool:
    """Finish a switch that was broken off (by a signal, a reboot): what gets the requests stays, all else is stopped.

    Returns whether there was one. Raises `Failed`.
    """
    newest = driver.upstreams / "newest"
    address = newest.read_text(encoding="utf-8").strip() if newest.is_file() else ""
    running = driver.running()
    kept = next((entry for entry in running if entry.address == address), None)
    if not kept or (len(running) == 1 and address == driver.at_rest(kept)):
        return False
    say(f"a switch was broken off: {kept.tag} gets the requests, and what else runs finishes its jobs and ends")
    _stop_all_but(driver, [kept])
    route(driver, driver.at_rest(kept))
    return True


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
            raise Failed(f"{running.tag} was not ready within {READY_SECONDS:.0f} s:\n{driver.log(running)}")
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
