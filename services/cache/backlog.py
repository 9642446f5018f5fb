"""What the store has not heard yet, on this machine's disk: so that it is not lost when the process dies meanwhile.

Deletes and clears from while the store was down wait here until it is back, and are never dropped. Writes wait in the
writer; here is their copy on disk, and of them the oldest make room.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from services.cache.ports import EntryStore, Epoch, EpochStore, Tombstone, Write, WriteQueue
from services.chassis.errors import Unavailable

BATCH = 256
"""Deletes in one request to the store."""


class Backlog:
    """For one event loop; the writer, which owns it, sends it while nothing else is being written."""

    def __init__(
        self,
        queue: WriteQueue,
        store: EntryStore,
        epochs: EpochStore,
        *,
        max_bytes: int,
        cleared: Callable[[Epoch, Epoch], Awaitable[None]],
        report: Callable[[BaseException], None],
    ) -> None:
        """`max_bytes`: of the queue on disk.

        `cleared` is told of each clear that the store has now, and of its epoch; `report` of the first time that the
        disk refuses.
        """
        self._queue = queue
        self._store = store
        self._epochs = epochs
        self._max_bytes = max_bytes
        self._cleared = cleared
        self._report = report
        self._graves: dict[str, Tombstone] = {}
        self._clears: dict[tuple[str, str], Epoch] = {}
        self._kept: dict[str, int] = {}
        """Versions of the writes on disk, by id; the oldest first."""
        self._used = False
        self._refused = False
        self._disk = asyncio.Lock()
        """Held while the file and what is known of it differ: nothing may be emptied that was just added."""

    @property
    def waiting(self) -> int:
        """Deletes and clears that the store has not heard."""
        return len(self._graves) + len(self._clears)

    @property
    def bytes(self) -> int:
        """On disk."""
        return self._queue.size

    def clears(self) -> list[Epoch]:
        """Those that wait; their numbers may still change."""
        return list(self._clears.values())

    def hides(self, write: Write) -> bool:
        """Whether an entry was deleted here, although the store still has it."""
        grave = self._graves.get(write.id)
        return grave is not None and grave.ver > write.ver

    async def resume(self) -> list[Write]:
        """Read what an earlier process left; returns its writes."""
        writes: dict[str, Write] = {}
        for one in await self._queue.read():
            self._used = True
            match one:
                case Epoch():
                    self._clears[one.tenant, one.namespace] = one
                case Tombstone():
                    self._graves[one.id] = one
                case Write():
                    writes[one.id] = one
        self._kept = {write.id: write.ver for write in writes.values()}
        return [write for write in writes.values() if not self.hides(write)]

    async def bury(self, graves: Sequence[Tombstone]) -> None:
        """Take deletes that the store does not; durable on return. Raises Unavailable, and nothing is taken then."""
        async with self._disk:
            await self._queue.append(graves, durable=True)
            self._used = True
            self._graves.update((grave.id, grave) for grave in graves)

    async def clear(self, epoch: Epoch) -> None:
        """Take a clear that the store does not, as `bury`."""
        async with self._disk:
            await self._queue.append([epoch], durable=True)
            self._used = True
            self._clears[epoch.tenant, epoch.namespace] = epoch

    async def keep(self, waiting: Sequence[Write]) -> list[Write]:
        """Have these, which wait for the store, on disk; returns what found no room there, the oldest first."""
        async with self._disk:
            return await self._add(waiting)

    async def _add(self, waiting: Sequence[Write]) -> list[Write]:
        news = [write for write in waiting if self._kept.get(write.id) != write.ver]
        if not news:
            return []
        try:
            await self._queue.append(news, durable=False)
            self._used = True
            self._kept.update((write.id, write.ver) for write in news)
            if self._queue.size <= self._max_bytes:
                return []
            return await self._shrink(waiting)
        except Unavailable as error:  # they stay in memory
            if not self._refused:
                self._report(error)
            self._refused = True
            return []

    async def send(self) -> None:
        """Tell the store, clears first. Raises Unavailable; what was not told then waits on."""
        for key, clear in list(self._clears.items()):
            epoch = await self._epochs.advance(
                clear.tenant, clear.namespace, beyond=clear.number - 1, now_us=clear.cleared_us, once=True
            )
            await self._cleared(clear, epoch)
            if self._clears.get(key) is clear:
                del self._clears[key]
        while batch := list(self._graves.values())[:BATCH]:
            await self._store.save(batch)
            for grave in batch:
                if self._graves.get(grave.id) is grave:
                    del self._graves[grave.id]

    async def forget(self, waiting: Callable[[str], bool]) -> None:
        """Empty the disk once the store has everything that is on it."""
        if self._used and not self._disk.locked():
            async with self._disk:
                await self._empty(waiting)

    async def _empty(self, waiting: Callable[[str], bool]) -> None:
        if self._graves or self._clears or any(map(waiting, self._kept)):
            return
        try:
            await self._queue.replace([])
            self._kept.clear()
            self._used = self._refused = False
        except Unavailable as error:  # what is on disk is told again at the next start, which changes nothing
            self._report(error)

    async def _shrink(self, waiting: Sequence[Write]) -> list[Write]:
        """Write anew what counts; of the writes the newest that fit into half of the room."""
        sizes = [self._queue.size_of(write) for write in waiting]
        room, first = self._max_bytes // 2, len(waiting)
        while first and room >= sizes[first - 1]:
            first -= 1
            room -= sizes[first]
        stay = waiting[first:]
        await self._queue.replace([*self._clears.values(), *self._graves.values(), *stay])
        self._kept = {write.id: write.ver for write in stay}
        return list(waiting[:first])
