"""How many calls a model is given at once: found out by additive increase, multiplicative decrease.

AIMD is Chiu and Jain's ("Analysis of the Increase and Decrease Algorithms for Congestion Avoidance", 1989); until the
first sign of too much the limit grows by one with every answer, as TCP's slow start does (RFC 5681 §3.1).
"""

from __future__ import annotations

from dataclasses import dataclass

DECREASE = 0.9
"""What is left of the limit after a sign of too much: the factor of Netflix's concurrency-limits (`AIMDLimit`). TCP's
halving would cost a quarter of the capacity."""

USED_SHARE = 0.5
"""A limit of which less than this is used is not raised: nothing was found out about it."""


@dataclass(frozen=True, slots=True)
class LimitTerms:
    """Calls at once: to begin with, and at most."""

    start: int = 100
    most: int = 1000


@dataclass(frozen=True, slots=True)
class Remaining:
    """What a server says is left: `calls` more until `seconds` from now."""

    calls: int
    seconds: float


class AdaptiveLimit:
    """Of one model at one upstream. Times are of one monotonic clock, in seconds."""

    def __init__(self, terms: LimitTerms) -> None:
        self._most = float(terms.most)
        self._limit = min(float(terms.start), self._most)
        self._threshold = self._most
        self._decreased = float("-inf")
        self._told = self._most
        self._told_until = float("-inf")

    def allowed(self, now: float) -> int:
        """Return how many calls may be under way, at least 1."""
        limit = self._limit if now >= self._told_until else min(self._limit, self._told)
        return max(int(limit), 1)

    def succeeded(self, in_flight: int) -> None:
        """A call ended well while so many, itself included, were under way."""
        if in_flight >= self._limit * USED_SHARE:
            step = 1.0 if self._limit < self._threshold else 1.0 / self._limit
            self._limit = min(self._limit + step, self._most)

    def overloaded(self, began: float, now: float) -> None:
        """A call that began at `began` met a server with too much to do. Of calls begun before the last decrease, none
        says anything new."""
        if began >= self._decreased:
            self._limit = max(self._limit * DECREASE, 1.0)
            self._threshold = self._limit
            self._decreased = now

    def told(self, remaining: Remaining, in_flight: int, now: float) -> None:
        """The server said how many more calls it takes; until then it is believed."""
        self._told = float(in_flight + remaining.calls)
        self._told_until = now + remaining.seconds
