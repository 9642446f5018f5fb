"""Calls of models for one answer: the plan's steps, one after the other, until a model has written it.

What a model writes goes to the fill's transcript as it comes. Before the first content a failure is invisible; after it
the listeners have read what it wrote, so that only somebody who asked for it gets another model's continuation.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field, replace

from services.catalogue.values import Model, UpstreamSpec
from services.chassis.errors import AntiphonError, DeadlineExceeded, Exhausted, FailedPrecondition, Reason, Unavailable
from services.chassis.value import value
from services.completion import continuing, upstream_call
from services.completion.accounting import SOURCE, Accounting, attempt
from services.completion.draft import Draft
from services.completion.fills import Fill
from services.completion.models import ModelBook
from services.completion.ports import CallStatus, Routing
from services.completion.request import Question
from services.completion.resilience.adaptive_limit import Remaining
from services.completion.resilience.admission import Shed, Ticket
from services.completion.resilience.plan import LEAST_SECONDS, Plan, Step
from services.completion.resilience.policy import AttemptPolicy
from services.completion.resilience.targets import Event, Happened, Target, Targets
from services.completion.resilience.verdict import by_callers_limit
from services.completion.result import Attempt, total_cost, total_usage
from services.completion.streaming.content import Continued
from services.completion.upstream_call import UpstreamCall
from services.completion.upstreams.protocol import ChatRequest, RateLimit, Upstream
from services.llm.values import Answer


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
class Attempts:
    """How calls are attempted, for all requests of the process. `patience`: see `Plan`. `sleep` and `rng` for tests."""

    targets: Targets
    happened: Happened
    policy: AttemptPolicy
    patience: float
    rng: random.Random = field(default_factory=random.Random)
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep


@value
class Called:
    """The answer and the attempts that it took. `continued`: several models wrote it, one after the other broke off."""

    answer: Answer
    attempts: tuple[Attempt, ...]
    continued: bool = False


@dataclass(slots=True)
class _Run:
    """The attempts of one fill."""

    fill: Fill
    routing: Routing
    begins: Callable[[Model], None]
    policy: AttemptPolicy
    plan: Plan
    until: float
    calls: list[UpstreamCall] = field(default_factory=list)
    settling: list[asyncio.Task[None]] = field(default_factory=list)
    failures: list[AntiphonError] = field(default_factory=list)
    text: str = ""
    """What calls that broke off have written."""

    @property
    def offset(self) -> int:
        """Bytes of `text`."""
        return len(self.text.encode("utf-8", "surrogatepass"))


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
        attempts: Attempts,
        accounting: Accounting,
        *,
        now: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._servers = servers
        self._models = models
        self._attempts = attempts
        self._accounting = accounting
        self._now = now
        self._monotonic = monotonic

    def callable(self, model: str) -> bool:
        """Whether this process can call a model."""
        found = self._models.find(model)
        return found is not None and found.upstream in self._servers.upstreams

    async def answer(self, fill: Fill, routing: Routing, begins: Callable[[Model], None]) -> Called:
        """Return the answer of the first candidate that gives one; `begins` is called before its first content.

        Raises the upstream's error; of several failures that of the last attempt that a later try may mend. After
        content that is `Unavailable(UPSTREAM_TRUNCATED)`; its metadata has the `offset`, the bytes of text that were
        delivered. All metadata say how many `attempts` were made and the `last_reason`.
        """
        run = self._run(fill, routing, begins)
        while True:
            remaining = self._remaining(run)
            if remaining < LEAST_SECONDS:
                raise self._told(run, DeadlineExceeded("no time was left to call a model"))
            step = run.plan.next(self._monotonic(), remaining)
            if step is None:
                raise self._told(run, self._last_word(run))
            if step.wait > 0:
                await self._attempts.sleep(step.wait)
            answer = await self._attempt(run, step)
            if answer is not None:
                break
        for settling in run.settling:
            await asyncio.shield(settling)  # what failed calls cost is part of the bill
        attempts = tuple(map(attempt, run.calls))
        if run.text:
            answer = replace(answer, usage=total_usage(attempts), cost=total_cost(attempts))
        return Called(answer, attempts, continued=bool(run.text))

    def _run(self, fill: Fill, routing: Routing, begins: Callable[[Model], None]) -> _Run:
        attempts = self._attempts
        policy = attempts.policy.tightened(fill.request.attempts)
        found = [self._models.find(candidate.model) for candidate in routing.candidates]
        plan = Plan(
            [model for model in found if model is not None],
            attempts.targets,
            tries=policy.tries,
            patience=attempts.patience,
            rng=attempts.rng,
            happened=attempts.happened,
        )
        until = self._monotonic() + (fill.limit() if policy.total is None else min(policy.total, fill.limit()))
        return _Run(fill, routing, begins, policy, plan, until)

    def _remaining(self, run: _Run) -> float:
        return min(run.fill.remaining(), run.until - self._monotonic())

    async def _attempt(self, run: _Run, step: Step) -> Answer | None:
        """Make one call; None if it failed and there may be another."""
        target = step.target
        try:
            ticket = await self._place(run, target)
        except Exhausted as error:
            run.plan.passed_over(target, error)
            return None
        call, answer, ends = None, None, True
        try:
            permit = target.begin(self._monotonic())
            if permit is None:
                return None  # opened, or probed by another, while this one waited
            call = UpstreamCall(step.model, self._question(run), Draft(), self._monotonic(), offset=run.offset)
            judged = False
            try:
                answer = await self._call(run, step, call, lambda: target.answering(permit))
                target.succeeded(permit)
                judged = True
            except AntiphonError as error:
                if not self._by_callers_limit(run, call, error):
                    target.failed(permit, error, began=call.began, now=self._monotonic())
                    judged = True
                self._failed(run, step, call, error)
                ends = run.plan.exhausted(self._monotonic())
            finally:
                if not judged:
                    target.left(permit)
        finally:
            now = self._monotonic()
            target.admission.leave(ticket, now, answered=answer is not None)
            if call is not None:
                call.ended = now
                if call.error is None and answer is None:
                    call.status = CallStatus.CANCELLED
                source = SOURCE if ends else f"{SOURCE}.{len(run.calls)}"
                settling = self._accounting.settle(run.fill, run.routing, call, source)
                if settling is not None and call.status is CallStatus.UPSTREAM_ERROR:
                    run.settling.append(settling)
        return answer

    def _by_callers_limit(self, run: _Run, call: UpstreamCall, error: AntiphonError) -> bool:
        spec = self._servers.specs[call.model.upstream]
        return by_callers_limit(error, run.fill.request.attempts, spec, run.until - call.began)

    async def _place(self, run: _Run, target: Target) -> Ticket:
        """Wait for a place at the model; `Exhausted(OVERLOADED)` if that would take too long."""
        admission, remaining, admitted = target.admission, self._remaining(run), asyncio.Event()
        entered = admission.enter(self._monotonic(), priority=run.fill.priority, remaining=remaining, wake=admitted.set)
        if isinstance(entered, Shed):
            raise target.shed(self._monotonic(), entered.seconds)
        if entered.admitted:
            return entered
        run.fill.waits(lambda priority: admission.raise_to(entered, priority))
        try:
            async with asyncio.timeout(admission.patience(remaining)):
                await admitted.wait()
        except TimeoutError:
            if not entered.admitted:
                admission.leave(entered, self._monotonic())
                raise target.shed(self._monotonic()) from None
        except asyncio.CancelledError:
            admission.leave(entered, self._monotonic())
            raise
        finally:
            run.fill.waits(None)
        return entered

    async def _call(self, run: _Run, step: Step, call: UpstreamCall, answering: Callable[[], None]) -> Answer:
        """Read one stream to its end, or raise."""
        run.plan.began(step)
        run.calls.append(call)
        fill, model, target = run.fill, step.model, step.target
        spec = self._servers.specs[model.upstream]
        upstream = self._servers.get(model.upstream, for_reader=fill.only_streams)
        timeouts = run.policy.timeouts(spec)
        now = self._monotonic()
        first_token = run.plan.first_token(step, timeouts.first_token, now, self._remaining(run))

        def begins() -> None:
            answering()
            if run.text:
                fill.transcript.append(
                    Continued(model.name, model.upstream, call.offset, run.failures[-1].reason.value)
                )
                self._attempts.happened(model.upstream, model.name, Event.CONTINUED)
            else:
                run.begins(model)

        def told(limit: RateLimit) -> None:
            target.told(Remaining(limit.calls, limit.seconds), self._monotonic())

        fill.transcript.calls()
        stream = upstream.stream(
            ChatRequest(model.upstream_model, call.question.messages, call.question.tools, call.question.options),
            timeout=min(timeouts.total, run.until - now),
            connect_timeout=timeouts.connect,
        )
        async with aclosing(stream) as events:
            await upstream_call.read(
                call,
                events,
                fill.transcript,
                first_token=first_token,
                idle=timeouts.idle,
                monotonic=self._monotonic,
                begins=begins,
                told=told,
            )
        return await self._finished(run, call)

    @staticmethod
    def _question(run: _Run) -> Question:
        """Return what is asked of a model now."""
        question = run.fill.request.question
        return replace(question, messages=continuing.messages(question.messages, run.text)) if run.text else question

    async def _finished(self, run: _Run, call: UpstreamCall) -> Answer:
        model, draft = call.model, call.draft
        if draft.finish is None:
            raise AssertionError("a call without an end was taken for a finished one")
        usage = await self._accounting.finished(call)
        return Answer(
            text=run.text + draft.text,
            finish_reason=draft.finish,
            model=model.name,
            upstream=model.upstream,
            tool_calls=draft.tool_calls,
            refusal=draft.refusal,
            usage=usage,
            cost=call.cost,
            created_at=self._now(),
        )

    def _failed(self, run: _Run, step: Step, call: UpstreamCall, error: AntiphonError) -> None:
        """Plan on after a failure; raises if the listeners have to hear of it."""
        call.error = error
        if not call.draft.begun:
            run.failures.append(error)
            run.plan.failed(step, error, self._monotonic(), self._remaining(run))
            return
        told = continuing.broken_off(error, call.offset + call.draft.delivered)
        run.failures.append(told)
        if not (run.policy.continues and continuing.can_be(call.draft, error)):
            raise self._told(run, told)
        run.text += call.draft.text
        run.plan.broke_off(step.target)

    def _last_word(self, run: _Run) -> AntiphonError:
        """Return the error for a request that nothing is left to try for."""
        if run.text:
            return continuing.broken_off(run.failures[-1], run.offset)
        if not run.failures and not run.plan.refusals:
            return FailedPrecondition("none of the candidates can be called from here", reason=Reason.NO_MODEL_FITS)
        return _worth_telling(run.failures or run.plan.refusals)

    @staticmethod
    def _told(run: _Run, error: AntiphonError) -> AntiphonError:
        """Return the error with what was attempted."""
        if not run.calls:
            return error
        last = run.calls[-1].error
        said = {"attempts": str(len(run.calls)), "last_reason": "" if last is None else last.reason.value}
        return continuing.saying(error, said)
