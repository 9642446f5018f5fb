"""Of what the store holds a cache takes nothing that it cannot read, that is over or that is not its own."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable

import pytest

from services.cache import purging
from services.cache.adapters.records import SCHEMA, to_payload
from services.cache.ports import Write, WrongKey
from services.cache.values import BypassReason, Policy
from services.chassis.errors import FailedPrecondition
from services.storage import Equals, Point
from tests.integration.cache.stored_cache import StoredCache, until
from tests.unit.cache.cache_parts import ASKED

Caches = Callable[..., StoredCache]


# --- what cannot be read, and what is over ----------------------------------------------------------------------------


@pytest.mark.fault(49)
async def test_unknown_and_damaged_records_are_skipped_counted_and_left_alone(caches: Caches) -> None:
    first = await caches().ready()
    kept = [await first.put(f"the question number {number}") for number in range(4)]
    payloads = [dict(to_payload(Write(entry, None), embedder="known_1", saved_us=1)) for entry in kept]
    payloads[0]["schema"] = SCHEMA + 1
    payloads[1]["record"] = str(payloads[1]["record"]).replace("an answer", "a forgery")
    vectors = [first.embedder.vector(entry.question) for entry in kept]
    points = [Point(e.id, v, p) for e, v, p in zip(kept, vectors, payloads, strict=True)]
    points[2] = dataclasses.replace(points[2], vector=vectors[2] * 3)
    async with first.store._opened() as collection:
        await collection.upsert(points, durable=True)
    await first.die()

    second = await caches().ready()
    assert await second.text("the question number 3") == "an answer"
    assert len(second.cache.entries) == 1
    assert second.store.skipped == {"unknown_schema": 1, "bad_checksum": 1, "bad_content": 1}
    await second.clear()

    async def stored() -> set[str]:
        async with second.store._opened() as collection:
            return {record.id for record in await collection.get([entry.id for entry in kept])}

    async with asyncio.timeout(30):
        while await stored() != {kept[0].id}:  # noqa: ASYNC110 -- what another version wrote outlives a clear
            await asyncio.sleep(0.005)


async def test_the_expired_are_neither_read_nor_kept(caches: Caches, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(purging, "LEASE_SECONDS", 0.01)
    first = await caches(stale=0.0).ready()
    over = await first.put("soon over, this question", policy=Policy(ttl=0.001))
    await first.put(ASKED)
    await first.die()
    second = await caches(stale=0.0).ready()
    assert len(second.cache.entries) == 1
    assert await second.cache.purging.purge()
    assert await second.store.read([over.id]) == []


@pytest.mark.fault(69)
async def test_another_embedder_has_a_collection_of_its_own(caches: Caches) -> None:
    first = await caches().ready()
    await first.put(ASKED)
    other = await caches(slug="known_2").ready()
    assert other.store.skipped.total() == 0, "it does not even meet them"
    assert await other.text(ASKED) is None
    assert len(other.cache.entries) == 0


async def test_lookups_bypass_while_entries_are_read(caches: Caches, monkeypatch: pytest.MonkeyPatch) -> None:
    first = await caches().ready()
    await first.put(ASKED)
    await first.stop()
    cache = caches()
    go = asyncio.Event()
    load = cache.store.load

    async def held(*, now_us: int):
        await go.wait()
        async for page in load(now_us=now_us):
            yield page

    monkeypatch.setattr(cache.store, "load", held)
    cache.start()
    await until(lambda: cache.cache.recovery.hydrating, "hydration did not begin")
    assert (await cache.look(ASKED)).bypass_reason is BypassReason.HYDRATING
    go.set()
    await cache.ready()
    assert await cache.text(ASKED) == "an answer"


# --- the key (row 85) -------------------------------------------------------------------------------------------------


@pytest.mark.fault(85)
async def test_another_key_is_refused_by_the_store_that_knows_the_first(caches: Caches) -> None:
    first = await caches().ready()
    await first.put(ASKED)
    with pytest.raises(BaseExceptionGroup) as caught:
        await caches(key=bytes(32)).ready()
    assert caught.group_contains(WrongKey)
    await (await caches().ready()).put(ASKED)


@pytest.mark.fault(85)
async def test_entries_without_a_verifier_are_not_taken_for_ours(caches: Caches) -> None:
    first = await caches().ready()
    await first.put(ASKED)
    async with first.control._opened() as collection:
        await collection.delete_where(Equals("kind", "fingerprint_key"))
    with pytest.raises(BaseExceptionGroup) as caught:
        await caches().ready()
    assert caught.group_contains(WrongKey)


@pytest.mark.fault(85)
async def test_of_two_keys_at_once_one_wins(caches: Caches) -> None:
    made = [caches(key=bytes([number]) * 32) for number in range(4)]
    results = await asyncio.gather(*(cache.ready() for cache in made), return_exceptions=True)
    assert sum(isinstance(result, StoredCache) for result in results) == 1
    assert all(isinstance(result, (StoredCache, BaseExceptionGroup)) for result in results)


async def test_a_collection_that_is_not_ours_is_refused(caches: Caches) -> None:
    cache = await caches().ready()
    wrong = dataclasses.replace(cache.store._spec, dim=7)
    with pytest.raises(FailedPrecondition):
        async with cache.connection._moving:
            store = await cache.connection._connected()
            await store.ensure(wrong)
