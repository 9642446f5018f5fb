"""From one cache's memory into the other's, just before that one answers: what the stores do not tell yet.

The new cache has read its collection. What has been stored, said and deleted since the move of it went by is taken over
here, so that whoever stored or deleted something finds it so after the change.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import replace

from services.cache.cache import Cache
from services.cache.entry import Entry
from services.cache.ports import EpochStore, Tombstone
from services.cache.rotation.readdress import readdressed
from services.cache.rotation.sides import Side
from services.chassis.errors import Reason, Unavailable

STEP = 50
"""Entries that are looked at before others may run: about 2 ms."""

READ = 200
"""Records that are read at once."""


async def hand_over(old: Side, new: Side, epochs: EpochStore, change: Callable[[], None]) -> None:
    """Make `new` know what `old` does, then `change`; nothing may be deleted meanwhile (`Sides.changing`).

    Raises Unavailable; nothing has changed then.
    """
    if old.cache.writer.failing or old.cache.writer.backlog.waiting:
        raise Unavailable("deletes wait for the store", reason=Reason.STORE_UNAVAILABLE)
    await new.cache.recovery.apply(await epochs.load())
    counterparts: set[str] = set()
    seen = old.cache.entries.last_ver
    for number, entry in enumerate(_entries(old.cache), start=1):
        _carry(entry, old.cache, new.cache, counterparts)
        if number % STEP == 0:
            await asyncio.sleep(0)
    await _bury(old, new, counterparts)
    # What came during all that; from here on nothing waits.
    for entry in _entries(old.cache):
        if entry.ver > seen:
            _carry(entry, old.cache, new.cache, counterparts)
    change()


def _entries(cache: Cache) -> Iterator[Entry]:
    for bucket in cache.entries.all_buckets():
        yield from list(bucket.entries.values())


def _carry(entry: Entry, old: Cache, new: Cache, counterparts: set[str]) -> None:
    moved = readdressed(entry, old.addresses, new.addresses)
    if moved is None:
        return
    counterparts.add(moved[0].id)
    known = new.entries.find(entry.tenant, entry.namespace, moved[0].id)
    if known is None or known.ver < entry.ver:
        new.carry(moved[0])


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
