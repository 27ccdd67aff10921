"""One Ray for all tests of the cluster: on this machine, on its loopback address only."""

from __future__ import annotations

import logging
import os
import secrets
from pathlib import Path

import pytest

from tests.engines.cluster_workers import GATE

ROOT = Path(__file__).resolve().parents[2]
RAY_SETTINGS = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # otherwise Ray takes the machine's outward address for 127.0.0.1
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": secrets.token_hex(32),  # or Ray writes one into the user's home
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "RAY_SERVE_LOG_TO_STDERR": "0",
    "PYTHONPATH": str(ROOT),  # for the workers
}


def _name_ports(patch: pytest.MonkeyPatch) -> None:
    """Ray's node waits 15 s, and no longer, for its agents to say which ports they found; ports that it is told at
    its start it does not wait for (its issue 65983). `ray.init` passes on none, and Ray one too few.
    """
    from ray._private import parameter, ray_constants, services

    from tests.web.conftest import free_port

    names = ("metrics_agent_port", "metrics_export_port", "dashboard_agent_listen_port", "runtime_env_agent_port")
    ports = {name: free_port() for name in names}
    start, params = services.start_ray_process, parameter.RayParams

    def make_params(**options):
        return params(**{**options, **ports})

    def start_process(command, process_type, **options):
        if process_type == ray_constants.PROCESS_TYPE_RAYLET:
            command = [*command, f"--dashboard_agent_listen_port={ports['dashboard_agent_listen_port']}"]
        return start(command, process_type, **options)

    patch.setattr(parameter, "RayParams", make_params)
    patch.setattr(services, "start_ray_process", start_process)


@pytest.fixture(scope="session")
def cluster(tmp_path_factory):
    """A function that deploys a `worker.Plan` under a name; two GPUs are declared, none is needed."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in RAY_SETTINGS.items():
            patch.setenv(name, value)
        patch.setenv(GATE, str(tmp_path_factory.mktemp("gate") / "closed"))
        for name in [name for name in os.environ if name.startswith("ORFEAS_")]:
            patch.delenv(name)
        import ray
        from ray import serve

        from orfeas.engines.cluster.worker import Plan, build

        _name_ports(patch)
        ray.init(
            address="local",  # not one that somebody runs on this machine
            num_cpus=4,
            num_gpus=2,
            include_dashboard=False,
            object_store_memory=150 << 20,
            log_to_driver=False,
            logging_level=logging.ERROR,
            _node_ip_address="127.0.0.1",
        )
        serve.start(proxy_location="Disabled")

        def deploy(name: str, **options):
            serve.run(build(Plan(cpus=0, **options)), name=name, route_prefix=None)

        yield deploy
        serve.shutdown()
        ray.shutdown()
