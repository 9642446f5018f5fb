"""What this room counts."""

from __future__ import annotations

from functools import cache

from prometheus_client import CollectorRegistry, Counter


class Metrics:
    """Prometheus counters in the registry of the process."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.requests = Counter(
            "antiphon_completion_requests", "Requests, by whether they shared a fill.", ["shared"], registry=registry
        )
        self.outcomes = Counter(
            "antiphon_completion_outcomes", "Fills, by how the cache's lookup ended.", ["outcome"], registry=registry
        )
        self.attempts = Counter(
            "antiphon_completion_attempts", "Calls of models, by result.", ["model", "result"], registry=registry
        )
        self.targets = Counter(
            "antiphon_completion_upstream_events",
            "What happened to a model at its upstream: retried, retry_budget_spent, breaker_opened, breaker_closed, "
            "barred (it refuses our key, or the account is spent), paused (it said until when), shed (no place within "
            "the time), continued (it went on with another's answer).",
            ["upstream", "model", "event"],
            registry=registry,
        )
        self.cost = Counter(
            "antiphon_completion_cost_nano_usd", "Money spent on models, in nano-USD.", ["model"], registry=registry
        )
        self.degraded = Counter(
            "antiphon_completion_degraded", "Fills made while a part was down or slow.", ["reason"], registry=registry
        )
        self.not_stored = Counter(
            "antiphon_completion_not_stored",
            "Finished answers that the cache did not keep.",
            ["reason"],
            registry=registry,
        )
        self.reports_dropped = Counter(
            "antiphon_completion_reports_dropped", "Outcomes the router was not told.", ["reason"], registry=registry
        )

        self.audits = Counter(
            "antiphon_completion_audits",
            "Semantic hits that the cache asked to have answered anew: reported, failed, unfit, or dropped because the "
            "queue was full, callers were busy, or the process stopped.",
            ["result"],
            registry=registry,
        )
        self.refreshes = Counter(
            "antiphon_completion_refreshes",
            "Stale answers that the cache asked to have made anew: stored, failed, unfit, or dropped because the queue "
            "was full, callers were busy, or the process stopped.",
            ["result"],
            registry=registry,
        )
        self.keys = Counter(
            "antiphon_completion_idempotency",
            "What became of requests with an idempotency key: made, joined, replayed, taken_over, reused, not_kept.",
            ["event"],
            registry=registry,
        )

        self.feedback = Counter(
            "antiphon_completion_feedback",
            "Feedback on completions: recorded, repeated, or why it was refused.",
            ["result"],
            registry=registry,
        )

        # Looked up once each: that costs more than counting.
        self.request = {shared: self.requests.labels("true" if shared else "false") for shared in (True, False)}
        self.outcome = cache(self.outcomes.labels)
        self.attempt = cache(self.attempts.labels)
        self.cost_of = cache(self.cost.labels)

    def key_happened(self, event: str) -> None:
        """Something happened to an idempotency key."""
        self.keys.labels(event).inc()

    def requested(self, shared: bool) -> None:
        """A request came."""
        self.request[shared].inc()
