"""One device does one job at a time, in the order of arrival."""

from __future__ import annotations

import threading
from collections import deque


class Lane:
    """A first come, first served lock whose queue can be seen and left."""

    def __init__(self):
        self._changed = threading.Condition()
        self._tickets: deque[object] = deque()

    def enter(self) -> object:
        """Join the queue; the ticket returned stands for the place in it."""
        ticket = object()
        with self._changed:
            self._tickets.append(ticket)
        return ticket

    def wait(self, ticket: object, seconds: float) -> int:
        """Wait up to ``seconds`` for the head of the queue; returns how many are ahead (0: the lane is ours)."""
        with self._changed:
            self._changed.wait_for(lambda: self._tickets[0] is ticket, timeout=seconds)
            return self._tickets.index(ticket)

    def leave(self, ticket: object) -> None:
        """Give the lane, or the place in its queue, to whoever is next. Leaving twice does no harm."""
        with self._changed:
            if ticket in self._tickets:
                self._tickets.remove(ticket)
                self._changed.notify_all()

    def __len__(self) -> int:
        """How many jobs run or wait."""
        with self._changed:
            return len(self._tickets)
