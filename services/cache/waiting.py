"""Waiting for an answer that someone else makes, to the same question or to one like it.

Who waits behind a question like theirs is not handed its answer: when it has come the question is looked up again, by
the rule that holds then, as any other. If it is not served, or if there is nothing to wait for any more, it goes behind
another question in flight that will do, or gets the right to fill its own.
"""

from __future__ import annotations

from collections.abc import Callable

from services.cache.decision import Bar
from services.cache.draft import Draft
from services.cache.fill_values import Granted, InProgress, Pending
from services.cache.fills import Fills
from services.cache.flight import WaitResult
from services.cache.followers import Follower, Followers
from services.cache.joining import Joining
from services.cache.serving import Serving
from services.cache.values import LookupResult
from services.chassis.errors import NotFound, Reason


class Waiting:
    """All who wait, by the id that their lookup gave them."""

    def __init__(
        self,
        *,
        fills: Fills[Draft],
        followers: Followers,
        serving: Serving,
        joining: Joining,
        bar: Bar,
        monotonic: Callable[[], float],
    ) -> None:
        """`bar`: the operator's, of the verifier."""
        self._fills = fills
        self._followers = followers
        self._serving = serving
        self._joining = joining
        self._bar = bar
        self._monotonic = monotonic

    async def wait(self, tenant: str, lease_id: str, token: str, until: float) -> WaitResult | LookupResult:
        """The answer, a lease, or Pending at `until` (monotonic). A `LookupResult` has an entry.

        Raises NotFound(LEASE_UNKNOWN): the caller has to look up again.
        """
        while (place := self._followers.get(tenant, lease_id)) is not None:
            if place.instead:
                lease_id = place.instead
                continue
            over = await self._fills.watch(place.flight, until)
            if isinstance(over, Pending):
                return over
            result = await self._again(place, until, joins=not over.committed)
            if result.entry is not None:
                return result
            if isinstance(result.fill, Granted):
                return result.fill
            if not isinstance(result.fill, InProgress):
                raise unknown()
            lease_id = place.instead = result.fill.lease_id
        return await self._equal(tenant, lease_id, token, until)

    async def _again(self, place: Follower, until: float, *, joins: bool) -> LookupResult:
        # Where one answer may not be shared the next one may hardly be either: each makes its own then, instead of
        # waiting for all before it.
        return await self._serving.again(place.ask, place.vector, until - self._monotonic(), joins=joins)

    async def _equal(self, tenant: str, lease_id: str, token: str, until: float) -> WaitResult:
        draft = self._fills.context(lease_id)
        if draft.address.tenant != tenant:
            raise unknown()
        # Its holder may have given up before this caller came, and those behind it gone on with a question like it.
        idle = bool(token) and self._fills.idle(lease_id)
        if idle and draft.vector is not None and self._joining.near(draft.address, draft.vector, self._bar):
            raise unknown()
        return await self._fills.wait(lease_id, token, until)


def unknown() -> NotFound:
    """What a caller is told whose lease, or whose place behind one, is not there, or not its own."""
    return NotFound("the lease is not known here", reason=Reason.LEASE_UNKNOWN)
