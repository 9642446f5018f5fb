"""`antiphon.cache.v1.CacheService`: translates and delegates."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import aclosing

from antiphon.cache.v1 import cache_pb2 as pb
from antiphon.cache.v1 import reembedding_pb2 as reembedding
from antiphon.cache.v1 import transfer_pb2 as transfer
from services.cache.batch_proto import BatchResponse, read_batch
from services.cache.decision import JUDGED
from services.cache.exporting_proto import ExportParts, read_exported
from services.cache.feedback_proto import read_feedback, write_reviewed
from services.cache.fill_values import Granted
from services.cache.importing import Taken, Terms
from services.cache.importing_proto import read_lines, read_terms, write_taken
from services.cache.inspecting_proto import read_limit, read_place, read_wanted, write_explanation, write_page
from services.cache.metrics import CacheMetrics
from services.cache.proto import (
    read_audit_id,
    read_lease_id,
    read_namespace,
    read_policy,
    read_query,
    read_stored_answer,
    read_token,
    write_embedding,
    write_lease,
    write_lookup,
    write_report,
    write_wait,
)
from services.cache.recent_proto import RecentQueries
from services.cache.reembedding_proto import ROLES, read_choice, read_share, write_plan
from services.cache.removing_proto import read_action, read_chosen
from services.cache.rotation.rotating import Rotating
from services.cache.rotation.sides import Side, Sides
from services.cache.scope import VERSION
from services.cache.served_proto import RecentlyServed
from services.cache.values import Asked, LookupResult
from services.chassis.call import Call
from services.chassis.errors import InvalidRequest
from services.chassis.handler import client_stream, server_stream, unary
from services.chassis.random_ids import RandomIds
from services.llm.fields import invalid
from services.llm.writing import write_timestamp

DEADLINE = 5.0
BATCH_DEADLINE = 30.0
WAIT_DEADLINE = 60.0
"""Seconds for calls whose callers set no deadline."""

LEASES = "leases"
"""Group of places for those who hold a lease: whoever waits must not keep them from ending the wait."""

LEASE_PLACES = 512

WAITERS = "waiters"
"""Group of places for those who wait."""

OPERATING = "operating"
"""Group of places for what frees memory, or says how much is used: it is never refused for lack of memory."""

OPERATING_PLACES = 64

TRANSFERS = "transfers"
"""Group of places for those who export and import."""

TRANSFER_PLACES = 4
"""Each has some pages in memory and takes a share of the loop; a fifth comes again later."""

TRANSFER_DEADLINE = 3_600.0

REEMBEDDING_DEADLINE = 30.0
"""A local embedder has to be read from the disk, a remote one to answer."""

READER_SECONDS = 60.0
"""That an export waits for a reader who reads nothing."""

MAX_ABORT_REASON = 64

PAGE_SIZE = 100
MAX_PAGE_SIZE = 1_000

MAX_EXPLAINED = 50
"""Candidates that are shown at once."""


class CacheServicer:
    """One instance per process."""

    def __init__(
        self,
        sides: Sides,
        rotating: Rotating,
        metrics: CacheMetrics,
        *,
        now: Callable[[], float],
        monotonic: Callable[[], float],
    ) -> None:
        """`now` is Unix seconds, `monotonic` the clock of leases."""
        self._sides = sides
        self._rotating = rotating
        self._metrics = metrics
        self._now = now
        self._monotonic = monotonic
        self._lookup_ids = RandomIds(12)
        self._recent = RecentQueries()
        self._served = RecentlyServed()

    @unary(deadline=DEADLINE, raw=True)
    async def Lookup(self, request: bytes, call: Call) -> pb.LookupResponse | bytes:  # noqa: N802
        """Look for a stored answer."""
        begun = self._monotonic()
        side = self._sides.current
        asked = self._recent.read(call.caller.tenant, request)
        result = await side.cache.lookup(call.caller.tenant, asked, call.deadline)
        self._metrics.looked_up(result, self._monotonic() - begun)
        response = self._lookup_response(result, side)
        return response if result.entry is None else self._served.completed(response, result.entry)

    @unary(deadline=BATCH_DEADLINE, slow=BATCH_DEADLINE, parts="lookups")
    async def BatchLookup(self, request: pb.BatchLookupRequest, call: Call) -> pb.BatchLookupResponse:  # noqa: N802
        """Make many lookups."""
        begun = self._monotonic()
        asked = await read_batch(request)
        valid = [one for one in asked if isinstance(one, Asked)]
        side = self._sides.current
        results = iter(await side.cache.lookup_many(call.caller.tenant, valid, call.deadline))
        seconds = self._monotonic() - begun
        response = BatchResponse()
        for one in asked:
            if isinstance(one, InvalidRequest):
                response.add_error(one)
                continue
            result = next(results)
            self._metrics.looked_up(result, seconds)
            if result.entry is not None and not result.entry.whole:
                response.add_full()
                continue
            found = self._lookup_response(result, side)
            if result.entry is not None:
                self._served.complete(found, result.entry)
            response.add(found)
        return response.message

    @unary(deadline=WAIT_DEADLINE, limit=WAITERS, slow=WAIT_DEADLINE)
    async def WaitFill(self, request: pb.WaitFillRequest, call: Call) -> pb.WaitFillResponse:  # noqa: N802
        """Wait for an answer that someone else makes."""
        lease_id, token = read_lease_id(request.lease_id), read_token(request.fill_token)
        cache, version = self._sides.of_lease(lease_id), self._sides.current.version
        result = await cache.wait(call.caller.tenant, lease_id, token, call.deadline)
        self._metrics.waited(result)
        return write_wait(result, version=version, lease=self._lease)

    @unary(deadline=DEADLINE, limit=LEASES)
    async def RenewFill(self, request: pb.RenewFillRequest, call: Call) -> pb.RenewFillResponse:  # noqa: N802
        """Extend a lease."""
        lease_id = read_lease_id(request.lease_id)
        granted = self._sides.of_lease(lease_id).renew(call.caller.tenant, lease_id)
        return pb.RenewFillResponse(lease=self._lease(granted))

    @unary(deadline=DEADLINE, limit=LEASES)
    async def Commit(self, request: pb.CommitRequest, call: Call) -> pb.CommitResponse:  # noqa: N802
        """Store the answer of a fill and hand it to all who wait."""
        lease_id, answer = read_lease_id(request.lease_id), read_stored_answer(request)
        result = await self._sides.commit(
            call.caller.tenant, lease_id, answer, durable=request.durable, writer=call.caller.key_id
        )
        self._metrics.committed(result)
        return pb.CommitResponse(
            entry_id=result.entry_id,
            stored=result.stored,
            not_stored_reason=result.not_stored,
            durable=result.durable,
        )

    @unary(deadline=DEADLINE, limit=LEASES)
    async def Abort(self, request: pb.AbortRequest, call: Call) -> pb.AbortResponse:  # noqa: N802
        """Give up a fill."""
        if len(request.reason) > MAX_ABORT_REASON:
            raise invalid("reason", f"at most {MAX_ABORT_REASON} characters")
        lease_id = read_lease_id(request.lease_id)
        if self._sides.of_lease(lease_id).abort(call.caller.tenant, lease_id):
            self._metrics.aborted(request.reason)
        return pb.AbortResponse()

    @unary(deadline=DEADLINE)
    async def ReportAudit(self, request: pb.ReportAuditRequest, call: Call) -> pb.ReportAuditResponse:  # noqa: N802
        """Compare a fresh answer with what a hit served."""
        audit_id, answer = read_audit_id(request.audit_id), read_stored_answer(request)
        heard = await self._sides.cache.audited(call.caller.tenant, audit_id, answer)
        self._metrics.audited(heard)
        return pb.ReportAuditResponse(counted=heard.counted, agrees=heard.agrees)

    @unary(deadline=DEADLINE)
    async def Put(self, request: pb.PutRequest, call: Call) -> pb.PutResponse:  # noqa: N802
        """Store an answer directly."""
        query, policy, answer = read_query(request), read_policy(request.policy), read_stored_answer(request)
        entry = await self._sides.put(
            call.caller.tenant,
            query,
            policy,
            answer,
            durable=request.durable,
            writer=call.caller.key_id,
            deadline=call.deadline,
        )
        return pb.PutResponse(entry_id=entry.id, expire_time=write_timestamp(entry.expires_at))

    @unary(deadline=DEADLINE, limit=OPERATING)
    async def Delete(self, request: pb.DeleteRequest, call: Call) -> pb.DeleteResponse:  # noqa: N802
        """Delete, quarantine or release entries."""
        chosen, action, caller = read_chosen(request), read_action(request), call.caller
        removed = await self._sides.remove(caller.tenant, chosen, action, by=caller.key_id, dry_run=request.dry_run)
        return pb.DeleteResponse(deleted=removed)

    @unary(deadline=DEADLINE, limit=OPERATING)
    async def Clear(self, request: pb.ClearRequest, call: Call) -> pb.ClearResponse:  # noqa: N802
        """Clear a namespace."""
        cleared, epoch = await self._sides.clear(
            call.caller.tenant, read_namespace(request.namespace), dry_run=request.dry_run
        )
        return pb.ClearResponse(cleared=cleared, epoch=epoch)

    @unary(deadline=DEADLINE, limit=OPERATING)
    async def GetStats(self, request: pb.GetStatsRequest, call: Call) -> pb.GetStatsResponse:  # noqa: N802
        """Read counters and sizes."""
        namespace = read_namespace(request.namespace) if request.namespace else None
        return write_report(await self._sides.cache.report(call.caller.tenant, namespace))

    @unary(deadline=DEADLINE)
    async def Explain(self, request: pb.ExplainRequest, call: Call) -> pb.ExplainResponse:  # noqa: N802
        """Explain a lookup."""
        query, policy = read_query(request), read_policy(request.policy)
        limit = read_limit(request.limit, default=JUDGED, most=MAX_EXPLAINED, path="limit")
        side = self._sides.current
        explanation = await side.cache.explain(call.caller.tenant, query, policy, limit=limit, deadline=call.deadline)
        return write_explanation(explanation, model=query.model, embedder=side.end.slug, version=side.version)

    @unary(deadline=DEADLINE)
    async def ListEntries(self, request: pb.ListEntriesRequest, call: Call) -> pb.ListEntriesResponse:  # noqa: N802
        """List what is stored."""
        wanted, after = read_wanted(request), read_place(request.page_token)
        size = read_limit(request.page_size, default=PAGE_SIZE, most=MAX_PAGE_SIZE, path="page_size")
        side = self._sides.current
        if not request.most_served:
            page = await side.cache.listing.page(call.caller.tenant, wanted, size=size, after=after)
        elif after is None:
            page = side.cache.listing.most_served(call.caller.tenant, wanted, size=size)
        else:
            raise invalid("page_token", "must be empty with most_served")
        return write_page(page, embedder=side.end.slug)

    @unary(deadline=DEADLINE)
    async def Feedback(self, request: pb.FeedbackRequest, call: Call) -> pb.FeedbackResponse:  # noqa: N802
        """Take what is said about an entry."""
        feedback = read_feedback(request, call.caller.key_id)
        return write_reviewed(await self._sides.feedback(call.caller.tenant, feedback))

    @server_stream(deadline=TRANSFER_DEADLINE, limit=TRANSFERS, patience=READER_SECONDS)
    async def Export(  # noqa: N802
        self, request: transfer.ExportRequest, call: Call
    ) -> AsyncIterator[transfer.ExportResponse]:
        """Send everything that is stored."""
        wanted, tenant = read_exported(request), call.caller.tenant
        side = self._sides.current
        header = transfer.ExportHeader(
            start_time=write_timestamp(self._now()),
            embedder=side.end.slug,
            address_version=VERSION,
            most_entries=side.cache.transfers.exporting.most(tenant, wanted),
        )
        yield transfer.ExportResponse(header=header)
        parts = ExportParts()
        async with aclosing(side.cache.transfers.exporting.pages(tenant, wanted)) as pages:
            async for page in pages:
                for response in parts.of(page):
                    yield response
        yield parts.end()

    @client_stream(deadline=TRANSFER_DEADLINE, limit=TRANSFERS, parts="lines")
    async def Import(  # noqa: N802
        self, requests: AsyncIterator[transfer.ImportRequest], call: Call
    ) -> transfer.ImportResponse:
        """Take over what another cache has sent."""
        terms, taken, lines, first = Terms(), Taken(), 0, True
        async for request in requests:
            if first:
                terms = read_terms(request.options)
            elif request.HasField("options"):
                raise invalid("options", "only in the first message")
            read = await read_lines(request.lines, lines)
            await self._sides.cache.transfers.importing.take(call.caller.tenant, read, terms, taken)
            lines, first = lines + len(read), False
        return write_taken(taken)

    @unary(deadline=REEMBEDDING_DEADLINE, limit=OPERATING)
    async def StartReembedding(  # noqa: N802
        self, request: reembedding.StartReembeddingRequest, _call: Call
    ) -> reembedding.StartReembeddingResponse:
        """Begin a change of the embedder."""
        plan = await self._rotating.orders.start(read_choice(request), read_share(request))
        return reembedding.StartReembeddingResponse(reembedding=write_plan(plan, self._now()))

    @unary(deadline=DEADLINE, limit=OPERATING)
    async def GetReembedding(  # noqa: N802
        self, _request: reembedding.GetReembeddingRequest, _call: Call
    ) -> reembedding.GetReembeddingResponse:
        """Tell of a change of the embedder."""
        plan = await self._rotating.orders.status()
        response = reembedding.GetReembeddingResponse(
            serving=self._sides.current.end.slug,
            problem=self._rotating.problem(plan),
            role=ROLES[self._rotating.filling.role],
        )
        if plan is not None:
            response.reembedding.CopyFrom(write_plan(plan, self._now()))
        return response

    @unary(deadline=DEADLINE, limit=OPERATING)
    async def CancelReembedding(  # noqa: N802
        self, _request: reembedding.CancelReembeddingRequest, _call: Call
    ) -> reembedding.CancelReembeddingResponse:
        """Give a change of the embedder up."""
        return reembedding.CancelReembeddingResponse(
            reembedding=write_plan(await self._rotating.orders.cancel(), self._now())
        )

    @unary(deadline=DEADLINE, limit=OPERATING)
    async def DropOldEmbeddings(  # noqa: N802
        self, _request: reembedding.DropOldEmbeddingsRequest, _call: Call
    ) -> reembedding.DropOldEmbeddingsResponse:
        """Drop the collection of the embedder before."""
        return reembedding.DropOldEmbeddingsResponse(
            reembedding=write_plan(await self._rotating.orders.drop_old(), self._now())
        )

    def _lookup_response(self, result: LookupResult, side: Side) -> pb.LookupResponse:
        """All but what `RecentlyServed` writes."""
        response = write_lookup(result, lookup_id=self._lookup_ids.next(), version=side.version, lease=self._lease)
        write_embedding(response, result, embedder=side.end.slug)
        return response

    def _lease(self, granted: Granted) -> pb.Lease:
        return write_lease(granted, now=self._now(), monotonic=self._monotonic())
