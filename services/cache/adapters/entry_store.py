"""Entries in the store: one collection for each embedder identity, behind an alias."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, aclosing

from services.cache.adapters.records import (
    HEAD,
    SCHEMA,
    WHOLE,
    Unreadable,
    from_record,
    head,
    partition,
    to_payload,
)
from services.cache.entry import MICROSECONDS, Entry
from services.cache.ports import Epoch, Head, Sealed, Tombstone, Write
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

LAYOUT = 1
"""Of the collection, in its name: what its vectors are. Records have a schema of their own."""

CURRENT_ALIAS = "antiphon_entries"
"""Names the collection that is served, since a change of the embedder; for people and their tools."""

REMOVE_CHUNK = 200
"""Entries in one request to delete: each is a condition of its own."""

_INDEXES = (
    Index("ns", IndexKind.TENANT),
    Index("expires_us", IndexKind.INTEGER),
    Index("updated_us", IndexKind.INTEGER),
    Index("saved_us", IndexKind.INTEGER),
    Index("epoch", IndexKind.INTEGER),
    Index("ver", IndexKind.INTEGER),
    Index("schema", IndexKind.INTEGER),
)

# Whatever deletes by condition names our own schema: records of another version of this software are not ours to judge.
_OURS = Equals("schema", SCHEMA)


def collection_name(embedder: str, dim: int) -> str:
    """Of the entries of an embedder, by the slug of its identity and the length of its vectors."""
    return f"{CURRENT_ALIAS}_{embedder}_{dim}_v{LAYOUT}"


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
        now: Callable[[], float] = time.time,
    ) -> None:
        """`embedder`: the slug of its identity; `now`: Unix seconds."""
        self._connection = connection
        self._embedder = embedder
        self._dim = dim
        self._now = now
        self._spec = CollectionSpec(
            name=collection_name(embedder, dim),
            dim=dim,
            indexes=_INDEXES,
            alias=f"{CURRENT_ALIAS}_{embedder}_{dim}",
            replication_factor=replication_factor,
            write_consistency_factor=write_consistency_factor,
        )
        self.skipped: Counter[Unreadable] = Counter()
        """Records that could not be read, since the process started."""

    async def is_empty(self) -> bool:
        """Whether nothing at all is stored. Creates or checks the collection: raises FailedPrecondition, too."""
        async with self._opened() as collection:
            return await collection.count() == 0

    async def save(self, writes: Sequence[Write | Tombstone]) -> list[bool]:
        """See `EntryStore`."""
        saved_us = int(self._now() * MICROSECONDS)
        async with self._opened() as collection:
            stored = await collection.upsert_newer([self._point(write, saved_us) for write in writes], durable=True)
            # What was written before, by a call whose answer was lost, differs in the time of saving only.
            doubtful = [write.id for write, ours in zip(writes, stored, strict=True) if not ours]
            if not doubtful:
                return stored
            found = {one.id: one for one in self._readable(await collection.get(doubtful, vectors=True))}
        return [ours or _same(write, found.get(write.id)) for write, ours in zip(writes, stored, strict=True)]

    async def read(self, ids: Sequence[str], *, vectors: bool = True) -> list[Write | Tombstone | Sealed]:
        """See `EntryStore`."""
        async with self._opened() as collection:
            return self._readable(await collection.get(ids, vectors=vectors))

    async def load(self, *, now_us: int) -> AsyncIterator[list[Write | Tombstone]]:
        """See `EntryStore`."""
        async with self._opened() as collection:
            pages = collection.scroll(Between("expires_us", gt=now_us), order_by=None, vectors=True, fields=WHOLE)
            async with aclosing(pages):  # type: ignore[type-var]  # an async generator, declared as an iterator
                async for page in pages:
                    yield [one for one in self._readable(page) if not isinstance(one, Sealed)]

    async def heads(self, *, since_us: int | None) -> AsyncIterator[list[Head]]:
        """See `EntryStore`."""
        since = None if since_us is None else Between("saved_us", gte=since_us)
        async with self._opened() as collection:
            pages = collection.scroll(since, order_by=None, fields=HEAD)
            async with aclosing(pages):  # type: ignore[type-var]  # as above
                async for page in pages:
                    yield [found for found in map(head, page) if found is not None]

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

    def _point(self, write: Write | Tombstone, saved_us: int) -> Point:
        vector = write.vector if isinstance(write, Write) else None
        return Point(write.id, vector, to_payload(write, embedder=self._embedder, saved_us=saved_us))

    def _readable(self, records: Sequence[Record]) -> list[Write | Tombstone | Sealed]:
        return [self._read(record) for record in records]

    def _read(self, record: Record) -> Write | Tombstone | Sealed:
        read = from_record(record, embedder=self._embedder, dim=self._dim)
        if not isinstance(read, Unreadable):
            return read
        self.skipped[read] += 1
        ver = record.payload.get("ver")
        return Sealed(record.id, ver if isinstance(ver, int) else 0)

    def _opened(self) -> AbstractAsyncContextManager[Collection]:
        return self._connection.collection(self._spec)


def _same(write: Write | Tombstone, found: Write | Tombstone | Sealed | None) -> bool:
    if isinstance(write, Write) and isinstance(found, Write):
        return write.entry == found.entry
    return write == found
