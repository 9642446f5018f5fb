"""Observations that are counted many at once.

Counting one takes little where it is done in a row, and twice that in the middle of a call, when its code has left the
processor's caches since the last one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Generic, TypeVar

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.registry import Collector

T = TypeVar("T")

TOGETHER = 64
"""Observations that wait at most; counting them takes less than a millisecond."""


class Batch(Generic[T]):
    """Passes observations on, in their order: when enough wait, and when somebody is about to read.

    They are added by one thread; any may read.
    """

    def __init__(self, count: Callable[[Sequence[T]], None]) -> None:
        self._count = count
        self._waiting: deque[T] = deque()

    def add(self, one: T) -> None:
        """Take an observation."""
        self._waiting.append(one)
        if len(self._waiting) >= TOGETHER:
            self.flush()

    def flush(self) -> None:
        """Count all that wait."""
        taken = []
        with suppress(IndexError):
            while True:
                taken.append(self._waiting.popleft())
        if taken:
            self._count(taken)


class Batched(Batch[T], Collector):
    """For metrics of Prometheus, before which it is made: a registry asks its collectors in their order."""

    def __init__(self, registry: CollectorRegistry, count: Callable[[Sequence[T]], None]) -> None:
        super().__init__(count)
        registry.register(self)

    def describe(self) -> Iterable[Metric]:
        """No metric: `register` would otherwise ask for them all."""
        return ()

    def collect(self) -> Iterable[Metric]:
        """No metric; but those behind it are up to date now."""
        self.flush()
        return ()
