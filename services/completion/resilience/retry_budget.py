"""How many retries an upstream is given: a share of its requests, so that an outage is not multiplied."""

from __future__ import annotations

MOST_SAVED = 10.0
"""Retries that a quiet time may save up: enough for a short stumble, too few to make a storm of."""

PER_SECOND = 0.1
"""Retries per second whatever the traffic, so that a service with one request a minute may retry as well. (Finagle's
retry budget has the same two parts.)"""


class RetryBudget:
    """A token bucket of one upstream. `share`: retries per request. Times are of one monotonic clock, in seconds."""

    def __init__(self, share: float, now: float) -> None:
        self._share = share
        self._saved = MOST_SAVED if share > 0 else 0.0
        self._seen = now

    def earn(self) -> None:
        """A request has come to the upstream, of its own or as another one's fallback."""
        self._saved = min(MOST_SAVED, self._saved + self._share)

    def spend(self, now: float) -> bool:
        """Take a retry; False if there is none."""
        if self._share <= 0:
            return False
        self._saved = min(MOST_SAVED, self._saved + max(now - self._seen, 0.0) * PER_SECOND)
        self._seen = now
        if self._saved < 1.0:
            return False
        self._saved -= 1.0
        return True
