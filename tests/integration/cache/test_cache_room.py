"""The store holds what memory holds: what made room there is gone here, too."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import aclosing

from services.cache.ports import Write
from services.cache.room import Capacity, Eviction
from services.cache.values import Outcome
from tests.integration.cache.stored_cache import StoredCache
from tests.unit.cache.cache_parts import TENANT

Caches = Callable[..., StoredCache]
ROOM = 20


async def stored(cache: StoredCache) -> dict[str, int]:
    """Versions by id."""
    found: dict[str, int] = {}
    async with aclosing(cache.store.load(now_us=0)) as pages:  # type: ignore[type-var]
        async for page in pages:
            found.update({one.id: one.ver for one in page if isinstance(one, Write)})
    return found


def held(cache: StoredCache) -> dict[str, int]:
    return {entry.id: entry.ver for bucket in cache.cache.entries.buckets(TENANT) for entry in bucket.entries.values()}


async def test_under_churn_the_store_holds_what_memory_holds(caches: Caches) -> None:
    cache = await caches(capacity=Capacity(ROOM)).ready()
    for number in range(10 * ROOM):
        await cache.put(f"the question number {number}", durable=number % 7 == 0)
        if number % 3 == 0:
            await cache.look(f"the question number {number // 2}")
    await cache.cache.writer.drain()
    assert len(cache.cache.entries) == ROOM
    assert await stored(cache) == held(cache)
    assert cache.cache.stats.evictions == {Eviction.ENTRIES: 9 * ROOM}
    await cache.stop()
    after = await caches(capacity=Capacity(ROOM)).ready()
    assert held(after) == held(cache)


async def test_hits_write_nothing(caches: Caches) -> None:
    cache = await caches().ready()
    await cache.put("the question")
    before = [head async for page in cache.store.heads(since_us=None) for head in page]
    for _ in range(100):
        assert (await cache.look("the question")).outcome is Outcome.EXACT
    assert not cache.cache.writer.pending()
    assert [head async for page in cache.store.heads(since_us=None) for head in page] == before


async def test_a_smaller_limit_holds_from_the_start_on(caches: Caches) -> None:
    first = await caches().ready()
    for number in range(2 * ROOM):
        await first.put(f"the question number {number}")
    await first.stop()
    second = await caches(capacity=Capacity(tenant_entries=ROOM)).ready()
    assert len(second.cache.entries) == ROOM
    await second.cache.writer.drain()
    assert await stored(second) == held(second)
