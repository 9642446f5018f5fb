"""Memory and store in step, where timing matters: a store that the test holds, fails and lets go."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from services.cache import writer as writer_module
from services.cache.adapters.disk_queue import DiskQueue
from services.cache.backlog import Backlog
from services.cache.entry import Entry, Source
from services.cache.ports import Epoch, Head, Sealed, Tombstone, Write, WriteQueue
from services.cache.writer import Writer
from services.chassis.errors import Unavailable
from tests.unit.cache.cache_parts import DIM, NoEpochs, RoomyQueue, answer, down


class HeldStore:
    """Keeps the newest version of each entry, when and if the test lets it."""

    def __init__(self) -> None:
        self.rows: dict[str, Write | Tombstone | Sealed] = {}
        self.go = asyncio.Event()
        self.go.set()
        self.entered = asyncio.Event()
        self.failing = False
        self.batches: list[int] = []

    async def save(self, writes: Sequence[Write | Tombstone]) -> list[bool]:
        self.entered.set()
        await self.go.wait()
        if self.failing:
            raise down()
        self.batches.append(len(writes))
        for write in writes:
            stored = self.rows.get(write.id)
            if stored is None or stored.ver < write.ver:
                self.rows[write.id] = write
        return [self.rows[write.id] == write for write in writes]

    async def read(self, ids: Sequence[str], *, vectors: bool = True) -> list[Write | Tombstone | Sealed]:
        return [self.rows[id_] for id_ in ids if id_ in self.rows]

    async def remove(self, entries: Sequence[Entry]) -> None:
        if self.failing:
            raise down()
        for entry in entries:
            if entry.id in self.rows and self.rows[entry.id].ver <= entry.ver:
                del self.rows[entry.id]

    async def load(self, *, now_us: int) -> AsyncIterator[list[Write | Tombstone]]:
        yield [row for row in self.rows.values() if not isinstance(row, Sealed)]

    async def heads(self, *, since_us: int | None) -> AsyncIterator[list[Head]]:
        yield []

    async def purge_cleared(self, epoch: Epoch) -> None: ...

    async def purge_expired(self, *, now_us: int) -> None: ...


async def nothing_cleared(clear: Epoch, epoch: Epoch) -> None:
    raise AssertionError((clear, epoch))


class Bench:
    def __init__(self, *, max_waiting: int = 100, folder: Path | None = None, max_bytes: int = 1 << 30) -> None:
        self.store = HeldStore()
        self.adopted: list[Write | Tombstone] = []
        self.given_up: list[Entry] = []
        self.saved: list[Entry] = []
        self.reported: list[BaseException] = []
        self.queue: WriteQueue = RoomyQueue() if folder is None else DiskQueue(folder, embedder="known_1", dim=DIM)
        self.writer = Writer(
            self.store,
            Backlog(
                self.queue,
                self.store,
                NoEpochs(),
                max_bytes=max_bytes,
                cleared=nothing_cleared,
                report=self.reported.append,
            ),
            max_waiting=max_waiting,
            chance=lambda: 0.0,
            adopt=self.adopted.extend,
            saved=self.saved.append,
            gave_up=self.given_up.append,
            report=self.reported.append,
        )
        self.task = asyncio.create_task(self.writer.run())

    @property
    def unsaved(self) -> int:
        return len(self.given_up) + len(self.writer.unsaved())

    async def until_saved(self) -> None:
        async with asyncio.timeout(20):
            while self.writer.pending():  # noqa: ASYNC110 -- the writer has no event for it
                await asyncio.sleep(0.001)

    async def stop(self) -> None:
        self.task.cancel()
        await asyncio.wait([self.task])
        assert self.task.cancelled(), "the writer must not end by itself"


@pytest.fixture
async def bench(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bench]:
    monkeypatch.setattr(writer_module, "FIRST_PAUSE", 0.001)
    monkeypatch.setattr(writer_module, "LONGEST_PAUSE", 0.002)
    made = Bench()
    made.writer.open()
    yield made
    await made.stop()


def write(name: str, ver: int = 1, text: str = "an answer") -> Write:
    entry = Entry(
        id=name,
        tenant="t",
        namespace="n",
        scope="s",
        key=name,
        question=name,
        answer=answer(text),
        created_us=1,
        updated_us=1,
        expires_us=2**52,
        ver=ver,
        epoch=0,
        source=Source.PUT,
    )
    return Write(entry, None)


async def test_durable_means_stored(bench: Bench) -> None:
    await bench.writer.durable(write("a"))
    assert "a" in bench.store.rows


async def test_what_comes_while_a_batch_is_under_way_shares_the_next(bench: Bench) -> None:
    bench.store.go.clear()
    first = asyncio.create_task(bench.writer.durable(write("a")))
    await bench.store.entered.wait()
    rest = [asyncio.create_task(bench.writer.durable(write(str(number)))) for number in range(50)]
    await asyncio.sleep(0)
    bench.store.go.set()
    await asyncio.gather(first, *rest)
    assert bench.store.batches == [1, 50]


async def test_a_newer_answer_during_the_write_of_the_older_is_written_too(bench: Bench) -> None:
    bench.store.go.clear()
    old = asyncio.create_task(bench.writer.durable(write("a", 1, "old")))
    await bench.store.entered.wait()
    bench.writer.submit(write("a", 2, "new"))
    bench.store.go.set()
    await old
    assert bench.store.rows["a"].entry.answer.text == "new"


async def test_an_older_answer_never_takes_the_place_of_a_newer(bench: Bench) -> None:
    bench.store.go.clear()
    bench.writer.submit(write("x"))
    await bench.store.entered.wait()
    bench.writer.submit(write("a", 2, "new"))
    bench.writer.submit(write("a", 1, "old"))
    bench.store.go.set()
    await bench.until_saved()
    assert bench.store.rows["a"].entry.answer.text == "new"


async def test_a_newer_answer_of_another_writer_is_taken_over(bench: Bench) -> None:
    theirs = write("a", 9, "theirs")
    bench.store.rows["a"] = theirs
    await bench.writer.durable(write("a", 5, "ours"))
    assert bench.adopted == [theirs]
    assert bench.store.rows["a"] == theirs


async def test_while_the_store_is_down_durable_is_refused_and_the_write_is_kept(bench: Bench) -> None:
    bench.store.failing = True
    for name in ("a", "b"):
        with pytest.raises(Unavailable) as caught:
            await bench.writer.durable(write(name))
        assert caught.value.retry_after is not None
    assert bench.writer.failing
    assert bench.unsaved == 2
    assert len(bench.reported) == 1, "one line for one failure, however long it lasts"
    bench.store.failing = False
    await bench.until_saved()
    assert set(bench.store.rows) == {"a", "b"}
    await bench.writer.durable(write("c"))
    assert (bench.writer.failing, bench.unsaved) == (False, 0)


async def test_before_the_store_was_reached_durable_is_refused_at_once() -> None:
    bench = Bench()
    with pytest.raises(Unavailable):
        await bench.writer.durable(write("a"))
    assert not bench.store.entered.is_set()
    assert bench.unsaved == 1
    bench.writer.open()
    await bench.until_saved()
    assert "a" in bench.store.rows
    await bench.stop()


async def test_what_waits_is_bounded_and_what_is_given_up_is_counted() -> None:
    bench = Bench(max_waiting=3)
    for number in range(5):
        bench.writer.submit(write(str(number)))
    assert [waiting.entry.id for waiting in bench.writer.pending()] == ["2", "3", "4"]
    assert bench.unsaved == 5
    bench.writer.open()
    await bench.until_saved()
    assert bench.unsaved == 2
    await bench.stop()


async def test_a_forgotten_write_is_not_written_and_its_caller_not_left_waiting(bench: Bench) -> None:
    bench.store.go.clear()
    bench.writer.submit(write("x"))
    await bench.store.entered.wait()
    caller = asyncio.create_task(bench.writer.durable(write("a")))
    await asyncio.sleep(0)
    bench.writer.forget(write("a").entry)
    bench.store.go.set()
    await caller
    await bench.until_saved()
    assert "a" not in bench.store.rows


async def test_a_delete_waits_for_the_batch_under_way(bench: Bench) -> None:
    bench.store.go.clear()
    bench.writer.submit(write("a"))
    await bench.store.entered.wait()

    async def delete() -> None:
        async with bench.writer.exclusive():
            await bench.store.remove([write("a").entry])
            bench.writer.forget(write("a").entry)

    deleting = asyncio.create_task(delete())
    await asyncio.sleep(0)
    bench.store.go.set()
    await deleting
    await bench.until_saved()
    assert "a" not in bench.store.rows, "a write that landed after the delete would bring the entry back"


async def test_removals_are_retried_and_never_take_what_is_newer(bench: Bench) -> None:
    await bench.writer.durable(write("a", 1))
    await bench.writer.durable(write("b", 5))
    bench.store.failing = True
    bench.writer.remove([write("a", 1).entry, write("b", 4).entry])
    async with asyncio.timeout(20):
        while not bench.writer.failing:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
    bench.store.failing = False
    async with asyncio.timeout(20):
        while "a" in bench.store.rows:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
    assert "b" in bench.store.rows


async def test_a_caller_that_leaves_does_not_stop_the_write(bench: Bench) -> None:
    bench.store.go.clear()
    caller = asyncio.create_task(bench.writer.durable(write("a")))
    await bench.store.entered.wait()
    caller.cancel()
    await asyncio.wait([caller])
    bench.store.go.set()
    await bench.until_saved()
    assert "a" in bench.store.rows


async def test_drain_writes_what_waits(bench: Bench) -> None:
    bench.store.go.clear()
    bench.writer.submit(write("a"))
    await bench.store.entered.wait()
    bench.writer.submit(write("b"))
    await bench.stop()
    bench.store.go.set()
    await bench.writer.drain()
    assert set(bench.store.rows) == {"a", "b"}


async def test_drain_does_not_wait_for_a_store_that_is_down(bench: Bench) -> None:
    bench.store.failing = True
    bench.writer.submit(write("a"))
    await bench.stop()
    await bench.writer.drain()
    assert bench.unsaved == 1


async def test_confirming_asks_the_store_when_nothing_waits(bench: Bench) -> None:
    await bench.writer.durable(write("a", 3))
    await bench.writer.confirm(write("a", 3).entry)
    await bench.writer.confirm(dataclasses.replace(write("a", 3).entry, ver=2))
    with pytest.raises(Unavailable):
        await bench.writer.confirm(write("a", 4).entry)
    with pytest.raises(Unavailable):
        await bench.writer.confirm(write("never", 1).entry)
