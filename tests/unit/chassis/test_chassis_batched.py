"""Observations that are counted many at once are all counted, and before anybody reads."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter

from services.chassis.batched import TOGETHER, Batched


def test_they_are_counted_in_their_order_when_enough_wait() -> None:
    counted: list[int] = []
    batched = Batched(CollectorRegistry(), counted.extend)
    for number in range(TOGETHER - 1):
        batched.add(number)
    assert counted == []
    batched.add(TOGETHER - 1)
    assert counted == list(range(TOGETHER))


def test_whoever_reads_the_registry_sees_all() -> None:
    registry = CollectorRegistry()

    def count(names: Sequence[str]) -> None:
        for name in names:
            counter.labels(name).inc()

    batched: Batched[str] = Batched(registry, count)
    counter = Counter("seen", "Seen.", ["name"], registry=registry)
    for name in "aba":
        batched.add(name)
    assert registry.get_sample_value("seen_total", {"name": "a"}) == 2
    assert registry.get_sample_value("seen_total", {"name": "b"}) == 1


def test_none_is_counted_twice_or_lost_while_another_thread_reads() -> None:
    counted: list[int] = []
    registry = CollectorRegistry()
    batched: Batched[int] = Batched(registry, counted.extend)
    over = threading.Event()

    def read() -> None:
        while not over.is_set():
            list(registry.collect())

    thread = threading.Thread(target=read)
    thread.start()
    for number in range(20_000):
        batched.add(number)
    over.set()
    thread.join()
    batched.flush()
    assert sorted(counted) == list(range(20_000))
