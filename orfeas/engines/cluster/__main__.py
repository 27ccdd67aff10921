"""``python -m orfeas.engines.cluster deploy``: start the workers, or replace them while their jobs end."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping
from pathlib import Path

from dotenv import dotenv_values
from pydantic import ValidationError

from orfeas.errors import BadRequest, EngineUnavailable, OrfeasError

ROOT = Path(__file__).resolve().parents[3]
# What a worker has to know of the settings here; the rest is the app's business.
PASSED_ON = ("SKETCH_SHAPE", "DEVICE", "HUNYUAN3D_PATH", "HUNYUAN3D_APPROXIMATE", "LOG_LEVEL")


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m orfeas.engines.cluster", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    deploy = commands.add_parser(
        "deploy",
        help="start the workers on the Ray cluster of this machine, or replace them",
        description="The same folder of ORFEAS, its packages and its weights have to be on every machine.",
    )
    deploy.add_argument("--engine", default="auto", help="auto, sketch or hunyuan3d (default: %(default)s)")
    deploy.add_argument("--workers", default="1", metavar="N or MIN-MAX", help="how many (default: %(default)s)")
    deploy.add_argument("--gpus", type=float, default=1.0, help="of each worker, 0 for none (default: %(default)s)")
    deploy.add_argument("--cpus", type=float, default=1.0, help="of each worker (default: %(default)s)")
    deploy.add_argument("--queue", type=int, default=20, help="jobs that may wait for one (default: %(default)s)")
    deploy.add_argument("--stall-seconds", type=float, default=600.0, help="without a step, for a worker that hangs")
    deploy.add_argument("--drain-seconds", type=float, default=600.0, help="for jobs of workers that are replaced")
    for command in (deploy, commands.add_parser("remove", help="end the workers, once their jobs have ended")):
        command.add_argument("--address", default="auto", help="of the cluster (default: the one of this machine)")
        command.add_argument("--app", default="orfeas", help="its name in Serve, ORFEAS_RAY_APP of the app")
    return parser


def read_plan(arguments: argparse.Namespace, environment: Mapping[str, str] | None = None):
    """The `worker.Plan` of a command line. Raises `BadRequest`.

    environment: by default this process's, and below it ``.env``, as the app reads them.
    """
    from orfeas.engines.cluster.worker import Plan

    if environment is None:
        written = {name: value for name, value in dotenv_values(".env").items() if value is not None}
        environment = {**written, **os.environ}
    least, _, most = arguments.workers.partition("-")
    passed = {f"ORFEAS_{name}": environment[f"ORFEAS_{name}"] for name in PASSED_ON if f"ORFEAS_{name}" in environment}
    try:
        return Plan(
            engine=arguments.engine,
            min_workers=least,
            max_workers=most or least,
            gpus=arguments.gpus,
            cpus=arguments.cpus,
            queue=arguments.queue,
            stall_seconds=arguments.stall_seconds,
            drain_seconds=arguments.drain_seconds,
            environment={"PYTHONPATH": str(ROOT), **passed},
        )
    except ValidationError as error:
        first = error.errors()[0]
        where = f"{first['loc'][0]} cannot be {first['input']!r}: " if first["loc"] else ""
        raise BadRequest(f"{where}{first['msg'].removeprefix('Value error, ')}.") from error


def main(words: list[str] | None = None) -> int:
    arguments = build_parser().parse_args(words)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        try:
            import ray
            from ray import serve
        except ImportError as error:
            raise EngineUnavailable("Ray is not installed: pip install -r requirements-cluster.txt.") from error
        if arguments.command == "deploy":
            plan = read_plan(arguments)
        try:
            ray.init(address=arguments.address, log_to_driver=False)
        except (ConnectionError, ValueError) as error:
            raise EngineUnavailable(
                f"There is no Ray cluster at {arguments.address} that lets us in: start one with `ray start --head`, or"
                " let this machine join one with `ray start --address=HOST:6379`; where it has a token, set"
                " RAY_AUTH_MODE=token."
            ) from error
        if arguments.command == "remove":
            serve.delete(arguments.app)
            print(f"{arguments.app}: no workers are left")
        else:
            _deploy(arguments.app, plan)
    except OrfeasError as error:
        print(f"orfeas: {error}", file=sys.stderr)
        return 2
    return 0


def _deploy(application: str, plan) -> None:
    from ray import serve

    from orfeas.engines.cluster.client import describe
    from orfeas.engines.cluster.worker import build

    try:
        serve.start(proxy_location="Disabled")  # the app calls the workers itself: no HTTP
        serve.run(build(plan), name=application, route_prefix=None)
    except RuntimeError as error:
        raise EngineUnavailable(f"The workers did not start: {str(error).strip().splitlines()[-1]}") from error
    engine = describe(application, "auto")
    print(f"{application}: {engine.title} on {engine.device}, {engine.slots} at once. {engine.reason}")


if __name__ == "__main__":
    sys.exit(main())
