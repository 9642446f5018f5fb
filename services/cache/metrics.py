"""What the cache counts for Prometheus. Labels are few and fixed: no namespace, no tenant, no text of callers."""

from __future__ import annotations

import collections
import math
from collections.abc import Callable, Sequence
from functools import cache, partial

from prometheus_client import CollectorRegistry, Counter, Gauge

from services.cache.adapting import Heard
from services.cache.feedback import Verdict
from services.cache.fill_values import Granted, InProgress
from services.cache.flight import WaitResult
from services.cache.histogram import LATENCY_BOUNDS, P_WRONG_BOUNDS, SIMILARITY_BOUNDS
from services.cache.outline import Kept
from services.cache.recovery import Phase
from services.cache.room import Eviction
from services.cache.rotation.plan import Phase as Reembedding
from services.cache.rotation.plan import Plan
from services.cache.rotation.sides import Sides
from services.cache.storable import NotStored
from services.cache.values import CommitResult, Fetch, LookupResult
from services.chassis.batched import Batched
from services.chassis.histograms import Filling, Histograms

Sums = collections.Counter[Counter]
"""By how much each counter grows."""

ABORTS = frozenset({"cancelled", "upstream_error", "truncated", "shutdown"})
"""Reasons that the contract names; others count as `other`."""

EVENTS = ("free_agreed", "free_differed", "dropped", "failed", "refused", "given_up", "alarms")
"""Comparisons of fresh answers with those of the nearest entries, and those that could not be made; states that were
refused when they were read, or not written; drift alarms."""


class CacheMetrics:
    """Counters, and gauges that are read when Prometheus comes."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self._looked_up: Batched[tuple[LookupResult, float]] = Batched(registry, self._count)
        # Each lookup counts in these; finding the labels' child anew costs more than counting.
        self._lookups = cache(
            self._counter("lookups", "Lookups by outcome, a bypass by reason.", "outcome", "reason").labels
        )
        self._seconds = self._observed(
            "lookup_duration_seconds", "Time of a lookup within the server, by outcome.", LATENCY_BOUNDS, "outcome"
        )
        self._similarity = self._observed(
            "similarity",
            "Cosine of what a semantic hit served, or of the nearest entry that was not served, if any was similar.",
            SIMILARITY_BOUNDS,
            "result",
        )
        self._p_wrong = self._observed(
            "p_wrong",
            "Estimated probability of a wrong answer: of what a semantic hit served, or of the nearest judged entry.",
            P_WRONG_BOUNDS,
            "result",
        )
        self._near_misses = self._counter("near_misses", "Misses whose nearest entry reached the cosine.")
        self._audits = self._counter("audits", "Audits of semantic hits: asked, agreed, differed, void.", "event")
        self._audited = Gauge(
            "antiphon_cache_audited_wrong",
            "Wrong semantic hits by audits since the start, and the ends of the 95 % interval; NaN before the first.",
            ["value"],
            registry=registry,
        )
        self._learning = Gauge(
            "antiphon_cache_learning_events",
            "What happened in learning, since the start.",
            ["event"],
            registry=registry,
        )
        self._evictions = Gauge(
            "antiphon_cache_evictions",
            "Entries removed for lack of room, by the limit that was reached; expired: they were over anyway.",
            ["reason"],
            registry=registry,
        )
        self._fetches = Gauge(
            "antiphon_cache_answer_fetches",
            "Answers fetched from the store, since the start; changed: it had another one, failed: down or slow.",
            ["result"],
            registry=registry,
        )
        self._vetoes = cache(self._counter("vetoes", "Nearest entries that were not served.", "reason").labels)
        self._fills = cache(
            self._counter(
                "fills",
                "Fills by what became of them; joined, shared: with another question that means the same.",
                "event",
            ).labels
        )
        self._unstored = self._counter("answers_not_stored", "Committed answers that were not stored.", "reason")
        self._aborts = self._counter("aborts", "Fills that were given up.", "reason")
        self._feedback = self._counter("feedback", "New feedback on entries.", "source", "verdict")
        self._saved_tokens = cache(
            self._counter("tokens_saved", "Tokens that hits did not buy again.", "direction").labels
        )
        self._saved_money = self._counter("nano_usd_saved", "Money that hits did not spend again.")

    def looked_up(self, result: LookupResult, seconds: float) -> None:
        """A lookup was answered after so long."""
        self._looked_up.add((result, seconds))

    def _count(self, looked_up: Sequence[tuple[LookupResult, float]]) -> None:
        sums: Sums = Sums()
        for result, seconds in looked_up:
            self._seconds(result.outcome).observe(seconds)
            self._compared(result)
            sums[self._lookups(result.outcome, result.bypass_reason or "")] += 1
            if isinstance(result.fill, Granted):
                sums[self._fills("granted")] += 1
            elif isinstance(result.fill, InProgress):
                sums[self._fills("joined" if result.fill.near else "in_progress")] += 1
            if result.entry is not None:
                self._save(result.entry.answer, sums)
                continue
            sums[self._near_misses] += result.near_miss
            for veto in result.decision.vetoes:
                sums[self._vetoes(veto)] += 1
        _increase(sums)

    def waited(self, result: WaitResult | LookupResult) -> None:
        """A call that waited for another's fill was answered."""
        if isinstance(result, LookupResult) and result.entry is not None:
            sums = Sums({self._fills("shared"): 1})
            self._compared(result)
            self._save(result.entry.answer, sums)
            _increase(sums)

    def _compared(self, result: LookupResult) -> None:
        told = "miss" if result.entry is None else "hit"
        if result.nearest is not None:
            self._similarity(told).observe(result.nearest)
        if result.decision.p_wrong is not None:
            self._p_wrong(told).observe(result.decision.p_wrong)
        if result.audit_id:
            self._audits.labels("asked").inc()

    def _save(self, answer: Kept, sums: Sums) -> None:
        sums[self._saved_tokens("input")] += answer.usage.input
        sums[self._saved_tokens("output")] += answer.usage.output
        sums[self._saved_money] += answer.cost.nano_usd

    def committed(self, result: CommitResult) -> None:
        """A fill was committed."""
        self._fills("committed").inc()
        if not result.stored:
            self._unstored.labels(NotStored(result.not_stored).value).inc()

    def audited(self, heard: Heard) -> None:
        """The fresh answer of an audit came."""
        self._audits.labels(("agreed" if heard.agrees else "differed") if heard.counted else "void").inc()

    def aborted(self, reason: str) -> None:
        """A fill was given up."""
        self._aborts.labels(reason if reason in ABORTS else "other").inc()

    def heard(self, verdict: Verdict) -> None:
        """Something was said about an entry."""
        said = verdict.feedback
        self._feedback.labels(said.source.value, "right" if said.right else "wrong").inc()

    def watch(self, sides: Sides, plan: Callable[[], Plan | None]) -> None:
        """Show the state of the cache that serves, and of the change of the embedder that `plan` tells of."""
        self._gauge("entries", "Entries in memory, expired ones included.", lambda: len(sides.cache.entries))
        self._gauge(
            "entries_quarantined",
            "Entries in memory that are not served, or only to the question they were stored under.",
            lambda: sides.cache.entries.quarantined,
        )
        self._gauge("fills_active", "Questions whose answer is being made.", lambda: sides.cache.fills.active)
        self._gauge(
            "writes_unsaved",
            "Writes that the store did not take: given up, or waiting for it to come back.",
            lambda: sides.cache.writer.given_up + len(sides.cache.writer.unsaved()),
        )
        self._gauge(
            "index_rebuilds", "Times the index was rebuilt after a fault.", lambda: sides.cache.recovery.rebuilds
        )
        self._gauge("records_skipped", "Stored records that cannot be read.", partial(_skipped, sides))
        self._gauge(
            "error_budget_spent",
            "Wrong semantic hits of late, as it is believed, by those that were promised; above 1 too many.",
            lambda: budget.spent if (budget := sides.cache.adapting.budget()) else 0.0,
        )
        self._gauge(
            "learners",
            "Namespaces in memory that learn their own threshold.",
            lambda: len(sides.cache.adapting.learners()),
        )
        self._gauge(
            "hot_bytes",
            "Bytes of memory of answers that may leave it: those that were served last.",
            lambda: sides.cache.entries.hot.bytes,
        )
        for how in Fetch:
            self._fetches.labels(how.value).set_function(partial(_fetched, sides, how))
        for reason in Eviction:
            self._evictions.labels(reason.value).set_function(partial(_evicted, sides, reason))
        for end in ("share", "low", "high"):
            self._audited.labels(end).set_function(partial(_audited, sides, end))
        for event in EVENTS:
            self._learning.labels(event).set_function(partial(_happened, sides, event))
        self._gauge(
            "hydrated", "Whether everything stored has been read.", lambda: sides.cache.recovery.phase is Phase.READY
        )
        self._gauge(
            "reembedding_left", "Entries that a change of the embedder has still to embed.", lambda: _left(plan())
        )
        self._gauge(
            "embedder_behind",
            "Whether this process looks up by another embedder than the one that serves by a change.",
            lambda: (now := plan()) is not None and now.instead_of(sides.current.end.slug) is not None,
        )

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"antiphon_cache_{name}", text, labels, registry=self._registry)

    def _observed(self, name: str, text: str, bounds: Sequence[float], label: str) -> Callable[[str], Filling]:
        return Histograms(self._registry, f"antiphon_cache_{name}", text, label, bounds=bounds).labels

    def _gauge(self, name: str, text: str, read: Callable[[], float]) -> None:
        Gauge(f"antiphon_cache_{name}", text, registry=self._registry).set_function(read)


def _increase(sums: Sums) -> None:
    for counter, amount in sums.items():
        counter.inc(amount)


def _audited(sides: Sides, value: str) -> float:
    found = sides.cache.adapting.audits()
    return math.nan if found is None else float(getattr(found, value))


def _evicted(sides: Sides, reason: Eviction) -> float:
    return sides.cache.stats.evictions[reason]


def _fetched(sides: Sides, how: Fetch) -> float:
    return sides.cache.stats.fetches[how]


def _happened(sides: Sides, event: str) -> float:
    return sides.cache.adapting.happened()[event]


def _skipped(sides: Sides) -> int:
    return sides.current.skipped()


def _left(plan: Plan | None) -> int:
    return plan.total - plan.done if plan is not None and plan.phase is Reembedding.EMBEDDING else 0
