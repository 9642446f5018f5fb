"""Everything a tenant has stored, read page by page while others go on storing and deleting."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass

from services.cache.bodies import Bodies
from services.cache.entries import Entries
from services.cache.entry import Entry
from services.cache.origin import Origin
from services.cache.portable import Portable
from services.cache.ports import EntryStore, Write
from services.cache.recovery import Recovery
from services.cache.scope import VERSION, Addresses
from services.cache.values import Vector
from services.cache.writer import Writer

PAGE = 64
"""Entries that are in hand at once; at most 16 MiB with the largest entries that are allowed by default."""


@dataclass(frozen=True, slots=True)
class Exported:
    """Which entries; what is empty does not matter. `vectors`: with their embeddings."""

    namespaces: frozenset[str] = frozenset()
    tags: frozenset[str] = frozenset()
    vectors: bool = False

    def takes(self, entry: Entry) -> bool:
        """Whether an entry of the right namespace is meant."""
        return not self.tags or not self.tags.isdisjoint(entry.tags)


@dataclass(frozen=True, slots=True)
class ExportPage:
    """Some entries, and how many more would have been among them but cannot move: nobody knows how they were asked."""

    entries: list[Portable]
    not_portable: int


class Exporting:
    """Reads the memory and, for embeddings, the store."""

    def __init__(
        self,
        *,
        addresses: Addresses,
        entries: Entries,
        bodies: Bodies,
        store: EntryStore,
        writer: Writer,
        recovery: Recovery,
        embedder: str,
        now: Callable[[], float],
    ) -> None:
        """`embedder`: the slug of its identity; `now`: Unix seconds."""
        self._addresses = addresses
        self._entries = entries
        self._bodies = bodies
        self._store = store
        self._writer = writer
        self._recovery = recovery
        self._embedder = embedder
        self._now = now

    def most(self, tenant: str, wanted: Exported) -> int:
        """How many entries there are to look at. Raises Unavailable until all are known."""
        self._recovery.require_all()
        names = wanted.namespaces
        return sum(len(one.entries) for one in self._entries.buckets(tenant) if not names or one.namespace in names)

    async def pages(self, tenant: str, wanted: Exported) -> AsyncGenerator[ExportPage, None]:
        """The live entries, each at most once: a namespace's ids are noted when its turn comes (8 bytes each).

        Raises Unavailable until all are known, and while the store is down for embeddings and for what it alone has.
        """
        self._recovery.require_all()
        names = [bucket.namespace for bucket in self._entries.buckets(tenant)]
        for namespace in sorted(wanted.namespaces.intersection(names) if wanted.namespaces else names):
            bucket = self._entries.bucket(tenant, namespace)
            ids = list(bucket.entries) if bucket else []
            for start in range(0, len(ids), PAGE):
                page = await self._page(tenant, namespace, ids[start : start + PAGE], wanted)
                if page.entries or page.not_portable:
                    yield page
                else:
                    await asyncio.sleep(0)

    async def _page(self, tenant: str, namespace: str, ids: Sequence[str], wanted: Exported) -> ExportPage:
        whole = await self._whole(tenant, namespace, ids, wanted)
        vectors = await self._vectors(whole) if wanted.vectors and whole else {}
        movable = [(entry, entry.origin) for entry in whole if entry.origin is not None]
        moved = [self._portable(entry, origin, vectors.get(entry.id)) for entry, origin in movable]
        return ExportPage(moved, len(whole) - len(movable))

    async def _whole(self, tenant: str, namespace: str, ids: Sequence[str], wanted: Exported) -> list[Entry]:
        whole: list[Entry] = []
        for _ in range(2):  # what was replaced while it was fetched is taken as it is then
            now = self._now()
            found = (self._entries.find(tenant, namespace, entry_id) for entry_id in ids)
            meant = [entry for entry in found if entry is not None and entry.live(now) and wanted.takes(entry)]
            fetched = await self._bodies.for_work(meant)
            whole += [entry for entry in fetched if entry is not None]
            ids = [entry.id for entry, one in zip(meant, fetched, strict=True) if one is None]
        return whole

    async def _vectors(self, entries: Sequence[Entry]) -> dict[str, Vector | None]:
        """Embeddings by id, of those that have one: that of the question, whatever the answer is by now."""
        waiting = self._writer.waiting([entry.id for entry in entries])
        stored = await self._store.read([entry.id for entry in entries if entry.id not in waiting])
        return {write.id: write.vector for write in (*waiting.values(), *stored) if isinstance(write, Write)}

    def _portable(self, entry: Entry, origin: Origin, vector: Vector | None) -> Portable:
        return Portable(
            namespace=entry.namespace,
            question=entry.question,
            origin=self._addresses.sealed(entry.scope, origin),
            version=VERSION,
            answer=entry.whole_answer,
            created_us=entry.created_us,
            expires_us=entry.expires_us,
            tags=entry.tags,
            sources=entry.sources,
            source=entry.source,
            writer=entry.writer,
            decided_by=entry.decided_by,
            review=entry.review,
            vector=vector,
            embedder=self._embedder if vector is not None else "",
        )
