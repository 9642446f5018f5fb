"""Which model one request calls next, and when: the router's candidates in order, retries within the budget.

A stumble (5xx, nonsense) is tried again on the same model if the upstream's budget has a retry left; a server that is
not there, or that asks for more patience than the plan has, is left for the next candidate, which costs no budget. The
last try is another model's as long as there is one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from random import Random

from services.catalogue.values import Model
from services.chassis.errors import AntiphonError
from services.chassis.value import value
from services.completion.resilience.backoff import full_jitter
from services.completion.resilience.targets import Event, Happened, Target, Targets
from services.completion.resilience.verdict import Verdict, verdict_on

LEAST_SECONDS = 0.005
"""A call that must be over sooner buys an answer that nobody will read."""

SHARE_OF_TIME = 0.5
"""Of the time that is left: a model that has written nothing by then leaves the rest to the next candidate."""

SLOW = 5.0
"""Times the first token's expected delay that a model is given in any case."""


@value
class Step:
    """Call this model after `wait` seconds. It is the catalogue's entry of when the request was planned."""

    model: Model
    target: Target
    wait: float = 0.0


class Plan:
    """Of one request."""

    def __init__(
        self,
        models: Sequence[Model],
        targets: Targets,
        *,
        tries: int,
        patience: float,
        rng: Random,
        happened: Happened,
    ) -> None:
        """`patience`: the longest wait (seconds) that a server may ask for while another candidate could answer."""
        self._left = [Step(model, targets.of(model)) for model in models]
        self._tries = tries
        self._patience = patience
        self._rng = rng
        self._happened = happened
        self._made = 0
        self._failures: dict[str, int] = {}
        self._seen: set[str] = set()
        self._again: Step | None = None
        self.refusals: list[AntiphonError] = []
        """Why candidates were passed over without a call."""

    def next(self, now: float, remaining: float) -> Step | None:
        """Return what to do now, or None if nothing is left to try. `remaining`: seconds until the deadline."""
        if self._made >= self._tries:
            return None
        if self._again is not None:
            step, self._again = self._again, None
            return step
        refusals: list[AntiphonError] = []
        soonest: Step | None = None
        for candidate in self._left:
            blocked = candidate.target.blocked(now)
            if blocked is None:
                return candidate
            refusals.append(blocked.error)
            # A wait that the server asked for is worth its while; a breaker's or a cooldown's is not.
            if blocked.tells and blocked.seconds < remaining - LEAST_SECONDS:
                step = replace(candidate, wait=blocked.seconds)
                soonest = step if soonest is None or step.wait < soonest.wait else soonest
        if soonest is None:
            self.refusals += refusals
        return soonest

    def exhausted(self, now: float) -> bool:
        """Whether nothing is left to try, as far as can be seen now."""
        if self._made >= self._tries:
            return True
        blocked = (candidate.target.blocked(now) for candidate in self._left)
        return self._again is None and not any(block is None or block.tells for block in blocked)

    def first_token(self, step: Step, limit: float, now: float, remaining: float) -> float:
        """Return the seconds for the first content: `limit`, or less where another candidate needs the time as well."""
        share = max(remaining * SHARE_OF_TIME, SLOW * step.model.latency.first_token)
        if limit <= share or self._made >= self._tries or not self._others(step.target, now):
            return limit
        return share

    def began(self, step: Step) -> None:
        """The step's call is made now."""
        self._made += 1
        if step.model.upstream not in self._seen:
            self._seen.add(step.model.upstream)
            step.target.budget.earn()

    def passed_over(self, target: Target, error: AntiphonError) -> None:
        """The model could not be called at all."""
        self.refusals.append(error)
        self._drop(target)

    def failed(self, step: Step, error: AntiphonError, now: float, remaining: float) -> None:
        """The step's call failed before any content."""
        target, verdict = step.target, verdict_on(error)
        match verdict:
            case Verdict.FATAL:
                self._left = []
            case Verdict.LARGER:
                room = step.model.context_tokens
                self._left = [other for other in self._left if other.model.context_tokens > room]
            case Verdict.BARRED:
                self._left = [other for other in self._left if other.model.upstream != target.upstream]
            case Verdict.UNKNOWN:
                self._drop(target)
            case _:
                if self._may_again(step, verdict, error, now, remaining):
                    return
                self._drop(target)

    def broke_off(self, target: Target) -> None:
        """The step's call failed after content: only another model may continue."""
        self._drop(target)

    def _may_again(self, step: Step, verdict: Verdict, error: AntiphonError, now: float, remaining: float) -> bool:
        """Whether the same model is called again; plans it if so."""
        target, name = step.target, step.model.name
        failures = self._failures[name] = self._failures.get(name, 0) + 1
        others = self._others(target, now)
        not_now = verdict is Verdict.ELSEWHERE or (verdict is Verdict.LATER and error.retry_after is None)
        if self._made >= self._tries or (others and (not_now or self._made == self._tries - 1)):
            return False
        wait = full_jitter(failures, self._rng)
        if error.retry_after is not None:
            # The jitter on top: those who were told the same must not come back together.
            wait += error.retry_after
        if wait >= remaining - LEAST_SECONDS or (others and wait > self._patience):
            return False
        blocked = target.blocked(now)
        if blocked is not None and not blocked.tells:
            return False
        if not target.budget.spend(now):
            self._happened(target.upstream, target.name, Event.BUDGET_SPENT)
            return False
        self._happened(target.upstream, target.name, Event.RETRIED)
        self._again = replace(step, wait=wait)
        return True

    def _others(self, target: Target, now: float) -> bool:
        return any(other.target is not target and other.target.blocked(now) is None for other in self._left)

    def _drop(self, target: Target) -> None:
        self._left = [other for other in self._left if other.target is not target]
