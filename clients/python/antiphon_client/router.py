"""Client of the router service."""

from __future__ import annotations

from typing import TYPE_CHECKING

from antiphon.router.v1 import router_pb2, router_pb2_grpc
from antiphon_client._call import ChannelOwner, unary
from antiphon_client._credential import ApiKey, Metadata

if TYPE_CHECKING:
    import grpc.aio

    RouterStub = router_pb2_grpc.RouterServiceAsyncStub


class AsyncRouterClient(ChannelOwner):
    """One method per rpc: its request message, a `timeout` in seconds, `metadata`; raises `AntiphonError`."""

    def __init__(
        self,
        target: str | None = None,
        *,
        channel: grpc.aio.Channel | None = None,
        api_key: ApiKey | None = None,
    ) -> None:
        super().__init__(target, channel=channel, api_key=api_key)
        self._stub: RouterStub = router_pb2_grpc.RouterServiceStub(self._channel)

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
