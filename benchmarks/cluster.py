"""What the way through a Ray cluster costs, and what numbers of GPUs hold.

    python -m benchmarks.cluster [--service-seconds 20 --finish-seconds 3 --finish-cores 4]

Measured here, on this machine, with workers that wait instead of computing (their steps cost no CPU, so this is Ray's
own cost): a job of 20 steps of 50 ms and a mesh of 100,000 faces in the app's process and by a worker; jobs an hour
with one worker and with two. Simulated from that and from the seconds given: jobs an hour and the 95th percentile of
waiting for numbers of GPUs. The last line is JSON.
"""

from __future__ import annotations

import argparse
import heapq
import json
import logging
import os
import platform
import secrets
import statistics
import sys
import threading
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

STEPS, STEP_MS = 20, 50
REPEATS = 5
APP = "benchmark"
LOAD = 0.8  # of what the GPUs can do at most, at which waiting is told
JOBS = 20_000


class WaitingEngine:
    """``quality.steps`` steps of ``quality.grid`` milliseconds, then a mesh of about ``quality.faces`` faces."""

    name, title, device, version, slots, reason, caveat = "sketch", "Waiting", "cpu", "1", 1, "to measure Ray", ""

    def load(self):
        pass

    def health(self):
        return {}

    def close(self):
        pass

    def shape(self, cutout, quality, seed):
        from orfeas.engines import Step
        from orfeas.mesh import Mesh

        for step in range(quality.steps):
            time.sleep(quality.grid / 1000)
            yield Step((step + 1) / quality.steps, "waiting")
        faces = np.zeros((quality.faces, 3), np.int32)
        yield Mesh(np.zeros((quality.faces // 2, 3)), faces)


def make_waiting(plan) -> WaitingEngine:
    return WaitingEngine()


def measure() -> dict:
    """Seconds of a job here and by a worker, and jobs an hour by one worker and by two."""
    os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}  # nothing in the user's home
    import ray
    from ray import serve

    from orfeas.cutout import Cutout
    from orfeas.engines.cluster.client import describe
    from orfeas.engines.cluster.worker import Plan, build
    from orfeas.request import Quality

    cutout = Cutout(np.zeros((1024, 1024, 4), np.uint8), "alpha", "for the benchmark", 1.0, False)
    quality = Quality(STEP_MS, STEPS, 100_000)

    def job(engine) -> float:
        began = time.perf_counter()
        for _ in engine.shape(cutout, quality, 1):
            pass
        return time.perf_counter() - began

    began = time.perf_counter()
    ray.init(
        address="local",
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        _node_ip_address="127.0.0.1",
    )
    serve.start(proxy_location="Disabled")
    found = {"start_seconds": round(time.perf_counter() - began, 2)}
    for workers in (1, 2):
        plan = Plan(
            min_workers=workers, max_workers=workers, gpus=0, cpus=0, factory="benchmarks.cluster:make_waiting",
            environment={"PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        serve.run(build(plan), name=APP, route_prefix=None)
        engine = describe(APP, "this machine")
        job(engine)
        if workers == 1:
            local, cluster = [], []
            for _ in range(REPEATS):
                local.append(job(WaitingEngine()))
                cluster.append(job(engine))
            found["local_seconds"] = round(statistics.median(local), 4)
            found["cluster_seconds"] = round(statistics.median(cluster), 4)
            found["overhead_percent"] = round(100 * (found["cluster_seconds"] / found["local_seconds"] - 1), 2)
        found[f"jobs_an_hour_{workers}"] = round(_jobs_an_hour(lambda: job(engine), workers))  # noqa: B023
    serve.shutdown()
    ray.shutdown()
    return found


def _jobs_an_hour(job, workers: int) -> float:
    began, each = time.perf_counter(), 4
    threads = [threading.Thread(target=lambda: [job() for _ in range(each)]) for _ in range(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return 3600 * workers * each / (time.perf_counter() - began)


def simulate(gpus: int, service: float, finish: float, cores: int, load: float, seed: int = 0) -> dict[str, float]:
    """A queue of `JOBS` jobs that arrive at random (Poisson), each first on a GPU, then on a core of the app's machine.

    service, finish: mean seconds there, each job's drawn from 0.8 to 1.2 of them. load: jobs that arrive, as a share of
    what the GPUs or the cores, whichever is less, can do. Returns jobs an hour at most, and seconds until a job begins.
    """
    draw = np.random.default_rng(seed)
    most = min(gpus / service, cores / finish)  # a second
    arrivals = np.cumsum(draw.exponential(1 / (load * most), JOBS))
    shapes, finishes = service * draw.uniform(0.8, 1.2, JOBS), finish * draw.uniform(0.8, 1.2, JOBS)
    waits, shaped = [], []
    free = [0.0] * gpus
    for arrival, seconds in zip(arrivals, shapes, strict=True):
        begins = max(arrival, heapq.heappop(free))
        heapq.heappush(free, begins + seconds)
        waits.append(begins - arrival)
        shaped.append(begins + seconds)
    free, total = [0.0] * cores, []
    order = np.argsort(shaped)
    for index in order:
        begins = max(shaped[index], heapq.heappop(free))
        heapq.heappush(free, begins + finishes[index])
        total.append(begins + finishes[index] - arrivals[index])
    return {
        "gpus": gpus,
        "jobs_an_hour": round(3600 * most),
        "p95_wait_seconds": round(float(np.percentile(waits, 95)), 1),
        "p95_total_seconds": round(float(np.percentile(total, 95)), 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--service-seconds", type=float, default=20.0, help="of a GPU a job (default: %(default)s)")
    parser.add_argument("--finish-seconds", type=float, default=3.0, help="of a core a job (default: %(default)s)")
    parser.add_argument("--finish-cores", type=int, default=4, help="of the app's machine (default: %(default)s)")
    arguments = parser.parse_args()
    found = measure()
    print(
        f"a job of {STEPS} x {STEP_MS} ms: {found['local_seconds']} s here, {found['cluster_seconds']} s by a worker,"
        f" {found['overhead_percent']} % more"
    )
    print(f"jobs an hour: {found['jobs_an_hour_1']} with one worker, {found['jobs_an_hour_2']} with two")
    assumptions = {
        "service_seconds": arguments.service_seconds,
        "finish_seconds": arguments.finish_seconds,
        "finish_cores": arguments.finish_cores,
        "arrivals": f"at random, {LOAD:.0%} of the most",
        "spread": "0.8 to 1.2 of the mean, uniform",
        "left_out": "machines that are lost or started, memory of the app's machine, jobs that are stopped",
    }
    overhead = max(0.0, found["cluster_seconds"] - found["local_seconds"])
    service = arguments.service_seconds + overhead
    rows = [simulate(n, service, arguments.finish_seconds, arguments.finish_cores, LOAD) for n in (1, 2, 4, 8, 16)]
    for row in rows:
        print("{gpus} GPUs: {jobs_an_hour} jobs an hour at most; 95 % wait {p95_wait_seconds} s or less".format(**row))
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    print(
        json.dumps({"benchmark": "cluster", "machine": machine, **found, "assumptions": assumptions, "simulated": rows})
    )


if __name__ == "__main__":
    main()
