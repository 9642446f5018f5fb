"""Counts of one namespace or tenant: numbers by key, of which most namespaces have few.

What a lookup adds is worked out once, for all the tallies that it counts in.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from services.cache.fill_values import Granted
from services.cache.histogram import LATENCY_BOUNDS, P_WRONG_BOUNDS, SIMILARITY_BOUNDS, Buckets
from services.cache.room import Eviction
from services.cache.values import BypassReason, Fetch, LookupResult, Outcome
from services.chassis.value import value
from services.llm.values import Cost, Usage

_OUTCOMES = {outcome: object() for outcome in Outcome}
_LATENCIES = {outcome: Buckets(LATENCY_BOUNDS) for outcome in Outcome}
_SIMILAR_HITS, _SIMILAR_MISSES = Buckets(SIMILARITY_BOUNDS), Buckets(SIMILARITY_BOUNDS)
_P_WRONG_HITS, _P_WRONG_MISSES = Buckets(P_WRONG_BOUNDS), Buckets(P_WRONG_BOUNDS)
_GRANTED, _IN_PROGRESS, _JOINED, _SHARED, _NEAR_MISSES = (object() for _ in range(5))
_INPUT, _OUTPUT, _CACHED, _CACHE_WRITES, _REASONING, _ESTIMATED, _NANO_USD = (object() for _ in range(7))


@value
class Growth:
    """What one lookup adds to a tally."""

    keys: list[object]
    """Of numbers that grow by one."""
    sums: list[tuple[object, int]]
    """Others, and by how much they grow."""
    outcome: Outcome | None = None
    """With the `seconds` that the lookup took."""
    seconds: float = 0.0
    bypass_reason: BypassReason | None = None
    vetoes: Sequence[str] = ()
    price_version: str = ""


def looked_up(result: LookupResult, seconds: float) -> Growth:
    """What a lookup adds that took so long."""
    outcome = result.outcome
    keys: list[object] = [_OUTCOMES[outcome], _LATENCIES[outcome].key(seconds)]
    fill = result.fill
    if fill is not None:
        if isinstance(fill, Granted):
            keys.append(_GRANTED)
        else:
            keys.append(_IN_PROGRESS)
            if fill.near:
                keys.append(_JOINED)
    _compare(result, keys)
    if result.entry is not None:
        sums = _saved(result)
        return Growth(keys, sums, outcome, seconds, price_version=result.entry.answer.cost.price_version)
    if result.near_miss:
        keys.append(_NEAR_MISSES)
    return Growth(keys, [], outcome, seconds, result.bypass_reason, result.decision.vetoes)


def shared(result: LookupResult) -> Growth:
    """What an answer adds that a question waited for which was in flight for another one."""
    keys: list[object] = [_SHARED]
    _compare(result, keys)
    version = "" if result.entry is None else result.entry.answer.cost.price_version
    return Growth(keys, _saved(result), price_version=version)


def _compare(result: LookupResult, keys: list[object]) -> None:
    hit, nearest, p_wrong = result.entry is not None, result.nearest, result.decision.p_wrong
    if p_wrong is not None:
        keys.append((_P_WRONG_HITS if hit else _P_WRONG_MISSES).key(p_wrong))
    if nearest is not None:
        keys.append((_SIMILAR_HITS if hit else _SIMILAR_MISSES).key(nearest))


def _saved(result: LookupResult) -> list[tuple[object, int]]:
    if result.entry is None:
        return []
    usage, nano_usd = result.entry.answer.usage, result.entry.answer.cost.nano_usd
    sums: list[tuple[object, int]] = [(_INPUT, usage.input), (_OUTPUT, usage.output)]
    if nano_usd:
        sums.append((_NANO_USD, nano_usd))
    if usage.cached_input:
        sums.append((_CACHED, usage.cached_input))
    if usage.cache_write_input:
        sums.append((_CACHE_WRITES, usage.cache_write_input))
    if usage.reasoning:
        sums.append((_REASONING, usage.reasoning))
    if usage.estimated:
        sums.append((_ESTIMATED, 1))
    return sums


@dataclass(slots=True)
class Tally:
    """Counts of one namespace, or of a tenant with all of its namespaces."""

    since: float
    """Unix seconds."""
    bypasses: Counter[BypassReason] = field(default_factory=Counter)
    vetoes: Counter[str] = field(default_factory=Counter)
    price_versions: set[str] = field(default_factory=set)
    evictions: Counter[Eviction] = field(default_factory=Counter)
    writes_given_up: int = 0
    audits_asked: int = 0
    fetches: Counter[Fetch] = field(default_factory=Counter)
    compared: Counter[tuple[str, bool]] = field(default_factory=Counter)
    """Answers that were compared, by what for (`free`, `audit`) and whether they agreed."""
    seconds: dict[Outcome, float] = field(default_factory=dict)
    """That lookups took, by outcome."""
    _numbers: dict[object, int] = field(default_factory=dict)

    def grow(self, by: Growth) -> None:
        """Count a lookup."""
        numbers = self._numbers
        for key in by.keys:
            numbers[key] = numbers.get(key, 0) + 1
        for key, more in by.sums:
            numbers[key] = numbers.get(key, 0) + more
        if by.outcome is not None:
            self.seconds[by.outcome] = self.seconds.get(by.outcome, 0.0) + by.seconds
        if by.price_version and len(self.price_versions) < 2:
            self.price_versions.add(by.price_version)
        if by.bypass_reason is not None:
            self.bypasses[by.bypass_reason] += 1
        for veto in by.vetoes:
            self.vetoes[veto] += 1

    @property
    def outcomes(self) -> Counter[Outcome]:
        """Lookups by outcome."""
        numbers = self._numbers
        return Counter({outcome: numbers[key] for outcome, key in _OUTCOMES.items() if key in numbers})

    @property
    def fills_granted(self) -> int:
        """Rights to make an answer."""
        return self._numbers.get(_GRANTED, 0)

    @property
    def fills_in_progress(self) -> int:
        """Lookups whose answer was being made."""
        return self._numbers.get(_IN_PROGRESS, 0)

    @property
    def fills_joined(self) -> int:
        """Of those in progress: of another question, whose answer will do."""
        return self._numbers.get(_JOINED, 0)

    @property
    def fills_shared(self) -> int:
        """Answers that came in this way; their tokens and money are saved, too."""
        return self._numbers.get(_SHARED, 0)

    @property
    def near_misses(self) -> int:
        """Misses whose nearest entry reached the cosine."""
        return self._numbers.get(_NEAR_MISSES, 0)

    @property
    def similar_hits(self) -> list[int]:
        """Semantic hits by bucket of `SIMILARITY_BOUNDS`."""
        return _SIMILAR_HITS.counts(self._numbers)

    @property
    def similar_misses(self) -> list[int]:
        """Misses by bucket of `SIMILARITY_BOUNDS`."""
        return _SIMILAR_MISSES.counts(self._numbers)

    @property
    def p_wrong_hits(self) -> list[int]:
        """Semantic hits by bucket of `P_WRONG_BOUNDS`."""
        return _P_WRONG_HITS.counts(self._numbers)

    @property
    def p_wrong_misses(self) -> list[int]:
        """Misses by bucket of `P_WRONG_BOUNDS`."""
        return _P_WRONG_MISSES.counts(self._numbers)

    def latencies(self, outcome: Outcome) -> list[int]:
        """Lookups with this outcome by bucket of `LATENCY_BOUNDS`."""
        return _LATENCIES[outcome].counts(self._numbers)

    @property
    def usage_saved(self) -> Usage:
        """Tokens that hits did not buy again."""
        numbers = self._numbers
        return Usage(
            input=numbers.get(_INPUT, 0),
            output=numbers.get(_OUTPUT, 0),
            cached_input=numbers.get(_CACHED, 0),
            cache_write_input=numbers.get(_CACHE_WRITES, 0),
            reasoning=numbers.get(_REASONING, 0),
            estimated=_ESTIMATED in numbers,
        )

    @property
    def cost_saved(self) -> Cost:
        """Money that hits did not spend again; without a price version if there were several."""
        versions = self.price_versions
        return Cost(self._numbers.get(_NANO_USD, 0), next(iter(versions)) if len(versions) == 1 else "")
