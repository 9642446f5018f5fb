"""Which entry of the cache an answer was, and which decision of the router made it, remembered for a while.

So feedback on the answer reaches both. The cache is asked at once and says what becomes of the entry; the router is
told behind the caller's back.
"""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from services.chassis.auth.values import Caller, Role
from services.chassis.errors import (
    AntiphonError,
    DeadlineExceeded,
    Exhausted,
    NotFound,
    PermissionDenied,
    Reason,
    Unauthenticated,
    Unavailable,
)
from services.completion.metrics import Metrics
from services.completion.ports import Cache, EntryVerdict, FeedbackSource, Outcome, VerdictReport
from services.completion.reporting import Reporting
from services.completion.request import Request
from services.completion.result import Completed, EntryPlace
from services.completion.storing import KEEP_SECONDS

CALL_SECONDS = 1.0
"""For the cache. It takes some milliseconds; a client that repeats the call shall hear why it failed in its time."""

RETRY_SECONDS = 1.0
"""Until an answer that is being stored may be asked about again."""


MARK_DIGITS = 16
"""Of a hash: 64 bits tell all who speak of one answer apart."""


@dataclass(frozen=True, slots=True)
class Submitted:
    """What a caller says about a completion; `user` tells people apart who share a key."""

    completion_id: str
    right: bool
    source: FeedbackSource = FeedbackSource.USER
    user: str = ""


@dataclass(frozen=True, slots=True)
class _Answered:
    tenant: str
    namespace: str
    semantic: bool
    created_at: float
    place: EntryPlace
    at: float
    decision_id: str
    """Empty: the router did not choose the model, or nothing was bought."""
    model: str
    told: set[str] = field(default_factory=set)
    """Who has said something that the router was told."""


class Feedback:
    """Bounded by time and by number: the oldest answers are forgotten first. For one event loop."""

    def __init__(
        self,
        cache: Cache,
        reporting: Reporting,
        metrics: Metrics,
        *,
        most: int,
        keep: float,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`most`: answers, some 0.5 kB each; `keep`: seconds."""
        self._cache = cache
        self._reporting = reporting
        self._metrics = metrics
        self._most = most
        self._keep = keep
        self._monotonic = monotonic
        self._answered: OrderedDict[str, _Answered] = OrderedDict()

    def __len__(self) -> int:
        return len(self._answered)

    def remember(self, completion_id: str, request: Request, completed: Completed) -> None:
        """Remember what a completion was."""
        now = self._monotonic()
        self._forget(now)
        self._answered[completion_id] = _Answered(
            tenant=request.caller.tenant,
            namespace=request.question.namespace,
            semantic=completed.cache.outcome is Outcome.SEMANTIC,
            created_at=completed.answer.created_at,
            place=completed.place,
            at=now,
            decision_id=completed.routing.decision_id if completed.routing else "",
            model=completed.answer.model,
        )
        if len(self._answered) > self._most:
            self._answered.popitem(last=False)

    async def submit(self, caller: Caller, said: Submitted, *, within: float) -> bool:
        """Tell the cache within so many seconds, and then the router; whether that was new.

        Of an answer that the cache does not have only the router hears.

        Raises PermissionDenied(SOURCE_NOT_ALLOWED), NotFound(COMPLETION_NOT_FOUND, ENTRY_NOT_FOUND), Unavailable.
        """
        try:
            recorded = await self._submit(caller, said, min(within, CALL_SECONDS))
        except AntiphonError as error:
            self._metrics.feedback.labels(error.reason.value.lower()).inc()
            raise
        self._metrics.feedback.labels("recorded" if recorded else "repeated").inc()
        return recorded

    async def _submit(self, caller: Caller, said: Submitted, timeout: float) -> bool:
        if caller.role is Role.CLIENT and said.source is not FeedbackSource.USER:
            raise PermissionDenied(
                "a key with the role client gives feedback as a user only",
                reason=Reason.SOURCE_NOT_ALLOWED,
                field="source",
            )
        now = self._monotonic()
        self._forget(now)
        answered = self._answered.get(said.completion_id)
        if answered is None or answered.tenant != caller.tenant:
            raise NotFound(
                "no completion with this id is known here", reason=Reason.COMPLETION_NOT_FOUND, field="completion_id"
            )
        if not answered.place.settled and now - answered.at < KEEP_SECONDS:
            raise _unavailable("the cache does not have the answer yet")
        try:
            recorded = await self._tell_cache(caller, said, answered, timeout)
        except NotFound:
            if not answered.decision_id:
                raise
            return self._tell_router(caller, said, answered)
        self._tell_router(caller, said, answered)
        return recorded

    async def _tell_cache(self, caller: Caller, said: Submitted, answered: _Answered, timeout: float) -> bool:
        if not answered.place.entry_id:
            raise NotFound("the answer was not stored", field="completion_id")
        verdict = EntryVerdict(
            entry_id=answered.place.entry_id,
            namespace=answered.namespace,
            right=said.right,
            source=said.source,
            semantic=answered.semantic,
            user=said.user,
            completion_id=said.completion_id,
            answered_at=answered.created_at,
        )
        try:
            return await self._cache.feedback(caller, verdict, timeout=timeout)
        except (DeadlineExceeded, Exhausted, PermissionDenied, Unauthenticated) as error:
            # The last two: our own key is not what the cache expects, which is nothing that the caller could change.
            raise _unavailable("the cache does not take feedback now") from error

    def _tell_router(self, caller: Caller, said: Submitted, answered: _Answered) -> bool:
        """Whether this one has said nothing of the answer yet: of each the first verdict counts there."""
        speaker = _speaker(caller, said)
        if not answered.decision_id or speaker in answered.told:
            return False
        answered.told.add(speaker)
        self._reporting.report(VerdictReport(caller, answered.decision_id, speaker, answered.model, said.right))
        return True

    def _forget(self, now: float) -> None:
        while self._answered:
            completion_id, oldest = next(iter(self._answered.items()))
            if now - oldest.at < self._keep:
                return
            del self._answered[completion_id]


def _speaker(caller: Caller, said: Submitted) -> str:
    """Who speaks, for the router: tells those apart who speak of one answer, and nothing about them beyond it."""
    parts = (said.completion_id, caller.key_id, said.user)
    mark = hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()
    return f"feedback/{said.source.value}/{mark[:MARK_DIGITS]}"


def _unavailable(message: str) -> Unavailable:
    return Unavailable(message, reason=Reason.CACHE_UNAVAILABLE, retry_after=RETRY_SECONDS)
