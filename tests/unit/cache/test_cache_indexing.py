"""Rows that are put into the index on a thread: they are found afterwards, and those that went meanwhile are not."""

from __future__ import annotations

import asyncio
import random
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import count

import numpy as np

from services.cache.entries import Entries, Rows, Sought
from services.cache.entry import MICROSECONDS, Entry, Source
from services.cache.room import Capacity, Room
from services.cache.scope import Addresses
from services.cache.values import Vector
from services.llm.values import Answer, FinishReason
from tests.unit.cache.cache_parts import TENANT, ask

DIM = 8
VERS = count(1)
WHERE = replace(Addresses(bytes(32), embedder="e", longest=100).of(TENANT, ask("what?")), scope="scope")


def made(name: str, number: int, *, epoch: int = 0) -> tuple[Entry, Vector]:
    entry = Entry(
        id=name,
        tenant=TENANT,
        namespace="default",
        scope="scope",
        key=name,
        question=name,
        answer=Answer("an answer", FinishReason.STOP, "m"),
        created_us=1,
        updated_us=1,
        expires_us=10**6 * MICROSECONDS,
        ver=next(VERS),
        epoch=epoch,
        source=Source.PUT,
    )
    return entry, np.eye(DIM, dtype=np.float32)[number]


class Memory:
    """Entries whose thread is busy until it is let go."""

    def __init__(self) -> None:
        self.executor = ThreadPoolExecutor(1)
        self.entries = Entries(
            DIM,
            room=Room(Capacity(1_000_000), dim=DIM, chance=random.Random(1).random),
            threads=1,
            executor=self.executor,
        )
        self._busy = threading.Event()

    def begin(self, rows: Rows) -> asyncio.Task[None]:
        self.executor.submit(self._busy.wait)
        return asyncio.create_task(self.entries.index_beside(rows))

    async def end(self, task: asyncio.Task[None]) -> None:
        self._busy.set()
        await task
        self.executor.shutdown()

    async def near(self, number: int) -> list[str]:
        vector = np.eye(DIM, dtype=np.float32)[number]
        (found,) = await self.entries.nearest([Sought(WHERE, vector, 4, 0.5)], 0.0)
        return [one.entry.id for one in found]

    def indexed(self) -> int:
        return int(self.entries.similarity._index.stats()["entries"])


async def test_what_goes_before_it_is_indexed_does_not_stay_in_the_index() -> None:
    memory = Memory()
    batch = [made(name, number) for number, name in enumerate("abcde")]
    stored, rows = memory.entries.take_many(batch)
    assert stored == [True] * 5
    task = memory.begin(rows)
    await asyncio.sleep(0)
    assert memory.entries.remove(batch[0][0])
    assert memory.entries.put(*made("b", 6)), "answered anew"
    await memory.end(task)
    assert memory.indexed() == 4
    assert [await memory.near(number) for number in (0, 1, 6, 2, 3, 4)] == [[], [], ["b"], ["c"], ["d"], ["e"]]


async def test_what_is_cleared_before_it_is_indexed_does_not_stay_in_the_index() -> None:
    memory = Memory()
    _, rows = memory.entries.take_many([made(name, number) for number, name in enumerate("abc")])
    task = memory.begin(rows)
    await asyncio.sleep(0)
    before = memory.entries.raise_epoch(TENANT, "default", 1)
    assert before is not None
    assert await memory.entries.dismantle(before, 0.0) == 3
    assert memory.entries.put(*made("a", 1, epoch=1))
    await memory.end(task)
    assert memory.indexed() == 1
    assert await memory.near(1) == ["a"]


async def test_an_index_that_breaks_on_the_thread_is_rebuilt() -> None:
    memory = Memory()
    _, rows = memory.entries.take_many([made("a", 0)])
    memory.entries.similarity._index._inject_panic()
    await memory.end(memory.begin(rows))
    assert memory.entries.similarity.broken.is_set()
