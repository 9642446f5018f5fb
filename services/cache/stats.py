"""What has happened since the start, by tenant and namespace."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from services.cache.fill_values import Granted, InProgress
from services.cache.values import LookupResult, Outcome
from services.llm.values import Cost, Usage

MAX_NAMESPACES = 10_000
"""With counts of their own; callers choose the names, so what comes after is counted for the tenant only."""

_REST = ""
"""Namespaces beyond that; no namespace has this name."""


@dataclass(slots=True)
class Tally:
    """Counts of one namespace."""

    outcomes: Counter[Outcome] = field(default_factory=Counter)
    fills_granted: int = 0
    fills_in_progress: int = 0
    vetoes: Counter[str] = field(default_factory=Counter)
    usage: Counter[str] = field(default_factory=Counter)
    estimated: bool = False
    nano_usd: int = 0
    price_versions: set[str] = field(default_factory=set)

    def count(self, result: LookupResult) -> None:
        """Count one lookup."""
        self.outcomes[result.outcome] += 1
        self.vetoes.update(result.decision.vetoes if result.entry is None else ())
        self.fills_granted += isinstance(result.fill, Granted)
        self.fills_in_progress += isinstance(result.fill, InProgress)
        if result.entry is not None:
            answer = result.entry.answer
            self.usage.update(
                input=answer.usage.input,
                cached_input=answer.usage.cached_input,
                cache_write_input=answer.usage.cache_write_input,
                output=answer.usage.output,
                reasoning=answer.usage.reasoning,
            )
            self.estimated |= answer.usage.estimated
            self.nano_usd += answer.cost.nano_usd
            if answer.cost.price_version and len(self.price_versions) < 2:
                self.price_versions.add(answer.cost.price_version)

    def add(self, other: Tally) -> None:
        """Add the counts of another."""
        self.outcomes.update(other.outcomes)
        self.fills_granted += other.fills_granted
        self.fills_in_progress += other.fills_in_progress
        self.vetoes.update(other.vetoes)
        self.usage.update(other.usage)
        self.estimated |= other.estimated
        self.nano_usd += other.nano_usd
        self.price_versions |= other.price_versions

    @property
    def usage_saved(self) -> Usage:
        """Tokens that hits did not buy again."""
        return Usage(**self.usage, estimated=self.estimated)

    @property
    def cost_saved(self) -> Cost:
        """Money that hits did not spend again; without a price version if there were several."""
        versions = self.price_versions
        return Cost(self.nano_usd, next(iter(versions)) if len(versions) == 1 else "")


class Stats:
    """The tallies of all namespaces."""

    def __init__(self) -> None:
        self._tallies: dict[tuple[str, str], Tally] = {}

    def count(self, tenant: str, namespace: str, result: LookupResult) -> None:
        """Count one lookup."""
        key = tenant, namespace
        tally = self._tallies.get(key)
        if tally is None:
            if len(self._tallies) >= MAX_NAMESPACES:
                key = tenant, _REST
            tally = self._tallies.setdefault(key, Tally())
        tally.count(result)

    def of(self, tenant: str, namespace: str | None) -> Tally:
        """The counts of one namespace, or of all of a tenant together."""
        if namespace is not None:
            return self._tallies.get((tenant, namespace)) or Tally()
        return _sum(tally for (owner, _), tally in self._tallies.items() if owner == tenant)

    def total(self) -> Tally:
        """The counts of everything."""
        return _sum(self._tallies.values())


def _sum(tallies: Iterable[Tally]) -> Tally:
    total = Tally()
    for tally in tallies:
        total.add(tally)
    return total


@dataclass(frozen=True, slots=True)
class Report:
    """What `GetStats` tells: sizes now, counts since `started_at` (Unix seconds)."""

    entries_total: int
    entries_valid: int
    bytes: int
    evictions: int
    tally: Tally
    store_healthy: bool
    embedder: str
    started_at: float
    writes_not_stored: int
