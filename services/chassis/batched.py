"""Observations that are counted many at once.

Counting one in Prometheus's library takes little where it is done in a row, and several times that in the middle of a
call, when its code has left the processor's caches since the last one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.registry import Collector

T = TypeVar("T")

TOGETHER = 64
"""Observations that wait at most; counting them takes less than a millisecond."""


class Batched(Collector, Generic[T]):
    """Passes observations on, in their order: when enough wait, and before Prometheus reads.

    Make it before the metrics that `count` changes: a registry asks its collectors in the order of their registration.
    Observations are added by one thread; any may read.
    """

    def __init__(self, registry: CollectorRegistry, count: Callable[[T], None]) -> None:
        self._count = count
        self._waiting: deque[T] = deque()
        registry.register(self)

    def add(self, one: T) -> None:
        """Take an observation."""
        self._waiting.append(one)
        if len(self._waiting) >= TOGETHER:
            self.flush()

    def flush(self) -> None:
        """Count all that wait."""
        while True:
            try:
                one = self._waiting.popleft()
            except IndexError:
                return
            self._count(one)

    def describe(self) -> Iterable[Metric]:
        """No metric: `register` would otherwise ask for them all."""
        return ()

    def collect(self) -> Iterable[Metric]:
        """No metric; but those behind it are up to date now."""
        self.flush()
        return ()
