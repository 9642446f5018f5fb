"""Calls of models: the candidates in order, one attempt each, until one of them has begun to answer.

What the model writes goes to the fill's transcript as it comes. Once content has left there is no other attempt: the
listeners have read it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field

from services.catalogue.money import price
from services.catalogue.values import Model, UpstreamSpec
from services.chassis.errors import (
    AntiphonError,
    DeadlineExceeded,
    Exhausted,
    FailedPrecondition,
    Reason,
    Unavailable,
)
from services.completion.background import Background
from services.completion.draft import Draft
from services.completion.estimating import Estimator
from services.completion.fills import Fill
from services.completion.metrics import Metrics
from services.completion.models import ModelBook
from services.completion.ports import CallReport, CallStatus, Routing
from services.completion.reporting import Reporting
from services.completion.result import ATTEMPT_OK, Attempt
from services.completion.upstreams.protocol import ChatRequest, Upstream
from services.llm.values import Answer, Cost, FinishReason, Usage

LEAST_SECONDS = 0.005
"""A call that must be over sooner buys an answer that nobody will read."""

TAIL_SECONDS = 3.0
"""For usage, once the model has said why it stopped: the answer itself is whole. Upstreams wait less by themselves."""

BURST = 16
"""Pieces that are taken without letting others run: reading what has already arrived does not wait for anything, and a
fast server's whole answer would be a tenth of a second in which nobody else is served."""

SOURCE = "completion"
"""Of the report about the call that settled a decision; earlier attempts have their number after it."""

Spent = Callable[[str, int], None]
"""Told the id of the key that a model was called for, and the tokens that the call took."""

_ANOTHER_MAY = frozenset(
    {
        Reason.UPSTREAM_UNAVAILABLE,
        Reason.UPSTREAM_MALFORMED,
        Reason.UPSTREAM_TRUNCATED,
        Reason.UPSTREAM_RATE_LIMITED,
        Reason.UPSTREAM_UNAUTHENTICATED,
        Reason.CONTEXT_TOO_LONG,
        Reason.DEADLINE_EXCEEDED,
    }
)
"""Failures that say nothing about how another model would take the same request."""


@dataclass(frozen=True, slots=True)
class Servers:
    """The upstreams by name, with their settings. `paced` has those that write at another pace for a reader."""

    specs: Mapping[str, UpstreamSpec]
    upstreams: Mapping[str, Upstream]
    paced: Mapping[str, Upstream] = field(default_factory=dict)

    def get(self, name: str, *, for_reader: bool) -> Upstream:
        """Return the upstream of this name."""
        return (self.paced.get(name) if for_reader else None) or self.upstreams[name]

    async def aclose(self) -> None:
        """Close the connections."""
        for upstream in {*self.upstreams.values(), *self.paced.values()}:
            await upstream.aclose()


@dataclass(frozen=True, slots=True)
class Called:
    """A model's answer and the attempts that it took to get it."""

    answer: Answer
    attempts: tuple[Attempt, ...]


@dataclass(slots=True)
class _Call:
    """One attempt in progress. Times are of the monotonic clock."""

    model: Model
    draft: Draft
    began: float
    first_content: float | None = None
    ended: float = 0.0
    usage: Usage | None = None
    cost: Cost = field(default_factory=Cost)
    error: AntiphonError | None = None

    @property
    def may_be_billed(self) -> bool:
        """Whether the server may charge for it: it wrote something, or may have been at work when we hung up."""
        if self.draft.begun or self.draft.usage is not None or self.error is None:
            return True
        return isinstance(self.error, DeadlineExceeded) or self.error.reason is Reason.CONTENT_FILTERED


def _patience(spec: UpstreamSpec, draft: Draft) -> float:
    return spec.idle_timeout if draft.begun else spec.first_token_timeout


def _silent(upstream: str, *, begun: bool) -> Unavailable:
    what = "fell silent in the middle of the answer" if begun else "has not begun to answer in time"
    return Unavailable(
        f"upstream '{upstream}' {what}",
        reason=Reason.UPSTREAM_TRUNCATED if begun else Reason.UPSTREAM_UNAVAILABLE,
        metadata={"upstream": upstream},
    )


def _truncated(upstream: str) -> Unavailable:
    return Unavailable(
        f"upstream '{upstream}' ended without saying why: the answer may be cut",
        reason=Reason.UPSTREAM_TRUNCATED,
        metadata={"upstream": upstream},
    )


def _another_may(error: AntiphonError) -> bool:
    # A model that the server does not know is this candidate's fault; a request that it refuses is not.
    unknown_there = isinstance(error, FailedPrecondition) and error.reason is Reason.UPSTREAM_REJECTED
    return error.reason in _ANOTHER_MAY or unknown_there


def _worth_telling(failures: list[AntiphonError]) -> AntiphonError:
    """Return the last failure that a later try may mend, else the last."""
    mendable = [error for error in failures if isinstance(error, (Unavailable, Exhausted))]
    return (mendable or failures)[-1]


class Caller:
    """Calls models for fills."""

    def __init__(
        self,
        servers: Servers,
        models: ModelBook,
        *,
        estimator: Estimator,
        reporting: Reporting,
        background: Background,
        metrics: Metrics,
        spent: Spent,
        now: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._servers = servers
        self._models = models
        self._estimator = estimator
        self._reporting = reporting
        self._background = background
        self._metrics = metrics
        self._spent = spent
        self._now = now
        self._monotonic = monotonic

    def callable(self, model: str) -> bool:
        """Whether this process can call a model."""
        found = self._models.find(model)
        return found is not None and found.upstream in self._servers.upstreams

    async def answer(self, fill: Fill, routing: Routing, begins: Callable[[Model], None]) -> Called:
        """Return the first candidate's answer that can be had; `begins` is called before its first content.

        Raises the upstream's error; of several failures that of the last attempt that a later try may mend.
        """
        attempts: list[Attempt] = []
        failures: list[AntiphonError] = []
        models = [
            model for candidate in routing.candidates if (model := self._models.find(candidate.model)) is not None
        ]
        for number, model in enumerate(models, start=1):
            if fill.remaining() < LEAST_SECONDS:
                raise DeadlineExceeded("no time was left to call a model")
            call = _Call(model, Draft(), self._monotonic())
            status, source = CallStatus.UPSTREAM_ERROR, SOURCE
            try:
                await self._call(fill, call, begins)
                answer = await self._finished(fill, call)
                status = CallStatus.OK
            except asyncio.CancelledError:
                status = CallStatus.CANCELLED
                raise
            except AntiphonError as error:
                call.error = error
                failures.append(error)
                attempts.append(self._attempt(call, error.reason.value))
                if call.draft.begun or not _another_may(error) or number == len(models):
                    raise _worth_telling(failures) from None
                source = f"{SOURCE}.{number}"
            else:
                attempts.append(self._attempt(call, ATTEMPT_OK))
                return Called(answer, tuple(attempts))
            finally:
                call.ended = self._monotonic()
                self._background.spawn(self._report(fill, routing, call, status, source), "report")
        raise FailedPrecondition("none of the candidates can be called from here", reason=Reason.NO_MODEL_FITS)

    async def _call(self, fill: Fill, call: _Call, begins: Callable[[Model], None]) -> None:
        """Read one stream to its end, or raise."""
        model, draft = call.model, call.draft
        spec = self._servers.specs[model.upstream]
        upstream = self._servers.get(model.upstream, for_reader=fill.only_streams)
        question = fill.request.question
        request = ChatRequest(model.upstream_model, question.messages, question.tools, question.options)
        patience = spec.first_token_timeout
        fill.transcript.calls()
        # The limit of the fill, not of who listens now: somebody with more time may still come.
        async with aclosing(upstream.stream(request, timeout=min(spec.total_timeout, fill.limit()))) as events:
            while True:
                try:
                    async with asyncio.timeout(patience):
                        event = await anext(events, None)
                except TimeoutError:
                    if draft.finish is not None:
                        return
                    raise _silent(model.upstream, begun=draft.begun) from None
                except AntiphonError:
                    if draft.finish is not None:
                        return
                    raise
                if event is None:
                    break
                content = draft.take(event)
                if draft.begun and call.first_content is None:
                    call.first_content = self._monotonic()
                    begins(model)
                if content is not None:
                    fill.transcript.append(content)
                    if len(fill.transcript) % BURST == 0:
                        await asyncio.sleep(0)
                patience = TAIL_SECONDS if draft.finish is not None else _patience(spec, draft)
        if draft.finish is None:
            raise _truncated(model.upstream)
        if draft.finish is FinishReason.CONTENT_FILTER and not draft.begun:
            raise FailedPrecondition(
                f"the content filter of upstream '{model.upstream}' withheld the answer",
                reason=Reason.CONTENT_FILTERED,
                metadata={"upstream": model.upstream},
            )

    async def _finished(self, fill: Fill, call: _Call) -> Answer:
        model, draft = call.model, call.draft
        usage = draft.usage or await self._estimator.usage(fill.request.question, draft.written, model)
        call.usage, call.cost = usage, price(usage, model)
        if call.draft.finish is None:
            raise AssertionError("a call without an end was taken for a finished one")
        return Answer(
            text=draft.text,
            finish_reason=call.draft.finish,
            model=model.name,
            upstream=model.upstream,
            tool_calls=draft.tool_calls,
            refusal=draft.refusal,
            usage=usage,
            cost=call.cost,
            created_at=self._now(),
        )

    def _attempt(self, call: _Call, result: str) -> Attempt:
        self._metrics.attempts.labels(call.model.name, result).inc()
        return Attempt(call.model.name, call.model.upstream, result, self._monotonic() - call.began)

    async def _report(self, fill: Fill, routing: Routing, call: _Call, status: CallStatus, source: str) -> None:
        """Count what was spent and tell the router, whatever became of the call."""
        usage, cost = call.usage, call.cost
        if usage is None and call.may_be_billed:
            written = call.draft.written
            usage = call.draft.usage or await self._estimator.usage(fill.request.question, written, call.model)
            cost = price(usage, call.model)
        self._metrics.cost.labels(call.model.name).inc(cost.nano_usd)
        if usage is not None:
            self._spent(fill.request.caller.key_id, usage.input + usage.output)
        self._reporting.report(
            CallReport(
                caller=fill.request.caller,
                decision_id=routing.decision_id,
                source=source,
                model=call.model.name,
                usage=usage or Usage(),
                cost=cost,
                latency=call.ended - call.began,
                time_to_first_token=None if call.first_content is None else call.first_content - call.began,
                status=status,
            )
        )
