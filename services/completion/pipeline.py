"""The way of one fill: the cache, on a miss the router and a model, then the cache again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from functools import partial
from weakref import WeakValueDictionary

from services.catalogue.values import Model
from services.chassis.errors import (
    AntiphonError,
    DeadlineExceeded,
    FailedPrecondition,
    InvalidRequest,
    Reason,
)
from services.completion.auditing import Auditing
from services.completion.background import Background
from services.completion.caching import CacheTurn, Hit, LookupBudget
from services.completion.calling import Caller
from services.completion.fills import Fill
from services.completion.metrics import Metrics
from services.completion.models import ModelBook
from services.completion.ports import Cache, Candidate, Router, Routing
from services.completion.result import Completed
from services.completion.storing import Storing
from services.completion.streaming.content import Content, Text, ToolCallPart
from services.llm.values import Answer


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds; the caller's deadline goes before all of them."""

    lookup: LookupBudget
    route: float


class Pipeline:
    """Makes the answers of fills. `surroundings` gives the reasons for which the parts around are degraded now."""

    def __init__(
        self,
        cache: Cache,
        router: Router,
        models: ModelBook,
        caller: Caller,
        storing: Storing,
        *,
        auditing: Auditing,
        background: Background,
        executor: Executor,
        timeouts: Timeouts,
        metrics: Metrics,
        surroundings: Callable[[], tuple[str, ...]] = tuple,
    ) -> None:
        self._cache = cache
        self._router = router
        self._models = models
        self._caller = caller
        self._storing = storing
        self._auditing = auditing
        self._background = background
        self._executor = executor
        self._timeouts = timeouts
        self._metrics = metrics
        self._surroundings = surroundings
        self._told: WeakValueDictionary[str, Fill] = WeakValueDictionary()
        """By stored entry, the fill that began to tell it last."""

    async def make(self, fill: Fill) -> None:
        """Make the answer of one fill and end its transcript; raises what the listeners shall get."""
        request = fill.request
        turn = CacheTurn(
            request,
            self._cache,
            self._storing,
            self._auditing,
            self._background,
            budget=self._timeouts.lookup.of(request),
            remaining=fill.remaining,
        )
        reason = "defect"
        try:
            hit = await turn.ask()
            completed = self._replay(fill, turn, hit) if hit is not None else await self._buy(fill, turn)
            self._count(completed)
            # The listeners first: storing must not delay them.
            fill.transcript.finish(completed)
            if completed.continued:
                # What two models wrote in turn is nobody else's answer.
                reason = "continued"
                completed.place.settle()
            elif hit is None:
                reason = ""
                turn.keep(completed.answer)
        except asyncio.CancelledError:
            reason = "shutdown" if fill.closing else "cancelled"
            raise
        except AntiphonError as error:
            reason = error.reason.value.lower()
            raise
        finally:
            if reason:
                turn.give_up(reason)

    def _replay(self, fill: Fill, turn: CacheTurn, hit: Hit) -> Completed:
        answer = self._one_copy(fill, turn.place.entry_id, hit.answer)
        fill.transcript.open_stored(answer.model, turn.part.outcome, _content(answer))
        return Completed(
            answer, turn.part, served_from=hit.served_from, degraded=self._degraded(turn), place=turn.place
        )

    def _one_copy(self, fill: Fill, entry_id: str, answer: Answer) -> Answer:
        """Return the answer as a fill has it that is still read: hundreds of slow readers share one copy."""
        other = self._told.get(entry_id)
        if entry_id:
            self._told[entry_id] = fill
        if other is None or other.transcript.completed is None or other.transcript.completed.answer != answer:
            return answer
        return other.transcript.completed.answer

    async def _buy(self, fill: Fill, turn: CacheTurn) -> Completed:
        routing = await self._route(fill, turn)
        begins = partial(self._open, fill, turn)
        called = await self._caller.answer(fill, routing, begins)
        if fill.transcript.opened is None:
            fill.transcript.open(called.answer.model, turn.part.outcome)
        return Completed(
            called.answer,
            turn.part,
            routing=routing,
            attempts=called.attempts,
            continued=called.continued,
            degraded=self._degraded(turn),
            place=turn.place,
        )

    @staticmethod
    def _open(fill: Fill, turn: CacheTurn, model: Model) -> None:
        fill.transcript.open(model.name, turn.part.outcome)

    async def _route(self, fill: Fill, turn: CacheTurn) -> Routing:
        """Ask the router if there is a choice; choose from the last copy of the catalogue if it does not answer."""
        request = fill.request
        explicit = self._models.explicit(request)
        if explicit is not None and self._caller.callable(request.question.model):
            return explicit
        timeout = min(self._timeouts.route, fill.remaining())
        try:
            routing = await self._router.route(request, turn.embedding, timeout=timeout)
        except InvalidRequest as error:
            # Every name was looked up here; a router that does not know it has another catalogue.
            if error.reason is not Reason.UNKNOWN_MODEL:
                raise
            turn.degraded.append("catalogue_mismatch")
        except FailedPrecondition as error:
            if error.reason is Reason.NO_MODEL_FITS:
                raise
            turn.degraded.append("router_unavailable")
        except AntiphonError as error:
            turn.degraded.append("router_timeout" if isinstance(error, DeadlineExceeded) else "router_unavailable")
        else:
            callable_here = tuple(c for c in routing.candidates if self._caller.callable(c.model))
            if callable_here:
                return _with(routing, callable_here)
            turn.degraded.append("catalogue_mismatch")
        return await asyncio.get_running_loop().run_in_executor(self._executor, self._models.route, request)

    def _degraded(self, turn: CacheTurn) -> tuple[str, ...]:
        return tuple(dict.fromkeys((*turn.degraded, *self._surroundings())))

    def _count(self, completed: Completed) -> None:
        self._metrics.outcome(completed.cache.outcome.value).inc()
        for reason in completed.degraded:
            self._metrics.degraded.labels(reason).inc()


def _with(routing: Routing, candidates: tuple[Candidate, ...]) -> Routing:
    return routing if len(candidates) == len(routing.candidates) else replace(routing, candidates=candidates)


def _content(answer: Answer) -> Iterator[Content]:
    """Yield a stored answer as a model would have written it, in as few pieces as may be."""
    if answer.text:
        yield Text(answer.text)
    for index, call in enumerate(answer.tool_calls):
        yield ToolCallPart(index, call.id, call.name, call.arguments)
