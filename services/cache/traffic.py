"""What a tenant's lookups were like over time, and which entries answered most of them; in bounded memory."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field

from services.cache.entry import Entry
from services.cache.values import LookupResult, Outcome

HOUR = 3_600
"""Seconds."""

MAX_HOURS = 7 * 24

MAX_COUNTERS = 128
"""Entries of a tenant that are counted at once, some 200 bytes each."""

MAX_TENANTS = 1_000
"""Beyond that the tenant that was quiet longest begins anew."""

_HITS = frozenset({Outcome.EXACT, Outcome.SEMANTIC, Outcome.STALE})


@dataclass(slots=True)
class Hour:
    """Lookups of one hour, from `start` (Unix seconds) on."""

    start: int
    hits: int = 0
    misses: int = 0
    bypasses: int = 0
    nano_usd: int = 0
    """Money that hits did not spend again."""

    def count(self, result: LookupResult) -> None:
        """Count one lookup."""
        if result.outcome in _HITS:
            self.hits += 1
            self.nano_usd += result.entry.answer.cost.nano_usd if result.entry else 0
        elif result.outcome is Outcome.MISS:
            self.misses += 1
        else:
            self.bypasses += 1


@dataclass(slots=True)
class Counter:
    """Hits of one entry: at most `hits`, at least `hits - surplus`."""

    namespace: str
    entry_id: str
    hits: int
    surplus: int

    @property
    def least(self) -> int:
        """Hits that it surely had."""
        return self.hits - self.surplus


@dataclass(slots=True)
class _Tenant:
    hours: OrderedDict[int, Hour] = field(default_factory=OrderedDict)
    counters: dict[tuple[str, str], Counter] = field(default_factory=dict)
    floor: int = 0
    """No counter has less; it never falls, so that a place is nearly always found at once."""

    def served(self, entry: Entry) -> None:
        """Space-Saving (Metwally, Agrawal, El Abbadi, 2005): a new one takes the place, and the count, of the least."""
        key = entry.namespace, entry.id
        counter = self.counters.get(key)
        if counter is not None:
            counter.hits += 1
            return
        surplus = self.counters.pop(self._least()).hits if len(self.counters) >= MAX_COUNTERS else 0
        self.counters[key] = Counter(*key, surplus + 1, surplus)

    def _least(self) -> tuple[str, str]:
        found = next((key for key, counter in self.counters.items() if counter.hits <= self.floor), None)
        if found is None:
            found = min(self.counters, key=lambda key: self.counters[key].hits)
            self.floor = self.counters[found].hits
        return found


class Traffic:
    """Counts each lookup once."""

    def __init__(self) -> None:
        self._tenants: OrderedDict[str, _Tenant] = OrderedDict()
        """Those that were counted last stand last."""

    def count(self, tenant: str, result: LookupResult, at: float) -> None:
        """Count one lookup of this time, Unix seconds, never less than before."""
        kept = self._tenants.get(tenant)
        if kept is None:
            kept = self._tenants[tenant] = _Tenant()
            if len(self._tenants) > MAX_TENANTS:
                self._tenants.popitem(last=False)
        self._tenants.move_to_end(tenant)
        start = int(at) // HOUR * HOUR
        hour = kept.hours.get(start)
        if hour is None:
            hour = kept.hours[start] = Hour(start)
            if len(kept.hours) > MAX_HOURS:
                kept.hours.popitem(last=False)
        hour.count(result)
        if result.entry is not None:
            kept.served(result.entry)

    def hours(self, tenant: str) -> list[Hour]:
        """The hours in which something was looked up, the last week's at most."""
        kept = self._tenants.get(tenant)
        return list(kept.hours.values()) if kept else []

    def most_served(self, tenant: str) -> list[Counter]:
        """The entries that surely had most hits, most first."""
        kept = self._tenants.get(tenant)
        found = [counter for counter in kept.counters.values() if counter.least] if kept else []
        return sorted(found, key=lambda counter: (-counter.least, counter.namespace, counter.entry_id))
