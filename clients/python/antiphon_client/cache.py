"""Clients of the cache service."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator
from typing import TYPE_CHECKING

from antiphon.cache.v1 import cache_pb2, cache_pb2_grpc, reembedding_pb2, transfer_pb2
from antiphon_client._call import AsyncChannelOwner, SyncChannelOwner, raised, streamed, unary
from antiphon_client._credential import ApiKey, Metadata
from antiphon_client._sending import sent, sent_sync

if TYPE_CHECKING:
    import grpc
    import grpc.aio

    from antiphon_client.tls import Tls

    AsyncStub = cache_pb2_grpc.CacheServiceAsyncStub


class AsyncCacheClient(AsyncChannelOwner):
    """One method per rpc: its request message, a `timeout` in seconds, `metadata`; raises `AntiphonError`.

    Safe for concurrent use within one event loop.
    """

    def __init__(
        self,
        target: str | None = None,
        *,
        channel: grpc.aio.Channel | None = None,
        api_key: ApiKey | None = None,
        tls: Tls | None = None,
    ) -> None:
        super().__init__(target, channel=channel, api_key=api_key, tls=tls)
        self._stub: AsyncStub = cache_pb2_grpc.CacheServiceStub(self._channel)

    async def lookup(
        self, request: cache_pb2.LookupRequest, *, timeout: float = 5.0, metadata: Metadata = ()
    ) -> cache_pb2.LookupResponse:
        """Look for a stored answer."""
        return await unary(self._stub.Lookup(request, timeout=timeout, metadata=self._credential.metadata(metadata)))

    async def batch_lookup(
        self, request: cache_pb2.BatchLookupRequest, *, timeout: float = 30.0, metadata: Metadata = ()
    ) -> cache_pb2.BatchLookupResponse:
        """Make up to 256 lookups; `errors.from_status` reads the error of one."""
        return await unary(
            self._stub.BatchLookup(request, timeout=timeout, metadata=self._credential.metadata(metadata))
        )

    async def wait_fill(
        self, request: cache_pb2.WaitFillRequest, *, timeout: float = 60.0, metadata: Metadata = ()
    ) -> cache_pb2.WaitFillResponse:
        """Wait for an answer that someone else makes."""
        return await unary(self._stub.WaitFill(request, timeout=timeout, metadata=self._credential.metadata(metadata)))

    async def renew_fill(
        self, request: cache_pb2.RenewFillRequest, *, timeout: float = 5.0, metadata: Metadata = ()
    ) -> cache_pb2.RenewFillResponse:
        """Extend a lease."""
        return await unary(self._stub.RenewFill(request, timeout=timeout, metadata=self._credential.metadata(metadata)))

    async def commit(
        self, request: cache_pb2.CommitRequest, *, timeout: float = 5.0, metadata: Metadata = ()
    ) -> cache_pb2.CommitResponse:
        """Store the answer of a granted fill."""
        return await unary(self._stub.Commit(request, timeout=timeout, metadata=self._credential.metadata(metadata)))

    async def abort(
        self, request: cache_pb2.AbortRequest, *, timeout: float = 5.0, metadata: Metadata = ()
    ) -> cache_pb2.AbortResponse:
        """Give up a granted fill."""
        return await unary(self._stub.Abort(request, timeout=timeout, metadata=self._credential.metadata(metadata)))

    async def put(
        self, request: cache_pb2.PutRequest, *, timeout: float = 5.0, metadata: Metadata = ()
    ) -> cache_pb2.PutResponse:
        """Store an answer directly."""
        return await unary(self._stub.Put(request, timeout=timeout, metadata=self._credential.metadata(metadata)))

    async def report_audit(
        self, request: cache_pb2.ReportAuditRequest, *, timeout: float = 5.0, metadata: Metadata = ()
    ) -> cache_pb2.ReportAuditResponse:
        """Report the fresh answer of an audit."""
        return await unary(
            self._stub.ReportAudit(request, timeout=timeout, metadata=self._credential.metadata(metadata))
        )

    async def delete(
        self, request: cache_pb2.DeleteRequest, *, timeout: float = 30.0, metadata: Metadata = ()
    ) -> cache_pb2.DeleteResponse:
        """Delete entries, take them out of service, or put them back."""
        return await unary(self._stub.Delete(request, timeout=timeout, metadata=self._credential.metadata(metadata)))

    async def clear(
        self, request: cache_pb2.ClearRequest, *, timeout: float = 30.0, metadata: Metadata = ()
    ) -> cache_pb2.ClearResponse:
        """Make every entry of a namespace invisible."""
        return await unary(self._stub.Clear(request, timeout=timeout, metadata=self._credential.metadata(metadata)))

    async def get_stats(
        self, request: cache_pb2.GetStatsRequest, *, timeout: float = 5.0, metadata: Metadata = ()
    ) -> cache_pb2.GetStatsResponse:
        """Read counters and sizes."""
        return await unary(self._stub.GetStats(request, timeout=timeout, metadata=self._credential.metadata(metadata)))

    async def explain(
        self, request: cache_pb2.ExplainRequest, *, timeout: float = 5.0, metadata: Metadata = ()
    ) -> cache_pb2.ExplainResponse:
        """Explain what a lookup would do."""
        return await unary(self._stub.Explain(request, timeout=timeout, metadata=self._credential.metadata(metadata)))

    async def list_entries(
        self, request: cache_pb2.ListEntriesRequest, *, timeout: float = 5.0, metadata: Metadata = ()
    ) -> cache_pb2.ListEntriesResponse:
        """List a page of entries."""
        return await unary(
            self._stub.ListEntries(request, timeout=timeout, metadata=self._credential.metadata(metadata))
        )

    async def feedback(
        self, request: cache_pb2.FeedbackRequest, *, timeout: float = 5.0, metadata: Metadata = ()
    ) -> cache_pb2.FeedbackResponse:
        """Say whether an entry's answer was right."""
        return await unary(self._stub.Feedback(request, timeout=timeout, metadata=self._credential.metadata(metadata)))

    async def export(
        self, request: transfer_pb2.ExportRequest, *, timeout: float = 3_600.0, metadata: Metadata = ()
    ) -> AsyncGenerator[transfer_pb2.ExportResponse, None]:
        """Read all entries, in parts; whoever stops early closes the iterator (`aclosing`, `closing`)."""
        call = self._stub.Export(request, timeout=timeout, metadata=self._credential.metadata(metadata))
        async for response in streamed(call):
            yield response

    async def import_(
        self,
        requests: AsyncIterator[transfer_pb2.ImportRequest] | Iterator[transfer_pb2.ImportRequest],
        *,
        timeout: float = 3_600.0,
        metadata: Metadata = (),
    ) -> transfer_pb2.ImportResponse:
        """Store entries of an export; they are asked for as fast as the server takes them.

        What reading `requests` raises is raised here, too; `TypeError` if one is no ImportRequest.
        """
        return await sent(
            requests,
            transfer_pb2.ImportRequest,
            lambda sent: self._stub.Import(sent, timeout=timeout, metadata=self._credential.metadata(metadata)),
        )

    async def start_reembedding(
        self, request: reembedding_pb2.StartReembeddingRequest, *, timeout: float = 30.0, metadata: Metadata = ()
    ) -> reembedding_pb2.StartReembeddingResponse:
        """Begin a change of the embedder."""
        return await unary(
            self._stub.StartReembedding(request, timeout=timeout, metadata=self._credential.metadata(metadata))
        )

    async def get_reembedding(
        self, request: reembedding_pb2.GetReembeddingRequest, *, timeout: float = 5.0, metadata: Metadata = ()
    ) -> reembedding_pb2.GetReembeddingResponse:
        """Read how far a change of the embedder is."""
        return await unary(
            self._stub.GetReembedding(request, timeout=timeout, metadata=self._credential.metadata(metadata))
        )

    async def cancel_reembedding(
        self, request: reembedding_pb2.CancelReembeddingRequest, *, timeout: float = 5.0, metadata: Metadata = ()
    ) -> reembedding_pb2.CancelReembeddingResponse:
        """Give up the change of the embedder that is under way."""
        return await unary(
            self._stub.CancelReembedding(request, timeout=timeout, metadata=self._credential.metadata(metadata))
        )

    async def drop_old_embeddings(
        self, request: reembedding_pb2.DropOldEmbeddingsRequest, *, timeout: float = 5.0, metadata: Metadata = ()
    ) -> reembedding_pb2.DropOldEmbeddingsResponse:
        """Drop the collection of the embedder before the change."""
        return await unary(
            self._stub.DropOldEmbeddings(request, timeout=timeout, metadata=self._credential.metadata(metadata))
        )


class CacheClient(SyncChannelOwner):
    """One method per rpc: its request message, a `timeout` in seconds, `metadata`; raises `AntiphonError`.

    Safe for use by any number of threads.
    """

    def __init__(
        self,
        target: str | None = None,
        *,
        channel: grpc.Channel | None = None,
        api_key: ApiKey | None = None,
        tls: Tls | None = None,
    ) -> None:
        super().__init__(target, channel=channel, api_key=api_key, tls=tls)
        self._stub: cache_pb2_grpc.CacheServiceStub = cache_pb2_grpc.CacheServiceStub(self._channel)

    def lookup(
        self, request: cache_pb2.LookupRequest, *, timeout: float = 5.0, metadata: Metadata = ()
    ) -> cache_pb2.LookupResponse:
        """Look for a stored answer."""
        with raised():
            return self._stub.Lookup(request, timeout=timeout, metadata=self._credential.metadata(metadata))

    def batch_lookup(
        self, request: cache_pb2.BatchLookupRequest, *, timeout: float = 30.0, metadata: Metadata = ()
    ) -> cache_pb2.BatchLookupResponse:
        """Make up to 256 lookups; `errors.from_status` reads the error of one."""
        with raised():
            return self._stub.BatchLookup(request, timeout=timeout, metadata=self._credential.metadata(metadata))

    def wait_fill(
        self, request: cache_pb2.WaitFillRequest, *, timeout: float = 60.0, metadata: Metadata = ()
    ) -> cache_pb2.WaitFillResponse:
        """Wait for an answer that someone else makes."""
        with raised():
            return self._stub.WaitFill(request, timeout=timeout, metadata=self._credential.metadata(metadata))

    def renew_fill(
        self, request: cache_pb2.RenewFillRequest, *, timeout: float = 5.0, metadata: Metadata = ()
    ) -> cache_pb2.RenewFillResponse:
        """Extend a lease."""
        with raised():
            return self._stub.RenewFill(request, timeout=timeout, metadata=self._credential.metadata(metadata))

    def commit(
        self, request: cache_pb2.CommitRequest, *, timeout: float = 5.0, metadata: Metadata = ()
    ) -> cache_pb2.CommitResponse:
        """Store the answer of a granted fill."""
        with raised():
            return self._stub.Commit(request, timeout=timeout, metadata=self._credential.metadata(metadata))

    def abort(
        self, request: cache_pb2.AbortRequest, *, timeout: float = 5.0, metadata: Metadata = ()
    ) -> cache_pb2.AbortResponse:
        """Give up a granted fill."""
        with raised():
            return self._stub.Abort(request, timeout=timeout, metadata=self._credential.metadata(metadata))

    def put(
        self, request: cache_pb2.PutRequest, *, timeout: float = 5.0, metadata: Metadata = ()
    ) -> cache_pb2.PutResponse:
        """Store an answer directly."""
        with raised():
            return self._stub.Put(request, timeout=timeout, metadata=self._credential.metadata(metadata))

    def report_audit(
        self, request: cache_pb2.ReportAuditRequest, *, timeout: float = 5.0, metadata: Metadata = ()
    ) -> cache_pb2.ReportAuditResponse:
        """Report the fresh answer of an audit."""
        with raised():
            return self._stub.ReportAudit(request, timeout=timeout, metadata=self._credential.metadata(metadata))

    def delete(
        self, request: cache_pb2.DeleteRequest, *, timeout: float = 30.0, metadata: Metadata = ()
    ) -> cache_pb2.DeleteResponse:
        """Delete entries, take them out of service, or put them back."""
        with raised():
            return self._stub.Delete(request, timeout=timeout, metadata=self._credential.metadata(metadata))

    def clear(
        self, request: cache_pb2.ClearRequest, *, timeout: float = 30.0, metadata: Metadata = ()
    ) -> cache_pb2.ClearResponse:
        """Make every entry of a namespace invisible."""
        with raised():
            return self._stub.Clear(request, timeout=timeout, metadata=self._credential.metadata(metadata))

    def get_stats(
        self, request: cache_pb2.GetStatsRequest, *, timeout: float = 5.0, metadata: Metadata = ()
    ) -> cache_pb2.GetStatsResponse:
        """Read counters and sizes."""
        with raised():
            return self._stub.GetStats(request, timeout=timeout, metadata=self._credential.metadata(metadata))

    def explain(
        self, request: cache_pb2.ExplainRequest, *, timeout: float = 5.0, metadata: Metadata = ()
    ) -> cache_pb2.ExplainResponse:
        """Explain what a lookup would do."""
        with raised():
            return self._stub.Explain(request, timeout=timeout, metadata=self._credential.metadata(metadata))

    def list_entries(
        self, request: cache_pb2.ListEntriesRequest, *, timeout: float = 5.0, metadata: Metadata = ()
    ) -> cache_pb2.ListEntriesResponse:
        """List a page of entries."""
        with raised():
            return self._stub.ListEntries(request, timeout=timeout, metadata=self._credential.metadata(metadata))

    def feedback(
        self, request: cache_pb2.FeedbackRequest, *, timeout: float = 5.0, metadata: Metadata = ()
    ) -> cache_pb2.FeedbackResponse:
        """Say whether an entry's answer was right."""
        with raised():
            return self._stub.Feedback(request, timeout=timeout, metadata=self._credential.metadata(metadata))

    def export(
        self, request: transfer_pb2.ExportRequest, *, timeout: float = 3_600.0, metadata: Metadata = ()
    ) -> Generator[transfer_pb2.ExportResponse, None, None]:
        """Read all entries, in parts; whoever stops early closes the iterator (`aclosing`, `closing`)."""
        call = self._stub.Export(request, timeout=timeout, metadata=self._credential.metadata(metadata))
        try:
            with raised():
                yield from call
        finally:
            call.cancel()

    def import_(
        self,
        requests: Iterator[transfer_pb2.ImportRequest],
        *,
        timeout: float = 3_600.0,
        metadata: Metadata = (),
    ) -> transfer_pb2.ImportResponse:
        """Store entries of an export; they are asked for as fast as the server takes them.

        What reading `requests` raises is raised here, too; `TypeError` if one is no ImportRequest.
        """
        return sent_sync(
            requests,
            transfer_pb2.ImportRequest,
            lambda sent: self._stub.Import(sent, timeout=timeout, metadata=self._credential.metadata(metadata)),
        )

    def start_reembedding(
        self, request: reembedding_pb2.StartReembeddingRequest, *, timeout: float = 30.0, metadata: Metadata = ()
    ) -> reembedding_pb2.StartReembeddingResponse:
        """Begin a change of the embedder."""
        with raised():
            return self._stub.StartReembedding(request, timeout=timeout, metadata=self._credential.metadata(metadata))

    def get_reembedding(
        self, request: reembedding_pb2.GetReembeddingRequest, *, timeout: float = 5.0, metadata: Metadata = ()
    ) -> reembedding_pb2.GetReembeddingResponse:
        """Read how far a change of the embedder is."""
        with raised():
            return self._stub.GetReembedding(request, timeout=timeout, metadata=self._credential.metadata(metadata))

    def cancel_reembedding(
        self, request: reembedding_pb2.CancelReembeddingRequest, *, timeout: float = 5.0, metadata: Metadata = ()
    ) -> reembedding_pb2.CancelReembeddingResponse:
        """Give up the change of the embedder that is under way."""
        with raised():
            return self._stub.CancelReembedding(request, timeout=timeout, metadata=self._credential.metadata(metadata))

    def drop_old_embeddings(
        self, request: reembedding_pb2.DropOldEmbeddingsRequest, *, timeout: float = 5.0, metadata: Metadata = ()
    ) -> reembedding_pb2.DropOldEmbeddingsResponse:
        """Drop the collection of the embedder before the change."""
        with raised():
            return self._stub.DropOldEmbeddings(request, timeout=timeout, metadata=self._credential.metadata(metadata))
