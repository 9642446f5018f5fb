"""How entries go: deleted by name, cleared by namespace, swept when their time is over."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

from services.cache.background import Background
from services.cache.bucket import Bucket
from services.cache.entries import STEP, Entries
from services.cache.entry import MICROSECONDS, Entry
from services.cache.ports import EntryStore, Epoch, EpochStore
from services.cache.recovery import Phase, Recovery
from services.cache.values import ByIds, ByTags, Selector
from services.cache.writer import Writer
from services.chassis.errors import NotFound, Reason, Unavailable

SWEEP_SECONDS = 5.0
"""How often expired entries are removed. They are never served, however late that is."""


class Removal:
    """Removes entries from memory and store. What has begun is finished, also when its caller has gone."""

    def __init__(
        self,
        *,
        entries: Entries,
        store: EntryStore,
        epochs: EpochStore,
        writer: Writer,
        recovery: Recovery,
        background: Background,
        now: Callable[[], float],
    ) -> None:
        self._entries = entries
        self._store = store
        self._epochs = epochs
        self._writer = writer
        self._recovery = recovery
        self._background = background
        self._now = now
        self._clearing = asyncio.Lock()

    async def delete(self, tenant: str, namespace: str, selector: Selector, *, dry_run: bool) -> int:
        """Delete the entries that `selector` names, first in the store; returns how many.

        Raises NotFound if one of several ids does not exist (nothing is deleted then), Unavailable.
        """
        self._require_all()
        if dry_run:
            return len(await self._select(tenant, namespace, selector))
        return await self._background.finish("delete", self._delete(tenant, namespace, selector))

    async def clear(self, tenant: str, namespace: str, *, dry_run: bool) -> tuple[int, int]:
        """Make every entry of a namespace invisible for good; returns how many were live, and the epoch since.

        Raises Unavailable.
        """
        self._require_all()
        if dry_run:
            bucket = self._entries.bucket(tenant, namespace)
            live = sum([entry.live(self._now()) async for entry in _walk(bucket)])
            return live, self._entries.epoch(tenant, namespace)
        return await self._background.finish("clear", self._clear(tenant, namespace))

    async def sweep(self) -> None:
        """Remove what has expired, again and again, until cancelled."""
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            while expired := self._entries.pop_expired(int(self._now() * MICROSECONDS), STEP):
                self._writer.remove(expired)
                await asyncio.sleep(0)

    async def _delete(self, tenant: str, namespace: str, selector: Selector) -> int:
        async with self._writer.exclusive():
            entries = await self._select(tenant, namespace, selector)
            await self._store.remove(entries)
            for entry in entries:
                # An answer that was stored in its place meanwhile stays, here and, once written, in the store.
                self._writer.forget(entry)
                self._entries.remove(entry)
        return len(entries)

    async def _clear(self, tenant: str, namespace: str) -> tuple[int, int]:
        async with self._clearing:
            known = self._entries.epoch(tenant, namespace)
            now = self._now()
            epoch = await self._epochs.advance(tenant, namespace, beyond=known, now_us=int(now * MICROSECONDS))
            before = self._entries.raise_epoch(tenant, namespace, epoch.number)
        if before is None:
            return 0, epoch.number
        for write in self._writer.pending():
            if not self._entries.current(write.entry):
                self._writer.forget(write.entry)
        self._background.start("purge cleared", self._purge(epoch))
        return await self._entries.dismantle(before, now), epoch.number

    async def _purge(self, epoch: Epoch) -> None:
        try:
            async with self._writer.exclusive():
                await self._store.purge_cleared(epoch)
        except Unavailable:
            return  # they are invisible, and purged at the next start

    async def _select(self, tenant: str, namespace: str, selector: Selector) -> list[Entry]:
        if isinstance(selector, ByIds):
            found = [self._entries.find(tenant, namespace, entry_id) for entry_id in dict.fromkeys(selector.ids)]
            entries = [entry for entry in found if entry is not None]
            if len(entries) < len(found):
                raise NotFound("an entry does not exist", field="entry_ids")
            return entries
        bucket = self._entries.bucket(tenant, namespace)
        if isinstance(selector, ByTags):
            return [entry async for entry in _walk(bucket) if not selector.tags.isdisjoint(entry.tags)]
        return [entry async for entry in _walk(bucket) if entry.source == selector.source]

    def _require_all(self) -> None:
        if self._recovery.phase is not Phase.READY:
            raise Unavailable("stored entries are not known yet", reason=Reason.STORE_UNAVAILABLE, retry_after=1.0)


async def _walk(bucket: Bucket | None) -> AsyncIterator[Entry]:
    """All entries of a namespace as it is now; lets others run in between."""
    for number, entry in enumerate(list(bucket.entries.values()) if bucket else (), start=1):
        yield entry
        if number % STEP == 0:
            await asyncio.sleep(0)
