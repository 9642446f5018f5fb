"""The state of every upstream and every model there, shared by all requests of the process.

An upstream has one key in the catalogue, so what belongs to (upstream, key) is the upstream's, and what belongs to
(upstream, key, model) is the model's.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from random import Random

from services.catalogue.values import Model
from services.chassis.errors import AntiphonError, Exhausted, Reason, Unavailable
from services.completion.resilience.adaptive_limit import AdaptiveLimit, LimitTerms, Remaining
from services.completion.resilience.admission import Admission
from services.completion.resilience.breaker import Breaker, BreakerTerms, Permit, State
from services.completion.resilience.retry_budget import RetryBudget
from services.completion.resilience.verdict import Verdict, overloads, verdict_on


class Event(StrEnum):
    """What happens to a model, for metrics and logs."""

    RETRIED = "retried"
    BUDGET_SPENT = "retry_budget_spent"
    OPENED = "breaker_opened"
    CLOSED = "breaker_closed"
    BARRED = "barred"
    PAUSED = "paused"
    SHED = "shed"
    CONTINUED = "continued"


Happened = Callable[[str, str, Event], None]
"""Told the names of an upstream and of its model, and what happened."""


@dataclass(frozen=True, slots=True)
class TargetTerms:
    """How upstreams are treated. Times in seconds."""

    retry_share: float = 0.1
    """Retries per request of an upstream."""
    cooldown: float = 60.0
    """For which an upstream that refuses our credential, or whose account is spent, is left alone."""
    longest_queue: float = 5.0
    """The most that a request waits for a place at a model."""
    breaker: BreakerTerms = field(default_factory=BreakerTerms)
    limit: LimitTerms = field(default_factory=LimitTerms)


@dataclass(frozen=True, slots=True)
class Blocked:
    """Why a model is not to be called, and for how many seconds. `tells`: the server itself has said how long."""

    seconds: float
    error: AntiphonError
    tells: bool = False


class _Upstream:
    """What all models of one upstream have in common."""

    def __init__(self, budget: RetryBudget) -> None:
        self.budget = budget
        self.barred_until = float("-inf")
        self.barred_by: AntiphonError | None = None


class Target:
    """One model at one upstream."""

    def __init__(self, model: Model, upstream: _Upstream, terms: TargetTerms, rng: Random, happened: Happened) -> None:
        # Names only: the catalogue's entry may be exchanged while this one lives.
        self.name = model.name
        self.upstream = model.upstream
        self.admission = Admission(AdaptiveLimit(terms.limit), longest=terms.longest_queue)
        self._shared = upstream
        self._terms = terms
        self._breaker = Breaker(terms.breaker, rng)
        self._happened = happened
        self._paused_until = float("-inf")

    @property
    def budget(self) -> RetryBudget:
        """The retries of its upstream."""
        return self._shared.budget

    @property
    def state(self) -> State:
        """Of its breaker."""
        return self._breaker.state

    def blocked(self, now: float) -> Blocked | None:
        """Return why the model is not to be called now, or None if it may be."""
        upstream = self._shared
        if now < upstream.barred_until and upstream.barred_by is not None:
            left = upstream.barred_until - now
            error = copy.copy(upstream.barred_by)
            if isinstance(error, Exhausted):
                error.retry_after = left
            return Blocked(left, error)
        if now < self._paused_until:
            left = self._paused_until - now
            return Blocked(left, self._limited(left), tells=True)
        if (seconds := self._breaker.blocked(now)) > 0:
            return Blocked(seconds, self._failing(seconds))
        return None

    def begin(self, now: float) -> Permit | None:
        """Return the right to make a call, or None if the breaker has been opened or is being probed."""
        return self._breaker.begin(now)

    def answering(self, permit: Permit) -> None:
        """The first content has come."""
        before = self._breaker.state
        self._breaker.answering(permit)
        self._changed(before)

    def told(self, remaining: Remaining, now: float) -> None:
        """The server said what is left of its rate limit."""
        if remaining.calls > 0:
            self.admission.limit.told(remaining, self.admission.in_flight, now)
        else:
            self._paused_until = max(self._paused_until, now + remaining.seconds)

    def succeeded(self, permit: Permit) -> None:
        """The call ended with a whole answer; to be told before its place is given back."""
        before = self._breaker.state
        self._breaker.succeeded(permit)
        self.admission.limit.succeeded(self.admission.in_flight)
        self._changed(before)

    def failed(self, permit: Permit, error: AntiphonError, *, began: float, now: float) -> None:
        """The call that began at `began` failed."""
        verdict, before = verdict_on(error), self._breaker.state
        if verdict.unhealthy:
            self._breaker.failed(permit, now)
        elif permit.probe:
            self._breaker.succeeded(permit)  # the server is there, whatever it said
        if overloads(error):
            self.admission.limit.overloaded(began, now)
        if verdict is Verdict.LATER and error.retry_after is not None:
            self._paused_until = max(self._paused_until, now + error.retry_after)
            self._tell(Event.PAUSED)
        if verdict is Verdict.BARRED:
            self._shared.barred_until = now + self._terms.cooldown
            self._shared.barred_by = error
            self._tell(Event.BARRED)
        self._changed(before)

    def left(self, permit: Permit) -> None:
        """The call was given up by whoever waited for it, which says nothing about the model."""
        self._breaker.left(permit)

    def shed(self, now: float, seconds: float | None = None) -> Exhausted:
        """Return the error for a request that finds no place at this model."""
        self._tell(Event.SHED)
        return Exhausted(
            f"model '{self.name}' has as many calls as it takes",
            reason=Reason.OVERLOADED,
            retry_after=self.admission.retry_after(now) if seconds is None else seconds,
            metadata={"upstream": self.upstream},
        )

    def _changed(self, before: State) -> None:
        if self._breaker.state is not before and self._breaker.state is State.OPEN:
            self._tell(Event.OPENED)
        elif before is not State.CLOSED and self._breaker.state is State.CLOSED:
            self._tell(Event.CLOSED)

    def _tell(self, event: Event) -> None:
        self._happened(self.upstream, self.name, event)

    def _limited(self, seconds: float) -> Exhausted:
        return Exhausted(
            f"upstream '{self.upstream}' limits the rate of requests for model '{self.name}'",
            reason=Reason.UPSTREAM_RATE_LIMITED,
            retry_after=seconds,
            metadata={"upstream": self.upstream},
        )

    def _failing(self, seconds: float) -> Unavailable:
        return Unavailable(
            f"model '{self.name}' at upstream '{self.upstream}' keeps failing and is left alone for now",
            reason=Reason.UPSTREAM_UNAVAILABLE,
            retry_after=seconds,
            metadata={"upstream": self.upstream},
        )


class Targets:
    """All of them, made when they are first asked for."""

    def __init__(self, terms: TargetTerms, *, rng: Random, monotonic: Callable[[], float], happened: Happened) -> None:
        self._terms = terms
        self._rng = rng
        self._monotonic = monotonic
        self._happened = happened
        self._upstreams: dict[str, _Upstream] = {}
        self._targets: dict[tuple[str, str], Target] = {}

    def of(self, model: Model) -> Target:
        """Return the state of a model at its upstream."""
        target = self._targets.get((model.upstream, model.name))
        if target is None:
            upstream = self._upstreams.get(model.upstream)
            if upstream is None:
                upstream = _Upstream(RetryBudget(self._terms.retry_share, self._monotonic()))
                self._upstreams[model.upstream] = upstream
            target = Target(model, upstream, self._terms, self._rng, self._happened)
            self._targets[model.upstream, model.name] = target
        return target
