"""States on their way to the store and back: none is lost, and few large ones go at once."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence

import pytest

from services.cache.learning import namespaces, rivals
from services.cache.ports import LearnedState
from services.cache.states import RIVALS_TOGETHER, TOGETHER
from tests.unit.cache.cache_parts import TENANT, Bench
from tests.unit.cache.learning.learning_parts import Shelf
from tests.unit.cache.learning.test_cache_adapting import learning, until


class Counting(Shelf):
    """Remembers what came together, and how many are being written."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[list[int]] = []
        self.writing = 0
        self.slow = asyncio.Event()
        self.slow.set()

    async def save_learned(self, states: Sequence[LearnedState]) -> None:
        self.batches.append([len(json.loads(json.dumps(one.state))["rivals"]) for one in states])
        self.writing += 1
        await self.slow.wait()
        await super().save_learned(states)
        self.writing -= 1


async def opened(bench: Bench, namespace: str, pairs: int) -> None:
    adapting = bench.cache.adapting
    await adapting.prepare(TENANT, namespace)
    (learner,) = adapting.learners(TENANT, namespace)
    for number in range(pairs):
        learner.rivals.note(("one", "1"), (f"other {number}", "1"), same=False)
    adapting._changed(TENANT, namespace)


async def test_a_few_states_with_many_rivals_go_at_once_or_many_with_few() -> None:
    shelf = Counting()
    async with learning(shelf) as bench:
        for number in range(5):
            await opened(bench, f"large {number}", rivals.KEPT)
        for number in range(2 * TOGETHER):
            await opened(bench, f"small {number}", 1)
        await bench.cache.adapting.save()
        assert len(shelf.states) == 5 + 2 * TOGETHER
        assert all(sum(batch) < RIVALS_TOGETHER + rivals.KEPT for batch in shelf.batches)
        assert TOGETHER in map(len, shelf.batches)


async def test_what_is_being_written_is_known_to_a_namespace_that_comes_back() -> None:
    shelf = Counting()
    async with learning(shelf, most=1) as bench:
        adapting = bench.cache.adapting
        await opened(bench, "default", 3)
        await adapting.prepare(TENANT, "another")
        shelf.slow.clear()
        saving = asyncio.create_task(adapting.save())
        await until(lambda: shelf.writing == 1)
        await adapting.prepare(TENANT, "default")
        (learner,) = adapting.learners(TENANT, "default")
        assert len(learner.rivals) == 3
        shelf.slow.set()
        await saving


async def test_namespaces_with_rivals_leave_memory_while_all_together_have_too_many(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(namespaces, "MOST_RIVALS", 25)
    shelf = Shelf()
    async with learning(shelf) as bench:
        adapting = bench.cache.adapting
        for name, pairs in (("first", 10), ("none", 0), ("second", 10), ("third", 10)):
            await opened(bench, name, pairs)
        await adapting.save()
        assert [bool(adapting.learners(TENANT, name)) for name in ("first", "none", "second", "third")] == [
            False,
            True,
            True,
            True,
        ]
        await adapting.prepare(TENANT, "first")
        (back,) = adapting.learners(TENANT, "first")
        assert len(back.rivals) == 10, "it was written before it went"
