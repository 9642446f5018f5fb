"""A connection that follows the store: the embedded one takes a free port at each start and writes it to its run file.

After a failure the place is looked up again, and collections are checked again if it has moved.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from services.chassis.errors import FailedPrecondition, Unavailable
from services.storage.collection import Collection
from services.storage.location import Place
from services.storage.store import Store
from services.storage.values import CollectionSpec


class Connection:
    """One connection for everything that a process stores; moves with the store. Made without any I/O."""

    def __init__(self, locate: Callable[[], Place], *, timeout: float) -> None:
        """`locate` says where the store is, or raises Unavailable; it reads files. `timeout`: seconds for one call."""
        self._locate = locate
        self._timeout = timeout
        self._place: Place | None = None
        self._store: Store | None = None
        self._collections: dict[str, Collection] = {}
        self._doubtful = True
        self._moving = asyncio.Lock()

    @asynccontextmanager
    async def collection(self, spec: CollectionSpec) -> AsyncIterator[Collection]:
        """The collection, created or checked when it is used for the first time at this place.

        Raises Unavailable(STORE_UNAVAILABLE) and FailedPrecondition(STORE_MISMATCH), here and from what is done inside.
        """
        try:
            async with self._moving:
                store = await self._connected()
                collection = self._collections.get(spec.name)
                if collection is None:
                    collection = self._collections[spec.name] = await store.ensure(spec)
            yield collection
        except Unavailable:
            self._doubtful = True
            raise
        except FailedPrecondition:
            # Perhaps another store than before: it does not know our token, or has lost the collection.
            self._doubtful = True
            self._collections.pop(spec.name, None)
            raise

    async def move_alias(self, alias: str, collection: str) -> None:
        """See `Store.move_alias`. Raises as `collection`."""
        await self._on_store(lambda store: store.move_alias(alias, collection))

    async def drop(self, collection: str) -> None:
        """See `Store.drop`. Raises as `collection`."""
        await self._on_store(lambda store: store.drop(collection))
        self._collections.pop(collection, None)

    async def aclose(self) -> None:
        """Close it."""
        if self._store is not None:
            await self._store.aclose()

    async def _on_store(self, work: Callable[[Store], Awaitable[None]]) -> None:
        try:
            async with self._moving:
                store = await self._connected()
            await work(store)
        except Unavailable:
            self._doubtful = True
            raise

    async def _connected(self) -> Store:
        if self._store is not None and not self._doubtful:
            return self._store
        place = await asyncio.to_thread(self._locate)
        if self._store is None or place != self._place:
            old, self._store = self._store, None
            self._collections.clear()
            if old is not None:
                await old.aclose()
            self._store = await Store.connect(place.url, api_key=place.api_key, timeout=self._timeout)
            self._place = place
        self._doubtful = False
        return self._store
