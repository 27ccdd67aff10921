"""One engine does as many jobs at once as it has slots; who waits is served in turn, each party one job at a time."""

from __future__ import annotations

import threading
from dataclasses import dataclass


@dataclass(eq=False)
class Ticket:
    """A place in the queue. ``round``: in which round of all parties it is served."""

    party: str
    round: int


class Lane:
    """A lock for ``slots`` holders, whose queue can be seen and left.

    Served round robin, one job of each party a round, in the order of arrival within a round: nobody waits for all the
    jobs of somebody else. A new job joins the next round at the earliest, so no stream of newcomers keeps anyone out.
    """

    def __init__(self, slots: int = 1):
        self.slots = slots
        self._changed = threading.Condition()
        self._holders: list[Ticket] = []
        self._waiting: list[Ticket] = []  # in the order in which they will be served
        self._round = 0  # being served

    def enter(self, party: str = "") -> Ticket:
        """Join the queue; the ticket returned stands for the place in it. party: whose job it is."""
        with self._changed:
            own = [ticket.round for ticket in (*self._holders, *self._waiting) if ticket.party == party]
            ticket = Ticket(party, max((self._round, *own)) + 1)
            self._waiting.append(ticket)
            self._serve()
        return ticket

    def wait(self, ticket: Ticket, seconds: float) -> int:
        """Wait up to ``seconds`` for a slot; returns how many jobs have to end before (0: a slot is ours)."""
        with self._changed:
            self._changed.wait_for(lambda: ticket in self._holders, timeout=seconds)
            return 0 if ticket in self._holders else self._waiting.index(ticket) + 1

    def leave(self, ticket: Ticket) -> None:
        """Give the slot, or the place in the queue, to whoever is next. Leaving twice does no harm."""
        with self._changed:
            if ticket in self._holders:
                self._holders.remove(ticket)
            elif ticket in self._waiting:
                later = self._waiting[self._waiting.index(ticket) :]
                self._waiting.remove(ticket)
                place = ticket.round
                for other in later[1:]:  # the party's later jobs move up
                    if other.party == ticket.party:
                        place, other.round = other.round, place
            self._serve()

    def __len__(self) -> int:
        """How many jobs run or wait."""
        with self._changed:
            return len(self._holders) + len(self._waiting)

    def _serve(self) -> None:
        self._waiting.sort(key=lambda ticket: ticket.round)  # stable: in a round, the first come stays first
        while self._waiting and len(self._holders) < self.slots:
            ticket = self._waiting.pop(0)
            self._round = ticket.round
            self._holders.append(ticket)
        self._changed.notify_all()
