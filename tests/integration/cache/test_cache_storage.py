"""What was acknowledged is never lost, and never gives way to an older answer: over the real embedded store."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections.abc import Callable

import pytest

from services.cache.ports import Write
from services.cache.recovery import Phase
from services.cache.values import Outcome, Policy
from services.chassis.errors import Unavailable
from tests.integration.cache.stored_cache import StoredCache, lease, until
from tests.integration.edgestore.store_process import StoreProcess
from tests.unit.cache.cache_parts import ASKED, REWORDED, TENANT, ask

Caches = Callable[..., StoredCache]


# --- nothing lost -----------------------------------------------------------------------------------------------------


@pytest.mark.fault(45)
async def test_what_was_acknowledged_is_there_after_a_crash_in_both_tiers(caches: Caches) -> None:
    first = await caches().ready()
    stored = await first.put(ASKED, policy=Policy(tags=("a", "b")))
    committed = await first.commit(await lease(first, "a second one to ask"), durable=True)
    assert (committed.stored, committed.durable) == (True, True)
    await first.die()

    second = await caches().ready()
    second.embedder.alike(REWORDED, ASKED, 0.95)
    assert (await second.look(ASKED)).entry == stored
    assert (await second.look(REWORDED)).outcome is Outcome.SEMANTIC
    assert (await second.look("a second one to ask")).outcome is Outcome.EXACT


async def test_what_was_not_yet_written_is_written_at_the_end(caches: Caches) -> None:
    first = await caches().ready()
    for number in range(100):
        await first.put(f"the question number {number}", str(number), durable=False)
    await first.stop()
    second = await caches().ready()
    assert [await second.text(f"the question number {number}") for number in range(100)] == list(map(str, range(100)))


async def test_a_repeated_durable_commit_confirms_what_the_first_only_queued(
    caches: Caches, store: StoreProcess
) -> None:
    first = await caches().ready()
    lease_id = await lease(first)
    os.kill(store.pid, signal.SIGSTOP)
    assert not (await first.commit(lease_id)).durable
    os.kill(store.pid, signal.SIGCONT)
    assert (await first.commit(lease_id, durable=True)).durable
    await first.die()
    assert await (await caches().ready()).text(ASKED) == "an answer"


async def test_kills_of_the_store_lose_nothing_acknowledged(caches: Caches, store: StoreProcess) -> None:
    """`kill -9` at seeded moments of durable Puts; the store comes back on another port each time."""
    chance = random.Random(45)
    cache = await caches().ready()
    acknowledged: dict[int, str] = {}
    numbers = iter(range(300))

    async def putting() -> None:
        for number in numbers:
            while number not in acknowledged:
                try:
                    await cache.put(f"the question number {number}", f"answer {number}")
                    acknowledged[number] = f"answer {number}"
                except Unavailable:
                    await asyncio.sleep(0.01)

    async with asyncio.TaskGroup() as group:
        for _ in range(8):
            group.create_task(putting())
        for count in sorted(chance.sample(range(20, 250), 2)):
            await until(lambda count=count: len(acknowledged) >= count, "Puts did not go on")  # type: ignore[misc]
            store.kill()
            await asyncio.to_thread(store.start)
    assert len(acknowledged) == 300
    await cache.die()
    second = await caches().ready()
    lost = [n for n, text in acknowledged.items() if await second.text(f"the question number {n}") != text]
    assert lost == []


@pytest.mark.fault(41)
async def test_a_store_that_comes_late_is_found_and_what_was_made_meanwhile_is_kept(
    caches: Caches, store: StoreProcess
) -> None:
    before = await caches().ready()
    await before.put("stored before", "before")
    await before.clear("cleared")
    await before.stop()
    store.stop()

    cache = caches(now=lambda: time.time() + 60).start()  # beyond the skew of clocks that a clear allows for
    await cache.commit(await lease(cache))
    await cache.put(ask("made meanwhile in there", namespace="cleared"), "after the clear", durable=False)
    with pytest.raises(Unavailable):
        await cache.put("cannot be promised")
    with pytest.raises(Unavailable):
        await cache.clear()
    assert cache.cache.recovery.phase is Phase.WAITING
    assert (await cache.look(ASKED)).outcome is Outcome.EXACT
    assert await cache.text("stored before") is None

    await asyncio.to_thread(store.start)
    await cache.ready()
    assert await cache.text("stored before") == "before"
    assert await cache.text(ASKED) == "an answer"
    assert await cache.text(ask("made meanwhile in there", namespace="cleared")) == "after the clear"
    await until(lambda: not cache.cache.writer.pending(), "what waited was not written")
    await cache.die()
    third = await caches().ready()
    assert await third.text(ASKED) == "an answer"
    assert await third.text(ask("made meanwhile in there", namespace="cleared")) == "after the clear"


@pytest.mark.fault(42)
async def test_the_store_may_go_and_come_back_elsewhere(caches: Caches, store: StoreProcess) -> None:
    cache = await caches().ready()
    await cache.put("one thing to know")
    store.kill()
    with pytest.raises(Unavailable):
        await cache.put(ASKED)
    assert await cache.text(ASKED) == "an answer", "served from memory all the same"
    report = await cache.cache.report(TENANT, None)
    assert (report.store_healthy, report.writes_not_stored) == (False, 1)
    await asyncio.to_thread(store.start)
    await until(lambda: not cache.cache.writer.pending(), "what waited was not written")
    report = await cache.cache.report(TENANT, None)
    assert (report.store_healthy, report.writes_not_stored) == (True, 0)
    await cache.put("another thing to know")
    await cache.die()
    second = await caches().ready()
    for text in ("one thing to know", ASKED, "another thing to know"):
        assert await second.text(text) == "an answer"


async def test_many_entries_are_read_at_the_start(caches: Caches) -> None:
    first = await caches().ready()
    for number in range(1_200):
        await first.put(f"the question number {number}", str(number), durable=False)
    await first.stop()
    second = await caches().ready()
    assert len(second.cache.entries) == 1_200
    assert second.cache.entries.rows(second.cache.addresses.of(TENANT, ask("any question"))) == 1_200
    assert await second.text("the question number 1199") == "1199"


async def test_a_broken_index_is_rebuilt_from_the_store(caches: Caches, store: StoreProcess) -> None:
    cache = await caches().ready()
    cache.embedder.alike(REWORDED, ASKED, 0.95)
    await cache.put(ASKED)
    cache.cache.entries.similarity._index._inject_panic()
    with pytest.raises(RuntimeError):
        await cache.look(REWORDED)
    async with asyncio.timeout(30):
        while (await cache.look(REWORDED)).outcome is not Outcome.SEMANTIC:  # noqa: ASYNC110 -- each turn is a lookup
            await asyncio.sleep(0.005)
    assert cache.cache.recovery.rebuilds == 1


# --- never an older answer (row 48) -----------------------------------------------------------------------------------


@pytest.mark.fault(48)
async def test_of_two_writers_the_later_answer_stays_whatever_the_order_of_writes(caches: Caches) -> None:
    """Two replicas write the same question; the older answer's write comes last, and again."""
    late, early = await caches().ready(), await caches().ready()
    old = Write(await late.put(ASKED, "old"), late.embedder.vector(ASKED))
    new = await early.put(ASKED, "new")
    assert new.ver > old.entry.ver
    for _ in range(2):
        assert await late.store.save([old]) == [False]
    third = await caches().ready()
    assert await third.text(ASKED) == "new"


@pytest.mark.fault(48)
async def test_a_replica_that_writes_what_is_older_takes_over_what_is_newer(caches: Caches) -> None:
    slow = await caches(now=lambda: time.time() - 60).ready()
    other = await caches().ready()
    await other.put(ASKED, "new")
    await slow.put(ASKED, "old")
    assert await slow.text(ASKED) == "new"
    assert await other.text(ASKED) == "new"


@pytest.mark.fault(48)
async def test_a_clock_that_went_back_still_makes_newer_versions(caches: Caches) -> None:
    first = await caches().ready()
    old = await first.put(ASKED, "old")
    await first.die()
    second = await caches(now=lambda: time.time() - 3600).ready()
    new = await second.put(ASKED, "new")
    assert new.ver > old.ver
    await second.die()
    assert await (await caches().ready()).text(ASKED) == "new"
