"""From an empty memory to all that is stored, and back to health after a fault of the index.

waiting     the store has not answered yet: lookups are served from what this process has made itself
hydrating   epochs are known and entries are being read: lookups bypass, so that nothing is bought twice by mistake
ready       memory has everything
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import replace
from enum import StrEnum

from services.cache.clock import Clock
from services.cache.entries import Entries
from services.cache.entry import MICROSECONDS, WRITTEN_AGAIN
from services.cache.ports import EntryStore, Epoch, EpochStore, Write
from services.cache.storing import Storing
from services.cache.writer import Writer
from services.chassis.collector import building
from services.chassis.errors import Reason, Unavailable

FIRST_PAUSE = 0.1
LONGEST_PAUSE = 2.0
"""Seconds between attempts to reach the store; each pause is twice the one before."""


class Phase(StrEnum):
    """How far the start has come."""

    WAITING = "waiting"
    HYDRATING = "hydrating"
    READY = "ready"


class Recovery:
    """Brings memory and store together; the only one who decides whether the cache is ready."""

    def __init__(
        self,
        *,
        open_store: Callable[[], Awaitable[None]],
        store: EntryStore,
        epochs: EpochStore,
        entries: Entries,
        storing: Storing,
        writer: Writer,
        clock: Clock,
        stale: float,
        chance: Callable[[], float],
        report: Callable[[BaseException], None],
    ) -> None:
        """`open_store` makes sure that collections and key are right; what it raises besides Unavailable is final.

        `stale`: seconds that what has expired is kept for those who take it all the same.
        """
        self._open_store = open_store
        self._store = store
        self._epochs = epochs
        self._entries = entries
        self._storing = storing
        self._writer = writer
        self._clock = clock
        self._stale = stale
        self._chance = chance
        self._report = report
        self.phase = Phase.WAITING
        self.began_us = 0
        """When reading what is stored began."""
        self.ready = asyncio.Event()
        self.rebuilds = 0
        """Times the index was rebuilt."""
        self.clearing: set[tuple[str, str]] = set()
        """Tenant and namespace of what this process is clearing: it makes the entries invisible and counts them."""

    @property
    def hydrating(self) -> bool:
        """Whether memory has a part of what is stored only."""
        return self.phase is Phase.HYDRATING

    def require_all(self) -> None:
        """Raise Unavailable until memory has everything."""
        if self.phase is not Phase.READY:
            raise Unavailable("stored entries are not known yet", reason=Reason.STORE_UNAVAILABLE, retry_after=1.0)

    async def run(self) -> None:
        """Hydrate, as often as it takes, then watch over the index; until cancelled."""
        await self._resume()
        await self._until_reached(self._hydrate)
        self.phase = Phase.READY
        self.ready.set()
        while True:
            await self._entries.similarity.broken.wait()
            self.rebuilds += 1
            await self._until_reached(self._rebuild)

    async def _until_reached(self, step: Callable[[], Awaitable[None]]) -> None:
        pause = FIRST_PAUSE
        told = False
        while True:
            try:
                await step()
            except Unavailable as error:
                if not told:
                    self._report(error)
                    told = True
            else:
                return
            await asyncio.sleep(pause * (0.5 + self._chance()))
            pause = min(pause * 2, LONGEST_PAUSE)

    async def _hydrate(self) -> None:
        if self.phase is Phase.WAITING:
            await self._open_store()
        epochs = await self._epochs.load()
        self.phase = Phase.HYDRATING
        self.began_us = int(self._clock.now() * MICROSECONDS)
        await self.apply(epochs)
        self._writer.open()
        indexing: asyncio.Task[None] | None = None
        try:
            with building():
                async with aclosing(self._store.load(now_us=self._since())) as pages:  # type: ignore[type-var]  # a generator
                    async for page in pages:
                        rows = self._storing.take_over(page)
                        if indexing is not None:
                            await indexing
                        indexing = asyncio.create_task(self._entries.index_beside(rows))
                        await asyncio.sleep(0)
        finally:
            if indexing is not None:
                await indexing

    def _since(self) -> int:
        """What has expired before that is of no use."""
        return int((self._clock.settled() - self._stale) * MICROSECONDS)

    async def _resume(self) -> None:
        """Take up what an earlier process left on disk: what it had cleared and deleted, and what it had made."""
        try:
            writes = await self._writer.backlog.resume()
        except Unavailable as error:
            self._report(error)
            return
        for clear in self._writer.backlog.clears():
            self._entries.raise_epoch(clear.tenant, clear.namespace, clear.number)
        for write in writes:
            self._storing.take_up(write)

    async def cleared(self, clear: Epoch, epoch: Epoch) -> None:
        """The store has heard of a clear that waited: by now its epoch is `epoch`, perhaps that of a later clear."""
        await self.apply([epoch], own=clear)

    async def apply(self, epochs: Sequence[Epoch], *, own: Epoch | None = None) -> None:
        """Make what was cleared elsewhere invisible, and keep what this process has made since.

        `own`: a clear that this process has made itself; see `Epoch.hides`.
        """
        made: dict[tuple[str, str], list[Write]] = defaultdict(list)
        for write in self._writer.pending():
            made[write.entry.tenant, write.entry.namespace].append(write)
        for epoch in epochs:
            if (epoch.tenant, epoch.namespace) in self.clearing:
                continue
            before = self._entries.raise_epoch(epoch.tenant, epoch.namespace, epoch.number)
            for write in made[epoch.tenant, epoch.namespace]:
                if write.entry.epoch >= epoch.number:
                    continue
                self._writer.forget(write.entry)
                if not epoch.hides(write.entry, own):
                    kept = replace(write.entry, epoch=epoch.number, ver=write.entry.ver + WRITTEN_AGAIN)
                    self._entries.put(kept, write.vector)
                    self._writer.submit(Write(kept, write.vector))
            if before is not None:
                await self._entries.dismantle(before, self._clock.now())

    async def _rebuild(self) -> None:
        self._entries.renew_index()
        self._restore(self._writer.pending())
        async with aclosing(self._store.load(now_us=self._since())) as pages:  # type: ignore[type-var]
            async for page in pages:
                self._restore([one for one in page if isinstance(one, Write)])
                await asyncio.sleep(0)

    def _restore(self, writes: list[Write]) -> None:
        self._entries.restore([(write.entry, write.vector) for write in writes if write.vector is not None])
