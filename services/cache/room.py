"""Who has to go when there is no more room: what has expired, else of a few drawn at random the one of least worth.

A namespace and a tenant that reach a limit lose entries of their own, never of others. Where the whole memory is full
the tenant that has most loses one: who has no more than an equal share loses nothing to those who want more.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from services.cache.entry import VECTOR_ELEMENT_BYTES, Entry, text_bytes
from services.cache.pool import Due, Pool, Slot
from services.cache.worth import MEMORY, faded, p_right, reuse, saving

SAMPLE = 16
"""Slots that one victim is chosen from. Redis draws 5 by default and calls 10 close to exact; hyperbolic caching 64."""

WINDOW = 100
"""Of so many entries one, the latest, is not chosen: a newcomer cannot have been hit yet (W-TinyLFU keeps 1 % so)."""

LEAST_MEMORY = 1_000
"""Events after which a hit counts half, in however small a tenant."""


class Eviction(StrEnum):
    """Why an entry had to make room."""

    EXPIRED = "expired"
    """Some limit was reached, and its time was over."""
    ENTRIES = "entries"
    TENANT_ENTRIES = "tenant_entries"
    TENANT_BYTES = "tenant_bytes"
    NAMESPACE_ENTRIES = "namespace_entries"
    NAMESPACE_BYTES = "namespace_bytes"


@dataclass(frozen=True, slots=True)
class Capacity:
    """The most that is kept, in all, of one tenant and of one of its namespaces.

    Bytes are those of questions, answers and vectors.
    """

    entries: int = 1_000_000
    tenant_entries: int = 1 << 62
    tenant_bytes: int = 1 << 62
    namespace_entries: int = 1 << 62
    namespace_bytes: int = 1 << 62


@dataclass(frozen=True, slots=True)
class Victim:
    """An entry that has to go."""

    entry: Entry
    reason: Eviction


class Room:
    """Counts what there is, and chooses. For one event loop."""

    def __init__(
        self,
        capacity: Capacity,
        *,
        dim: int,
        chance: Callable[[], float],
        p_wrong: Callable[[Entry], float] = lambda _: 0.0,
    ) -> None:
        """`dim`: of vectors; `chance`: uniform in [0, 1); `p_wrong`: of an entry's semantic hits, as it was learned."""
        self._capacity = capacity
        self._vector_bytes = dim * VECTOR_ELEMENT_BYTES
        self._chance = chance
        self._p_wrong = p_wrong
        self._tenants: dict[str, Pool] = {}
        self._largest = Pool()
        self._due = Due()
        self._tight: dict[Pool, None] = {}
        """Pools to look at: they may have more than they may have."""
        self._oversized: list[Slot] = []
        """What is too large by itself; others do not go for it."""
        self.entries = 0
        """In all."""

    def namespace(self, tenant: str) -> Pool:
        """A pool for a namespace of this tenant."""
        return Pool(self._tenants.setdefault(tenant, Pool()))

    def bytes(self, pool: Pool) -> int:
        """Of questions, answers and vectors."""
        return pool.texts + pool.vectors * self._vector_bytes

    def enter(self, entry: Entry, home: Pool, before: Slot | None) -> Slot:
        """A slot with the entry; `before`: what was hit under this question so far stays with it."""
        tenant = self._tenant(home)
        slot = Slot(entry, home, text_bytes(entry.question, entry.answer), saving(entry.question, entry.whole_answer))
        slot.since = slot.hit_at = tenant.clock
        if before is not None:
            slot.since, slot.hits, slot.hit_at = before.since, before.hits, before.hit_at
        for pool in (home, tenant):
            pool.enter(slot)
            self._tight[pool] = None
        if slot.bytes + self._vector_bytes > min(self._capacity.tenant_bytes, self._capacity.namespace_bytes):
            self._oversized.append(slot)
        self.entries += 1
        self.note_end(slot, entry.expires_us)
        if tenant.entries > self._largest.entries:
            self._largest = tenant
        return slot

    def note_end(self, slot: Slot, expires_us: int) -> None:
        """The slot's entry ends then."""
        tenant = self._tenant(slot.home)
        slot.home.due.add(slot, expires_us, slot.home.entries)
        tenant.due.add(slot, expires_us, tenant.entries)
        self._due.add(slot, expires_us, self.entries)

    def leave(self, slot: Slot, *, with_row: bool) -> None:
        """The slot's entry is gone."""
        slot.entry = None
        for pool in (slot.home, self._tenant(slot.home)):
            pool.leave(slot)
            pool.vectors -= with_row
        self.entries -= 1

    def clear(self, home: Pool) -> None:
        """A namespace was cleared: its slots are gone."""
        home.cleared = True
        self._tight.pop(home, None)
        self._tenant(home).drop(home)
        self.entries -= home.entries

    def forget(self, tenant: str) -> None:
        """A tenant has no namespaces any more."""
        pool = self._tenants.pop(tenant)
        pool.dissolve()
        self._tight.pop(pool, None)

    def add_vector(self, home: Pool) -> None:
        """A slot has got a row in the index."""
        for pool in (home, self._tenant(home)):
            pool.vectors += 1
            self._tight[pool] = None

    def drop_vectors(self, homes: list[Pool]) -> None:
        """The index is empty."""
        for home in homes:
            home.vectors = 0
        for tenant in self._tenants.values():
            tenant.vectors = 0

    def stored(self, slot: Slot) -> None:
        """An answer has come that nobody had stored before: time goes on."""
        tenant = self._tenant(slot.home)
        tenant.clock += 1
        if not slot.hits:
            slot.since = slot.hit_at = tenant.clock

    def hit(self, slot: Slot) -> None:
        """Count a hit."""
        tenant = self._tenant(slot.home)
        tenant.clock += 1
        slot.hits = 1.0 + faded(slot.hits, tenant.clock - slot.hit_at, _half(tenant))
        slot.hit_at = tenant.clock

    def first_expired(self, now_us: int) -> Entry | None:
        """The entry whose time was over first."""
        return self._due.first(now_us)

    def victim(self, now_us: int) -> Victim | None:
        """Whose turn it is to go, if there is more than may be. It is up to the caller to remove it."""
        while self._oversized:
            slot = self._oversized.pop()
            if slot.entry is not None and not slot.home.cleared:
                of_tenant = self._capacity.tenant_bytes < self._capacity.namespace_bytes
                return Victim(slot.entry, Eviction.TENANT_BYTES if of_tenant else Eviction.NAMESPACE_BYTES)
        while self._tight:
            pool = next(iter(self._tight))
            reason = self._exceeded(pool)
            if reason is not None:
                sized = reason in {Eviction.TENANT_BYTES, Eviction.NAMESPACE_BYTES}
                return self._from(pool, reason, now_us, sized=sized)
            del self._tight[pool]
        if self.entries <= self._capacity.entries:
            return None
        if (expired := self._due.first(now_us)) is not None:
            return Victim(expired, Eviction.EXPIRED)
        # It grows only where `enter` sees it; when it has shrunk below an equal share another one is larger.
        if self._largest.entries * len(self._tenants) < self.entries:
            self._largest = max(self._tenants.values(), key=lambda tenant: tenant.entries)
        return self._from(self._largest, Eviction.ENTRIES, now_us, sized=False)

    def _from(self, pool: Pool, reason: Eviction, now_us: int, *, sized: bool) -> Victim:
        expired = pool.due.first(now_us)
        if expired is not None:
            return Victim(expired, Eviction.EXPIRED)
        tenant = self._tenant(pool)
        drawn = pool.sample(SAMPLE, self._chance)
        newest = tenant.clock - pool.entries // WINDOW
        settled = [one for one in drawn if one[0].since < newest] or drawn
        _, chosen = min(settled, key=lambda one: self._worth(one[0], one[1], tenant, sized=sized))
        return Victim(chosen, reason)

    def _worth(self, slot: Slot, entry: Entry, tenant: Pool, *, sized: bool) -> float:
        now, half = tenant.clock, _half(tenant)
        hits = faded(slot.hits, now - slot.hit_at, half)
        worth = slot.saving * reuse(hits, now - slot.since, half) * p_right(entry.review, self._p_wrong(entry))
        return worth / (slot.bytes + self._vector_bytes) if sized else worth

    def _exceeded(self, pool: Pool) -> Eviction | None:
        capacity = self._capacity
        if pool.tenant is None:
            if pool.entries > capacity.tenant_entries:
                return Eviction.TENANT_ENTRIES
            return Eviction.TENANT_BYTES if self.bytes(pool) > capacity.tenant_bytes else None
        if pool.entries > capacity.namespace_entries:
            return Eviction.NAMESPACE_ENTRIES
        return Eviction.NAMESPACE_BYTES if self.bytes(pool) > capacity.namespace_bytes else None

    @staticmethod
    def _tenant(pool: Pool) -> Pool:
        return pool.tenant or pool


def _half(tenant: Pool) -> float:
    return max(MEMORY * tenant.entries, LEAST_MEMORY)
