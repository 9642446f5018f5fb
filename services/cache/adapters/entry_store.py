"""Entries in the store: one collection for each embedder identity, behind an alias."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, aclosing

from services.cache.adapters.records import SCHEMA, Unreadable, from_record, partition, to_payload
from services.cache.entry import Entry
from services.cache.ports import Epoch, Write
from services.storage import (
    AllOf,
    AnyOf,
    Between,
    Collection,
    CollectionSpec,
    Connection,
    Equals,
    Filter,
    HasId,
    Index,
    IndexKind,
    Point,
    Record,
)

REMOVE_CHUNK = 200
"""Entries in one request to delete: each is a condition of its own."""

_INDEXES = (
    Index("ns", IndexKind.TENANT),
    Index("expires_us", IndexKind.INTEGER),
    Index("updated_us", IndexKind.INTEGER),
    Index("epoch", IndexKind.INTEGER),
    Index("ver", IndexKind.INTEGER),
    Index("schema", IndexKind.INTEGER),
)

# Whatever deletes by condition names our own schema: records of another version of this software are not ours to judge.
_OURS = Equals("schema", SCHEMA)


class StoredEntries:
    """An `EntryStore` over one collection."""

    def __init__(
        self,
        connection: Connection,
        *,
        embedder: str,
        dim: int,
        replication_factor: int = 1,
        write_consistency_factor: int = 1,
    ) -> None:
        """`embedder`: the slug of its identity."""
        self._connection = connection
        self._embedder = embedder
        self._dim = dim
        alias = f"antiphon_entries_{embedder}_{dim}"
        self._spec = CollectionSpec(
            name=f"{alias}_v{SCHEMA}",
            dim=dim,
            indexes=_INDEXES,
            alias=alias,
            replication_factor=replication_factor,
            write_consistency_factor=write_consistency_factor,
        )
        self.skipped: Counter[Unreadable] = Counter()
        """Records that could not be read, since the process started."""

    async def is_empty(self) -> bool:
        """Whether nothing at all is stored. Creates or checks the collection: raises FailedPrecondition, too."""
        async with self._opened() as collection:
            return await collection.count() == 0

    async def save(self, writes: Sequence[Write]) -> list[bool]:
        """See `EntryStore`."""
        points = [
            Point(write.entry.id, write.vector, to_payload(write.entry, embedder=self._embedder)) for write in writes
        ]
        async with self._opened() as collection:
            return await collection.upsert_newer(points, durable=True)

    async def read(self, ids: Sequence[str]) -> list[Write]:
        """See `EntryStore`."""
        async with self._opened() as collection:
            return self._readable(await collection.get(ids, vectors=True))

    async def load(self, *, now_us: int) -> AsyncIterator[list[Write]]:
        """See `EntryStore`."""
        async with self._opened() as collection:
            pages = collection.scroll(Between("expires_us", gt=now_us), order_by=None, vectors=True)
            async with aclosing(pages):  # type: ignore[type-var]  # an async generator, declared as an iterator
                async for page in pages:
                    yield self._readable(page)

    async def remove(self, entries: Sequence[Entry]) -> None:
        """See `EntryStore`."""
        async with self._opened() as collection:
            for start in range(0, len(entries), REMOVE_CHUNK):
                chunk = entries[start : start + REMOVE_CHUNK]
                each: list[Filter] = [AllOf(HasId([entry.id]), Between("ver", lte=entry.ver)) for entry in chunk]
                await collection.delete_where(AllOf(_OURS, AnyOf(*each)))

    async def purge_cleared(self, epoch: Epoch) -> None:
        """See `EntryStore`."""
        ns = Equals("ns", partition(epoch.tenant, epoch.namespace))
        async with self._opened() as collection:
            await collection.delete_where(AllOf(_OURS, ns, Between("epoch", lt=epoch.number)))

    async def purge_expired(self, *, now_us: int) -> None:
        """See `EntryStore`."""
        async with self._opened() as collection:
            await collection.delete_where(AllOf(_OURS, Between("expires_us", lte=now_us)))

    def _readable(self, records: Sequence[Record]) -> list[Write]:
        writes = []
        for record in records:
            read = from_record(record, embedder=self._embedder, dim=self._dim)
            if isinstance(read, Unreadable):
                self.skipped[read] += 1
            else:
                writes.append(read)
        return writes

    def _opened(self) -> AbstractAsyncContextManager[Collection]:
        return self._connection.collection(self._spec)
