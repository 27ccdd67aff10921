"""The simulation of `benchmarks/cluster.py`, where the answer is known without it."""

from __future__ import annotations

import pytest

from benchmarks.cluster import simulate


def test_the_scarcer_of_gpus_and_cores_sets_the_pace():
    assert simulate(2, service=20, finish=3, cores=4, load=0.8)["jobs_an_hour"] == 360
    assert simulate(50, service=20, finish=3, cores=4, load=0.8)["jobs_an_hour"] == 4800


def test_almost_nobody_waits_where_almost_nothing_is_asked():
    row = simulate(2, service=20, finish=3, cores=4, load=0.01)
    assert row["p95_wait_seconds"] == 0
    assert row["p95_total_seconds"] == pytest.approx(23 + 0.2 * 20, abs=1.5)  # the spread of both, at its upper end


def test_more_load_and_fewer_gpus_mean_longer_waits():
    waits = [simulate(gpus, 20, 3, 40, 0.8)["p95_wait_seconds"] for gpus in (1, 2, 4, 8)]
    assert waits == sorted(waits, reverse=True)
    assert simulate(1, 20, 3, 40, 0.9)["p95_wait_seconds"] > waits[0]
