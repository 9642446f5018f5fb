"""Every call of every client carries its API key and its caller's metadata."""

from __future__ import annotations

import asyncio
import inspect
import re
from collections.abc import AsyncIterator, Sequence
from keyword import iskeyword
from typing import Any

import grpc
import grpc.aio
import pytest
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message_factory import GetMessageClass

from antiphon.cache.v1 import cache_pb2
from antiphon.completion.v1 import completion_pb2
from antiphon.router.v1 import router_pb2
from antiphon_client import (
    AsyncCacheClient,
    AsyncCompletionClient,
    AsyncRouterClient,
    CacheClient,
    CompletionClient,
    RouterClient,
)
from antiphon_client._credential import Credential
from antiphon_client._service_config import default_timeouts

CLIENTS = {
    completion_pb2.DESCRIPTOR.services_by_name["CompletionService"]: (AsyncCompletionClient, CompletionClient),
    cache_pb2.DESCRIPTOR.services_by_name["CacheService"]: (AsyncCacheClient, CacheClient),
    router_pb2.DESCRIPTOR.services_by_name["RouterService"]: (AsyncRouterClient, RouterClient),
}

METHODS = [method for service in CLIENTS for method in service.methods]

_FINISHED = completion_pb2.StreamCompleteResponse(finished=completion_pb2.Finished())
FINISHED = _FINISHED.SerializeToString()
RESUMED = completion_pb2.ResumeStreamResponse(event=_FINISHED).SerializeToString()

KEY = "ap_abcdefghijkl_secret"


class Listener(grpc.GenericRpcHandler):
    """Answers every method with an empty message and keeps what it was called with."""

    def __init__(self) -> None:
        self.seen: list[list[tuple[str, str | bytes]]] = []

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        async def answer(_request: bytes, context: Any) -> bytes:
            self.seen.append([tuple(pair) for pair in context.invocation_metadata()])
            return b""

        method = details.method

        async def stream(request: bytes, context: Any) -> AsyncIterator[bytes]:
            await answer(request, context)
            if details.method.endswith("/Export"):
                yield b""
            else:
                yield RESUMED if "Resume" in method else FINISHED

        if not details.method.startswith("/antiphon."):
            return None
        if "Stream" in details.method or details.method.endswith("/Export"):
            return grpc.unary_stream_rpc_method_handler(stream)
        if details.method.endswith("/Import"):
            return grpc.stream_unary_rpc_method_handler(answer)
        return grpc.unary_unary_rpc_method_handler(answer)


@pytest.fixture
def listener() -> Listener:
    return Listener()


@pytest.fixture
async def address(listener: Listener) -> AsyncIterator[str]:
    server = grpc.aio.server(handlers=[listener])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield f"127.0.0.1:{port}"
    await server.stop(None)


def python_name(method: MethodDescriptor) -> str:
    """`StreamComplete` is a stream of its own kind; all others are called what their rpc is called."""
    name = "stream" if method.name == "StreamComplete" else re.sub(r"(?<!^)(?=[A-Z])", "_", method.name).lower()
    return f"{name}_" if iskeyword(name) else name


def call(client: Any, method: MethodDescriptor, metadata: Sequence[tuple[str, str]]) -> None:
    """Call the method that belongs to an rpc."""
    if method.name == "StreamComplete":
        with client.stream("x", metadata=metadata) as events:
            assert list(events)
        return
    if method.name == "ResumeStream":
        with client.resume_stream("x", metadata=metadata) as events:
            assert list(events)
        return
    request, called = GetMessageClass(method.input_type)(), getattr(client, python_name(method))
    made = called(iter((request,)) if method.client_streaming else request, metadata=metadata)
    if method.server_streaming:
        assert len(list(made)) == 1


async def call_async(client: Any, method: MethodDescriptor, metadata: Sequence[tuple[str, str]]) -> None:
    """Call the method that belongs to an rpc."""
    if method.name == "StreamComplete":
        async with client.stream("x", metadata=metadata) as events:
            assert [event async for event in events]
        return
    if method.name == "ResumeStream":
        async with client.resume_stream("x", metadata=metadata) as events:
            assert [event async for event in events]
        return
    request, called = GetMessageClass(method.input_type)(), getattr(client, python_name(method))
    made = called(iter((request,)) if method.client_streaming else request, metadata=metadata)
    if method.server_streaming:
        assert len([response async for response in made]) == 1
    else:
        await made


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
async def test_every_method_sends_the_key_and_the_metadata(
    listener: Listener, address: str, method: MethodDescriptor
) -> None:
    of_a_loop, of_a_thread = CLIENTS[method.containing_service]
    async with of_a_loop(address, api_key=KEY) as client:
        await call_async(client, method, [("x-canary", "yes")])
    with of_a_thread(address, api_key=KEY) as client:
        await asyncio.to_thread(call, client, method, [("x-canary", "yes")])
    assert len(listener.seen) == 2
    for seen in listener.seen:
        assert ("authorization", f"Bearer {KEY}") in seen
        assert ("x-canary", "yes") in seen


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_both_kinds_of_client_have_the_same_methods(method: MethodDescriptor) -> None:
    of_a_loop, of_a_thread = (getattr(kind, python_name(method)) for kind in CLIENTS[method.containing_service])
    taken, by_thread = (dict(inspect.signature(one).parameters) for one in (of_a_loop, of_a_thread))
    if method.client_streaming:  # a loop may also take its requests from an asynchronous iterator
        taken["requests"] = taken["requests"].replace(annotation=by_thread["requests"].annotation)
    assert taken == by_thread
    assert of_a_loop.__doc__ == of_a_thread.__doc__
    timeout = inspect.signature(of_a_loop).parameters["timeout"].default
    assert timeout == default_timeouts()[f"{method.containing_service.full_name}/{method.name}"]


async def test_without_a_key_nothing_is_sent(listener: Listener, address: str) -> None:
    async with AsyncCompletionClient(address) as client:
        await client.complete("x")
    assert "authorization" not in dict(listener.seen[0])


async def test_a_callable_is_asked_before_every_call(listener: Listener, address: str) -> None:
    keys = iter(["first", "second\n"])
    async with AsyncCacheClient(address, api_key=lambda: next(keys)) as client:
        await client.get_stats(cache_pb2.GetStatsRequest())
        await client.get_stats(cache_pb2.GetStatsRequest())
    assert [dict(seen)["authorization"] for seen in listener.seen] == ["Bearer first", "Bearer second"]


async def test_a_call_may_bring_a_credential_of_its_own(listener: Listener, address: str) -> None:
    async with AsyncRouterClient(address, api_key=KEY) as client:
        await client.list_models(router_pb2.ListModelsRequest(), metadata=[("authorization", "Bearer other")])
    assert [value for name, value in listener.seen[0] if name == "authorization"] == ["Bearer other"]


@pytest.mark.parametrize("wrong", ["", " \n", "two words", "line\nbreak", "schlüssel", "bell\x07"])
def test_a_key_that_cannot_be_sent_is_refused_without_being_shown(wrong: str) -> None:
    with pytest.raises(ValueError, match="api_key") as caught:
        Credential(wrong)
    if wrong.strip():
        assert wrong.strip() not in str(caught.value)
    with pytest.raises(ValueError, match="api_key"):
        Credential(lambda: wrong).metadata()
    assert KEY not in repr(Credential(KEY))
