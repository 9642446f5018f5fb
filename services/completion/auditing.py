"""Answers again what the cache has served, where it asks for that: behind everybody's back, one at a time.

An audit is compared with what was served; a refresh takes the place of an answer that was served after its time. Both
give way to callers: they wait in a short queue, are dropped when it is full or when the process is busy, and end with
it. What they cost is the operator's: no caller's key is charged.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace

from services.chassis.deadline import Deadline
from services.chassis.errors import AntiphonError
from services.completion.calling import Caller
from services.completion.fills import Fill, Listener
from services.completion.metrics import Metrics
from services.completion.ports import Cache, Lease, Router
from services.completion.request import LEAST_PRIORITY, Request
from services.completion.resilience.policy import AttemptPolicy
from services.completion.result import EntryPlace
from services.completion.storing import Storing, may_be_stored
from services.completion.streaming.transcript import Transcript
from services.llm.values import Answer

ANSWER_SECONDS = 60.0
"""For one audit; a model that takes longer is left alone."""

CALL_SECONDS = 5.0
"""For the router and for the report to the cache."""


@dataclass(frozen=True, slots=True)
class _Audit:
    request: Request
    id: str


@dataclass(frozen=True, slots=True)
class _Refresh:
    request: Request
    lease: Lease


class Auditing:
    """A bounded queue with one worker, `run`."""

    def __init__(
        self,
        cache: Cache,
        router: Router,
        caller: Caller,
        *,
        storing: Storing,
        metrics: Metrics,
        failed: Callable[[str, BaseException], None],
        waiting: int,
        answer_limit: int,
        busy: Callable[[], bool],
    ) -> None:
        """`waiting`: of both in the queue; 0: none is run. `answer_limit` in bytes; `failed` is told of defects.

        `busy`: whether callers need all that there is now.
        """
        self._cache = cache
        self._router = router
        self._caller = caller
        self._storing = storing
        self._metrics = metrics
        self._failed = failed
        self._answer_limit = answer_limit
        self._busy = busy
        self._waiting = waiting
        self._queue: asyncio.Queue[_Audit | _Refresh] = asyncio.Queue()
        self._running = False

    def __len__(self) -> int:
        """What waits or is under way."""
        return self._queue.qsize() + self._running

    def take(self, request: Request, audit_id: str) -> None:
        """Take an audit, if there is room; returns at once."""
        self._enqueue(_Audit(request, audit_id))

    def refresh(self, request: Request, lease: Lease) -> None:
        """Take the making anew of a stale answer, if there is room; else another may have its lease."""
        self._enqueue(_Refresh(request, lease))

    async def run(self) -> None:
        """Run what comes until cancelled; what is left then is dropped."""
        try:
            while True:
                job = await self._queue.get()
                self._running = True
                try:
                    if self._busy():
                        self._drop(job, "busy")
                    else:
                        await self._run(job)
                finally:
                    self._running = False
        except asyncio.CancelledError:
            for _ in range(self._queue.qsize()):
                self._drop(self._queue.get_nowait(), "shutdown")
            raise

    def _enqueue(self, job: _Audit | _Refresh) -> None:
        if self._queue.qsize() >= self._waiting:
            self._drop(job, "full")
        else:
            self._queue.put_nowait(job)

    async def _run(self, job: _Audit | _Refresh) -> None:
        """Make one answer and hand it over."""
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                answer = await self._answer(job.request)
                if not may_be_stored(answer):
                    self._drop(job, "unfit")
                    return
                await self._hand_over(job, answer)
        except (TimeoutError, AntiphonError):
            self._drop(job, "failed")
        except asyncio.CancelledError:
            self._drop(job, "shutdown")
            raise
        except Exception as error:  # noqa: BLE001 -- one of them must not end all later ones
            self._failed("audit", error)
            self._drop(job, "failed")

    async def _hand_over(self, job: _Audit | _Refresh, answer: Answer) -> None:
        match job:
            case _Audit(request, audit_id):
                await self._cache.report_audit(request.caller, audit_id, answer, timeout=CALL_SECONDS)
                self._metrics.audits.labels("reported").inc()
            case _Refresh(request, lease):
                self._storing.commit(request, lease, answer, EntryPlace())
                self._metrics.refreshes.labels("stored").inc()

    def _drop(self, job: _Audit | _Refresh, why: str) -> None:
        match job:
            case _Audit():
                self._metrics.audits.labels(why).inc()
            case _Refresh(request, lease):
                self._metrics.refreshes.labels(why).inc()
                self._storing.abort(request, lease, why)

    async def _answer(self, request: Request) -> Answer:
        # One model's whole answer, whatever the caller had wished for its own.
        request = replace(request, attempts=AttemptPolicy())
        routing = await self._router.route(request, None, timeout=CALL_SECONDS)
        within_reach = tuple(one for one in routing.candidates if self._caller.callable(one.model))
        deadline = Deadline.after(ANSWER_SECONDS)
        fill = Fill(request, Transcript(self._answer_limit), deadline)
        fill.attach(
            Listener(fill, deadline, streaming=False, leave=lambda _: None, priority=LEAST_PRIORITY, pays=False)
        )
        return (await self._caller.answer(fill, replace(routing, candidates=within_reach), lambda _: None)).answer
