"""How an answer becomes an entry: by a commit of a fill, or put directly."""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from itertools import compress

from services.cache.background import Background
from services.cache.clock import Clock
from services.cache.decision import Candidate
from services.cache.draft import Draft
from services.cache.embeddings import Embedding, Embeddings
from services.cache.entries import Entries, Rows
from services.cache.entry import MICROSECONDS, WRITTEN_AGAIN, Entry, Source
from services.cache.fill_values import Filled
from services.cache.fills import Fills
from services.cache.flight import Lease
from services.cache.freshness import time_to_live
from services.cache.outline import same, same_body
from services.cache.ports import Tombstone, Write
from services.cache.review import UNREVIEWED, Review
from services.cache.room import Victim
from services.cache.scope import Address, Addresses
from services.cache.storable import NotStored, semantically, unfit
from services.cache.values import CommitResult, Policy, Query, Vector
from services.cache.writer import Writer
from services.chassis.deadline import Deadline
from services.chassis.errors import AntiphonError, InvalidRequest, Unavailable
from services.llm.values import Answer

PUT_SECONDS = 10.0
"""That a Put waits for the embedding at most: unlike a lookup, nobody waits for its result."""

SPARE_SECONDS = 1.0
"""Of the caller's time that the embedding of a Put leaves for the store."""


class Storing:
    """Makes entries, in memory at once and in the store through the writer."""

    def __init__(
        self,
        *,
        addresses: Addresses,
        entries: Entries,
        embeddings: Embeddings,
        fills: Fills[Draft],
        writer: Writer,
        background: Background,
        evicted: Callable[[Victim], None],
        whole: Callable[[Entry], Awaitable[Entry | None]],
        version: str,
        ttl: float,
        max_entry_bytes: int,
        clock: Clock,
        chance: Callable[[], float],
    ) -> None:
        """`evicted` is told what went for lack of room; `whole`: see `Bodies.whole`; `version`: of what decides;
        `ttl`: the operator's, in seconds.

        `chance`: uniform in [0, 1), for jitter.
        """
        self._addresses = addresses
        self._entries = entries
        self._embeddings = embeddings
        self._fills = fills
        self._writer = writer
        self._background = background
        self._evicted = evicted
        self._whole = whole
        self._version = version
        self._ttl = ttl
        self._max_entry_bytes = max_entry_bytes
        self._clock = clock
        self._now = clock.now
        self._chance = chance

    def fill_key(self, address: Address, policy: Policy) -> str:
        """What fills are shared by: not with one from before a clear, nor with one that is made from other sources."""
        epoch = self._entries.epoch(address.tenant, address.namespace)
        return f"{address.entry_id}/{epoch}/{policy.sources}"

    def draft(self, address: Address, policy: Policy, vector: Vector | None, near: tuple[Candidate, ...] = ()) -> Draft:
        """What is kept of a question until its answer is committed; `near`: what was not served to it."""
        return Draft(
            address=address,
            ttl=min(policy.ttl or self._ttl, self._ttl),
            tags=policy.tags,
            sources=policy.sources,
            no_store=policy.no_store,
            epoch=self._entries.epoch(address.tenant, address.namespace),
            vector=vector,
            near=near,
        )

    async def commit(self, lease_id: str, answer: Answer, *, durable: bool, writer: str) -> CommitResult:
        """Store the answer of a fill and hand it to those who wait. The first commit of a lease counts.

        `writer`: the id of the API key that it is stored for.

        Raises Aborted(LEASE_LOST) and NotFound(LEASE_UNKNOWN).
        """
        lease = self._fills.held(lease_id)
        draft = lease.flight.context
        if lease.committed is not None:
            return await self._again(lease, durable=durable)
        not_stored, write = self._store(draft, answer, writer)
        entry_id = write.entry.id if write else ""
        result = CommitResult(entry_id, not_stored.value if not_stored else "")
        self._fills.commit(lease, Filled(answer, entry_id), result)
        if write is None:
            return result
        if durable:
            result = await self._durably(lease, write)
        else:
            self._writer.submit(write)
        if write.vector is None and draft.address.question.semantic and semantically(answer):
            self._background.start("embed committed", self._embed_later(write.entry, draft.address))
        return result

    async def put(
        self,
        tenant: str,
        query: Query,
        policy: Policy,
        answer: Answer,
        *,
        durable: bool,
        writer: str,
        deadline: Deadline,
    ) -> Entry:
        """Store an answer directly.

        Raises InvalidRequest for an answer that must not be stored, Unavailable if `durable` cannot be promised; the
        entry is served from memory even then.
        """
        address = self._addresses.of(tenant, query)
        reason = unfit(address.question.text, answer, max_bytes=self._max_entry_bytes)
        if reason is not None:
            raise _not_storable(reason)
        draft = self.draft(address, policy, None)
        if address.question.semantic and semantically(answer):
            within = min(PUT_SECONDS, deadline.remaining() - SPARE_SECONDS)
            draft = dataclasses.replace(draft, vector=(await self._embedding(address, within)).vector)
        write = self._write(draft, answer, Source.PUT, writer)
        reason = self._keep(write)
        if reason is NotStored.TOO_LARGE:
            raise _not_storable(reason)
        # If the namespace was cleared meanwhile, the Put came before the clear.
        if reason is None:
            if durable:
                await self._writer.durable(write)
            else:
                self._writer.submit(write)
        return write.entry

    def adopt(self, stored: Sequence[Write | Tombstone]) -> None:
        """Take over what is in the store, wherever it is newer than what is here."""
        self._entries.index(self.take_over(stored))

    def take_over(self, stored: Sequence[Write | Tombstone]) -> Rows:
        """As `adopt`, but for the index; see `Entries.take_many`."""
        self._clock.follow(one.updated_us for one in stored)
        hidden = self._writer.backlog.hides
        writes = [one for one in stored if isinstance(one, Write) and not hidden(one)]
        taken, rows = self._entries.take_many([(write.entry, write.vector) for write in writes])
        for write in compress(writes, taken):
            self._entries.hot.offer(write.entry)
        for one in stored:
            if isinstance(one, Tombstone):
                self._entries.bury(one)
        self._make_room()
        return rows

    def take_up(self, write: Write) -> NotStored | None:
        """Go on with what was made elsewhere and the store does not have yet; returns why it is not kept.

        What is over is left out without a reason.
        """
        if not write.entry.live(self._now()):
            return None
        reason = self._keep(write)
        if reason is None:
            self._writer.submit(write)
        return reason

    def _store(self, draft: Draft, answer: Answer, writer: str) -> tuple[NotStored | None, Write | None]:
        reason = unfit(draft.address.question.text, answer, max_bytes=self._max_entry_bytes)
        if reason in {None, NotStored.TOO_LARGE} and draft.no_store:
            reason = NotStored.NO_STORE
        if reason is not None:
            return reason, None
        write = self._write(draft, answer, Source.FILL, writer)
        reason = self._keep(write)
        return reason, write if reason is None else None

    def _write(self, draft: Draft, answer: Answer, source: Source, writer: str) -> Write:
        now = self._now()
        now_us = int(now * MICROSECONDS)
        lifetime = time_to_live(draft.ttl, limit=self._ttl, chance=self._chance())
        address = draft.address
        entry = Entry(
            id=address.entry_id,
            tenant=address.tenant,
            namespace=address.namespace,
            scope=address.scope,
            key=address.key,
            question=address.question.text,
            answer=answer,
            # An answer may be older than its entry, never younger.
            created_us=min(int(answer.created_at * MICROSECONDS), now_us) if answer.created_at > 0 else now_us,
            updated_us=now_us,
            expires_us=now_us + max(int(lifetime * MICROSECONDS), 1),
            ver=self._entries.next_ver(now_us),
            epoch=draft.epoch,
            source=source,
            tags=draft.tags,
            sources=draft.sources,
            decided_by=self._version,
            writer=writer,
            origin=self._addresses.sealed(address.scope, address.origin),
            review=self._still_said(address, answer),
        )
        return Write(entry, draft.vector if semantically(answer) else None)

    def _still_said(self, address: Address, answer: Answer) -> Review:
        """Whoever stores once more what was said to be wrong, a model too, has not said that it is right."""
        known = self._entries.find(address.tenant, address.namespace, address.entry_id)
        if known is None or known.review.quarantine is None or not same_body(known.answer, answer):
            return UNREVIEWED
        return known.review

    def _keep(self, write: Write) -> NotStored | None:
        if not self._entries.put(write.entry, write.vector):
            return NotStored.CLEARED
        self._make_room()
        # What is new goes at once only where its tenant or namespace may not have as many bytes as it takes.
        return None if self._entries.current(write.entry) else NotStored.TOO_LARGE

    def _make_room(self) -> None:
        victims = self._entries.pop_surplus(int(self._clock.settled() * MICROSECONDS))
        if victims:
            self._writer.remove([victim.entry for victim in victims])
        for victim in victims:
            self._evicted(victim)

    async def _durably(self, lease: Lease[Draft], write: Write) -> CommitResult:
        try:
            await self._writer.durable(write)
        except Unavailable:  # served from memory, and written when the store is back
            return CommitResult(write.entry.id)
        result = CommitResult(write.entry.id, durable=True)
        lease.committed = result
        return result

    async def _again(self, lease: Lease[Draft], *, durable: bool) -> CommitResult:
        result = lease.committed or CommitResult()
        if not durable or result.durable or not result.stored:
            return result
        address = lease.flight.context.address
        entry = self._entries.find(address.tenant, address.namespace, result.entry_id)
        if entry is None:  # deleted, cleared or evicted since: nothing to make durable
            return result
        try:
            await self._writer.confirm(entry)
        except Unavailable:
            return result
        lease.committed = CommitResult(entry.id, durable=True)
        return lease.committed

    async def _embedding(self, address: Address, within: float) -> Embedding:
        try:
            return await self._embeddings.of(address, within=within)
        except (TimeoutError, AntiphonError):
            # Stored all the same; only its own words find it until it is stored anew.
            return Embedding(None, 0)

    async def _embed_later(self, entry: Entry, address: Address) -> None:
        """Let reworded questions find an entry whose lookup had no use for the embedding."""
        vector = (await self._embedding(address, PUT_SECONDS)).vector
        if vector is not None:
            with suppress(Unavailable):  # then only its own words find it, too, until it is stored anew
                await self.give_vector(entry, vector)

    async def give_vector(self, entry: Entry, vector: Vector) -> None:
        """Let reworded questions find an entry that has none, unless another answer is in its place by now.

        Raises Unavailable if its answer's body is in the store only, and that is down.
        """
        whole = await self._whole(entry)
        if whole is None:
            return
        # A delete under way has chosen the entry as it is: in a newer version the same answer would outlive it.
        async with self._writer.exclusive():
            current = self._entries.find(entry.tenant, entry.namespace, entry.id)
            if current is None or not same(current.answer, whole.answer):
                return
            again = dataclasses.replace(current, answer=whole.answer, ver=current.ver + WRITTEN_AGAIN)
            write = Write(again, vector)
            if self._keep(write) is None:
                self._writer.submit(write)


def _not_storable(reason: NotStored) -> InvalidRequest:
    return InvalidRequest(f"answer: must not be stored ({reason.value})", field="answer")
