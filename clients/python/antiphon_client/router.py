"""Clients of the router service."""

from __future__ import annotations

from typing import TYPE_CHECKING

from antiphon.router.v1 import router_pb2, router_pb2_grpc
from antiphon_client._call import AsyncChannelOwner, SyncChannelOwner, raised, unary
from antiphon_client._credential import ApiKey, Metadata

if TYPE_CHECKING:
    import grpc
    import grpc.aio

    from antiphon_client.tls import Tls

    AsyncStub = router_pb2_grpc.RouterServiceAsyncStub


class AsyncRouterClient(AsyncChannelOwner):
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
        self._stub: AsyncStub = router_pb2_grpc.RouterServiceStub(self._channel)

    async def route(
        self, request: router_pb2.RouteRequest, *, timeout: float = 2.0, metadata: Metadata = ()
    ) -> router_pb2.RouteResponse:
        """Rank the models that satisfy the constraints."""
        return await unary(self._stub.Route(request, timeout=timeout, metadata=self._credential.metadata(metadata)))

    async def list_models(
        self, request: router_pb2.ListModelsRequest, *, timeout: float = 2.0, metadata: Metadata = ()
    ) -> router_pb2.ListModelsResponse:
        """List the catalogue."""
        return await unary(
            self._stub.ListModels(request, timeout=timeout, metadata=self._credential.metadata(metadata))
        )

    async def record_outcome(
        self, request: router_pb2.RecordOutcomeRequest, *, timeout: float = 2.0, metadata: Metadata = ()
    ) -> router_pb2.RecordOutcomeResponse:
        """Report how a decision turned out."""
        return await unary(
            self._stub.RecordOutcome(request, timeout=timeout, metadata=self._credential.metadata(metadata))
        )

    async def batch_record_outcomes(
        self, request: router_pb2.BatchRecordOutcomesRequest, *, timeout: float = 2.0, metadata: Metadata = ()
    ) -> router_pb2.BatchRecordOutcomesResponse:
        """Report how up to 256 decisions turned out; `errors.from_status` reads the error of one."""
        return await unary(
            self._stub.BatchRecordOutcomes(request, timeout=timeout, metadata=self._credential.metadata(metadata))
        )


class RouterClient(SyncChannelOwner):
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
        self._stub: router_pb2_grpc.RouterServiceStub = router_pb2_grpc.RouterServiceStub(self._channel)

    def route(
        self, request: router_pb2.RouteRequest, *, timeout: float = 2.0, metadata: Metadata = ()
    ) -> router_pb2.RouteResponse:
        """Rank the models that satisfy the constraints."""
        with raised():
            return self._stub.Route(request, timeout=timeout, metadata=self._credential.metadata(metadata))

    def list_models(
        self, request: router_pb2.ListModelsRequest, *, timeout: float = 2.0, metadata: Metadata = ()
    ) -> router_pb2.ListModelsResponse:
        """List the catalogue."""
        with raised():
            return self._stub.ListModels(request, timeout=timeout, metadata=self._credential.metadata(metadata))

    def record_outcome(
        self, request: router_pb2.RecordOutcomeRequest, *, timeout: float = 2.0, metadata: Metadata = ()
    ) -> router_pb2.RecordOutcomeResponse:
        """Report how a decision turned out."""
        with raised():
            return self._stub.RecordOutcome(request, timeout=timeout, metadata=self._credential.metadata(metadata))

    def batch_record_outcomes(
        self, request: router_pb2.BatchRecordOutcomesRequest, *, timeout: float = 2.0, metadata: Metadata = ()
    ) -> router_pb2.BatchRecordOutcomesResponse:
        """Report how up to 256 decisions turned out; `errors.from_status` reads the error of one."""
        with raised():
            return self._stub.BatchRecordOutcomes(
                request, timeout=timeout, metadata=self._credential.metadata(metadata)
            )
