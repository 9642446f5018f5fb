"""Caches that have answers and no memory for their bodies, and what may happen while one is fetched."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from services.cache.entry import Entry
from services.cache.ports import Sealed, Tombstone, Write
from services.cache.values import Asked, LookupResult
from services.chassis.deadline import Deadline
from tests.integration.cache.stored_cache import StoredCache
from tests.integration.edgestore.store_process import StoreProcess
from tests.unit.cache.cache_parts import ONLY, TENANT, ask

Caches = Callable[..., StoredCache]
ASKED = "How do I reset my password?"
REWORDED = "How can I reset my password?"
OTHER = "Which planet is the largest of all?"
LONG = "an answer of many words " * 40
NEWER = "a newer answer of many words " * 40
READ = list[Write | Tombstone | Sealed]


async def cold(caches: Caches, *asked: str, **how: object) -> StoredCache:
    """A cache that has answers to these, and memory for none of their bodies."""
    cache = await caches(hot_bytes=0, **how).ready()
    cache.embedder.alike(REWORDED, ASKED, 0.95)
    for one in asked or (ASKED,):
        entry = await cache.put(one, LONG)
        kept = cache.cache.entries.find_any(TENANT, entry.id)
        assert kept is not None
        assert not kept.whole
    return cache


def reads(
    cache: StoredCache,
    before: Callable[[], Awaitable[object]] | None = None,
    after: Callable[[], Awaitable[object]] | None = None,
) -> list[Sequence[str]]:
    """The reads of the store from now on; before or after the first one is done something else may happen."""
    seen: list[Sequence[str]] = []
    read = cache.store.read

    async def noting(ids: Sequence[str], *, vectors: bool = True) -> READ:
        nonlocal before, after
        seen.append(ids)
        if before is not None:
            once, before = before, None
            await once()
        found = await read(ids, vectors=vectors)
        if after is not None:
            once, after = after, None
            await once()
        return found

    cache.store.read = noting  # type: ignore[method-assign]
    return seen


def down(cache: StoredCache, store: StoreProcess) -> None:
    store.kill()
    store.run_file.unlink(missing_ok=True)


async def many(cache: StoredCache, *asked: str) -> list[LookupResult]:
    deadline = Deadline.after(10)
    return await cache.cache.lookup_many(TENANT, [Asked(ask(one), ONLY) for one in asked], deadline)


def entries(cache: StoredCache) -> list[Entry]:
    return [entry for bucket in cache.cache.entries.buckets(TENANT) for entry in bucket.entries.values()]
