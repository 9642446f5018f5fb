"""What waited on disk under the embedder before a change is not lost: it goes to the one that serves."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from services.cache.adapters.disk_queue import DiskQueue, Item
from services.cache.entry import Entry
from services.cache.ports import Epoch, Tombstone, Write
from services.cache.rotation import filling, leftovers, plan, rotating
from services.cache.rotation.plan import Phase
from tests.integration.cache.rotating_cache import ONE, TWO, RotatingCache
from tests.integration.edgestore.store_process import StoreProcess
from tests.unit.cache.cache_parts import TENANT, answer

Make = Callable[[], RotatingCache]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rotating, "PAUSE_SECONDS", 0.02)
    monkeypatch.setattr(filling, "LEASE_SECONDS", 1.0)
    monkeypatch.setattr(leftovers, "AGAIN_SECONDS", 0.02)


@pytest.fixture
async def make(store: StoreProcess, tmp_path: Path) -> AsyncIterator[Make]:
    made: list[RotatingCache] = []

    def maker() -> RotatingCache:
        made.append(RotatingCache(store))
        made[-1].workshop.queues = tmp_path
        return made[-1]

    yield maker
    for cache in made:
        if not cache._task.done():  # type: ignore[union-attr]
            await cache.die()


async def rotated(make: Make, *asked: str) -> dict[str, Entry]:
    """Change the embedder of a cache with these, and kill it; returns what they were under the old one."""
    cache = await make().ready()
    entries = {question: await cache.put(question, "old") for question in asked}
    await cache.rotating.orders.start(TWO, 1.0)
    await cache.until_phase(Phase.SWITCHED)
    await cache.until(lambda: cache.serving == "two")
    await cache.die()
    return entries


async def leave(folder: Path, *items: Item) -> None:
    queue = DiskQueue(folder / "known_one", embedder="known_one", dim=64)
    await queue.append(items, durable=True)
    queue.close()


def newer(entry: Entry, by: int = 1) -> Entry:
    return replace(entry, answer=answer("new"), ver=entry.ver + by)


def grave(entry: Entry, by: int = 1) -> Tombstone:
    later = entry.expires_us + 1
    return Tombstone(entry.id, entry.tenant, entry.namespace, entry.ver + by, entry.epoch, entry.updated_us, later)


async def emptied(folder: Path) -> None:
    async with asyncio.timeout(30):
        while (folder / "known_one" / "cache.queue").stat().st_size:  # noqa: ASYNC110 -- a file has no event
            await asyncio.sleep(0.01)


@pytest.mark.fault(69)
async def test_what_came_last_under_the_old_embedder_is_there_when_it_serves_again(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    entries = await rotated(make, "deleted", "answered anew", "untouched")
    # Stored and acknowledged after the change, by one who died before it had changed over; nobody follows any more.
    monkeypatch.setattr(plan, "SETTLE_SECONDS", 0)
    late = make()
    await late.workshop.store(late.workshop.end(ONE)).save(
        [grave(entries["deleted"]), Write(newer(entries["answered anew"]), None)]
    )
    await late.ready(TWO)
    expected = {"deleted": None, "answered anew": "new", "untouched": "old"}
    assert {question: await late.text(question) for question in entries} == expected
    await late.die()
    cache = await make().ready(TWO)
    assert {question: await cache.text(question) for question in entries} == expected


@pytest.mark.fault(69)
async def test_deletes_and_answers_of_before_the_change_are_done_under_the_new_embedder(
    make: Make, tmp_path: Path
) -> None:
    entries = await rotated(make, "deleted", "answered anew", "both", "deleted, then answered", "untouched")
    await leave(
        tmp_path,
        grave(entries["deleted"]),
        Write(newer(entries["answered anew"]), None),
        Write(newer(entries["both"]), None),
        grave(entries["both"], 2),
        grave(entries["deleted, then answered"]),
        Write(newer(entries["deleted, then answered"], 2), None),
    )
    expected = {
        "deleted": None,
        "answered anew": "new",
        "both": None,
        "deleted, then answered": "new",
        "untouched": "old",
    }
    cache = await make().ready(TWO)
    assert {question: await cache.text(question) for question in entries} == expected, "before anybody is told to ask"
    await cache.until(lambda: not cache.sides.cache.transfers.late.waiting(TENANT, None))
    await cache.die()
    # And what the store says, to another process.
    cache = await make().ready(TWO)
    assert {question: await cache.text(question) for question in entries} == expected


@pytest.mark.fault(69)
async def test_a_clear_of_before_the_change_is_told(make: Make, tmp_path: Path) -> None:
    entries = await rotated(make, "cleared", "cleared and answered")
    since = replace(newer(entries["cleared and answered"]), epoch=1)
    await leave(tmp_path, Epoch(TENANT, "default", 1, int(time.time() * 1e6)), Write(since, None))
    cache = await make().ready(TWO)
    await emptied(tmp_path)
    assert [await cache.text(question) for question in entries] == [None, "new"]


async def test_what_is_left_waits_for_the_embedder_that_serves(make: Make, tmp_path: Path) -> None:
    entries = await rotated(make, "deleted")
    await leave(tmp_path, grave(entries["deleted"]))
    late = make()
    late.workshop.absent.add("two")
    await late.ready(ONE)
    await late.until(lambda: bool(late.reported))
    assert (tmp_path / "known_one" / "cache.queue").stat().st_size, "it is not this one's to take"
    await late.die()
    cache = await make().ready(TWO)
    await emptied(tmp_path)
    assert await cache.text("deleted") is None
