"""A circuit breaker: a model that keeps failing is not called for a while, then by one call at a time.

The pattern is M. Nygard's ("Release It!", 2007). A call that its own caller gave up counts neither way: it says nothing
about the server.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import StrEnum
from random import Random

from services.chassis.value import value

WINDOW = 20
"""The latest results that are looked at; more if it takes more failures in a row."""

SHARE = 0.6
"""Of a full window: more failures than this open the breaker. A server that fails one call in five stays in use."""


class State(StrEnum):
    """Of a breaker."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


@dataclass(frozen=True, slots=True)
class BreakerTerms:
    """When it opens, and for how long (seconds): from `first_open`, doubled by every failed probe, to `most_open`."""

    failures: int = 5
    """In a row."""
    first_open: float = 1.0
    most_open: float = 30.0


@value
class Permit:
    """The right to make one call. `era` tells the calls before the last change of state from those after it."""

    era: int
    probe: bool


class Breaker:
    """Of one model at one upstream. Times are of one monotonic clock, in seconds."""

    def __init__(self, terms: BreakerTerms, rng: Random) -> None:
        self._terms = terms
        self._rng = rng
        self._results: deque[bool] = deque(maxlen=max(WINDOW, terms.failures))
        self._era = 0
        self._open_for = terms.first_open
        self._probe_at = 0.0
        self._probing = False
        self.state = State.CLOSED

    def blocked(self, now: float) -> float:
        """Return the seconds until a call may be tried, 0.0 if it may be now."""
        if self.state is State.CLOSED:
            return 0.0
        if self._probing:
            return self._open_for
        return max(self._probe_at - now, 0.0)

    def begin(self, now: float) -> Permit | None:
        """Return the right to make a call now. While the breaker is not closed, only one call at a time has it."""
        if self.state is State.CLOSED:
            return Permit(self._era, probe=False)
        if self._probing or now < self._probe_at:
            return None
        self.state, self._probing = State.HALF_OPEN, True
        return Permit(self._era, probe=True)

    def answering(self, permit: Permit) -> None:
        """The first content has come: enough for a probe, whose answer may take minutes."""
        if permit.era == self._era and permit.probe and self.state is State.HALF_OPEN:
            self._close()

    def succeeded(self, permit: Permit) -> None:
        """The call ended well."""
        if permit.era != self._era:
            return
        if permit.probe:
            self._close()
        else:
            self._results.append(True)

    def failed(self, permit: Permit, now: float) -> None:
        """The call failed for a reason that lies with the server."""
        if permit.era != self._era:
            return
        if permit.probe:
            self._open_for = min(self._open_for * 2, self._terms.most_open)
            self._open(now)
            return
        self._results.append(False)
        failures = sum(not result for result in self._results)
        latest = list(self._results)[-self._terms.failures :]
        in_a_row = len(latest) == self._terms.failures and not any(latest)
        full = len(self._results) == self._results.maxlen
        if in_a_row or (full and failures > SHARE * len(self._results)):
            self._open(now)

    def left(self, permit: Permit) -> None:
        """The call was given up by who made it: another may probe at once."""
        if permit.era == self._era and permit.probe:
            self._probing = False

    def _open(self, now: float) -> None:
        self.state, self._probing = State.OPEN, False
        self._era += 1
        # Jittered, so that replicas do not probe together.
        self._probe_at = now + self._open_for * self._rng.uniform(0.8, 1.2)

    def _close(self) -> None:
        self.state, self._probing = State.CLOSED, False
        self._era += 1
        self._open_for = self._terms.first_open
        self._results.clear()
