"""What a lookup found, with all that is needed to serve it: the answer's body may be in the store only.

A store that is down or slow costs the hit, and the result says so; it never fails the lookup. What has changed since
the decision is looked up anew.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

from services.cache.adapting import Adapting
from services.cache.ask import Ask
from services.cache.batch import MAX_SERVED_BYTES, BatchLookups
from services.cache.bodies import FETCH_SECONDS, READ_BYTES, Bodies
from services.cache.decision import Veto
from services.cache.entry import Entry
from services.cache.lookup import Lookups, bypass
from services.cache.outline import body_bytes
from services.cache.values import Asked, BypassReason, LookupResult, Outcome, Vector
from services.chassis.deadline import Deadline
from services.chassis.errors import AntiphonError

FETCH_MARGIN_SECONDS = 0.1
"""Of the caller's time that a fetch leaves, so that the caller hears from this cache why there is no answer."""

ATTEMPTS = 3
"""To look up what changes again and again while its body is fetched."""

Again = Callable[[], Awaitable[LookupResult]]


class Serving:
    """Lookups whose results can be served. Counts semantic hits for what is learned, once they are."""

    def __init__(
        self,
        lookups: Lookups,
        batches: BatchLookups,
        bodies: Bodies,
        adapting: Adapting,
        *,
        now: Callable[[], float],
        monotonic: Callable[[], float],
    ) -> None:
        """`now`: Unix seconds."""
        self._lookups = lookups
        self._batches = batches
        self._bodies = bodies
        self._adapting = adapting
        self._now = now
        self._monotonic = monotonic

    async def found(self, result: LookupResult, tenant: str, asked: Asked, deadline: Deadline) -> LookupResult:
        """What is served of the result of `Lookups.lookup`, whose entry is not `whole`."""
        again = self._once_more(tenant, asked, deadline)
        return self.audited(await self._whole(result, again, lambda: deadline.remaining() - FETCH_MARGIN_SECONDS))

    async def again(self, ask: Ask, vector: Vector, within: float, *, joins: bool) -> LookupResult:
        """See `Lookups.again`."""
        until = self._monotonic() + within

        async def again() -> LookupResult:
            return await self._lookups.again(ask, vector, until - self._monotonic(), joins=joins)

        result = await self._whole(await again(), again, lambda: until - self._monotonic())
        return self.audited(result)

    async def lookup_many(self, tenant: str, asked: Sequence[Asked], deadline: Deadline) -> list[LookupResult]:
        """See `BatchLookups.lookup`; bodies are fetched together, some at a time, and those that came are kept.

        What finds no room in the response stays without its body.
        """
        results = await self._batches.lookup(tenant, asked, deadline)
        until = self._monotonic() + min(FETCH_SECONDS, deadline.remaining() - FETCH_MARGIN_SECONDS)
        failed: Exception | None = None
        for cold in _portions(results):
            try:
                if failed is not None:
                    raise failed
                entries = [entry for place in cold if (entry := results[place].entry) is not None]
                whole = await self._bodies.all_whole(entries, until - self._monotonic())
            except (TimeoutError, AntiphonError) as error:
                failed = error
                for place in cold:
                    results[place] = _without(results[place], error)
                continue
            for place, entry in zip(cold, whole, strict=True):
                result = self._with(results[place], entry)
                if result is None:
                    again = self._once_more(tenant, asked[place], deadline)
                    result = await _instead(results[place], again)
                    result = await self._whole(result, again, lambda: deadline.remaining() - FETCH_MARGIN_SECONDS)
                results[place] = result
        return [self.audited(result) for result in results]

    async def _whole(self, result: LookupResult, again: Again, left: Callable[[], float]) -> LookupResult:
        """The result with the body of its answer; `left`: seconds that the caller has."""
        for _ in range(ATTEMPTS):
            if result.entry is None or result.entry.whole:
                return result
            try:
                (entry,) = await self._bodies.all_whole([result.entry], min(FETCH_SECONDS, left()))
            except (TimeoutError, AntiphonError) as error:
                return _without(result, error)
            found = self._with(result, entry)
            if found is not None:
                return found
            result = await _instead(result, again)
        return bypass(BypassReason.STORE_UNAVAILABLE)

    def _with(self, result: LookupResult, entry: Entry | None) -> LookupResult | None:
        """The result with what was fetched; None if that may not be served any more."""
        if entry is None or (result.outcome is not Outcome.STALE and not entry.live(self._now())):
            return None
        return replace(result, entry=entry)

    def _once_more(self, tenant: str, asked: Asked, deadline: Deadline) -> Again:
        async def again() -> LookupResult:
            return await self._lookups.lookup(tenant, asked, deadline)

        return again

    def audited(self, result: LookupResult) -> LookupResult:
        """The result, which is `whole` or has no entry; a semantic hit is counted and may ask for an audit."""
        if result.outcome is not Outcome.SEMANTIC or result.entry is None:
            return result
        audit_id = self._adapting.served(result.entry, result.decision)
        return replace(result, audit_id=audit_id) if audit_id else result


def _portions(results: Sequence[LookupResult]) -> list[list[int]]:
    """Places of the results whose bodies are fetched together, as far as the response has room for them."""
    portions: list[list[int]] = [[]]
    served = portion = 0
    for place, result in enumerate(results):
        if result.entry is None:
            continue
        size = body_bytes(result.entry.answer)
        served += size
        if result.entry.whole or served > MAX_SERVED_BYTES:
            continue
        if portion and portion + size > READ_BYTES:
            portions.append([])
            portion = 0
        portions[-1].append(place)
        portion += size
    return [portion for portion in portions if portion]


async def _instead(result: LookupResult, again: Again) -> LookupResult:
    """What is served instead of an entry that has changed meanwhile."""
    # Whoever has the right to make a stale answer anew, or waits for it, has no need of the old one.
    return await again() if result.fill is None else _missed(result)


def _without(result: LookupResult, error: Exception) -> LookupResult:
    """The result if the body cannot be had in time."""
    if result.fill is not None:
        return _missed(result)
    late = isinstance(error, TimeoutError)
    return bypass(BypassReason.STORE_TIMEOUT if late else BypassReason.STORE_UNAVAILABLE)


def _missed(stale: LookupResult) -> LookupResult:
    return LookupResult(Outcome.MISS, decision=replace(stale.decision, vetoes=(Veto.NOT_FETCHED,)), fill=stale.fill)
