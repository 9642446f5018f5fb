"""Client of the completion service."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import grpc

from antiphon.completion.v1 import completion_pb2, completion_pb2_grpc
from antiphon_client._call import ChannelOwner, unary
from antiphon_client._credential import ApiKey, Metadata
from antiphon_client.errors import from_rpc_error

if TYPE_CHECKING:
    import grpc.aio

    CompletionStub = completion_pb2_grpc.CompletionServiceAsyncStub


def _request(prompt: str | completion_pb2.CompleteRequest) -> completion_pb2.CompleteRequest:
    return completion_pb2.CompleteRequest(prompt=prompt) if isinstance(prompt, str) else prompt


class AsyncCompletionClient(ChannelOwner):
    """Asks for answers. Safe for concurrent use within one event loop."""

    def __init__(
        self,
        target: str | None = None,
        *,
        channel: grpc.aio.Channel | None = None,
        api_key: ApiKey | None = None,
    ) -> None:
        super().__init__(target, channel=channel, api_key=api_key)
        self._stub: CompletionStub = completion_pb2_grpc.CompletionServiceStub(self._channel)

    async def complete(
        self, prompt: str | completion_pb2.CompleteRequest, *, timeout: float = 60.0, metadata: Metadata = ()
    ) -> completion_pb2.CompleteResponse:
        """Answer in one message. `timeout` in seconds. Raises `AntiphonError`."""
        return await unary(
            self._stub.Complete(_request(prompt), timeout=timeout, metadata=self._credential.metadata(metadata))
        )

    @asynccontextmanager
    async def stream(
        self, prompt: str | completion_pb2.CompleteRequest, *, timeout: float = 600.0, metadata: Metadata = ()
    ) -> AsyncIterator[AsyncIterator[completion_pb2.StreamCompleteResponse]]:
        """Stream an answer; leaving the block cancels what is left, so that the model stops writing.

        Iterating raises `AntiphonError`, also in the middle: then what had arrived is incomplete.
        """
        call = self._stub.StreamComplete(
            completion_pb2.StreamCompleteRequest(request=_request(prompt)),
            timeout=timeout,
            metadata=self._credential.metadata(metadata),
        )
        try:
            yield _events(call)
        finally:
            call.cancel()


async def _events(
    call: grpc.aio.UnaryStreamCall[completion_pb2.StreamCompleteRequest, completion_pb2.StreamCompleteResponse],
) -> AsyncIterator[completion_pb2.StreamCompleteResponse]:
    try:
        async for event in call:
            yield event
    except grpc.RpcError as error:
        raise from_rpc_error(error) from None
