"""What has happened, by tenant and namespace: counts in bounded memory, whoever asks and however often."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from services.cache.entry import Entry
from services.cache.learning.audited import Audited
from services.cache.learning.budget import Budget
from services.cache.room import Eviction, Victim
from services.cache.tally import Tally, looked_up, shared
from services.cache.traffic import Hour, Traffic
from services.cache.values import Fetch, LookupResult
from services.chassis.batched import Batch

MAX_NAMESPACES = 1_000
"""Of one tenant with counts of their own; callers choose the names, so later ones are counted for the tenant only."""

MAX_TALLIES = 20_000
"""Of all tenants and namespaces, 1 to 12 kB each; beyond that the tenant that was quiet longest begins anew."""


@dataclass(slots=True)
class _Tenant:
    whole: Tally
    namespaces: dict[str, Tally] = field(default_factory=dict)

    @property
    def tallies(self) -> int:
        return 1 + len(self.namespaces)


class Stats:
    """The tallies of all tenants; each is counted for its tenant and, within the limits, for its namespace."""

    def __init__(self, now: Callable[[], float]) -> None:
        """`now`: Unix seconds."""
        self._now = now
        self._started = now()
        self._tenants: OrderedDict[str, _Tenant] = OrderedDict()
        """Those that were counted last stand last."""
        self._tallies = 0
        self._given_up = False
        self.evictions: Counter[Eviction] = Counter()
        """Of all tenants."""
        self.fetches: Counter[Fetch] = Counter()
        """Of all tenants."""
        self._traffic = Traffic()
        self._looked_up: Batch[tuple[str, str, LookupResult, float, float]] = Batch(self._count)

    def __len__(self) -> int:
        """Tallies that are kept."""
        self._looked_up.flush()
        return self._tallies

    @property
    def traffic(self) -> Traffic:
        """Lookups by hour, and what was served most."""
        self._looked_up.flush()
        return self._traffic

    def count(self, tenant: str, namespace: str, result: LookupResult, seconds: float) -> None:
        """Count one lookup that took so long."""
        self._looked_up.add((tenant, namespace, result, seconds, self._now()))

    def _count(self, lookups: Sequence[tuple[str, str, LookupResult, float, float]]) -> None:
        for tenant, namespace, result, seconds, at in lookups:
            self._traffic.count(tenant, result, at)
            growth = looked_up(result, seconds)
            for tally in self._of(tenant, namespace, at):
                tally.grow(growth)

    def shared(self, tenant: str, namespace: str, result: LookupResult) -> None:
        """Count an answer that a question waited for which was in flight for another one."""
        growth = shared(result)
        for tally in self._of(tenant, namespace):
            tally.grow(growth)

    def compared(self, tenant: str, namespace: str, source: str, agreed: bool | None) -> None:
        """Two answers were compared; None: an audit was asked for."""
        for tally in self._of(tenant, namespace):
            if agreed is None:
                tally.audits_asked += 1
            else:
                tally.compared[source, agreed] += 1

    def evicted(self, victim: Victim) -> None:
        """An entry was removed for lack of room."""
        self.evictions[victim.reason] += 1
        for tally in self._of(victim.entry.tenant, victim.entry.namespace):
            tally.evictions[victim.reason] += 1

    def fetched(self, entry: Entry, how: Fetch) -> None:
        """An answer's body was fetched from the store, or could not be."""
        self.fetches[how] += 1
        for tally in self._of(entry.tenant, entry.namespace):
            tally.fetches[how] += 1

    def gave_up(self, entry: Entry) -> None:
        """An entry stays in memory only: too many were waiting for the store."""
        for tally in self._of(entry.tenant, entry.namespace):
            tally.writes_given_up += 1

    def of(self, tenant: str, namespace: str | None) -> Tally:
        """The counts of one namespace, or of all of a tenant together."""
        self._looked_up.flush()
        kept = self._tenants.get(tenant)
        if kept is None:
            return Tally(self._now() if self._given_up else self._started)
        if namespace is None:
            return kept.whole
        return kept.namespaces.get(namespace) or Tally(kept.whole.since)

    def _of(self, tenant: str, namespace: str, at: float | None = None) -> Iterator[Tally]:
        """The tallies that something counts in which happened at `at`, or now."""
        kept = self._tenants.get(tenant)
        if kept is None:
            # A tenant that was counted before and given up since is not told from a new one.
            begun = self._started if not self._given_up else self._now() if at is None else at
            kept = self._tenants[tenant] = _Tenant(Tally(begun))
            self._tallies += 1
        self._tenants.move_to_end(tenant)
        yield kept.whole
        tally = kept.namespaces.get(namespace)
        if tally is None and len(kept.namespaces) < MAX_NAMESPACES:
            tally = kept.namespaces[namespace] = Tally(kept.whole.since)
            self._tallies += 1
        if tally is not None:
            yield tally
        while self._tallies > MAX_TALLIES:
            _, quiet = self._tenants.popitem(last=False)
            self._tallies -= quiet.tallies
            self._given_up = True


@dataclass(frozen=True, slots=True)
class Learning:
    """What is learned in one namespace, or in all of a tenant's that are in memory. Bars only of one namespace."""

    namespaces: int = 0
    alarms: int = 0
    budget: Budget | None = None
    threshold: float | None = None
    score_threshold: float | None = None
    audited: Audited | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """What `GetStats` tells of one tenant or namespace: sizes now, and counts."""

    entries_total: int
    entries_valid: int
    entries_expired: int
    entries_quarantined: int
    bytes: int
    tally: Tally
    writes_not_stored: int
    store_healthy: bool
    embedder: str
    embeddings_waiting: int
    """Entries that only their own words find yet."""
    hot_bytes: int
    """Of memory, of answers' bodies that may leave it."""
    hours: list[Hour]
    learning: Learning = Learning()
