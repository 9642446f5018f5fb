"""Every status becomes its exception, with what the details say."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

import antiphon_client
from antiphon.cache.v1 import cache_pb2
from antiphon.completion.v1 import completion_pb2, completion_pb2_grpc
from antiphon.errors.v1 import errors_pb2
from antiphon.router.v1 import router_pb2
from antiphon_client import (
    AsyncCacheClient,
    AsyncCompletionClient,
    AsyncRouterClient,
    CacheClient,
    CompletionClient,
    errors,
)
from tests.unit.client.completion_server import fail, serving

ROOT = Path(__file__).resolve().parents[3]

ERRORS = [kind for kind in antiphon_client.AntiphonError.__subclasses__() if kind.__module__ == errors.__name__]
"""Those of the client; commands have one of their own."""


class Failing(completion_pb2_grpc.CompletionServiceServicer):
    """Fails with what the prompt names; streams two deltas first, or for ever."""

    def __init__(self) -> None:
        self.closed = asyncio.Event()

    async def Complete(self, request: completion_pb2.CompleteRequest, context: grpc.aio.ServicerContext) -> None:  # type: ignore[override, type-arg]  # noqa: N802
        await fail(context, grpc.StatusCode[request.prompt])

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
            await fail(context, grpc.StatusCode[request.request.prompt])
        finally:
            self.closed.set()

    async def ResumeStream(  # noqa: N802
        self,
        request: completion_pb2.ResumeStreamRequest,
        context: grpc.aio.ServicerContext,  # type: ignore[type-arg]
    ) -> AsyncIterator[completion_pb2.ResumeStreamResponse]:
        event = completion_pb2.StreamCompleteResponse(delta=completion_pb2.Delta(text="x"))
        yield completion_pb2.ResumeStreamResponse(event=event)
        await fail(context, grpc.StatusCode[request.stream_id])

    async def SubmitFeedback(self, request: completion_pb2.SubmitFeedbackRequest, context: Any) -> Any:  # noqa: N802
        await fail(context, grpc.StatusCode[request.completion_id])


@pytest.fixture
async def servicer() -> Failing:
    return Failing()


@pytest.fixture
async def address(servicer: Failing) -> AsyncIterator[str]:
    async with serving(servicer) as address:
        yield address


@pytest.fixture
async def client(address: str) -> AsyncIterator[AsyncCompletionClient]:
    async with AsyncCompletionClient(address) as made:
        yield made


@pytest.mark.parametrize("code", [c for c in grpc.StatusCode if c is not grpc.StatusCode.OK])
async def test_a_status_is_its_exception_with_the_details(client: AsyncCompletionClient, code: grpc.StatusCode) -> None:
    with pytest.raises(antiphon_client.AntiphonError) as caught:
        await client.complete(code.name)
    error = caught.value
    own = [kind for kind in ERRORS if kind.code is code]
    assert type(error) is (own[0] if own else errors.InternalError)
    assert error.code is code
    assert (error.reason, error.message, error.retry_after) == ("SOME_REASON", "what went wrong", 1.5)
    assert error.fields == {"prompt": "is empty"}
    assert error.metadata == {"model": "m"}


@pytest.mark.parametrize("code", [c for c in grpc.StatusCode if c is not grpc.StatusCode.OK])
async def test_a_client_without_a_loop_raises_the_same(
    client: AsyncCompletionClient, address: str, code: grpc.StatusCode
) -> None:
    def raised() -> antiphon_client.AntiphonError:
        with CompletionClient(address) as blocking, pytest.raises(antiphon_client.AntiphonError) as caught:
            blocking.complete(code.name)
        return caught.value

    with pytest.raises(antiphon_client.AntiphonError) as caught:
        await client.complete(code.name)
    ours, theirs = caught.value, await asyncio.to_thread(raised)
    assert (type(ours), vars(ours)) == (type(theirs), vars(theirs))


@pytest.mark.parametrize(
    "reason", [name for name in errors_pb2.ErrorReason.DESCRIPTOR.values_by_name if "UNSPECIFIED" not in name]
)
def test_every_reason_says_what_to_do_next(reason: str) -> None:
    """The contract's comment names the status of each reason."""
    proto = (ROOT / "protos/antiphon/errors/v1/errors.proto").read_text(encoding="utf-8")
    code = re.search(rf"// ([A-Z_]+): (?:[^\n]*\n *// )*[^\n]*\n *{reason} =", proto)
    assert code is not None
    status = grpc.StatusCode[code[1]]
    (kind,) = [each for each in ERRORS if each.code is status]
    error = kind("what went wrong", reason=reason.removeprefix("ERROR_REASON_"))
    assert error.hint
    assert str(error) == f"{error.reason}: what went wrong ({error.hint})"


def test_an_error_says_where_and_when() -> None:
    wrong = errors.InvalidArgumentError("is empty", reason="MISSING_FIELD", fields={"prompt": "is empty"})
    assert str(wrong) == "MISSING_FIELD: is empty [prompt] (correct the request)"
    limited = errors.ResourceExhaustedError("too many calls", reason="RATE_LIMITED", retry_after=1.5)
    assert str(limited) == "RATE_LIMITED: too many calls (try again in 1.5 s)"
    assert str(errors.CancelledError("closed")) == "CANCELLED: closed"


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ("Stream removed (recvmsg:Connection reset by peer (104))", "connection was lost"),
        ("Cancelling all calls", "connection was lost"),
        ("connections to all backends failing; last error: UNAVAILABLE: ipv4:127.0.0.1:1: Socket closed", "TLS"),
        ("failed to connect to all addresses", "check the target"),
    ],
)
def test_a_connection_that_ends_is_told_from_one_that_was_never_made(message: str, said: str) -> None:
    assert said in errors.UnavailableError(message).hint


def test_the_tree_in_the_docstring_is_the_tree() -> None:
    drawn = re.findall(r"[├└]── (\w+)", errors.__doc__ or "")
    assert drawn == [kind.__name__ for kind in ERRORS]


def test_the_table_in_the_readme_has_every_error() -> None:
    readme = (ROOT / "clients/python/README.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| `(\w+Error)` \|", readme, re.MULTILINE) == [kind.__name__ for kind in ERRORS]


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


async def test_a_closed_client_says_so() -> None:
    clients = AsyncCompletionClient("127.0.0.1:1"), AsyncCacheClient("127.0.0.1:1"), AsyncRouterClient("127.0.0.1:1")
    completion, cache, router = clients
    for client in clients:
        await client.close()
    for call in (
        completion.complete("hello"),
        completion.submit_feedback("x", right=True),
        cache.get_stats(cache_pb2.GetStatsRequest()),
        router.list_models(router_pb2.ListModelsRequest()),
    ):
        with pytest.raises(errors.CancelledError, match="the client is closed"):
            await call
    with pytest.raises(errors.CancelledError, match="the client is closed"):
        async with completion.stream("hello") as events:
            await anext(events)


def test_a_closed_client_without_a_loop_says_so() -> None:
    completion, cache = CompletionClient("127.0.0.1:1"), CacheClient("127.0.0.1:1")
    completion.close()
    cache.close()
    with pytest.raises(errors.CancelledError, match="the client is closed"):
        completion.complete("hello")
    with pytest.raises(errors.CancelledError, match="the client is closed"), completion.stream("hello") as events:
        next(events)
    with pytest.raises(errors.CancelledError, match="the client is closed"):
        cache.lookup(cache_pb2.LookupRequest())


@pytest.mark.parametrize(
    ("arguments", "named", "told"),
    [
        ((7,), {}, "prompt must be str or CompleteRequest, not int"),
        ((b"hello",), {}, "prompt must be str or CompleteRequest, not bytes"),
        ((cache_pb2.LookupRequest(),), {}, "prompt must be str or CompleteRequest, not LookupRequest"),
        (("hello",), {"model": 7}, "model must be str or None, not int"),
        (("hello",), {"namespace": ["n"]}, "namespace must be str or None, not list"),
        (("hello",), {"idempotency_key": 1}, "idempotency_key must be str or None, not int"),
    ],
)
async def test_an_argument_of_another_type_is_named(
    arguments: tuple[Any, ...], named: dict[str, Any], told: str
) -> None:
    async with AsyncCompletionClient("127.0.0.1:1") as client:
        with pytest.raises(TypeError, match=told):
            await client.complete(*arguments, **named)
        with pytest.raises(TypeError, match=told):
            async with client.stream(*arguments, **named):
                pass
        for wrong, field in (({"completion": 7}, "completion"), ({"completion": "x", "user": 7}, "user")):
            with pytest.raises(TypeError, match=f"{field} must be"):
                await client.submit_feedback(**wrong, right=True)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="replay_tokens_per_second must be int or None, not str"):
            async with client.stream("hello", replay_tokens_per_second="fast"):  # type: ignore[arg-type]
                raise AssertionError
        with pytest.raises(TypeError, match="heartbeat_interval must be int or float, not str"):
            async with client.stream("hello", heartbeat_interval="soon"):  # type: ignore[arg-type]
                pass


def test_a_client_needs_a_target_or_a_channel() -> None:
    with pytest.raises(ValueError, match="either"):
        AsyncCompletionClient()
