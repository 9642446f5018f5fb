"""Everything that is stored, in memory: entries by namespace, and their vectors in the similarity index.

For one event loop. An entry is visible from the moment `put` returns.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from itertools import count

import numpy as np
from numpy.typing import NDArray

from services.cache.bucket import Bucket, Group
from services.cache.decision import Candidate
from services.cache.entry import Entry
from services.cache.hot import ALL_HOT, Hot
from services.cache.pool import Slot
from services.cache.ports import Tombstone
from services.cache.room import Room, Victim
from services.cache.scope import Address
from services.cache.similarity import Similarity, Wanted
from services.cache.values import Vector
from services.chassis.value import value
from simcore import MISSING_ID

STEP = 1_000
"""Entries that a long walk handles before it lets others run: about 1 ms."""


APART = 64
"""Versions between two answers where the wall clock does not tell them apart."""

Rows = dict[int, Vector]
"""Vectors by their row in the index."""


@value
class Sought:
    """At most `most` entries of the question's scope whose cosine to `vector` is at least `least`."""

    address: Address
    vector: Vector
    most: int
    least: float


class Entries:
    """The memory of one cache server."""

    def __init__(self, dim: int, *, room: Room, threads: int, executor: Executor, hot_bytes: int = ALL_HOT) -> None:
        """`dim`: of vectors; `threads`: that one large search may use; `executor`: where large searches run.

        `hot_bytes`: of memory, for the bodies of answers that the store has.
        """
        self.similarity = Similarity(dim, threads=threads, executor=executor, seconds=time.thread_time)
        self.room = room
        self.hot = Hot(hot_bytes, self.bucket)
        self._buckets: dict[tuple[str, str], Bucket] = {}
        self._namespaces: dict[str, dict[str, None]] = {}
        """Those of each tenant in `_buckets`."""
        self._by_row: dict[int, Slot] = {}
        self._next_row = count()
        self._next_group = count()
        self._free_groups: list[int] = []
        self._cleared: list[Bucket] = []
        """Namespaces from before a clear that only an entry from after it has told of; to be dismantled."""
        self.quarantined = 0
        """Visible entries that are quarantined."""
        self.last_ver = 0
        """The largest `ver` seen."""
        self.watch: Callable[[Entry], None] | None = None
        """Hears of every entry that comes, and of every change of one."""

    def __len__(self) -> int:
        """Visible entries, expired ones included."""
        return self.room.entries

    def epoch(self, tenant: str, namespace: str) -> int:
        """The namespace's epoch as far as this process knows."""
        bucket = self._buckets.get((tenant, namespace))
        return bucket.epoch if bucket else 0

    def get(self, address: Address) -> Entry | None:
        """The entry stored for exactly this question."""
        bucket = self._buckets.get((address.tenant, address.namespace))
        return bucket.entries.get(address.entry_id) if bucket else None

    def find(self, tenant: str, namespace: str, entry_id: str) -> Entry | None:
        """The entry with this id in this namespace."""
        bucket = self._buckets.get((tenant, namespace))
        return bucket.entries.get(entry_id) if bucket else None

    def find_any(self, tenant: str, entry_id: str) -> Entry | None:
        """The entry with this id in whichever namespace of the tenant."""
        found = (bucket.entries.get(entry_id) for bucket in self.buckets(tenant))
        return next((entry for entry in found if entry is not None), None)

    def current(self, entry: Entry) -> bool:
        """Whether this very entry is still visible, with or without its answer's body."""
        known = self.find(entry.tenant, entry.namespace, entry.id)
        return known is not None and known.ver == entry.ver

    def buckets(self, tenant: str) -> list[Bucket]:
        """The namespaces of one tenant."""
        return [self._buckets[tenant, namespace] for namespace in self._namespaces.get(tenant, ())]

    def all_buckets(self) -> list[Bucket]:
        """The namespaces of all tenants."""
        return list(self._buckets.values())

    def bucket(self, tenant: str, namespace: str) -> Bucket | None:
        """One namespace."""
        return self._buckets.get((tenant, namespace))

    def put(self, entry: Entry, vector: Vector | None) -> bool:
        """Store a new entry in an older one's place; False if a newer one is there or its namespace was cleared."""
        if not self.put_many([(entry, vector)])[0]:
            return False
        self.room.stored(self._buckets[entry.tenant, entry.namespace].slots[entry.id])
        return True

    def hit(self, entry: Entry) -> None:
        """Count that an entry was served; nothing is written for it."""
        bucket = self._buckets.get((entry.tenant, entry.namespace))
        slot = bucket.slots.get(entry.id) if bucket else None
        if slot is not None:
            self.room.hit(slot)
            self.hot.touch(slot)

    def put_many(self, batch: Sequence[tuple[Entry, Vector | None]]) -> list[bool]:
        """As `put`, many at once and with one change of the index, of what was stored before."""
        stored, rows = self.take_many(batch)
        self.index(rows)
        return stored

    def take_many(self, batch: Sequence[tuple[Entry, Vector | None]]) -> tuple[list[bool], Rows]:
        """As `put_many`, but for the index, which has to be given the rows by `index` or `index_beside`."""
        self._heed_epochs(entry for entry, _ in batch)
        vectors: Rows = {}
        stored = []
        for entry, vector in batch:
            taken = self._take(entry, with_row=vector is not None)
            stored.append(taken)
            if taken and vector is not None:
                vectors[self._buckets[entry.tenant, entry.namespace].slots[entry.id].row] = vector
        return stored, vectors

    def index(self, rows: Rows) -> None:
        """Let what is similar be found among these rows, but for those that are gone again."""
        if there := self._there(rows):
            self.similarity.upsert(*self._indexed(there))

    async def index_beside(self, rows: Rows) -> None:
        """As `index`, on a thread: it is a fifth of what a start does."""
        if there := self._there(rows):
            await self.similarity.upsert_beside(*self._indexed(there))
            # The index did not have them when they went meanwhile.
            self.similarity.remove([row for row in there if row not in self._by_row])

    def next_ver(self, now_us: int) -> int:
        """A version behind every one that was seen, wherever the wall clock stands, and that nobody else gets.

        Nor one that an answer seen here gets where it is written again; see `WRITTEN_AGAIN`.
        """
        self.last_ver = max(now_us, self.last_ver + APART)
        return self.last_ver

    def amend(self, entry: Entry) -> bool:
        """Put an entry in the place of an older version of itself, the same answer to the same question.

        False if that is not there any more. Its vector stays as it is, and so does where its answer's body is.
        """
        before = self.find(entry.tenant, entry.namespace, entry.id)
        if before is None or before.ver >= entry.ver or before.epoch != entry.epoch:
            return False
        bucket = self._buckets[entry.tenant, entry.namespace]
        bucket.entries[entry.id] = entry = replace(entry, answer=before.answer)
        self._count_quarantined(bucket, (entry.review.quarantine is not None) - (before.review.quarantine is not None))
        slot = bucket.slots[entry.id]
        slot.entry = entry
        if entry.expires_us != before.expires_us:
            self.room.note_end(slot, entry.expires_us)
        if self.watch is not None:
            self.watch(entry)
        return True

    def bury(self, tombstone: Tombstone) -> bool:
        """Forget what another replica has deleted; whether there was something to forget."""
        self.last_ver = max(self.last_ver, tombstone.ver)
        entry = self.find(tombstone.tenant, tombstone.namespace, tombstone.id)
        return entry is not None and entry.ver < tombstone.ver and self.remove(entry)

    def remove(self, entry: Entry) -> bool:
        """Forget an entry; False if it is not the visible one any more."""
        if not self.current(entry):
            return False
        bucket = self._buckets[entry.tenant, entry.namespace]
        self._drop(bucket, entry)
        if not bucket.entries and bucket.epoch == 0:  # an epoch has to be remembered
            del self._buckets[entry.tenant, entry.namespace]
            bucket.pool.dissolve()
            namespaces = self._namespaces[entry.tenant]
            del namespaces[entry.namespace]
            if not namespaces:
                del self._namespaces[entry.tenant]
                self.room.forget(entry.tenant)
        return True

    async def nearest(
        self, sought: Sequence[Sought], now: float, *, until: float | None = None
    ) -> list[list[Candidate]]:
        """For each the entries of its scope that are most similar, best first, none expired at `now`.

        One search of the index for all; `until` as for `Similarity.search`. Raises TimeoutError, simcore.IndexPoisoned.
        """
        found: list[list[Candidate]] = [[] for _ in sought]
        groups = [(place, group) for place, one in enumerate(sought) if (group := self._group(one.address))]
        if not groups:
            return found
        wanted = [Wanted(group, sought[place].vector, sought[place].most) for place, group in groups]
        least = min(sought[place].least for place, _ in groups)
        searched = await self.similarity.search(wanted, least=least, now=now, until=until)
        for (place, _), rows, scores in zip(groups, *searched, strict=True):
            found[place] = self._candidates(sought[place], rows, scores)
        return found

    def nearest_at_once(self, sought: Sought, now: float) -> list[Candidate] | None:
        """As `nearest`, for one question; None if the search would take too long on the event loop."""
        group = self._group(sought.address)
        if group is None:
            return []
        wanted = Wanted(group, sought.vector, sought.most)
        searched = self.similarity.search_at_once([wanted], least=sought.least, now=now)
        return None if searched is None else self._candidates(sought, searched[0][0], searched[1][0])

    def has_vector(self, tenant: str, namespace: str, entry_id: str) -> bool:
        """Whether reworded questions may find the entry."""
        bucket = self._buckets.get((tenant, namespace))
        slot = bucket.slots.get(entry_id) if bucket else None
        return slot is not None and slot.row in self._by_row

    def rows(self, address: Address) -> int:
        """Vectors in the question's scope."""
        group = self._group(address)
        return group.rows if group else 0

    def raise_epoch(self, tenant: str, namespace: str, epoch: int) -> Bucket | None:
        """Make every entry of an earlier epoch invisible, at once; returns what was there, for `dismantle`."""
        old = self._buckets.get((tenant, namespace))
        if old is not None and old.epoch >= epoch:
            return None
        self._open(tenant, namespace, epoch)
        if old is not None:
            self.room.clear(old.pool)
            self.quarantined -= old.quarantined
        return old

    async def dismantle(self, bucket: Bucket, now: float) -> int:
        """Free what a cleared namespace held, a little at a time; returns how many of its entries were live."""
        live = 0
        for number, entry in enumerate(bucket.entries.values(), start=1):
            live += entry.live(now)
            slot = bucket.slots[entry.id]
            self.hot.leave(slot)
            slot.entry = None
            self._by_row.pop(slot.row, None)
            if number % STEP == 0:
                await asyncio.sleep(0)
        for group in bucket.groups.values():
            self.similarity.remove_group(group.number)
            self._free_groups.append(group.number)
            await asyncio.sleep(0)
        bucket.pool.dissolve()
        bucket.entries, bucket.slots, bucket.groups = {}, {}, {}
        return live

    async def dismantle_cleared(self, now: float) -> None:
        """`dismantle` what entries of later epochs have made invisible."""
        while self._cleared:
            await self.dismantle(self._cleared.pop(), now)

    def pop_expired(self, now_us: int, most: int) -> list[Entry]:
        """Forget at most `most` entries whose time is over, and return them."""
        expired: list[Entry] = []
        while len(expired) < most and (entry := self.room.first_expired(now_us)) is not None:
            self.remove(entry)
            expired.append(entry)
        return expired

    def pop_surplus(self, now_us: int) -> list[Victim]:
        """Forget what has to make room, and return it; see `Room`."""
        victims: list[Victim] = []
        while (victim := self.room.victim(now_us)) is not None:
            self.remove(victim.entry)
            victims.append(victim)
        return victims

    def renew_index(self) -> None:
        """Start an empty index in the place of a broken one; every vector has to be given again (`restore`)."""
        self.similarity.renew()
        self._by_row.clear()
        self._free_groups.clear()
        self.room.drop_vectors([bucket.pool for bucket in self._buckets.values()])
        for bucket in self._buckets.values():
            bucket.groups = {}

    def restore(self, batch: Iterable[tuple[Entry, Vector]]) -> None:
        """Give vectors of stored entries back to the index; what has changed meanwhile is left out."""
        vectors: Rows = {}
        for given, vector in batch:
            bucket = self._buckets.get((given.tenant, given.namespace))
            entry = bucket.entries.get(given.id) if bucket else None
            if bucket is None or entry is None or entry.ver != given.ver:
                continue
            slot = bucket.slots[entry.id]
            if slot.row not in self._by_row:
                vectors[self._add_row(bucket, slot, entry)] = vector
        self.index(vectors)

    def _group(self, address: Address) -> Group | None:
        bucket = self._buckets.get((address.tenant, address.namespace))
        return bucket.groups.get(address.scope) if bucket else None

    def _candidates(self, sought: Sought, rows: list[int], scores: list[float]) -> list[Candidate]:
        """What a search found for one of its questions, where others may have wanted more, or less similar ones."""
        found = []
        for row, score in zip(rows[: sought.most], scores, strict=False):
            if row == MISSING_ID or score < sought.least:
                break
            slot = self._by_row.get(row)
            if slot is not None and slot.entry is not None and self.current(slot.entry):
                found.append(Candidate(slot.entry, score))
        return found

    def _heed_epochs(self, entries: Iterable[Entry]) -> None:
        """An entry of an epoch proves that its namespace was cleared: it may come before anyone tells of the clear."""
        for entry in entries:
            if entry.epoch > self.epoch(entry.tenant, entry.namespace):
                before = self.raise_epoch(entry.tenant, entry.namespace, entry.epoch)
                if before is not None:
                    self._cleared.append(before)

    def _take(self, entry: Entry, *, with_row: bool) -> bool:
        key = entry.tenant, entry.namespace
        bucket = self._buckets.get(key)
        if bucket is None:
            bucket = self._open(*key, 0)
        before = bucket.entries.get(entry.id)
        self.last_ver = max(self.last_ver, entry.ver)
        if entry.epoch < bucket.epoch or (before is not None and before.ver >= entry.ver):
            return False
        past = bucket.slots[entry.id] if before is not None else None
        if before is not None:
            self._drop(bucket, before)
        bucket.entries[entry.id] = entry
        slot = bucket.slots[entry.id] = self.room.enter(entry, bucket.pool, past)
        self._count_quarantined(bucket, entry.review.quarantine is not None)
        if with_row:
            self._add_row(bucket, slot, entry)
        if self.watch is not None:
            self.watch(entry)
        return True

    def _count_quarantined(self, bucket: Bucket, change: int) -> None:
        bucket.quarantined += change
        self.quarantined += change

    def _open(self, tenant: str, namespace: str, epoch: int) -> Bucket:
        bucket = Bucket(tenant, namespace, self.room.namespace(tenant), epoch)
        self._buckets[tenant, namespace] = bucket
        self._namespaces.setdefault(tenant, {})[namespace] = None
        return bucket

    def _add_row(self, bucket: Bucket, slot: Slot, entry: Entry) -> int:
        group = bucket.groups.get(entry.scope)
        if group is None:
            number = self._free_groups.pop() if self._free_groups else next(self._next_group)
            group = bucket.groups[entry.scope] = Group(number)
        group.rows += 1
        slot.row = next(self._next_row)
        self._by_row[slot.row] = slot
        self.room.add_vector(bucket.pool)
        return slot.row

    def _there(self, rows: Rows) -> Rows:
        return {row: vector for row, vector in rows.items() if row in self._by_row}

    def _indexed(self, rows: Rows) -> tuple[NDArray[np.uint64], NDArray[np.float32], list[int], list[float]]:
        entries = [entry for row in rows if (entry := self._by_row[row].entry) is not None]
        return (
            np.fromiter(rows, np.uint64, len(rows)),
            np.stack(list(rows.values())).astype(np.float32, copy=False),
            [self._buckets[entry.tenant, entry.namespace].groups[entry.scope].number for entry in entries],
            [entry.expires_at for entry in entries],
        )

    def _drop(self, bucket: Bucket, entry: Entry) -> None:
        del bucket.entries[entry.id]
        slot = bucket.slots.pop(entry.id)
        self._count_quarantined(bucket, -(entry.review.quarantine is not None))
        row = slot.row if self._by_row.pop(slot.row, None) is not None else None
        self.hot.leave(slot)
        self.room.leave(slot, with_row=row is not None)
        if row is None:
            return
        self.similarity.remove([row])
        group = bucket.groups[entry.scope]
        group.rows -= 1
        if group.rows == 0:
            del bucket.groups[entry.scope]
            self._free_groups.append(group.number)
