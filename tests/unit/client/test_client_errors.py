"""Every status becomes its exception, with what the details say."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import grpc
import grpc.aio
import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2, status_pb2

import antiphon_client
from antiphon.completion.v1 import completion_pb2, completion_pb2_grpc
from antiphon_client import AsyncCompletionClient, errors


class Failing(completion_pb2_grpc.CompletionServiceServicer):
    """Fails with what the prompt names; streams two deltas first, or for ever."""

    def __init__(self) -> None:
        self.closed = asyncio.Event()

    async def Complete(self, request: completion_pb2.CompleteRequest, context: grpc.aio.ServicerContext) -> None:  # type: ignore[override, type-arg]  # noqa: N802
        await fail(context, request.prompt)

    async def StreamComplete(  # noqa: N802
        self,
        request: completion_pb2.StreamCompleteRequest,
        context: grpc.aio.ServicerContext,  # type: ignore[type-arg]
    ) -> AsyncIterator[completion_pb2.StreamCompleteResponse]:
        try:
            for _ in range(2):
                yield completion_pb2.StreamCompleteResponse(delta=completion_pb2.Delta(text="x"))
            if request.request.prompt == "FOREVER":
                await asyncio.Event().wait()
            await fail(context, request.request.prompt)
        finally:
            self.closed.set()


async def fail(context: grpc.aio.ServicerContext, name: str) -> None:  # type: ignore[type-arg]
    code = grpc.StatusCode[name]
    status = status_pb2.Status(code=code.value[0], message="what went wrong")
    for detail in (
        error_details_pb2.ErrorInfo(reason="SOME_REASON", domain="antiphon", metadata={"model": "m"}),
        error_details_pb2.RetryInfo(retry_delay=Duration(seconds=1, nanos=500_000_000)),
        error_details_pb2.BadRequest(
            field_violations=[error_details_pb2.BadRequest.FieldViolation(field="prompt", description="is empty")]
        ),
    ):
        packed = AnyMessage()
        packed.Pack(detail)
        status.details.append(packed)
    await context.abort(code, "what went wrong", (("grpc-status-details-bin", status.SerializeToString()),))


@pytest.fixture
async def servicer() -> Failing:
    return Failing()


@pytest.fixture
async def client(servicer: Failing) -> AsyncIterator[AsyncCompletionClient]:
    server = grpc.aio.server()
    completion_pb2_grpc.add_CompletionServiceServicer_to_server(servicer, server)  # type: ignore[no-untyped-call, unused-ignore]
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with AsyncCompletionClient(f"127.0.0.1:{port}") as made:
        yield made
    await server.stop(None)


@pytest.mark.parametrize("code", [c for c in grpc.StatusCode if c is not grpc.StatusCode.OK])
async def test_a_status_is_its_exception_with_the_details(client: AsyncCompletionClient, code: grpc.StatusCode) -> None:
    with pytest.raises(antiphon_client.AntiphonError) as caught:
        await client.complete(code.name)
    error = caught.value
    own = [kind for kind in antiphon_client.AntiphonError.__subclasses__() if kind.code is code]
    assert type(error) is (own[0] if own else errors.InternalError)
    assert error.code is code
    assert (error.reason, error.message, error.retry_after) == ("SOME_REASON", "what went wrong", 1.5)
    assert error.fields == {"prompt": "is empty"}
    assert error.metadata == {"model": "m"}


async def test_a_status_without_details_has_no_reason() -> None:
    async with AsyncCompletionClient("127.0.0.1:1") as client:
        with pytest.raises(errors.UnavailableError) as caught:
            await client.complete("hello", timeout=10)
    assert (caught.value.reason, caught.value.retry_after, caught.value.fields) == ("", None, {})


async def test_a_stream_fails_after_what_had_arrived(client: AsyncCompletionClient) -> None:
    arrived = []
    with pytest.raises(errors.UnavailableError):
        async with client.stream("UNAVAILABLE") as events:
            async for event in events:
                arrived.append(event.delta.text)  # noqa: PERF401 -- what arrived before the failure counts
    assert arrived == ["x", "x"]


async def test_leaving_a_stream_closes_it_on_the_server(client: AsyncCompletionClient, servicer: Failing) -> None:
    async with client.stream("FOREVER") as events:
        async for _ in events:
            break
    async with asyncio.timeout(20):
        await servicer.closed.wait()


def test_a_client_needs_a_target_or_a_channel() -> None:
    with pytest.raises(ValueError, match="either"):
        AsyncCompletionClient()
