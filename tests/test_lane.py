from __future__ import annotations

import threading

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
    waiter = threading.Thread(target=lambda: seen.append(lane.wait(second, seconds=60)))
    waiter.start()
    lane.leave(first)
    waiter.join(timeout=10)
    assert seen == [0]


def test_only_one_of_many_threads_holds_it():
    lane, inside, most = Lane(), [0], [0]

    def work():
        ticket = lane.enter()
        while lane.wait(ticket, 1.0):
            pass
        inside[0] += 1
        most[0] = max(most[0], inside[0])
        inside[0] -= 1
        lane.leave(ticket)

    threads = [threading.Thread(target=work) for _ in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert (most[0], len(lane)) == (1, 0)
