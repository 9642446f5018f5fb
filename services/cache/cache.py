"""The cache as its servicer sees it: every promise of the contract, in plain values.

One event loop, one instance. `run` keeps it going; without it nothing expires, is written, or becomes ready.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from services.cache.adapting import Adapting, Heard
from services.cache.answering import Answering
from services.cache.background import Background
from services.cache.backlog import Backlog
from services.cache.bodies import Bodies
from services.cache.draft import Draft
from services.cache.embeddings import Embeddings
from services.cache.entries import Entries
from services.cache.entry import MICROSECONDS, Entry
from services.cache.explaining import Explanation
from services.cache.feedback import Feedback, Reviewed, Verdict
from services.cache.fill_values import Granted
from services.cache.fills import Fills
from services.cache.flight import WaitResult
from services.cache.flying import Flying
from services.cache.learning.labels import Source
from services.cache.listing import Listing
from services.cache.outside import Limits, Outside
from services.cache.ports import Tombstone, Write
from services.cache.purging import Purging
from services.cache.recovery import Recovery
from services.cache.removal import Removal
from services.cache.reports import Reports
from services.cache.review import FeedbackSource
from services.cache.reviewing import Reviewing
from services.cache.room import Room
from services.cache.scope import Addresses
from services.cache.stats import Report, Stats
from services.cache.storing import Storing
from services.cache.tailing import Tailing
from services.cache.transfers import Transfers
from services.cache.values import Action, Asked, Chosen, CommitResult, LookupResult, Policy, Query
from services.cache.waiting import unknown
from services.cache.writer import Writer
from services.chassis.deadline import Deadline
from services.chassis.errors import NotFound
from services.llm.values import Answer

WAIT_MARGIN_SECONDS = 0.25
"""Before a waiter's deadline, at which it is told to come again; the reply has to travel, too."""

SPEAKERS = {
    FeedbackSource.USER: Source.CLIENT,
    FeedbackSource.JUDGE: Source.JUDGE,
    FeedbackSource.OPERATOR: Source.OPERATOR,
}
"""Whose feedback is learned from as verdicts; what an audit finds was learned before it is said."""

DRAIN_SECONDS = 10.0
"""That writing what waits may take when the process ends."""


class Cache:
    """Lookup, fills, storing, removal and statistics over one memory."""

    def __init__(self, limits: Limits, outside: Outside, *, stats: Stats | None = None) -> None:
        """`stats`: to go on with, of the cache that this one takes over from."""
        self._limits = limits
        self._outside = outside
        self._executor = ThreadPoolExecutor(max_workers=2, thread_name_prefix="search")
        self._background = Background(outside.report)
        self.now = outside.clock.now
        self.stats = stats or Stats(outside.clock.now)
        self.entries = Entries(
            outside.embedder_dim,
            room=Room(
                limits.capacity,
                dim=outside.embedder_dim,
                chance=outside.chance,
                p_wrong=lambda entry: self.adapting.p_wrong(entry),  # noqa: PLW0108 -- it is made below
            ),
            threads=limits.search_threads,
            executor=self._executor,
            hot_bytes=limits.hot_bytes,
        )
        flying = Flying(outside.embedder_dim)
        self.fills: Fills[Draft] = Fills(
            duration=limits.lease,
            monotonic=outside.clock.monotonic,
            max_active=limits.max_fills,
            watcher=flying,
        )
        self.addresses = addresses = Addresses(
            outside.key, embedder=outside.embedder_slug, longest=limits.max_entry_bytes
        )
        embeddings = Embeddings(outside.embedder, self._background)
        backlog = Backlog(
            outside.queue,
            outside.store,
            outside.epochs,
            max_bytes=limits.max_queue_bytes,
            cleared=lambda clear, epoch: self.recovery.cleared(clear, epoch),  # noqa: PLW0108 -- it is made below
            report=lambda error: outside.report("disk", error),
        )
        self.writer = Writer(
            outside.store,
            backlog,
            max_waiting=limits.max_unsaved,
            chance=outside.chance,
            adopt=lambda writes: self._storing.adopt(writes),  # noqa: PLW0108 -- it is made below, from this
            saved=self.entries.hot.saved,
            gave_up=self.stats.gave_up,
            report=lambda error: outside.report("store", error),
        )
        self.bodies = Bodies(
            entries=self.entries,
            store=outside.store,
            writer=self.writer,
            background=self._background,
            adopt=lambda writes: self._storing.adopt(writes),  # noqa: PLW0108 -- as above
            fetched=self.stats.fetched,
            monotonic=outside.clock.monotonic,
        )
        self._storing = Storing(
            addresses=addresses,
            entries=self.entries,
            embeddings=embeddings,
            fills=self.fills,
            writer=self.writer,
            background=self._background,
            evicted=self.stats.evicted,
            whole=self.bodies.whole,
            version=outside.judge.version,
            ttl=limits.ttl,
            max_entry_bytes=limits.max_entry_bytes,
            clock=outside.clock,
            chance=outside.chance,
        )
        self.recovery = Recovery(
            open_store=outside.open_store,
            store=outside.store,
            epochs=outside.epochs,
            entries=self.entries,
            storing=self._storing,
            writer=self.writer,
            clock=outside.clock,
            stale=limits.stale,
            chance=outside.chance,
            report=lambda error: outside.report("hydration", error),
        )
        self.tailing = Tailing(
            store=outside.store,
            epochs=outside.epochs,
            entries=self.entries,
            storing=self._storing,
            writer=self.writer,
            recovery=self.recovery,
            clock=outside.clock,
            report=lambda error: outside.report("tail", error),
        )
        self.purging = Purging(
            store=outside.store,
            epochs=outside.epochs,
            leases=outside.leases,
            recovery=self.recovery,
            clock=outside.clock,
            stale=limits.stale,
            report=lambda error: outside.report("purge", error),
        )
        self._reviewing = Reviewing(
            addresses=addresses,
            entries=self.entries,
            store=outside.store,
            storing=self._storing,
            writer=self.writer,
            recovery=self.recovery,
            background=self._background,
            heed=self._heed,
            settle=lambda entry: self.adapting.settled(entry),  # noqa: PLW0108 -- it is made below
            users=limits.quarantine_users,
            now=outside.clock.now,
        )
        self._removal = Removal(
            entries=self.entries,
            store=outside.store,
            epochs=outside.epochs,
            writer=self.writer,
            recovery=self.recovery,
            reviewing=self._reviewing,
            background=self._background,
            clock=outside.clock,
            stale=limits.stale,
        )
        self.adapting = Adapting(
            outside.learning,
            judge=outside.judge,
            executor=self._executor,
            background=self._background,
            counted=self.stats.compared,
            withdraw=self._withdraw,
            find=self.entries.find,
            whole=self.bodies.whole,
            monotonic=outside.clock.monotonic,
            chance=outside.chance,
            report=lambda error: outside.report("learning", error),
        )
        self.transfers = Transfers(
            addresses=addresses,
            entries=self.entries,
            bodies=self.bodies,
            embeddings=embeddings,
            storing=self._storing,
            writer=self.writer,
            recovery=self.recovery,
            limits=limits,
            outside=outside,
        )
        self.listing = Listing(entries=self.entries, recovery=self.recovery, stats=self.stats, now=outside.clock.now)
        self._answering = Answering(
            addresses=addresses,
            entries=self.entries,
            bodies=self.bodies,
            embeddings=embeddings,
            fills=self.fills,
            flying=flying,
            storing=self._storing,
            readiness=self.recovery,
            adapting=self.adapting,
            executor=self._executor,
            limits=limits,
            outside=outside,
        )
        self._reports = Reports(
            entries=self.entries,
            stats=self.stats,
            adapting=self.adapting,
            writer=self.writer,
            recovery=self.recovery,
            late=self.transfers.late,
            embedder=outside.embedder_slug,
            now=outside.clock.now,
        )

    async def run(self) -> None:
        """Everything that goes on beside calls, until cancelled. Raises what makes this process useless."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.recovery.run())
            group.create_task(self.writer.run())
            group.create_task(self.fills.run())
            group.create_task(self._removal.sweep())
            group.create_task(self.tailing.run())
            group.create_task(self.purging.run())
            group.create_task(self.adapting.run())
            group.create_task(self.transfers.late.run())

    async def aclose(self) -> None:
        """Write what waits for the store, for a limited time; after `run` has been cancelled and calls have ended."""
        try:
            async with asyncio.timeout(DRAIN_SECONDS):
                await self.writer.drain()
                await self.adapting.save()
        except TimeoutError as error:
            self._outside.report("drain", error)
        finally:
            await self._background.aclose()
            self._executor.shutdown(wait=False, cancel_futures=True)

    async def lookup(self, tenant: str, asked: Asked, deadline: Deadline) -> LookupResult:
        """Look for a stored answer; on a miss, who makes it."""
        begun = self._outside.clock.monotonic()
        result = await self._answering.lookups.lookup(tenant, asked, deadline)
        if result.entry is None or result.entry.whole:  # as mostly
            result = self._answering.serving.audited(result)
        else:
            result = await self._answering.serving.found(result, tenant, asked, deadline)
        self._count(tenant, asked, result, self._outside.clock.monotonic() - begun)
        return result

    async def lookup_many(self, tenant: str, asked: Sequence[Asked], deadline: Deadline) -> list[LookupResult]:
        """As many lookups one after the other, at less cost; each is counted with the time of all."""
        begun = self._outside.clock.monotonic()
        results = await self._answering.serving.lookup_many(tenant, asked, deadline)
        seconds = self._outside.clock.monotonic() - begun
        for one, result in zip(asked, results, strict=True):
            self._count(tenant, one, result, seconds)
        return results

    async def explain(
        self, tenant: str, query: Query, policy: Policy, *, limit: int, deadline: Deadline
    ) -> Explanation:
        """What a lookup would do now, and why; changes nothing."""
        return await self._answering.explaining.explain(tenant, query, policy, limit=limit, deadline=deadline)

    async def wait(self, tenant: str, lease_id: str, token: str, deadline: Deadline) -> WaitResult | LookupResult:
        """Wait for an answer that someone else makes, until shortly before `deadline`; see `Waiting.wait`.

        Raises NotFound(LEASE_UNKNOWN).
        """
        margin = min(WAIT_MARGIN_SECONDS, deadline.remaining() / 2)
        until = self._outside.clock.monotonic() + deadline.remaining() - margin
        result = await self._answering.waiting.wait(tenant, lease_id, token, until)
        if isinstance(result, LookupResult) and result.entry is not None:
            self.stats.shared(tenant, result.entry.namespace, result)
            self.entries.hit(result.entry)
        return result

    def renew(self, tenant: str, lease_id: str) -> Granted:
        """Extend a lease. Raises Aborted(LEASE_LOST), NotFound(LEASE_UNKNOWN)."""
        self._own(tenant, lease_id)
        return self.fills.renew(lease_id)

    async def commit(
        self, tenant: str, lease_id: str, answer: Answer, *, durable: bool, writer: str = ""
    ) -> CommitResult:
        """Store the answer of a fill and hand it to all who wait; `writer` names an API key. Raises as `renew`."""
        self._own(tenant, lease_id)
        lease = self.fills.held(lease_id)
        if lease.committed is None:
            self.adapting.committed(lease.flight.context, answer)
        return await self._storing.commit(lease_id, answer, durable=durable, writer=writer)

    async def audited(self, tenant: str, audit_id: str, answer: Answer) -> Heard:
        """Compare the fresh answer of an audit with what was served; an audit that is not open says nothing."""
        return await self.adapting.audited(tenant, audit_id, answer)

    def abort(self, tenant: str, lease_id: str) -> bool:
        """Give up a fill; whether it was held until now."""
        try:
            self._own(tenant, lease_id)
        except NotFound:
            return False
        return self.fills.abort(lease_id)

    async def put(
        self,
        tenant: str,
        query: Query,
        policy: Policy,
        answer: Answer,
        *,
        durable: bool,
        writer: str = "",
        deadline: Deadline,
    ) -> Entry:
        """Store an answer directly; `writer` names an API key. Raises InvalidRequest, Unavailable."""
        return await self._storing.put(tenant, query, policy, answer, durable=durable, writer=writer, deadline=deadline)

    def carry(self, entry: Entry) -> None:
        """Take over what the cache of another embedder has stored; it is embedded in the background."""
        if self._storing.take_up(Write(entry, None)) is None:
            self.transfers.late.want(entry)

    async def remove(
        self,
        tenant: str,
        chosen: Chosen,
        action: Action = Action.DELETE,
        *,
        by: str = "",
        dry_run: bool = False,
        buried: list[tuple[Entry, Tombstone]] | None = None,
    ) -> int:
        """Delete, quarantine or release entries; how many. Raises NotFound, Unavailable.

        What is deleted is added to `buried`, with what took its place in the store.
        """
        return await self._removal.remove(tenant, chosen, action, by=by, dry_run=dry_run, buried=buried)

    async def feedback(self, tenant: str, feedback: Feedback) -> Reviewed:
        """Take what is said about an entry. Raises NotFound, Unavailable."""
        return await self._reviewing.feedback(tenant, feedback)

    async def clear(self, tenant: str, namespace: str, *, dry_run: bool) -> tuple[int, int]:
        """Clear a namespace; how many live entries it had, and its epoch. Raises Unavailable."""
        return await self._removal.clear(tenant, namespace, dry_run=dry_run)

    async def report(self, tenant: str, namespace: str | None) -> Report:
        """Sizes and counts of one namespace, or of all of the tenant."""
        return await self._reports.of(tenant, namespace)

    def _count(self, tenant: str, asked: Asked, result: LookupResult, seconds: float) -> None:
        self.stats.count(tenant, asked.query.namespace, result, seconds)
        if result.entry is not None:
            self.entries.hit(result.entry)

    def _heed(self, verdict: Verdict) -> None:
        """Tell those outside, and who learns when answers may be served to others' questions."""
        self._outside.heed(verdict)
        feedback, entry = verdict.feedback, verdict.entry
        source = SPEAKERS.get(feedback.source)
        if source is not None and feedback.semantic:
            self.adapting.judged(entry.tenant, entry.namespace, entry.id, source, right=feedback.right)

    def _withdraw(self, entry: Entry) -> None:
        """Say that an audit found an answer wrong for a reworded question, unless another is in its place by now."""
        if self.entries.current(entry):
            said = Feedback(
                entry.id,
                FeedbackSource.AUDIT,
                right=False,
                semantic=True,
                namespace=entry.namespace,
                answered_us=round(entry.answer.created_at * MICROSECONDS),
            )
            self._background.start("withdraw", self._reviewing.feedback(entry.tenant, said))

    def _own(self, tenant: str, lease_id: str) -> None:
        if self.fills.context(lease_id).address.tenant != tenant:
            raise unknown()
