"""Who is let through to a model with as much to do as it can take: by priority, within a bounded wait.

Whoever would wait in vain is told at once and when to come again: a queue that outlives its callers' patience makes a
server work for people who have left.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field

from services.completion.resilience.adaptive_limit import AdaptiveLimit

SMOOTHING, DEVIATION_SMOOTHING, DEVIATIONS = 1 / 8, 1 / 4, 4.0
"""Weights of the latest call in the running mean of how long a call takes and in that of its deviation, and how many
deviations a call is given beyond the mean: TCP's retransmission timer's (RFC 6298 §2)."""


@dataclass(slots=True, eq=False)
class Ticket:
    """A place: of a call under way once `admitted`, in the queue until then."""

    priority: int
    wake: Callable[[], None]
    began: float
    admitted: bool = False
    gone: bool = False


@dataclass(frozen=True, slots=True)
class Shed:
    """No place: to come again after `seconds`."""

    seconds: float


@dataclass(order=True, slots=True)
class _Entry:
    rank: tuple[int, int]
    ticket: Ticket = field(compare=False)


class Admission:
    """In front of one model at one upstream. Times are of one monotonic clock, in seconds."""

    def __init__(self, limit: AdaptiveLimit, *, longest: float) -> None:
        """`longest`: the most seconds that anybody waits."""
        self.limit = limit
        self.in_flight = 0
        self._longest = longest
        self._queue: list[_Entry] = []
        self._waiting: dict[Ticket, None] = {}
        self._numbers = itertools.count()
        self._takes: float | None = None
        self._deviation = 0.0

    @property
    def waiting(self) -> int:
        """Who is in the queue."""
        return len(self._waiting)

    def enter(self, now: float, *, priority: int, remaining: float, wake: Callable[[], None]) -> Ticket | Shed:
        """Return a place, or none if the wait would be too long for the queue or for the caller.

        Higher priorities go first, equal ones in order. `remaining`: seconds until the caller's deadline. A ticket
        that is not admitted yet waits until `wake` is called, for `patience(...)` at most; then it is to `leave`.
        """
        ticket = Ticket(priority, wake, now)
        if self.in_flight < self.limit.allowed(now) and not self._waiting:
            self._admit(ticket, now)
            return ticket
        expected, patience = self._expected(priority, now), self.patience(remaining)
        if expected > patience:
            return Shed(max(expected - max(patience, 0.0), 0.1))
        self._waiting[ticket] = None
        self._push(ticket)
        self._pump(now)
        return ticket

    def patience(self, remaining: float) -> float:
        """Return the seconds that a caller may wait: what its deadline leaves beside a call that takes its time."""
        return min(self._longest, remaining - (self._takes or 0.0) - DEVIATIONS * self._deviation)

    def raise_to(self, ticket: Ticket, priority: int) -> None:
        """Somebody more urgent waits on the same ticket now."""
        if priority > ticket.priority and ticket in self._waiting:
            ticket.priority = priority
            self._push(ticket)

    def leave(self, ticket: Ticket, now: float, *, answered: bool = False) -> None:
        """Give a place back: out of the queue, or at the end of the call. `answered`: it gave a whole answer."""
        if ticket.gone:
            return
        ticket.gone = True
        if not ticket.admitted:
            self._waiting.pop(ticket, None)
            return
        if answered:
            self._took(now - ticket.began)
        self.in_flight -= 1
        self._pump(now)

    def retry_after(self, now: float) -> float:
        """Return the seconds after which somebody who was not let through may come again."""
        return max(self._expected(0, now), 0.1)

    def _expected(self, priority: int, now: float) -> float:
        """Return the seconds until somebody who comes now is let through; 0.0 while nothing is known."""
        ahead = sum(ticket.priority >= priority for ticket in self._waiting)
        return (ahead + 1) * (self._takes or 0.0) / self.limit.allowed(now)

    def _took(self, seconds: float) -> None:
        if self._takes is None:
            self._takes, self._deviation = seconds, seconds / 2
            return
        error = seconds - self._takes
        self._deviation += DEVIATION_SMOOTHING * (abs(error) - self._deviation)
        self._takes += SMOOTHING * error

    def _push(self, ticket: Ticket) -> None:
        heapq.heappush(self._queue, _Entry((-ticket.priority, next(self._numbers)), ticket))

    def _pump(self, now: float) -> None:
        while self._queue and self.in_flight < self.limit.allowed(now):
            ticket = heapq.heappop(self._queue).ticket
            if ticket.gone or ticket.admitted:
                continue
            del self._waiting[ticket]
            self._admit(ticket, now)
            ticket.wake()

    def _admit(self, ticket: Ticket, now: float) -> None:
        ticket.admitted, ticket.began = True, now
        self.in_flight += 1
