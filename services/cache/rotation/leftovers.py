"""What was left under an embedder that does not serve any more: it goes to the one that does.

A process that ends while the store is down leaves deletes, clears and answers behind on its disk, all of them
acknowledged. If another embedder serves when it is back, its queue is nobody's: here its clears are told, its answers
stored where they belong now, and what it had deleted is deleted there. A queue is emptied when the store has all of it;
until then everything is tried again, which changes nothing that was done.

One that ends before it has changed over leaves the same in the old collection, if everybody else had ended, too: who
starts looks there once for what came since the change.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import replace

from services.cache.entry import Entry
from services.cache.ports import EntryStore, Epoch, EpochStore, Tombstone, Write
from services.cache.rotation.plan import Phase, Plan, Plans
from services.cache.rotation.readdress import readdressed
from services.cache.rotation.sides import Side, Sides
from services.cache.rotation.workshop import Left, Workshop
from services.cache.scope import Addresses
from services.cache.tailing import WINDOW_US
from services.chassis.errors import AntiphonError

AGAIN_SECONDS = 5.0
"""After the store failed, or while this replica has yet to change over."""

STEP = 50
"""Entries that are looked at before others may run: about 2 ms."""

BATCH = 256
"""Records in one request to the store."""


class Leftovers:
    """For one event loop; `run` does the work."""

    def __init__(
        self,
        sides: Sides,
        *,
        plans: Plans,
        epochs: EpochStore,
        workshop: Workshop,
        report: Callable[[BaseException], None],
    ) -> None:
        self._sides = sides
        self._plans = plans
        self._epochs = epochs
        self._workshop = workshop
        self._report = report
        self._due = asyncio.Event()
        self._due.set()
        self._looked = False
        """Whether the old collection was looked at."""
        self.tried = asyncio.Event()
        """Set once what was left at the start was taken, or could not be."""
        self.opening = asyncio.Lock()
        """Held while queues are open here; a side that is made meanwhile would find its own taken."""

    def look(self) -> None:
        """Look for what is left again: a side has ended."""
        self._due.set()

    async def run(self) -> None:
        """Until cancelled."""
        told = False
        while True:
            await self._due.wait()
            await self._sides.ready()
            try:
                done = await self._take_all()
                told = False
            except Exception as error:  # noqa: BLE001 -- a defect here must not end a cache that serves
                if not told or not isinstance(error, AntiphonError):
                    self._report(error)
                told, done = True, False
            self.tried.set()
            if not done:
                await asyncio.sleep(AGAIN_SECONDS)

    async def _take_all(self) -> bool:
        """Whether nothing is left."""
        self._due.clear()
        try:
            async with self.opening:
                left = await self._workshop.left()
                try:
                    async with self._sides.turning:
                        done = await self._take(left)
                finally:
                    for one in left:
                        await one.aclose()
        except BaseException:
            self._due.set()
            raise
        if not done:
            self._due.set()
        return done

    async def _take(self, left: Sequence[Left]) -> bool:
        if self._looked and not left:
            return True
        plan, side = await self._plans.load_plan(), self._sides.current
        if plan is not None and side.end.slug != plan.served.slug:
            return False
        if not self._looked and plan is not None and plan.phase is Phase.SWITCHED:
            await self._take_late(side, plan)
        self._looked = True
        for one in left:
            items = await one.queue.read()
            clears = [item for item in items if isinstance(item, Epoch)]
            graves = {item.id: item for item in items if isinstance(item, Tombstone)}
            writes = {item.id: item for item in items if isinstance(item, Write)}
            await self._clear(side, clears)
            unknown = await self._store(side, one.addresses, writes, graves, clears)
            if plan is not None and plan.phase is Phase.SWITCHED and plan.source.slug == one.slug:
                # Its collection is there still, and perhaps somebody moves out of it.
                await _save(self._workshop.store(plan.source), list(graves.values()))
            await self._bury(side, one.addresses, graves)
            # What has no origin stays until its own embedder serves: nobody else can tell where it belongs.
            if len(unknown) < len(items):
                await one.queue.replace(unknown)
        return True

    async def _take_late(self, side: Side, plan: Plan) -> None:
        """What was stored and deleted in the old collection since the change."""
        source, addresses = self._workshop.store(plan.source), self._workshop.addresses(plan.source)
        ids: list[str] = []
        async with aclosing(source.heads(since_us=plan.changed_us - WINDOW_US)) as pages:  # type: ignore[type-var]
            async for page in pages:
                ids.extend(head.id for head in page)
        graves: dict[str, Tombstone] = {}
        for start in range(0, len(ids), BATCH):
            found = await source.read(ids[start : start + BATCH], vectors=False)
            graves.update((one.id, one) for one in found if isinstance(one, Tombstone))
            writes = {one.id: one for one in found if isinstance(one, Write)}
            await self._store(side, addresses, writes, {}, ())
        await self._bury(side, addresses, graves)

    async def _clear(self, side: Side, clears: Sequence[Epoch]) -> None:
        for clear in clears:
            epoch = await self._epochs.advance(
                clear.tenant, clear.namespace, beyond=clear.number - 1, now_us=clear.cleared_us, once=True
            )
            await side.cache.recovery.cleared(clear, epoch)

    async def _store(
        self,
        side: Side,
        there: Addresses,
        writes: dict[str, Write],
        graves: dict[str, Tombstone],
        clears: Sequence[Epoch],
    ) -> list[Write]:
        """Store what counts still of what had its place `there`; returns what nobody can tell the place of."""
        epochs = {(one.tenant, one.namespace): one for one in await self._epochs.load()}
        own = {(one.tenant, one.namespace): one for one in clears}
        unknown: list[Write] = []
        moved: list[Entry] = []
        for write in writes.values():
            grave, place = graves.get(write.id), (write.entry.tenant, write.entry.namespace)
            entry = _since(write.entry, epochs.get(place), own.get(place))
            if entry is None or (grave is not None and grave.ver > write.ver):
                continue
            here = readdressed(entry, there, side.cache.addresses)
            if here is None:
                unknown.append(write)
            else:
                moved.append(here[0])
        for start in range(0, len(moved), BATCH):
            async with self._sides.changing:  # what is deleted meanwhile must not come back
                known = side.cache.entries
                batch = [
                    entry
                    for entry in moved[start : start + BATCH]
                    if entry.epoch >= known.epoch(entry.tenant, entry.namespace)
                ]
                outcomes = await side.store.save([Write(entry, None) for entry in batch])
                for entry, ours in zip(batch, outcomes, strict=True):
                    if ours:
                        side.cache.carry(entry)
        return unknown

    async def _bury(self, side: Side, there: Addresses, graves: dict[str, Tombstone]) -> None:
        if not graves:
            return
        found: list[Tombstone] = []
        number = 0
        for bucket in side.cache.entries.all_buckets():
            for entry in list(bucket.entries.values()):
                number += 1
                if number % STEP == 0:
                    await asyncio.sleep(0)
                back = readdressed(entry, side.cache.addresses, there)
                grave = None if back is None else graves.get(back[0].id)
                if grave is not None and grave.ver > entry.ver:
                    found.append(replace(grave, id=entry.id))
        await _save(side.store, found)
        for grave in found:
            side.cache.entries.bury(grave)


async def _save(store: EntryStore, graves: Sequence[Tombstone]) -> None:
    for start in range(0, len(graves), BATCH):
        await store.save(graves[start : start + BATCH])


def _since(entry: Entry, epoch: Epoch | None, own: Epoch | None) -> Entry | None:
    """The entry as it counts under the epoch of its namespace; None if it was cleared."""
    if epoch is None or entry.epoch >= epoch.number:
        return entry
    return None if epoch.hides(entry, own) else replace(entry, epoch=epoch.number)
