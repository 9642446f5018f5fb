"""From an empty memory to all that is stored, and back to health after a fault of the index.

waiting     the store has not answered yet: lookups are served from what this process has made itself
hydrating   epochs are known and entries are being read: lookups bypass, so that nothing is bought twice by mistake
ready       memory has everything
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import replace
from enum import StrEnum

from services.cache.background import Background
from services.cache.entries import Entries
from services.cache.entry import MICROSECONDS
from services.cache.ports import EntryStore, Epoch, EpochStore, Write
from services.cache.storing import Storing
from services.cache.writer import Writer
from services.chassis.errors import Reason, Unavailable

FIRST_PAUSE = 0.1
LONGEST_PAUSE = 2.0
"""Seconds between attempts to reach the store; each pause is twice the one before."""

CLOCK_SKEW_US = 5 * MICROSECONDS
"""By which the clocks of replicas may differ: of what was made so soon after a clear nobody can tell on which side."""


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
        background: Background,
        now: Callable[[], float],
        chance: Callable[[], float],
        report: Callable[[BaseException], None],
    ) -> None:
        """`open_store` makes sure that collections and key are right; what it raises besides Unavailable is final."""
        self._open_store = open_store
        self._store = store
        self._epochs = epochs
        self._entries = entries
        self._storing = storing
        self._writer = writer
        self._background = background
        self._now = now
        self._chance = chance
        self._report = report
        self.phase = Phase.WAITING
        self.ready = asyncio.Event()
        self.rebuilds = 0
        """Times the index was rebuilt."""

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
        await self._until_reached(self._hydrate)
        self.phase = Phase.READY
        self.ready.set()
        while True:
            await self._entries.broken.wait()
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
        now_us = int(self._now() * MICROSECONDS)
        epochs = await self._epochs.load()
        self.phase = Phase.HYDRATING
        await self._apply(epochs)
        self._writer.open()
        async with aclosing(self._store.load(now_us=now_us)) as pages:  # type: ignore[type-var]  # it is a generator
            async for page in pages:
                self._storing.adopt(page)
                await asyncio.sleep(0)
        self._background.start("purge", self._purge(epochs, now_us))

    async def _apply(self, epochs: list[Epoch]) -> None:
        """Make what was cleared before this process began invisible, and keep what it has made since."""
        own: dict[tuple[str, str], list[Write]] = defaultdict(list)
        for write in self._writer.pending():
            own[write.entry.tenant, write.entry.namespace].append(write)
        for epoch in epochs:
            before = self._entries.raise_epoch(epoch.tenant, epoch.namespace, epoch.number)
            for write in own[epoch.tenant, epoch.namespace]:
                if write.entry.epoch >= epoch.number:
                    continue
                self._writer.forget(write.entry)
                if write.entry.updated_us > epoch.cleared_us + CLOCK_SKEW_US:
                    kept = replace(write.entry, epoch=epoch.number, ver=self._entries.last_ver + 1)
                    self._entries.put(kept, write.vector)
                    self._writer.submit(Write(kept, write.vector))
            if before is not None:
                await self._entries.dismantle(before, self._now())

    async def _purge(self, epochs: list[Epoch], now_us: int) -> None:
        """Delete what nobody can see any more; the next start goes on where this one fails."""
        try:
            await self._store.purge_expired(now_us=now_us)
            for epoch in epochs:
                await self._store.purge_cleared(epoch)
        except Unavailable as error:
            self._report(error)

    async def _rebuild(self) -> None:
        self._entries.renew_index()
        self._restore(self._writer.pending())
        async with aclosing(self._store.load(now_us=int(self._now() * MICROSECONDS))) as pages:  # type: ignore[type-var]
            async for page in pages:
                self._restore(page)
                await asyncio.sleep(0)

    def _restore(self, writes: list[Write]) -> None:
        self._entries.restore([(write.entry, write.vector) for write in writes if write.vector is not None])
