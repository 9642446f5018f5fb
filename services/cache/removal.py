"""How entries go: deleted or quarantined by choice, cleared by namespace, swept when their time is over."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress

from services.cache.background import Background
from services.cache.bucket import Bucket
from services.cache.clock import Clock
from services.cache.entries import STEP, Entries
from services.cache.entry import MICROSECONDS, Entry
from services.cache.ports import EntryStore, Epoch, EpochStore, Tombstone
from services.cache.recovery import Recovery
from services.cache.review import FeedbackSource
from services.cache.reviewing import Reviewing
from services.cache.values import Action, ByIds, BySource, BySourceVersion, ByTags, ByWriter, Chosen, Selector
from services.cache.writer import Writer
from services.chassis.errors import NotFound, Unavailable

SWEEP_SECONDS = 5.0
"""How often expired entries are removed. They are never served, however late that is."""

GRAVE_US = 3_600 * MICROSECONDS
"""That a tombstone outlives what it hides: clocks may differ, and a page may be read while it is purged."""


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
        reviewing: Reviewing,
        background: Background,
        clock: Clock,
        stale: float,
    ) -> None:
        """`stale`: seconds that what has expired is kept for those who take it all the same."""
        self._entries = entries
        self._store = store
        self._epochs = epochs
        self._writer = writer
        self._recovery = recovery
        self._reviewing = reviewing
        self._background = background
        self._clock = clock
        self._now = clock.now
        self._stale = stale
        self._clearing = asyncio.Lock()

    async def remove(
        self,
        tenant: str,
        chosen: Chosen,
        action: Action,
        *,
        by: str,
        dry_run: bool,
        buried: list[tuple[Entry, Tombstone]] | None = None,
    ) -> int:
        """Delete what is chosen, first in the store, or change whether it is served; returns how many entries.

        `by`: the id of the API key that asks; `buried` takes what is deleted, with its tombstone. Raises NotFound if
        one of several ids does not exist (nothing is done then), Unavailable; some may be quarantined or released then.
        """
        self._recovery.require_all()
        if dry_run:
            return len(await self._choose(tenant, chosen, action))
        return await self._background.finish(action.value, self._remove(tenant, chosen, action, by, buried))

    async def clear(self, tenant: str, namespace: str, *, dry_run: bool) -> tuple[int, int]:
        """Make every entry of a namespace invisible for good; returns how many were live, and the epoch since.

        Raises Unavailable.
        """
        self._recovery.require_all()
        if dry_run:
            bucket = self._entries.bucket(tenant, namespace)
            live = sum([entry.live(self._now()) async for entry in _walk(bucket)])
            return live, self._entries.epoch(tenant, namespace)
        return await self._background.finish("clear", self._clear(tenant, namespace))

    async def sweep(self) -> None:
        """Forget what has expired, again and again, until cancelled; `purging` removes it from the store."""
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            before_us, full = int((self._clock.settled() - self._stale) * MICROSECONDS), True
            while full:
                full = len(self._entries.pop_expired(before_us, STEP)) == STEP
                await asyncio.sleep(0)
            await self._entries.dismantle_cleared(self._now())

    async def _remove(
        self,
        tenant: str,
        chosen: Chosen,
        action: Action,
        by: str,
        buried: list[tuple[Entry, Tombstone]] | None,
    ) -> int:
        if action is not Action.DELETE:
            entries = await self._choose(tenant, chosen, action)
            await self._reviewing.say(entries, by, right=action is Action.RELEASE)
            return len(entries)
        async with self._writer.exclusive():
            found = await self._choose(tenant, chosen, action)
            entries = [entry for entry in found if self._entries.current(entry)]
            graves = [self._tombstone(entry) for entry in entries]
            await self._bury(graves)
            if buried is not None:
                buried += zip(entries, graves, strict=True)
            for entry in entries:
                # An answer that was stored in its place meanwhile stays, here and, once written, in the store.
                self._writer.forget(entry)
                self._entries.remove(entry)
        return len(entries)

    def _tombstone(self, entry: Entry) -> Tombstone:
        now_us = int(self._now() * MICROSECONDS)
        return Tombstone(
            id=entry.id,
            tenant=entry.tenant,
            namespace=entry.namespace,
            ver=self._entries.next_ver(now_us),
            epoch=entry.epoch,
            updated_us=now_us,
            # What it hides is over then, wherever a copy of it still is.
            expires_us=max(entry.expires_us, now_us) + GRAVE_US,
        )

    async def _bury(self, graves: Sequence[Tombstone]) -> None:
        """Tell the store or, while it is down, keep it on disk for later; durable either way."""
        if not self._writer.failing:
            try:
                await self._store.save(graves)
            except Unavailable:
                await self._writer.backlog.bury(graves)
        else:
            await self._writer.backlog.bury(graves)
        self._writer.wake()

    async def _raise_epoch(self, tenant: str, namespace: str, now: float) -> Epoch:
        """As `_bury`; the epoch of a clear that the store has not heard may still change."""
        known, now_us = self._entries.epoch(tenant, namespace), int(now * MICROSECONDS)
        if not self._writer.failing:
            with suppress(Unavailable):
                return await self._epochs.advance(tenant, namespace, beyond=known, now_us=now_us)
        epoch = Epoch(tenant, namespace, known + 1, now_us)
        await self._writer.backlog.clear(epoch)
        self._writer.wake()
        return epoch

    async def _clear(self, tenant: str, namespace: str) -> tuple[int, int]:
        async with self._clearing:
            now = self._now()
            # The store may show the new epoch to those who look at it before it has answered here.
            self._recovery.clearing.add((tenant, namespace))
            try:
                epoch = await self._raise_epoch(tenant, namespace, now)
                before = self._entries.raise_epoch(tenant, namespace, epoch.number)
            finally:
                self._recovery.clearing.discard((tenant, namespace))
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
            return  # they are invisible, and purged later

    async def _choose(self, tenant: str, chosen: Chosen, action: Action) -> list[Entry]:
        found = [entry async for entry in self._selected(tenant, chosen) if entry.written_us >= chosen.since_us]
        match action:
            case Action.QUARANTINE:
                return [entry for entry in found if not entry.withheld(own=True)]
            case Action.RELEASE:
                named = isinstance(chosen.selector, ByIds)
                return [entry for entry in found if entry.withheld(own=False) and (named or _by_operator(entry))]
            case _:
                return found

    async def _selected(self, tenant: str, chosen: Chosen) -> AsyncIterator[Entry]:
        if isinstance(chosen.selector, ByIds):
            for entry_id in dict.fromkeys(chosen.selector.ids):
                yield self._find(tenant, chosen.namespace, entry_id)
            return
        for bucket in self._entries.buckets(tenant):
            if chosen.namespace in {None, bucket.namespace}:
                async for entry in _walk(bucket):
                    if _meant(entry, chosen.selector):
                        yield entry

    def _find(self, tenant: str, namespace: str | None, entry_id: str) -> Entry:
        if namespace is None:
            entry = self._entries.find_any(tenant, entry_id)
        else:
            entry = self._entries.find(tenant, namespace, entry_id)
        if entry is None:
            raise NotFound("an entry does not exist", field="entry_ids")
        return entry


def _meant(entry: Entry, selector: Selector) -> bool:
    match selector:
        case ByIds(ids):
            return entry.id in ids
        case ByTags(tags):
            return not tags.isdisjoint(entry.tags)
        case BySource(source):
            return entry.source == source
        case ByWriter(key_id):
            return entry.writer == key_id
        case BySourceVersion(name, version):
            return any(name == known and version in {"", made_from} for known, made_from in entry.sources)


def _by_operator(entry: Entry) -> bool:
    """Whether it was an operator who took it out of service; what others found wrong nobody has looked at yet."""
    quarantine = entry.review.quarantine
    return quarantine is not None and quarantine.rule == FeedbackSource.OPERATOR


async def _walk(bucket: Bucket | None) -> AsyncIterator[Entry]:
    """All entries of a namespace as it is now; lets others run in between."""
    for number, entry in enumerate(list(bucket.entries.values()) if bucket else (), start=1):
        yield entry
        if number % STEP == 0:
            await asyncio.sleep(0)
