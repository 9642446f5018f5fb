"""Storing answers behind the caller's back: commits of granted fills, puts of what was made without one.

A commit is tried at once; if the cache has lost the lease by a restart, or does not answer, the answer goes the way of
one that was made while the cache was away: it waits in a bounded queue and is put when the cache answers again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from services.chassis.errors import (
    Aborted,
    AntiphonError,
    DeadlineExceeded,
    Exhausted,
    NotFound,
    Unauthenticated,
    Unavailable,
)
from services.completion.background import Background
from services.completion.metrics import Metrics
from services.completion.outbox import Outbox
from services.completion.ports import Cache, Lease
from services.completion.request import Request
from services.completion.result import EntryPlace
from services.llm.values import Answer, FinishReason

CALL_SECONDS = 5.0
"""For one commit, put or abort."""

WAITING_PUTS = 1_000
"""Answers that wait for the cache; at a typical 2 KiB these are a few MiB."""

KEEP_SECONDS = 600.0
"""How long an answer waits for the cache."""

_COMPLETE = frozenset({FinishReason.STOP, FinishReason.TOOL_CALLS})


def may_be_stored(answer: Answer) -> bool:
    """Whether the cache would keep this answer: whole, not a refusal, not empty."""
    return answer.finish_reason in _COMPLETE and not answer.refusal and bool(answer.text.strip() or answer.tool_calls)


@dataclass(frozen=True, slots=True)
class _Put:
    request: Request
    answer: Answer
    place: EntryPlace


class Storing:
    """Takes answers and leases off the hands of fills. `failed` is told of defects."""

    def __init__(
        self,
        cache: Cache,
        metrics: Metrics,
        failed: Callable[[str, BaseException], None],
        *,
        waiting: int = WAITING_PUTS,
    ) -> None:
        self._cache = cache
        self._metrics = metrics
        self._background = Background(failed)
        self._puts: Outbox[_Put] = Outbox(self._put, capacity=waiting, keep=KEEP_SECONDS, dropped=self._not_stored)

    def __len__(self) -> int:
        """Answers and leases that are not settled yet."""
        return len(self._background) + len(self._puts)

    async def run(self) -> None:
        """Put what waits, until cancelled."""
        await self._puts.run()

    def commit(self, request: Request, lease: Lease, answer: Answer, place: EntryPlace) -> None:
        """Store the answer of a granted fill and hand it to whoever waits for it elsewhere; `place` is told where."""
        self._background.spawn(self._commit(request, lease, answer, place), "commit")

    def put(self, request: Request, answer: Answer, place: EntryPlace) -> None:
        """Store an answer that was made without a lease, if it may be; `place` is told where.

        One that waits for the cache in vain leaves its place open: nobody looks at that after `KEEP_SECONDS`.
        """
        if not request.policy.stores:
            place.settle()
        elif may_be_stored(answer):
            self._puts.put(request.key, _Put(request, answer, place))
        else:
            place.settle()
            self._not_stored("unfit")

    def abort(self, request: Request, lease: Lease, reason: str) -> None:
        """Give up a granted fill."""
        self._background.spawn(self._abort(request, lease, reason), "abort")

    async def drain(self, seconds: float) -> None:
        """Settle what is open, but not longer than `seconds`; `run` must be running meanwhile."""
        if await self._background.drain(seconds):
            self._not_stored("shutdown")
        await self._puts.drain(seconds)

    async def _commit(self, request: Request, lease: Lease, answer: Answer, place: EntryPlace) -> None:
        try:
            done = await self._cache.commit(request.caller, lease.id, answer, timeout=CALL_SECONDS)
        except Aborted:
            place.settle()
            self._not_stored("lease_lost")
        except (NotFound, Unavailable, DeadlineExceeded, Exhausted, Unauthenticated):
            self.put(request, answer, place)
        except AntiphonError:
            place.settle()
            self._not_stored("refused")
            await self._abort(request, lease, "refused")
        else:
            place.settle(done.entry_id)
            if not done.stored:
                self._not_stored(done.reason or "unknown")

    async def _abort(self, request: Request, lease: Lease, reason: str) -> None:
        try:
            await self._cache.abort(request.caller, lease.id, reason, timeout=CALL_SECONDS)
        except AntiphonError:
            # The lease runs out by itself; those who wait for it lose that time.
            self._metrics.degraded.labels("abort_failed").inc()

    async def _put(self, puts: Sequence[_Put]) -> None:
        (put,) = puts
        request = put.request
        put.place.settle(
            await self._cache.put(request.caller, request.question, put.answer, request.policy, timeout=CALL_SECONDS)
        )

    def _not_stored(self, reason: str) -> None:
        self._metrics.not_stored.labels(reason).inc()
