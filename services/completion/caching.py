"""One fill's dealings with the cache, from the lookup to the end of its lease.

The cache is asked within a budget. If it does not answer in time the fill goes on without it, but its reply is still
awaited: it may grant a lease, and a lease that nobody knows of would make others wait until it runs out.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field

from services.chassis.errors import (
    Aborted,
    AntiphonError,
    DeadlineExceeded,
    InvalidRequest,
    NotFound,
    Reason,
    Unavailable,
)
from services.completion.auditing import Auditing
from services.completion.background import Background
from services.completion.ports import Cache, Decision, Embedding, Filled, Found, Lease, Outcome, ServedFrom
from services.completion.request import CacheMode, Request
from services.completion.result import CachePart, EntryPlace
from services.completion.storing import CALL_SECONDS, Storing
from services.llm.values import Answer

LATE_SECONDS = 2.0
"""How long a reply is awaited after the fill has gone on without it."""

WAIT_SECONDS = 10.0
"""Of one wait for another's fill; it is repeated, so that a vanished cache is noticed."""

LOOKUPS = 3
"""At most per fill: again only when the lease that was waited for is not known any more."""

RENEWALS = 3
"""Per duration of a lease."""


@dataclass(frozen=True, slots=True)
class LookupBudget:
    """Seconds that a lookup may take: a base for search, decision and the way, and the embedding's own by length.

    `per_window` counts for every `WINDOW_BYTES` of the question, up to `embedding_at_most`.
    """

    base: float
    per_window: float
    embedding_at_most: float

    def of(self, request: Request) -> float:
        """The budget of one request."""
        windows = 1 + len(request.question.messages[-1].text.encode("utf-8", "surrogatepass")) // WINDOW_BYTES
        return self.base + min(self.per_window * windows, self.embedding_at_most)


WINDOW_BYTES = 512
"""Of text in one window of 256 word pieces: two bytes a piece is fewer than in any language that the packaged
tokenizer knows well, so that the budget errs on the long side."""


@dataclass(frozen=True, slots=True)
class Hit:
    """An answer that nobody has to make."""

    answer: Answer
    served_from: ServedFrom


@dataclass(slots=True)
class CacheTurn:
    """The state of it. `remaining` gives the seconds that the fill may still take."""

    request: Request
    cache: Cache
    storing: Storing
    auditing: Auditing
    background: Background
    budget: float
    remaining: Callable[[], float]
    part: CachePart = field(default_factory=lambda: CachePart(Outcome.BYPASS))
    degraded: list[str] = field(default_factory=list)
    embedding: Embedding | None = None
    place: EntryPlace = field(default_factory=EntryPlace)
    _lease: Lease | None = None
    _lost: bool = False
    _over: bool = False
    _made: Answer | None = None
    _renewing: asyncio.Task[None] | None = None
    _token: str = ""

    async def ask(self) -> Hit | None:
        """Return a stored answer or one that another process makes, or None if this fill has to make it.

        Raises `NotFound(NOT_CACHED)` or `Unavailable(CACHE_UNAVAILABLE)` if the caller wants cached answers only.
        """
        if self.request.policy.mode is CacheMode.BYPASS:
            self.part = CachePart(Outcome.BYPASS, bypass_reason="policy")
            return None
        self._token = uuid.uuid4().hex
        for _ in range(LOOKUPS):
            found = await self._lookup()
            if found is None:
                break
            if found.answer is not None:
                return self._hit(found, found.answer)
            self._miss(found)
            if found.outcome is Outcome.BYPASS or not found.in_progress:
                break
            result = await self._wait(found.in_progress)
            if isinstance(result, Filled):
                return self._filled(result, result.decision or found.decision)
            if isinstance(result, Lease):
                self._hold(result)
                break
            if self.part.outcome is Outcome.BYPASS:
                break
        else:
            self._bypass("cache_unavailable")
        self._insist()
        return None

    @property
    def lost(self) -> bool:
        """Whether the lease is someone else's now, so that the answer will not be stored."""
        return self._lost

    def keep(self, answer: Answer) -> None:
        """The answer was made: store it, in the background."""
        self._end()
        self._made = answer
        if self._lease is not None and not self._lost:
            self.storing.commit(self.request, self._lease, answer, self.place)
        elif self._lease is None and self.part.bypass_reason != "policy":
            self.storing.put(self.request, answer, self.place)
        else:
            self.place.settle()

    def give_up(self, reason: str) -> None:
        """The answer will not be made: let another have the lease."""
        self._end()
        if self._lease is not None and not self._lost:
            self.storing.abort(self.request, self._lease, reason)

    async def _lookup(self) -> Found | None:
        """Return what the cache says, or None if it does not in time."""
        reply = self.background.spawn(self._reply(), "lookup")
        try:
            async with asyncio.timeout(min(self.budget, self.remaining())):
                found = await asyncio.shield(reply)
        except TimeoutError:
            self._bypass("cache_timeout")
            reply.add_done_callback(self._late)
            return None
        except asyncio.CancelledError:
            reply.add_done_callback(self._late)
            raise
        match found:
            case Found():
                return found
            case InvalidRequest():
                raise found
            case DeadlineExceeded():
                self._bypass("cache_timeout")
            case _:
                # Whatever else is wrong with the cache, it is no reason not to answer.
                self._bypass("cache_unavailable")
        return None

    async def _reply(self) -> Found | AntiphonError:
        try:
            return await self.cache.lookup(
                self.request.caller,
                self.request.question,
                self.request.policy,
                self._token,
                timeout=self.budget + LATE_SECONDS,
            )
        except AntiphonError as error:
            return error

    def _late(self, reply: asyncio.Task[Found | AntiphonError]) -> None:
        """Take the lease from a reply that came after the fill had gone on."""
        if reply.cancelled() or reply.exception() is not None:
            return
        found = reply.result()
        if not isinstance(found, Found) or found.lease is None:
            return
        if self._made is not None:
            # Whoever waits for this lease elsewhere is served as well.
            self.storing.commit(self.request, found.lease, self._made, self.place)
        elif self._over or self._lease is not None:
            self.storing.abort(self.request, found.lease, "late")
        else:
            self._hold(found.lease)

    async def _wait(self, lease_id: str) -> Filled | Lease | None:
        """Wait for another's fill; None if it is not known any more, or (see `part`) the cache went away."""
        while True:
            left = self.remaining()
            if left <= 0:
                raise DeadlineExceeded("another request's answer was not finished within the deadline")
            try:
                result = await self.cache.wait_fill(
                    self.request.caller, lease_id, self._token, timeout=min(left, WAIT_SECONDS)
                )
            except NotFound:
                return None
            except DeadlineExceeded:
                continue
            except AntiphonError:
                self._bypass("cache_unavailable")
                return None
            if result is not None:
                return result

    def _hit(self, found: Found, answer: Answer) -> Hit:
        self.place.settle(found.entry_id)
        self.part = CachePart(found.outcome, entry_id=found.entry_id, decision=found.decision)
        if found.audit_id:
            self.auditing.take(self.request, found.audit_id)
        if found.lease is not None:
            self.auditing.refresh(self.request, found.lease)
        return Hit(answer, found.served_from or ServedFrom(answer.usage, answer.cost))

    def _filled(self, filled: Filled, decision: Decision | None) -> Hit:
        self.place.settle(filled.entry_id)
        self.part = CachePart(filled.outcome, entry_id=filled.entry_id, decision=decision, waited=True)
        if filled.audit_id:
            self.auditing.take(self.request, filled.audit_id)
        answer = filled.answer
        return Hit(answer, filled.served_from or ServedFrom(answer.usage, answer.cost))

    def _miss(self, found: Found) -> None:
        self.part = CachePart(found.outcome, decision=found.decision, bypass_reason=found.bypass_reason)
        self.embedding = found.embedding
        if found.outcome is Outcome.BYPASS and found.bypass_reason != "policy":
            self.degraded.append(f"cache_{found.bypass_reason or 'bypass'}")
        if found.lease is not None:
            self._hold(found.lease)

    def _bypass(self, reason: str) -> None:
        self.part = CachePart(Outcome.BYPASS, bypass_reason=reason)
        self.degraded.append(reason)

    def _insist(self) -> None:
        """Raise if the caller wants nothing but a cached answer."""
        if self.request.policy.mode is not CacheMode.ONLY_IF_CACHED:
            return
        if self.part.outcome is Outcome.BYPASS:
            raise Unavailable("the cache does not answer", reason=Reason.CACHE_UNAVAILABLE)
        raise NotFound("there is no cached answer", reason=Reason.NOT_CACHED)

    def _hold(self, lease: Lease) -> None:
        self._lease = lease
        self._renewing = self.background.spawn(self._renew(lease), "renew")

    async def _renew(self, lease: Lease) -> None:
        every = lease.duration / RENEWALS
        while True:
            await asyncio.sleep(every)
            try:
                await self.cache.renew(self.request.caller, lease.id, timeout=min(every, CALL_SECONDS))
            except Aborted:
                self._lost = True
                self.degraded.append("not_stored")
                return
            except NotFound:
                # The cache has forgotten all leases, so nobody else holds this one: the commit finds its way.
                return
            except AntiphonError:
                continue

    def _end(self) -> None:
        self._over = True
        if self._renewing is not None:
            self._renewing.cancel()
