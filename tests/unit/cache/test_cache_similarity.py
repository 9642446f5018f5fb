"""Where a search runs: on the loop while it is short, by what the last ones of its group took."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

from services.cache import similarity as similarity_module
from services.cache.bucket import SLOWEST_PACE, Group
from services.cache.similarity import EASED, Similarity, Wanted
from simcore import IndexPoisoned

DIM = 8
ROWS = 40


class Watched(Executor):
    """A thread, and how often it was given work."""

    def __init__(self) -> None:
        self.given = 0
        self._thread = ThreadPoolExecutor(1)

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        self.given += 1
        return self._thread.submit(fn, *args, **kwargs)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        self._thread.shutdown(wait, cancel_futures=cancel_futures)


class Made:
    """An index of one group whose searches take as long as the test says."""

    def __init__(self, executor: Watched) -> None:
        self.executor = executor
        self.takes = 0.0
        self._at = 0.0
        self.similarity = Similarity(DIM, threads=1, executor=executor, seconds=self._seconds)
        self.group = Group(0, ROWS)
        self.vectors = np.eye(DIM, dtype=np.float32)[np.arange(ROWS) % DIM]
        self.similarity.upsert(np.arange(ROWS, dtype=np.uint64), self.vectors, groups=[0] * ROWS, ends=[1e9] * ROWS)

    def _seconds(self) -> float:
        self._at += self.takes  # read before a search and after it
        return self._at

    async def search(self, takes: float, *, until: float | None = None) -> bool:
        """Search; whether it was on the loop."""
        self.takes, before = takes, self.executor.given
        rows, scores = await self.similarity.search(
            [Wanted(self.group, self.vectors[3], 2)], least=0.9, now=0.0, until=until
        )
        assert (rows, scores) == ([[3, 3 + DIM]], [[1.0, 1.0]])
        return self.executor.given == before


@pytest.fixture
async def made(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Made]:
    monkeypatch.setattr(similarity_module, "INLINE_ROWS", 10)
    monkeypatch.setattr(similarity_module, "MOST_INLINE_ROWS", 10 * ROWS)
    monkeypatch.setattr(similarity_module, "INLINE_SECONDS", ROWS * SLOWEST_PACE / 2)
    executor = Watched()
    yield Made(executor)
    executor.shutdown()


async def test_a_group_is_searched_on_a_thread_until_its_searches_were_seen_to_be_short(made: Made) -> None:
    inline = [await made.search(takes=0.0) for _ in range(12)]
    first = inline.index(True)
    assert SLOWEST_PACE * EASED**first <= SLOWEST_PACE / 2 < SLOWEST_PACE * EASED ** (first - 1)
    assert all(inline[first:])


async def test_one_that_took_long_sends_the_next_ones_to_a_thread(made: Made) -> None:
    while not await made.search(takes=0.0):
        pass
    assert await made.search(takes=1.0), "nobody can know before"
    assert not await made.search(takes=0.0)


async def test_few_rows_never_go_to_a_thread_and_very_many_always_do(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(similarity_module, "INLINE_ROWS", ROWS)
    assert [await made.search(takes=1.0) for _ in range(2)] == [True, True]
    monkeypatch.setattr(similarity_module, "INLINE_ROWS", 10)
    monkeypatch.setattr(similarity_module, "MOST_INLINE_ROWS", ROWS - 1)
    made.group.pace = 0.0
    assert not await made.search(takes=0.0)


async def test_only_a_thread_is_waited_for_no_longer_than_the_caller_has_time(made: Made) -> None:
    over = asyncio.get_running_loop().time() - 1.0
    with held(made.executor), pytest.raises(TimeoutError):
        await made.search(takes=0.0, until=over)
    made.group.pace = 0.0
    assert await made.search(takes=0.0, until=over), "it had the answer at once"


async def test_a_fault_is_told_wherever_the_search_ran(made: Made) -> None:
    made.similarity._index._inject_panic()  # type: ignore[attr-defined]  # a hook for tests
    with pytest.raises(IndexPoisoned):
        await made.search(takes=0.0)
    assert made.executor.given == 1
    assert made.similarity.broken.is_set()


@contextmanager
def held(executor: Watched) -> Iterator[None]:
    """The thread is busy inside."""
    go_on: Future[None] = Future()
    executor.submit(go_on.result)
    try:
        yield
    finally:
        go_on.set_result(None)
