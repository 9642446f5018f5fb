"""What comes of a fill, and what one of its listeners is told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from services.chassis.value import value
from services.completion.ports import Decision, Outcome, Routing, ServedFrom
from services.llm.values import Answer, Cost, Usage

ATTEMPT_OK = "OK"


@value
class Attempt:
    """One call of a model's server; `result` is `OK` or the reason of the failure, `duration` in seconds.

    `usage` and `cost` are estimated where the call failed and may be billed all the same. `offset`: bytes of text that
    earlier calls had written of the same answer.
    """

    model: str
    upstream: str
    result: str
    duration: float
    usage: Usage = field(default_factory=Usage)
    cost: Cost = field(default_factory=Cost)
    offset: int = 0


@value
class CachePart:
    """How the cache took part in a fill."""

    outcome: Outcome
    entry_id: str = ""
    decision: Decision | None = None
    bypass_reason: str = ""
    waited: bool = False
    """Someone else made the answer while we waited."""


@dataclass(slots=True)
class EntryPlace:
    """Where the cache keeps an answer; `settled` once that is known. An empty id then: nowhere."""

    entry_id: str = ""
    settled: bool = False

    def settle(self, entry_id: str = "") -> None:
        """The cache has the answer in this entry, or will not have it."""
        self.entry_id, self.settled = entry_id, True


@value
class Completed:
    """A finished answer with how it came about; the same for all listeners of a fill."""

    answer: Answer
    cache: CachePart
    served_from: ServedFrom | None = None
    """Set if nothing was bought for this fill."""
    routing: Routing | None = None
    attempts: tuple[Attempt, ...] = ()
    continued: bool = False
    """Several models wrote it, so that it is nobody else's answer."""
    degraded: tuple[str, ...] = ()
    place: EntryPlace = field(default_factory=EntryPlace, compare=False)
    """Known later than the rest: an answer is stored behind its callers' backs."""


@value
class Delivered:
    """A finished answer as one listener gets it. Times are in seconds since the listener came."""

    completed: Completed
    usage: Usage
    cost: Cost
    served_from: ServedFrom | None
    shared: bool
    latency: float
    time_to_first_token: float


def total_usage(attempts: Sequence[Attempt]) -> Usage:
    """Return what the attempts took together."""
    parts = [attempt.usage for attempt in attempts]
    return Usage(
        input=sum(part.input for part in parts),
        cached_input=sum(part.cached_input for part in parts),
        cache_write_input=sum(part.cache_write_input for part in parts),
        output=sum(part.output for part in parts),
        reasoning=sum(part.reasoning for part in parts),
        estimated=any(part.estimated for part in parts),
    )


def total_cost(attempts: Sequence[Attempt]) -> Cost:
    """Return what the attempts cost together, with the price list of the last."""
    last = attempts[-1].cost.price_version if attempts else ""
    return Cost(sum(attempt.cost.nano_usd for attempt in attempts), last)


def delivered(completed: Completed, *, pays: bool, latency: float, time_to_first_token: float) -> Delivered:
    """Return what a listener is told; of those who share a call of a model only one pays."""
    answer = completed.answer
    if completed.served_from is not None:
        usage, cost, served_from = Usage(), Cost(price_version=answer.cost.price_version), completed.served_from
        shared = completed.cache.waited
    elif pays:
        # Failed calls are part of what the answer cost; the answer itself says what it takes when all goes well.
        alone = len(completed.attempts) < 2
        usage = answer.usage if alone else total_usage(completed.attempts)
        cost = answer.cost if alone else total_cost(completed.attempts)
        served_from, shared = None, False
    else:
        usage, cost, shared = Usage(), Cost(price_version=answer.cost.price_version), True
        served_from = ServedFrom(answer.usage, answer.cost)
    return Delivered(completed, usage, cost, served_from, shared, latency, time_to_first_token)
