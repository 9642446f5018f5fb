"""Answers again what the cache has served, where it asks for that: behind everybody's back, one at a time.

Audits give way to callers: they wait in a short queue, are dropped when it is full or when the process is busy, and end
with it. What they cost is the operator's: no caller's key is charged.
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
from services.completion.ports import Cache, Router
from services.completion.request import LEAST_PRIORITY, Request
from services.completion.resilience.policy import AttemptPolicy
from services.completion.storing import may_be_stored
from services.completion.streaming.transcript import Transcript

ANSWER_SECONDS = 60.0
"""For one audit; a model that takes longer is left alone."""

CALL_SECONDS = 5.0
"""For the router and for the report to the cache."""


@dataclass(frozen=True, slots=True)
class _Audit:
    request: Request
    id: str


class Auditing:
    """A bounded queue with one worker, `run`."""

    def __init__(
        self,
        cache: Cache,
        router: Router,
        caller: Caller,
        metrics: Metrics,
        failed: Callable[[str, BaseException], None],
        *,
        waiting: int,
        answer_limit: int,
        busy: Callable[[], bool],
    ) -> None:
        """`waiting`: audits in the queue; 0: none is run. `answer_limit` in bytes; `failed` is told of defects.

        `busy`: whether callers need all that there is now.
        """
        self._cache = cache
        self._router = router
        self._caller = caller
        self._metrics = metrics
        self._failed = failed
        self._answer_limit = answer_limit
        self._busy = busy
        self._waiting = waiting
        self._queue: asyncio.Queue[_Audit] = asyncio.Queue()
        self._running = False

    def __len__(self) -> int:
        """Audits that wait or are under way."""
        return self._queue.qsize() + self._running

    def take(self, request: Request, audit_id: str) -> None:
        """Take an audit, if there is room; returns at once."""
        if self._queue.qsize() >= self._waiting:
            self._count("full")
        else:
            self._queue.put_nowait(_Audit(request, audit_id))

    async def run(self) -> None:
        """Run audits until cancelled; those that are left then are dropped."""
        try:
            while True:
                audit = await self._queue.get()
                self._running = True
                try:
                    self._count("busy" if self._busy() else await self._run(audit))
                finally:
                    self._running = False
        except asyncio.CancelledError:
            for _ in range(self._queue.qsize()):
                self._queue.get_nowait()
                self._count("shutdown")
            raise

    async def _run(self, audit: _Audit) -> str:
        """Make one answer and report it; what became of it."""
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                return await self._answer(audit)
        except (TimeoutError, AntiphonError):
            return "failed"
        except asyncio.CancelledError:
            self._count("shutdown")
            raise
        except Exception as error:  # noqa: BLE001 -- one audit must not end all later ones
            self._failed("audit", error)
            return "failed"

    async def _answer(self, audit: _Audit) -> str:
        # One model's whole answer, whatever the caller had wished for its own.
        request = replace(audit.request, attempts=AttemptPolicy())
        routing = await self._router.route(request, None, timeout=CALL_SECONDS)
        within_reach = tuple(one for one in routing.candidates if self._caller.callable(one.model))
        deadline = Deadline.after(ANSWER_SECONDS)
        fill = Fill(request, Transcript(self._answer_limit), deadline)
        fill.attach(
            Listener(fill, deadline, streaming=False, leave=lambda _: None, priority=LEAST_PRIORITY, pays=False)
        )
        called = await self._caller.answer(fill, replace(routing, candidates=within_reach), lambda _: None)
        if not may_be_stored(called.answer):
            return "unfit"
        await self._cache.report_audit(request.caller, audit.id, called.answer, timeout=CALL_SECONDS)
        return "reported"

    def _count(self, result: str) -> None:
        self._metrics.audits.labels(result).inc()
