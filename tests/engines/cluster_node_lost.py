"""A machine of the cluster is lost in the middle of a job: ``make test-cluster``; a minute, so not among the tests.

Three Ray nodes on this machine's loopback interface: a head, and two with a declared GPU and a worker each. The one
that has the job is killed. Raises `AssertionError`, or prints the seconds.
"""

from __future__ import annotations

import logging
import os
import time

import numpy as np

from tests.engines.conftest import RAY_SETTINGS


def main() -> None:
    os.environ |= RAY_SETTINGS
    import ray
    from ray import serve
    from ray.cluster_utils import Cluster

    from orfeas.cutout import Cutout
    from orfeas.engines.cluster.client import RERUN_NOTE, describe
    from orfeas.engines.cluster.worker import Plan, build
    from orfeas.request import Quality

    here = {"node_ip_address": "127.0.0.1"}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False, **here})
    nodes = {node.node_id[:8]: node for node in (cluster.add_node(num_cpus=1, num_gpus=1, **here) for _ in range(2))}
    ray.init(address=cluster.address, log_to_driver=False, logging_level=logging.ERROR)
    serve.start(proxy_location="Disabled")
    plan = Plan(min_workers=2, max_workers=2, cpus=0, factory="tests.engines.cluster_workers:make_timed")
    serve.run(build(plan), name="timed", route_prefix=None)
    engine = describe("timed", "this machine")
    cutout = Cutout(np.full((40, 30, 4), 255, np.uint8), "alpha", "drawn by the test", 1.0, False)
    workers, notes, lost_at, back_after, mesh = [], [], 0.0, 0.0, None
    for event in engine.shape(cutout, Quality(100, 40, 2000), 7):
        facts = getattr(event, "facts", None) or {}
        if "worker" in facts:
            workers.append(facts["worker"].split("-")[0])
            if lost_at:
                back_after = time.monotonic() - lost_at
        notes += [facts["rerun_note"]] if "rerun_note" in facts else []
        if "pid" in facts and not lost_at:
            cluster.remove_node(nodes[workers[0]], allow_graceful=False)
            lost_at = time.monotonic()
        mesh = event
    assert set(workers) == set(nodes), workers
    assert notes == [RERUN_NOTE], notes
    assert len(mesh.vertices) > 1000
    serve.shutdown()
    ray.shutdown()
    cluster.shutdown()
    print(f"the node was lost; another worker had the job {back_after:.1f} s later, and finished it")


if __name__ == "__main__":
    main()
