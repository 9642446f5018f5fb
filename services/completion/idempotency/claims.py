"""The right to make the answer of one key: got, held, and given back with the answer or without."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from services.chassis.errors import AntiphonError, InvalidRequest, Reason, Unavailable
from services.completion.idempotency.ports import Records
from services.completion.idempotency.records import (
    Record,
    Scope,
    Terms,
    Verdict,
    claimed,
    finished,
    judge,
    renewed,
    taken_over,
)

FIELD = "idempotency_key"

FIRST_LOOK, LAST_LOOK = 0.02, 1.0
"""Seconds between two looks at an answer that another process makes: doubled from the first to the last."""

TRIES = 4
FIRST_BACKOFF = 0.1
"""For a write whose loss costs money: a store that was just restarted is found at the second try."""


@dataclass(frozen=True, slots=True)
class Outside:
    """What is not decided here, so that tests can: the time, waiting, and new names."""

    now: Callable[[], float] = time.time
    pause: Callable[[float], Awaitable[None]] = asyncio.sleep
    name: Callable[[], str] = lambda: uuid.uuid4().hex


def reused() -> InvalidRequest:
    """Return what a caller gets who uses a key for another request."""
    return InvalidRequest(
        "idempotency_key: was used before, with another request",
        reason=Reason.IDEMPOTENCY_KEY_REUSED,
        field=FIELD,
    )


class Claim:
    """One claim of this process, from before it is made until it is settled."""

    def __init__(self, records: Records, scope: Scope, body: str, terms: Terms, outside: Outside) -> None:
        self._records = records
        self._terms = terms
        self._outside = outside
        self._scope = scope
        self._body = body
        self._record = claimed(scope, body, outside.name(), outside.now(), terms)
        self.tried = False
        """The store may have our record."""
        self.took_over = False

    async def get(self) -> bytes | None:
        """Wait until the key is ours, then return None, or until it has an answer: then return that.

        Raises InvalidRequest(IDEMPOTENCY_KEY_REUSED), and Unavailable(STORE_UNAVAILABLE).
        """
        look = FIRST_LOOK
        found: Record | None = None
        while True:
            if found is None and await self._insert():
                return None
            found = await self._records.find(self._scope)
            if found is None:
                continue
            match judge(found, self._body, self._outside.now()):
                case Verdict.REUSED:
                    raise reused()
                case Verdict.ANSWERED:
                    return found.response
                case Verdict.BUSY:
                    await self._outside.pause(look)
                    look = min(look * 2, LAST_LOOK)
                case Verdict.ABANDONED:
                    if await self._take_over(found):
                        return None

    async def hold(self) -> None:
        """Renew the lease again and again, until cancelled or until the claim is another's."""
        while True:
            await self._outside.pause(self._terms.lease / 3)
            try:
                if not await self._renew():
                    return
            except AntiphonError:
                # The store is away. If it comes back in time, so does the lease.
                continue

    async def leave(self, response: bytes) -> bool:
        """Store the answer; False if that cannot be done, or the claim is another's by now."""
        backoff = FIRST_BACKOFF
        for number in range(TRIES):
            if number:
                await self._outside.pause(backoff)
                backoff *= 2
            try:
                return await self._leave(response)
            except Unavailable:
                continue
            except AntiphonError:
                return False
        return False

    async def give_up(self) -> None:
        """Free the key for whoever comes next; if the store is away the lease runs out by itself."""
        if not self.tried:
            return
        try:
            await self._records.free(self._scope, self._record.owner)
        except AntiphonError:
            return

    async def _insert(self) -> bool:
        self.tried = True
        self._record = claimed(self._scope, self._body, self._record.owner, self._outside.now(), self._terms)
        try:
            return await self._records.insert(self._record)
        except Unavailable:
            # Once more: a store that has moved is found at the second try, and inserting is safe to repeat.
            return await self._records.insert(self._record)

    async def _take_over(self, found: Record) -> bool:
        self.tried = True
        record = taken_over(found, self._body, self._record.owner, self._outside.now(), self._terms)
        if not await self._records.replace(record, version=found.version):
            return False
        self._record, self.took_over = record, True
        return True

    async def _renew(self) -> bool:
        record = renewed(self._record, self._outside.now(), self._terms)
        if await self._records.replace(record, version=self._record.version):
            self._record = record
            return True
        return await self._still_ours()

    async def _still_ours(self) -> bool:
        """Whether the store has our claim, perhaps of a version whose writing was never confirmed to us."""
        found = await self._records.find(self._scope)
        if found is None or found.owner != self._record.owner:
            return False
        self._record = found
        return True

    async def _leave(self, response: bytes) -> bool:
        done = finished(self._record, response, self._outside.now(), self._terms)
        if await self._records.replace(done, version=self._record.version):
            return True
        found = await self._records.find(self._scope)
        if found is None:
            # Purged, or the store was wiped: nobody else has the key.
            return await self._records.insert(done)
        if found.owner != done.owner:
            return False
        return await self._records.replace(replace(done, version=found.version + 1), version=found.version)
