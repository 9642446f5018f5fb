"""Takes over entries of another cache: each at the address that its question has here, unless a newer one is there."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from services.cache.entries import Entries
from services.cache.entry import MICROSECONDS, Entry
from services.cache.late_embedding import LateEmbedding
from services.cache.outline import same
from services.cache.portable import Portable
from services.cache.ports import Write
from services.cache.recovery import Recovery
from services.cache.review import Review
from services.cache.scope import VERSION, Address, Addresses
from services.cache.storable import semantically, unfit
from services.cache.storing import Storing
from services.cache.values import Vector
from services.cache.writer import Writer
from services.chassis.errors import InvalidRequest

BATCH = 256
"""Lines that are stored together."""

STEP = 8
"""Lines that are looked at before others may run: about 2 ms."""

MAX_TAGS = 16
"""Of one entry, those that an import adds among them."""

MAX_PROBLEMS = 100
"""Lines that are told one by one."""

INVALID = "invalid"
ADDRESS_VERSION = "address_version"
"""Reasons for which lines are refused; further ones are those of `NotStored`."""


class Fate(StrEnum):
    """What becomes of a line that is not refused."""

    STORED = "stored"
    UNCHANGED = "unchanged"
    OLDER = "older"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class Terms:
    """How an import goes: see `ImportOptions` of the contract."""

    strict: bool = False
    dry_run: bool = False
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a line was refused; `field` from the entry on, or empty."""

    line: int
    reason: str
    field: str
    message: str


@dataclass(frozen=True, slots=True)
class Line:
    """A line as it was read: an entry, or what is wrong with it."""

    number: int
    entry: Portable | InvalidRequest


@dataclass(slots=True)
class Taken:
    """What has become of all lines so far."""

    fates: Counter[Fate] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    problems: list[Problem] = field(default_factory=list)
    late: int = 0
    """Stored, and to be embedded."""


class Importing:
    """Stores what comes, durably before it says so."""

    def __init__(
        self,
        *,
        addresses: Addresses,
        entries: Entries,
        storing: Storing,
        writer: Writer,
        recovery: Recovery,
        late: LateEmbedding,
        embedder: str,
        dim: int,
        ttl: float,
        max_entry_bytes: int,
        now: Callable[[], float],
    ) -> None:
        """`embedder`: the slug of its identity, `dim`: of its vectors; `ttl`: the operator's, in seconds.

        `now`: Unix seconds.
        """
        self._addresses = addresses
        self._entries = entries
        self._storing = storing
        self._writer = writer
        self._recovery = recovery
        self._late = late
        self._embedder = embedder
        self._dim = dim
        self._ttl = ttl
        self._max_entry_bytes = max_entry_bytes
        self._now = now

    async def take(self, tenant: str, lines: Sequence[Line], terms: Terms, taken: Taken) -> None:
        """Take over some lines, and count them in `taken`.

        Raises Unavailable until everything stored is known, and while the store is down; with `strict` InvalidRequest
        for the first line that is refused, after those before it are stored.
        """
        self._recovery.require_all()
        for start in range(0, len(lines), BATCH):
            await self._take(tenant, lines[start : start + BATCH], terms, taken)

    async def _take(self, tenant: str, lines: Sequence[Line], terms: Terms, taken: Taken) -> None:
        stored: list[Write] = []
        problem: Problem | None = None
        for number, line in enumerate(lines, start=1):
            if number % STEP == 0:
                await asyncio.sleep(0)
            try:
                fate, write = self._decide(tenant, line.entry, terms)
                if write is not None:
                    # In memory before the next line is looked at: it may be the same question's.
                    self._take_up(write)
            except _RefusedError as refused:
                problem = Problem(line.number, refused.reason, refused.field, refused.message)
                taken.refused[problem.reason] += 1
                if len(taken.problems) < MAX_PROBLEMS:
                    taken.problems.append(problem)
                if terms.strict:
                    break
                continue
            taken.fates[fate] += 1
            if write is not None:
                stored.append(write)
        await self._keep(stored)
        taken.late += sum(self._late.want(write.entry) for write in stored if write.vector is None)
        if problem is not None and terms.strict:
            where = f"{problem.field}: " if problem.field else ""
            raise InvalidRequest(f"line {problem.line}: {where}{problem.message}", field=f"lines[{problem.line}]")

    async def _keep(self, writes: Sequence[Write]) -> None:
        """Return when the store has them; what has gone for lack of room since is left out."""
        kept = [write for write in writes if self._entries.current(write.entry)]
        outcomes = await asyncio.gather(*map(self._writer.durable, kept), return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome

    def _decide(self, tenant: str, line: Portable | InvalidRequest, terms: Terms) -> tuple[Fate, Write | None]:
        if isinstance(line, InvalidRequest):
            raise _RefusedError(INVALID, line.field or "", line.message.removeprefix(f"{line.field}: "))
        if line.version != VERSION:
            raise _RefusedError(ADDRESS_VERSION, "address_version", f"must be {VERSION}")
        reason = unfit(line.question, line.answer, max_bytes=self._max_entry_bytes)
        if reason is not None:
            raise _RefusedError(reason.value, "answer", f"must not be stored ({reason.value})")
        tags = tuple(dict.fromkeys((*line.tags, *terms.tags)))
        if len(tags) > MAX_TAGS:
            raise _RefusedError(INVALID, "tags", f"at most {MAX_TAGS}, with those that the import adds")
        try:
            address = self._addresses.at(tenant, line.namespace, line.question, line.origin)
        except ValueError as error:
            raise _RefusedError(INVALID, "question", str(error)) from None
        now_us = int(self._now() * MICROSECONDS)
        line = replace(line, review=_past(line.review, now_us))
        created_us = min(line.created_us, now_us)
        expires_us = min(line.expires_us, now_us + int(self._ttl * MICROSECONDS))
        if expires_us <= now_us:
            return Fate.EXPIRED, None
        before = self._entries.get(address)
        if before is not None and before.live(self._now()):
            fate = _beside(before, line, created_us)
            if fate is not Fate.STORED:
                if fate is Fate.UNCHANGED and not terms.dry_run:
                    self._late.want(before)
                return fate, None
        if terms.dry_run:
            return Fate.STORED, None
        entry = self._entry(address, line, tags, created_us=created_us, expires_us=expires_us, now_us=now_us)
        return Fate.STORED, Write(entry, self._vector(address, line))

    def _take_up(self, write: Write) -> None:
        reason = self._storing.take_up(write)
        if reason is not None:
            raise _RefusedError(reason.value, "answer", f"must not be stored ({reason.value})")

    def _entry(
        self, address: Address, line: Portable, tags: tuple[str, ...], *, created_us: int, expires_us: int, now_us: int
    ) -> Entry:
        return Entry(
            id=address.entry_id,
            tenant=address.tenant,
            namespace=address.namespace,
            scope=address.scope,
            key=address.key,
            question=line.question,
            answer=line.answer,
            created_us=created_us,
            updated_us=now_us,
            expires_us=expires_us,
            ver=self._entries.next_ver(now_us),
            epoch=self._entries.epoch(address.tenant, address.namespace),
            source=line.source,
            tags=tags,
            sources=line.sources,
            decided_by=line.decided_by,
            writer=line.writer,
            answered_us=now_us if line.review.said else 0,
            review=line.review,
            origin=self._addresses.sealed(address.scope, address.origin),
        )

    def _vector(self, address: Address, line: Portable) -> Vector | None:
        vector = line.vector
        if vector is None or line.embedder != self._embedder or len(vector) != self._dim:
            return None
        return vector if address.question.semantic and semantically(line.answer) else None


class _RefusedError(Exception):
    """A line that is not taken."""

    def __init__(self, reason: str, field: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.field = field
        self.message = message


def _past(review: Review, now_us: int) -> Review:
    """The same, none of it said in the future: that would stand against whatever is said from now on."""
    said = tuple(replace(one, at_us=min(one.at_us, now_us)) for one in review.said)
    held = review.quarantine
    if held is not None:
        held = replace(held, at_us=min(held.at_us, now_us))
    return replace(review, said=said, quarantine=held)


def _beside(before: Entry, line: Portable, created_us: int) -> Fate:
    """What becomes of a line where another answer, or the same, is there already."""
    if same(before.answer, line.answer):
        return Fate.STORED if _last_said(line.review) > _last_said(before.review) else Fate.UNCHANGED
    return Fate.OLDER if before.created_us >= created_us else Fate.STORED


def _last_said(review: Review) -> int:
    return max((said.at_us for said in review.said), default=0)
