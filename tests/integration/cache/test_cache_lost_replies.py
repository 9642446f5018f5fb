"""The store does what it is asked, and its reply is lost: asked again, it does nothing twice."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from services.cache.values import ByIds, Chosen
from services.chassis.errors import Unavailable
from services.storage import Connection, Place
from tests.faults.proxy import Proxy
from tests.integration.cache.stored_cache import StoredCache, until
from tests.integration.edgestore.store_process import StoreProcess
from tests.unit.cache.cache_parts import TENANT

Caches = Callable[..., StoredCache]


@pytest.mark.fault(46)
async def test_a_write_a_delete_and_a_clear_whose_replies_are_lost_happen_once(
    caches: Caches, store: StoreProcess, tmp_path: Path
) -> None:
    async with Proxy.to("127.0.0.1", int(store.url.rpartition(":")[2])) as proxy:

        async def losing() -> None:
            """From now on the store hears everything, and nobody hears it."""
            proxy.black_hole("down")

        behind = caches(locate=lambda: Place(f"http://{proxy.address}", store.token), queue=tmp_path)
        behind.connection._timeout = 1.0
        cache, beside = await behind.ready(), await caches().ready()
        kept, gone = await cache.put("kept", "first"), await cache.put("gone", "first")

        await losing()
        with pytest.raises(Unavailable):
            await cache.put("kept", "second")
        found = await beside.store.read([kept.id])
        assert [one.ver > kept.ver for one in found] == [True], "the store has it"
        await proxy.heal()
        await until(lambda: not cache.cache.writer.pending(), "it was never confirmed")
        current = cache.cache.entries.find(TENANT, "default", kept.id)
        assert current is not None
        assert [one.ver for one in await beside.store.read([kept.id])] == [current.ver]

        await losing()
        removed = asyncio.create_task(cache.cache.remove(TENANT, Chosen(ByIds((gone.id,)))))
        assert await removed == 1
        await proxy.heal()
        await cache.cache.writer.drain()
        assert await _records(beside.connection, beside) == 2, "one for each question, however often it was written"

        await losing()
        _, epoch = await cache.clear("default")
        after = await cache.put("after", "kept", durable=False)
        await proxy.heal()
        await until(
            lambda: not cache.cache.writer.backlog.waiting and not cache.cache.writer.pending(), "it never healed"
        )
        assert [stored.number for stored in await beside.control.load()] == [epoch], "cleared once"
    again = await caches().ready()
    assert await again.text("after") == "kept"
    assert await again.text("kept") is None
    assert after.epoch == epoch


async def _records(connection: Connection, cache: StoredCache) -> int:
    async with connection.collection(cache.store._spec) as collection:
        return await collection.count()
