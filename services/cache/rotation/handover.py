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
        if not _carry(entry, old.cache, new.cache, counterparts):
            await _fetch(entry, old.cache, new.cache)
        if number % STEP == 0:
            await asyncio.sleep(0)
    await _bury(old, new, counterparts)
    # What came during all that, and while it was fetched; once nothing is left to be fetched nothing waits any more.
    upto = old.cache.entries.last_ver
    while left := _carry_since(seen, old.cache, new.cache, counterparts):
        for entry in left:
            await _fetch(entry, old.cache, new.cache)
        seen, upto = upto, old.cache.entries.last_ver
    change()


def _entries(cache: Cache) -> Iterator[Entry]:
    for bucket in cache.entries.all_buckets():
        yield from list(bucket.entries.values())


def _carry_since(seen: int, old: Cache, new: Cache, counterparts: set[str]) -> list[Entry]:
    """Carry what is newer than this version; returns what has to be fetched before."""
    newer = [entry for entry in _entries(old) if entry.ver > seen]
    return [entry for entry in newer if not _carry(entry, old, new, counterparts)]


def _carry(entry: Entry, old: Cache, new: Cache, counterparts: set[str]) -> bool:
    """Whether the new one has the entry now, or cannot have it; False: its answer's body is in the store only."""
    moved = readdressed(entry, old.addresses, new.addresses)
    if moved is None:
        return True
    counterparts.add(moved[0].id)
    known = new.entries.find(entry.tenant, entry.namespace, moved[0].id)
    if known is None or known.ver < entry.ver:
        if not entry.whole:
            return False
        new.carry(moved[0])
    return True


async def _fetch(entry: Entry, old: Cache, new: Cache) -> None:
    """Carry an entry with its body; one that the store has lost is gone from the old one then. Raises Unavailable."""
    whole = await old.bodies.whole(entry)
    moved = None if whole is None else readdressed(whole, old.addresses, new.addresses)
    if moved is not None:
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
