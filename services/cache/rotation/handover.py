"""From the one cache's memory into the other's, just before that one answers: what the stores do not tell yet.

The new cache has read its collection. What has been stored, said and deleted since the move of it went by is taken over
here, so that whoever stored or deleted something finds it so after the change. Meanwhile everything goes on: what goes
from the old cache goes from the new one, too (`Sides.incoming`), and what comes is looked for again until little comes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from services.cache.cache import Cache
from services.cache.entry import Entry
from services.cache.ports import EpochStore, Tombstone
from services.cache.rotation.readdress import readdressed
from services.cache.rotation.sides import Side, Sides
from services.chassis.errors import Reason, Unavailable

STEP = 50
"""Entries that are taken over before others may run: about 2 ms."""

ROUNDS = 5
"""At most, as long as more than a step of entries has come in each."""

READ = 200
"""Records that are read at once."""


async def hand_over(sides: Sides, new: Side, epochs: EpochStore, change: Callable[[], None]) -> None:
    """Make `new` know what the current side does, then `change`. Deletes wait for the last step only.

    Raises Unavailable; nothing has changed then.
    """
    old = sides.current
    async with sides.turning:
        _require_told(old)
        async with sides.changing:  # a delete that has begun would not tell it
            sides.incoming = new
        try:
            await new.cache.recovery.apply(await epochs.load())
            taking = _Taking(old.cache, new.cache)
            old.cache.entries.watch = taking.note
            await taking.all()
            if old.cache.recovery.ready.is_set():
                await _bury(old, new, taking.counterparts)
            for _ in range(ROUNDS):
                if len(taking.changed) <= STEP:
                    break
                await taking.catch_up()
            async with sides.changing:
                _require_told(old)
                if sides.incoming is not new:
                    raise Unavailable("a delete broke off", reason=Reason.STORE_UNAVAILABLE)
                # What came since the last round; once nothing is left to be fetched nothing waits any more.
                while left := taking.rest():
                    await taking.fetch(left)
                change()
        finally:
            sides.incoming = old.cache.entries.watch = None


def _require_told(old: Side) -> None:
    if not old.cache.recovery.ready.is_set():  # nothing can be deleted in it
        return
    if old.cache.writer.failing or old.cache.writer.backlog.waiting:
        raise Unavailable("deletes wait for the store", reason=Reason.STORE_UNAVAILABLE)


class _Taking:
    """Takes over what the old cache has."""

    def __init__(self, old: Cache, new: Cache) -> None:
        self._old = old
        self._new = new
        self.changed: dict[str, Entry] = {}
        """What has come or changed since it was looked at last."""
        self.counterparts: set[str] = set()
        """Ids in the new one."""

    def note(self, entry: Entry) -> None:
        """See `Entries.watch`."""
        self.changed[entry.id] = entry

    async def all(self) -> None:
        """Once over all; lets others run in between. Raises Unavailable."""
        await self._each(_entries(self._old))

    async def catch_up(self) -> None:
        """What has changed so far; lets others run in between. Raises Unavailable."""
        changed, self.changed = self.changed, {}
        await self._each(changed.values())

    def rest(self) -> list[Entry]:
        """What has changed since, in one step; returns what has to be fetched before."""
        changed, self.changed = self.changed, {}
        return [entry for entry in changed.values() if not self._take(entry)]

    async def fetch(self, entries: Iterable[Entry]) -> None:
        """Take entries over with their answers' bodies; what is gone by then is left out. Raises Unavailable."""
        for entry in entries:
            whole = await self._old.bodies.whole(entry)
            if whole is not None:
                self._take(whole)

    async def _each(self, entries: Iterable[Entry]) -> None:
        for number, entry in enumerate(entries, start=1):
            if not self._take(entry):
                await self.fetch([entry])
            if number % STEP == 0:
                await asyncio.sleep(0)

    def _take(self, entry: Entry) -> bool:
        """Whether the new one has it now, or is not to have it; False: its answer's body is in the store only."""
        if not self._old.entries.current(entry):  # it is gone by now, or another is in its place
            return True
        moved = readdressed(entry, self._old.addresses, self._new.addresses)
        if moved is None:
            return True
        self.counterparts.add(moved[0].id)
        known = self._new.entries.find(entry.tenant, entry.namespace, moved[0].id)
        if known is None or known.ver < entry.ver:
            if not entry.whole:
                return False
            self._new.carry(moved[0])
        return True


def _entries(cache: Cache) -> Iterator[Entry]:
    for bucket in cache.entries.all_buckets():
        yield from list(bucket.entries.values())


async def _bury(old: Side, new: Side, counterparts: set[str]) -> None:
    """Forget what the new one has and the old one has deleted; the old one may also have lacked the room for it."""
    alone = [entry for entry in _entries(new.cache) if entry.id not in counterparts]
    for start in range(0, len(alone), READ):
        asked: dict[str, Entry] = {}
        for entry in alone[start : start + READ]:
            back = readdressed(entry, new.cache.addresses, old.cache.addresses)
            if back is not None:
                asked[back[0].id] = entry
        graves = [
            replace(one, id=asked[one.id].id)
            for one in await old.store.read(list(asked))
            if isinstance(one, Tombstone) and one.ver > asked[one.id].ver
        ]
        if graves:
            await new.store.save(graves)
        for grave in graves:
            new.cache.entries.bury(grave)
