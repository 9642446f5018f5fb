"""Several caches over one store: each sees what the others store, delete and clear, and none brings anything back."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import Callable
from typing import Any

import pytest

from services.cache import purging, tailing
from services.cache.adapters.records import SCHEMA, to_payload
from services.cache.ports import Epoch, Sealed, Tombstone, Write
from services.cache.values import ByIds, Chosen, Outcome, Policy
from services.storage import Point
from tests.integration.cache.stored_cache import StoredCache, until
from tests.unit.cache.cache_parts import TENANT

Caches = Callable[..., StoredCache]
ASKED = "How do I reset my password?"
REWORDED = "How can I reset my password?"


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tailing, "PAUSE_SECONDS", 0.01)


async def seen(cache: StoredCache, text: str, served: str | None) -> None:
    """Wait until this replica serves this answer, or none."""
    async with asyncio.timeout(30):
        while await cache.text(text) != served:  # noqa: ASYNC110 -- each turn is a lookup
            await asyncio.sleep(0.01)


async def delete(cache: StoredCache, *ids: str) -> int:
    return await cache.cache.remove(TENANT, Chosen(ByIds(ids)))


async def looked(cache: StoredCache) -> None:
    """One whole look at what is new."""
    await cache.cache.tailing.look()


async def test_what_one_stores_the_other_serves_in_both_tiers(caches: Caches) -> None:
    one, other = await caches().ready(), await caches().ready()
    stored = await one.put(ASKED)
    await seen(other, ASKED, "an answer")
    assert (await other.look(ASKED)).entry == stored
    other.embedder.alike(REWORDED, ASKED, 0.95)
    assert (await other.look(REWORDED)).outcome is Outcome.SEMANTIC
    await other.put(ASKED, "a newer answer")
    await seen(one, ASKED, "a newer answer")
    assert len(one.cache.entries) == len(other.cache.entries) == 1


async def test_what_one_deletes_or_clears_the_other_does_not_serve(caches: Caches) -> None:
    one, other = await caches().ready(), await caches().ready()
    entry = await one.put(ASKED)
    await one.put("another question of it")
    await seen(other, ASKED, "an answer")
    await seen(other, "another question of it", "an answer")
    assert await delete(other, entry.id) == 1
    await seen(one, ASKED, None)
    assert await one.text("another question of it") == "an answer"
    await one.clear()
    await seen(other, "another question of it", None)
    assert other.cache.entries.epoch(TENANT, "default") == 1
    await other.put(ASKED, "since then")
    await seen(one, ASKED, "since then")


async def test_a_clear_counts_what_it_clears_also_if_a_look_at_the_store_comes_first(
    caches: Caches, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = await caches().ready()
    await one.put(ASKED)
    advance = one.control.advance

    async def looked_at(tenant: str, namespace: str, **fields: Any) -> Epoch:
        epoch = await advance(tenant, namespace, **fields)
        await one.cache.tailing.look()
        return epoch

    monkeypatch.setattr(one.control, "advance", looked_at)
    assert await one.clear() == (1, 1)
    assert await one.text(ASKED) is None


async def test_an_entry_from_after_a_clear_is_served_and_tells_of_the_clear(
    caches: Caches, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Records come in no order: between reading the clears and reading the entries another replica may have cleared."""
    monkeypatch.setattr(tailing, "PAUSE_SECONDS", 3_600.0)
    one, other = await caches().ready(), await caches().ready()
    await one.put("an older question")
    await looked(other)
    assert await other.text("an older question") == "an answer"
    await one.clear()
    await one.put(ASKED, "since then")

    async def late(*, since_us: int | None = None) -> list[Epoch]:
        return []

    with monkeypatch.context() as patched:
        patched.setattr(other.control, "load", late)
        await looked(other)
    for _ in range(2):
        assert await other.text(ASKED) == "since then"
        assert await other.text("an older question") is None
        assert len(other.cache.entries) == 1
        await looked(other)
    await other.cache.entries.dismantle_cleared(time.time())
    other.embedder.alike(REWORDED, ASKED, 0.95)
    assert await other.text(REWORDED) == "since then"


@pytest.mark.fault(48)
async def test_a_late_write_does_not_bring_back_what_was_deleted(caches: Caches) -> None:
    one, other = await caches().ready(), await caches().ready()
    entry = await one.put(ASKED)
    await seen(other, ASKED, "an answer")
    late = Write(entry, one.embedder.vector(ASKED))
    assert await delete(one, entry.id) == 1
    for _ in range(2):
        assert await other.store.save([late]) == [False]
    (left,) = await one.store.read([entry.id])
    assert isinstance(left, Tombstone)
    await seen(other, ASKED, None)
    # And the one who writes late learns that it is deleted.
    other.cache.entries.put(entry, late.vector)
    await other.cache.writer.durable(late)
    assert await other.text(ASKED) is None
    assert await (await caches().ready()).text(ASKED) is None
    again = await one.put(ASKED, "asked again")
    assert again.ver > left.ver
    await seen(other, ASKED, "asked again")


async def test_what_a_slow_clock_wrote_is_found_by_the_sweep(caches: Caches) -> None:
    """Its records look older than what was read already; both serve it all the same."""
    one, slow = await caches().ready(), await caches(now=lambda: time.time() - 3_600).ready()
    await one.put("something of now")
    await looked(one)
    await slow.put(ASKED)
    await looked(one)
    await one.put("something later")
    await looked(one)
    assert await one.text(ASKED) is None
    await one.cache.tailing.look(everything=True)
    assert await one.text(ASKED) == "an answer"
    assert one.cache.tailing.repaired >= 1


async def test_what_was_stored_while_nobody_looked_is_found_afterwards(
    caches: Caches, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long the store was out of reach for one of them: the next look begins where the last one ended."""
    monkeypatch.setattr(tailing, "PAUSE_SECONDS", 3_600.0)
    ahead = 0.0
    both = {"now": lambda: time.time() + ahead, "monotonic": lambda: time.monotonic() + ahead}
    one, other = await caches(**both).ready(), await caches(**both).ready()
    await one.put("something to begin with")
    await looked(other)
    ahead = 100.0
    await one.put(ASKED)
    ahead = 1_000.0
    await one.put("something of now")
    await looked(other)
    assert await other.text(ASKED) == "an answer"
    assert other.cache.tailing.repaired == 0


async def test_what_is_known_is_not_read_again(caches: Caches, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tailing, "PAUSE_SECONDS", 3_600.0)
    one, other = await caches().ready(), await caches().ready()
    for number in range(20):
        await one.put(f"the question number {number}", policy=Policy(ttl=1_000.0))
    await delete(one, (await one.put(ASKED)).id)
    await looked(other)
    assert await other.text("the question number 19") == "an answer"
    reads: list[int] = []
    read = other.store.read

    async def counted(ids: list[str]) -> list[Write | Tombstone | Sealed]:
        reads.append(len(ids))
        return await read(ids)

    monkeypatch.setattr(other.store, "read", counted)
    await looked(other)
    await other.cache.tailing.look(everything=True)
    assert reads == []


@pytest.mark.fault(89)
async def test_what_a_newer_version_wrote_is_skipped_counted_and_left_alone(caches: Caches) -> None:
    """Also where this version has an answer of its own to the same question: it is served here, and gives way there."""
    one = await caches().ready()
    entry = await one.put(ASKED)
    theirs = dataclasses.replace(entry, ver=entry.ver + 10**9)
    payload = {**to_payload(Write(theirs, None), embedder="known_1", saved_us=entry.updated_us), "schema": SCHEMA + 1}
    async with one.store._opened() as collection:
        await collection.upsert([Point(entry.id, one.embedder.vector(ASKED), payload)], durable=True)
    for _ in range(3):
        await looked(one)
    await one.cache.tailing.look(everything=True)
    assert await one.text(ASKED) == "an answer"
    await one.put(ASKED, "another answer")  # not refused: what is stored is newer, whoever can read it
    assert await one.text(ASKED) == "another answer"
    assert await delete(one, entry.id) == 1
    await one.clear()
    assert await one.cache.purging.purge()
    async with one.store._opened() as collection:
        (left,) = await collection.get([entry.id])
    assert left.payload == payload
    await one.die()
    second = await caches().ready()
    assert await second.text(ASKED) is None
    assert second.store.skipped == {"unknown_schema": 1}


async def test_one_of_several_purges_and_another_takes_over_when_it_is_gone(
    caches: Caches, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = await caches(stale=0.0).ready(), await caches(stale=0.0).ready()
    await until(lambda: first.cache.purging.rounds + second.cache.purging.rounds > 0, "nobody purges")
    one, other = (first, second) if first.cache.purging.rounds else (second, first)
    assert await one.cache.purging.purge()
    assert not await other.cache.purging.purge()
    await one.die()
    over = await other.put("soon over, this question", policy=Policy(ttl=0.001))
    buried = await other.put(ASKED, policy=Policy(ttl=0.001))
    await delete(other, buried.id)
    monkeypatch.setattr(purging, "LEASE_SECONDS", 0.0)
    third = await caches(stale=0.0, now=lambda: time.time() + 400).ready()
    assert await third.cache.purging.purge()
    assert await third.store.read([over.id]) == []
    assert len(await third.store.read([buried.id])) == 1, "a tombstone outlives what it hides"
    late = await caches(stale=0.0, now=lambda: time.time() + 4_000).ready()
    assert await late.cache.purging.purge()
    assert await third.store.read([buried.id]) == []
