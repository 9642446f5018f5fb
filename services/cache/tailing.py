"""How replicas see each other's writes, deletes and clears: by what was stored of late, and now and then by all of it.

What is read is ordered by nothing: each record has its version, and only a newer one counts. Records carry the time at
which they were stored, by the clock of who did it. From the newest that was seen on, less what clocks may differ and a
write may take, everything is looked at again; what slips through, from a replica whose clock is further behind, is
found by the sweep over everything.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import aclosing

from services.cache.clock import Clock
from services.cache.entries import Entries
from services.cache.entry import CLOCK_SKEW_US, MICROSECONDS
from services.cache.ports import EntryStore, EpochStore, Head, Sealed
from services.cache.recovery import Recovery
from services.cache.storing import Storing
from services.cache.writer import Writer
from services.chassis.errors import FailedPrecondition, Unavailable

PAUSE_SECONDS = 1.0
"""Between two looks: how late a replica sees what another did, at most, beside what the store takes."""

SWEEP_SECONDS = 300.0
"""Between two looks at everything; one reads some 100 bytes of each record."""

COMMIT_US = 5 * MICROSECONDS
"""That a write may take from the time that it carries until it can be read."""

WINDOW_US = CLOCK_SKEW_US + COMMIT_US

READ = 200
"""Records that are read whole at once; writes and deletes of this process wait meanwhile."""

MAX_SEALED = 10_000
"""Records that cannot be read, and are remembered, so that they are not read and counted again and again."""


class Tailing:
    """Reads on and on; `run` does the work."""

    def __init__(
        self,
        *,
        store: EntryStore,
        epochs: EpochStore,
        entries: Entries,
        storing: Storing,
        writer: Writer,
        recovery: Recovery,
        clock: Clock,
        report: Callable[[BaseException], None],
    ) -> None:
        self._store = store
        self._epochs = epochs
        self._entries = entries
        self._storing = storing
        self._writer = writer
        self._recovery = recovery
        self._clock = clock
        self._report = report
        self._newest: int | None = None
        """Of the times of saving that were seen, less the monotonic clock, in microseconds; None: nothing was seen."""
        self._seen_us: int | None = None
        """Up to where, by those times, everything was looked at; None: up to the start."""
        self._sealed: OrderedDict[str, int] = OrderedDict()
        self._looking = asyncio.Lock()
        self.failing = False
        """Whether the last look failed: others' writes are not seen."""
        self.taken = 0
        """Records of others that were taken over."""
        self.repaired = 0
        """Of them those that only the sweep has found."""

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        await self._recovery.ready.wait()
        swept = self._clock.monotonic()
        while True:
            await asyncio.sleep(PAUSE_SECONDS)
            now = self._clock.monotonic()
            sweep = now - swept >= SWEEP_SECONDS
            try:
                await self.look(everything=sweep)
            except (Unavailable, FailedPrecondition) as error:
                if not self.failing:
                    self._report(error)
                self.failing = True
                continue
            self.failing = False
            if sweep:
                swept = now

    async def look(self, *, everything: bool = False) -> None:
        """Take over what is new in the store. Raises Unavailable."""
        # One at a time: what one has read and not taken over yet, another cannot know to be deleted since.
        async with self._looking:
            await self._look(everything=everything)

    async def _look(self, *, everything: bool) -> None:
        seen_us = self._recovery.began_us if self._seen_us is None else self._seen_us
        since = None if everything else seen_us - WINDOW_US
        began_us = self._monotonic_us()
        await self._recovery.apply(await self._epochs.load(since_us=since))
        async with aclosing(self._store.heads(since_us=since)) as pages:  # type: ignore[type-var]  # it is a generator
            async for page in pages:
                taken = await self._take(page)
                self.taken += taken
                self.repaired += taken if everything else 0
                self._note(page)
        # By the clock of the fastest who writes; ours may be ahead of all of them.
        if self._newest is not None:
            self._seen_us = self._newest + began_us

    async def _take(self, page: Sequence[Head]) -> int:
        taken = 0
        news = [head.id for head in page if self._is_news(head)]
        for start in range(0, len(news), READ):
            # A delete of this process must not fall between reading a record and taking it over.
            async with self._writer.exclusive():
                found = await self._store.read(news[start : start + READ])
                readable = [one for one in found if not isinstance(one, Sealed)]
                self._storing.adopt(readable)
            taken += len(readable)
            self._remember([one for one in found if isinstance(one, Sealed)])
        return taken

    def _is_news(self, head: Head) -> bool:
        if self._sealed.get(head.id) == head.ver or self._writer.going(head.id):
            return False
        if head.epoch < self._entries.epoch(head.tenant, head.namespace):
            return False
        known = self._entries.find(head.tenant, head.namespace, head.id)
        return not head.buried if known is None else known.ver < head.ver

    def _note(self, page: Sequence[Head]) -> None:
        latest = self._clock.believable(head.saved_us for head in page)
        if latest:
            self._clock.follow([latest])
            offset = latest - self._monotonic_us()
            self._newest = offset if self._newest is None else max(self._newest, offset)

    def _remember(self, sealed: Sequence[Sealed]) -> None:
        for one in sealed:
            self._sealed[one.id] = one.ver
        while len(self._sealed) > MAX_SEALED:
            self._sealed.popitem(last=False)

    def _monotonic_us(self) -> int:
        return int(self._clock.monotonic() * MICROSECONDS)
