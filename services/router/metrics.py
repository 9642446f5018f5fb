"""What the router counts. Labels are bounded: models that the catalogue does not have share one, sources have none."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge

from services.chassis.errors import AntiphonError
from services.router.outcomes import Outcome, OutcomeKind

if TYPE_CHECKING:
    from services.chassis.telemetry import Logger
    from services.router.decisions import DecisionSummary

OTHER = "other"


class RouterMetrics:
    """Counters of decisions and outcomes; also tells the log when the store goes away and comes back."""

    def __init__(self, registry: CollectorRegistry, log: Logger, models: Collection[str]) -> None:
        self._log = log
        self._models = frozenset(models)
        self._store_away = False
        self._decisions = Counter(
            "antiphon_router_decisions",
            "Routing decisions by policy, class and first candidate.",
            ["policy", "complexity", "model"],
            registry=registry,
        )
        self._outcomes = Counter(
            "antiphon_router_outcomes", "New outcome reports.", ["kind", "result", "model"], registry=registry
        )
        self._tokens = Counter(
            "antiphon_router_tokens", "Tokens reported as used.", ["model", "direction"], registry=registry
        )
        self._spent = Counter("antiphon_router_nano_usd", "Money reported as spent.", ["model"], registry=registry)
        self._stored = Counter("antiphon_router_outcomes_stored", "Reports written to the store.", registry=registry)
        self._dropped = Counter(
            "antiphon_router_outcomes_dropped", "Reports given up: the store was away too long.", registry=registry
        )
        self._queued = Gauge("antiphon_router_outcomes_queued", "Reports waiting to be written.", registry=registry)

    def decided(self, summary: DecisionSummary) -> None:
        """A decision was made."""
        model = summary.model if summary.model in self._models else OTHER
        self._decisions.labels(summary.policy_version, summary.complexity or "none", model).inc()

    def recorded(self, outcome: Outcome) -> None:
        """A new report was taken."""
        model = outcome.model if outcome.model in self._models else OTHER
        result = outcome.status.value if outcome.kind is OutcomeKind.USAGE else outcome.verdict.value
        self._outcomes.labels(outcome.kind.value, result, model).inc()
        if outcome.usage is not None:
            self._tokens.labels(model, "input").inc(outcome.usage.input)
            self._tokens.labels(model, "output").inc(outcome.usage.output)
        if outcome.cost is not None:
            self._spent.labels(model).inc(outcome.cost.nano_usd)

    def stored(self, count: int) -> None:
        """So many were written to the store."""
        self._stored.inc(count)
        if self._store_away:
            self._store_away = False
            self._log.info("outcomes are stored again")

    def dropped(self, count: int) -> None:
        """So many were given up because the store was away for too long."""
        self._dropped.inc(count)

    def store_failed(self, error: AntiphonError) -> None:
        """The store could not be written to; it is tried again."""
        if not self._store_away:
            self._store_away = True
            self._log.warning("outcomes cannot be stored", reason=error.reason.value, problem=error.message)

    def queued(self, count: int) -> None:
        """So many wait to be written."""
        self._queued.set(count)
