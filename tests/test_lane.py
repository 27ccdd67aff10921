from __future__ import annotations

import threading

import pytest

from orfeas.lane import Lane


def test_first_come_first_served_and_places_are_counted():
    lane = Lane()
    first, second, third = lane.enter(), lane.enter(), lane.enter()
    assert [lane.wait(ticket, 0) for ticket in (first, second, third)] == [0, 1, 2]
    lane.leave(second)
    assert lane.wait(third, 0) == 1
    lane.leave(first)
    assert lane.wait(third, 0) == 0
    lane.leave(third)
    lane.leave(third)
    assert len(lane) == 0


def test_leaving_wakes_the_next_at_once():
    lane = Lane()
    first, second = lane.enter(), lane.enter()
    seen = []
    waiter = threading.Thread(target=lambda: seen.append(lane.wait(second, seconds=600)), daemon=True)
    waiter.start()
    lane.leave(first)
    waiter.join(timeout=60)
    assert seen == [0]


def _order(lane: Lane, names: dict) -> list[str]:
    """Who is served, one after the other, when everybody waits."""
    waiting, order = dict(names), []
    while waiting:
        served = next(name for name, ticket in waiting.items() if lane.wait(ticket, 0) == 0)
        order.append(served)
        lane.leave(waiting.pop(served))
    return order


def test_a_party_with_many_jobs_does_not_keep_another_s_first_job_waiting():
    lane = Lane()
    many = {f"a{k}": lane.enter("a") for k in range(10)}
    other = {f"b{k}": lane.enter("b") for k in range(2)}
    third = lane.enter("c")
    assert [lane.wait(ticket, 0) for ticket in (many["a1"], other["b0"], third, other["b1"])] == [1, 2, 3, 5]
    order = _order(lane, {**many, **other, "c": third})
    assert order == ["a0", "a1", "b0", "c", "a2", "b1", *[f"a{k}" for k in range(3, 10)]]


def test_newcomers_do_not_starve_who_waits():
    lane = Lane()
    holder, patient = lane.enter("a"), lane.enter("a")
    for k in range(4):  # whenever a job ends, somebody new has come
        newcomer = lane.enter(f"new {k}")
        if lane.wait(patient, 0) == 0:
            break
        lane.leave(holder)
        holder = newcomer
    assert k == 1


def test_the_jobs_after_one_that_is_given_up_move_up():
    lane = Lane()
    running, given_up, later = (lane.enter("a") for _ in range(3))
    other = [lane.enter("b") for _ in range(3)]
    assert lane.wait(later, 0) == 3
    lane.leave(given_up)
    assert _order(lane, {"a0": running, "a2": later, "b0": other[0], "b1": other[1], "b2": other[2]}) == [
        "a0", "b0", "a2", "b1", "b2",
    ]  # fmt: skip


def test_a_long_job_earns_its_party_no_earlier_turns():
    lane = Lane(slots=2)
    long = lane.enter("long")
    for k in range(5):
        lane.leave(lane.enter(f"short {k}"))
    running, waiting = lane.enter("b"), lane.enter("c")
    next_ones = [lane.enter("long") for _ in range(2)]
    assert [lane.wait(ticket, 0) for ticket in (long, running, waiting, *next_ones)] == [0, 0, 1, 2, 3]


@pytest.mark.parametrize("slots", [1, 3])
def test_never_more_threads_than_slots_hold_it(slots):
    lane, lock, holders, inside, most = Lane(slots), threading.Lock(), threading.Barrier(slots), [0], [0]

    def count(change: int):
        with lock:
            inside[0] += change
            most[0] = max(most[0], inside[0])

    def work(party: str):
        ticket = lane.enter(party)
        while lane.wait(ticket, 1.0):
            pass
        count(+1)
        holders.wait(timeout=30)  # breaks unless as many as there are slots come in at once
        count(-1)
        lane.leave(ticket)

    threads = [threading.Thread(target=work, args=(str(k % 5),)) for k in range(16 * slots)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert (most[0], len(lane)) == (slots, 0)
