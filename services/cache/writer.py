"""Mirrors memory into the store: in order, in batches, again and again while the store is down.

Memory comes first and is what is served; here the store catches up. What waits is bounded: beyond that the oldest
writes are given up and counted. While the store is down what waits is on disk, too (`backlog`). Deletes wait for the
batch under way, so no write lands after the delete of its entry.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

from services.cache.backlog import Backlog
from services.cache.entry import Entry
from services.cache.ports import EntryStore, Sealed, Tombstone, Write
from services.chassis.errors import AntiphonError, Reason, Unavailable

BATCH = 256
"""Writes in one request to the store."""

FIRST_PAUSE = 0.05
LONGEST_PAUSE = 2.0
"""Seconds between attempts while the store is down; each pause is twice the one before."""

KEEP_SECONDS = 1.0
"""How often what waits is brought to disk while the store is down: what a kill may cost of what was never promised."""

Chance = Callable[[], float]


@dataclass(eq=False, slots=True)
class _Waiting:
    write: Write
    callers: list[asyncio.Future[None]] = field(default_factory=list)


class Writer:
    """The one writer of entries in this process; `run` does the work."""

    def __init__(
        self,
        store: EntryStore,
        backlog: Backlog,
        *,
        max_waiting: int,
        chance: Chance,
        adopt: Callable[[Sequence[Write | Tombstone]], None],
        saved: Callable[[Entry], None],
        gave_up: Callable[[Entry], None],
        report: Callable[[BaseException], None],
    ) -> None:
        """`adopt` gets newer answers of other writers found in the store; `report` the first failure of a series.

        `saved` is told of each entry that the store has now; `gave_up` of each write that found no room.
        """
        self._store = store
        self.backlog = backlog
        self._max_waiting = max_waiting
        self._chance = chance
        self._adopt = adopt
        self._saved = saved
        self._gave_up = gave_up
        self._report = report
        self._waiting: OrderedDict[str, _Waiting] = OrderedDict()
        self._removals: OrderedDict[str, Entry] = OrderedDict()
        self._work = asyncio.Event()
        self._gate = asyncio.Event()
        self._lock = asyncio.Lock()
        self._pause = 0.0
        self.given_up = 0
        """Writes that stay in memory only."""

    @property
    def failing(self) -> bool:
        """Whether the last attempt failed."""
        return self._pause > 0.0

    def unsaved(self) -> list[Write]:
        """What waits for the store to come back; empty while it answers."""
        return self.pending() if self.failing or not self._gate.is_set() else []

    def open(self) -> None:
        """Begin to write; before that the store's epochs are not known."""
        self._gate.set()

    def wake(self) -> None:
        """See to what waits in the backlog."""
        self._work.set()

    def pending(self) -> list[Write]:
        """What the store does not have yet."""
        return [waiting.write for waiting in self._waiting.values()]

    def waiting(self, ids: Iterable[str]) -> dict[str, Write]:
        """Of these what the store does not have yet."""
        return {entry_id: self._waiting[entry_id].write for entry_id in ids if entry_id in self._waiting}

    def submit(self, write: Write) -> None:
        """Store it when possible."""
        self._enqueue(write)

    async def durable(self, write: Write) -> None:
        """Store it before returning. Raises Unavailable; the write stays queued all the same."""
        down = self.failing or not self._gate.is_set()
        waiting = self._enqueue(write)
        if down:
            raise _unavailable(self._pause)
        caller: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiting.callers.append(caller)
        await caller

    async def confirm(self, entry: Entry) -> None:
        """Return when the store has an entry that was written before, or a newer one. Raises Unavailable."""
        if entry.id in self._waiting:
            await self.durable(self._waiting[entry.id].write)
        elif not any(stored.ver >= entry.ver for stored in await self._store.read([entry.id])):
            raise _unavailable(LONGEST_PAUSE)

    def going(self, entry_id: str) -> bool:
        """Whether it will be taken out of the store."""
        return entry_id in self._removals

    def remove(self, entries: Iterable[Entry]) -> None:
        """Take these out of the store when possible; they are not in memory any more, for lack of room."""
        for entry in entries:
            self.forget(entry)
            self._removals[entry.id] = entry
            if len(self._removals) > self._max_waiting:  # found again, and removed again, by the next who reads it
                self._removals.popitem(last=False)
        self._work.set()

    def forget(self, entry: Entry) -> None:
        """Do not write this any more."""
        waiting = self._waiting.get(entry.id)
        if waiting is not None and waiting.write.entry.ver <= entry.ver:
            del self._waiting[entry.id]
            _release(waiting)

    @asynccontextmanager
    async def exclusive(self) -> AsyncIterator[None]:
        """No batch is under way inside."""
        async with self._lock:
            yield

    async def run(self) -> None:
        """Write until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._write())
            group.create_task(self._keep())

    async def drain(self) -> None:
        """Write what waits, once; what fails is counted and stays on disk. After `run` has been cancelled."""
        try:
            async with self._lock:
                while self._gate.is_set() and (self._waiting or self._removals or self.backlog.waiting):
                    await self._step()
        except AntiphonError as error:
            self._failed(error)
        if self._waiting:
            self._drop(await self.backlog.keep(self.pending()))

    async def _write(self) -> None:
        await self._gate.wait()
        if self.backlog.waiting:
            self._work.set()
        while True:
            await self._work.wait()
            try:
                async with self._lock:
                    await self._step()
            except AntiphonError as error:
                self._failed(error)
                await asyncio.sleep(self._pause * (0.5 + self._chance()))
            else:
                self._pause = 0.0

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(KEEP_SECONDS)
            if self.failing or not self._gate.is_set():
                self._drop(await self.backlog.keep(self.pending()))

    def _enqueue(self, write: Write) -> _Waiting:
        entry = write.entry
        waiting = self._waiting.get(entry.id)
        if waiting is None or waiting.write.entry.ver <= entry.ver:
            # A newer answer takes the older one's place, and with it those who wait for either.
            waiting = self._waiting[entry.id] = _Waiting(write, waiting.callers if waiting else [])
        self._removals.pop(entry.id, None)
        if len(self._waiting) > self._max_waiting:
            self._drop([next(iter(self._waiting.values())).write])
        self._work.set()
        return waiting

    def _drop(self, writes: Sequence[Write]) -> None:
        """Give these up: they found no room."""
        for write in writes:
            waiting = self._waiting.get(write.id)
            if waiting is not None and waiting.write is write:
                del self._waiting[write.id]
                self.given_up += 1
                self._gave_up(write.entry)
                _refuse(waiting)

    async def _step(self) -> None:
        await self.backlog.send()
        batch = [waiting for waiting, _ in zip(self._waiting.values(), range(BATCH), strict=False)]
        if batch:
            outcomes = await self._store.save([waiting.write for waiting in batch])
            beaten = [waiting for waiting, ours in zip(batch, outcomes, strict=True) if not ours]
            kept = await self._concede(beaten) if beaten else set()
            for waiting, ours in zip(batch, outcomes, strict=True):
                entry_id = waiting.write.entry.id
                if ours:
                    self._saved(waiting.write.entry)
                if entry_id in kept:
                    continue
                if self._waiting.get(entry_id) is waiting:
                    del self._waiting[entry_id]
                    _release(waiting)
            if kept:
                raise Unavailable("the store does not hold what it took", reason=Reason.STORE_UNAVAILABLE)
        removals = [entry for entry, _ in zip(self._removals.values(), range(BATCH), strict=False)]
        if removals:
            await self._store.remove(removals)
            for entry in removals:
                if self._removals.get(entry.id) is entry:
                    del self._removals[entry.id]
        if not self._waiting and not self._removals and not self.backlog.waiting:
            self._work.clear()
        await self.backlog.forget(self._waiting.__contains__)

    async def _concede(self, beaten: list[_Waiting]) -> set[str]:
        """Take over what is newer in the store; returns the ids that were not there at all, to be written again."""
        newer = await self._store.read([waiting.write.id for waiting in beaten])
        self._adopt([one for one in newer if not isinstance(one, Sealed)])
        await self._replace_hidden({waiting.write.id: waiting.write for waiting in beaten}, newer)
        found = {one.id for one in newer}
        return {waiting.write.entry.id for waiting in beaten} - found

    async def _replace_hidden(self, writes: dict[str, Write], newer: Sequence[Write | Tombstone | Sealed]) -> None:
        """Store these where a replica that had not heard of a clear has stored what nobody will see."""
        hidden = [one for one in newer if not isinstance(one, Sealed) and _epoch(one) < writes[one.id].entry.epoch]
        if not hidden:
            return
        await self._store.remove([replace(writes[one.id].entry, ver=one.ver) for one in hidden])
        again = [writes[one.id] for one in hidden]
        for write, ours in zip(again, await self._store.save(again), strict=True):
            if ours:
                self._saved(write.entry)

    def _failed(self, error: AntiphonError) -> None:
        if not self.failing:
            self._report(error)
        self._pause = min(max(self._pause * 2, FIRST_PAUSE), LONGEST_PAUSE)
        for waiting in self._waiting.values():
            _refuse(waiting, self._pause)


def _epoch(one: Write | Tombstone) -> int:
    return one.entry.epoch if isinstance(one, Write) else one.epoch


def _release(waiting: _Waiting) -> None:
    for caller in waiting.callers:
        if not caller.done():
            caller.set_result(None)
    waiting.callers = []


def _refuse(waiting: _Waiting, retry_after: float = FIRST_PAUSE) -> None:
    for caller in waiting.callers:
        if not caller.done():
            caller.set_exception(_unavailable(retry_after))
    waiting.callers = []


def _unavailable(retry_after: float) -> Unavailable:
    return Unavailable("the store is not available", reason=Reason.STORE_UNAVAILABLE, retry_after=retry_after)
