"""A call that sends a stream ends with the status the server gave it, also while something is being sent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import grpc
import grpc.aio
import pytest

from antiphon.cache.v1 import cache_pb2_grpc, transfer_pb2
from antiphon_client import AsyncCacheClient, CacheClient
from antiphon_client.errors import InvalidArgumentError
from tests.unit.client.completion_server import GUARD, fail

CALLS = 50
"""More than half of those that are refused meet the defect of grpc.aio that the client makes good."""


class Refusing(cache_pb2_grpc.CacheServiceServicer):
    """Takes two requests and refuses, with details; or answers."""

    def __init__(self) -> None:
        self.refuses = True

    async def Import(self, requests: AsyncIterator[transfer_pb2.ImportRequest], context: Any) -> Any:  # noqa: N802
        read = 0
        async for _ in requests:
            read += 1
            if read == 2:
                break
        if self.refuses:
            await fail(context, grpc.StatusCode.INVALID_ARGUMENT, reason="TOO_LARGE")
        return transfer_pb2.ImportResponse(stored=read)


async def requests() -> AsyncIterator[transfer_pb2.ImportRequest]:
    request = transfer_pb2.ImportRequest(lines=[transfer_pb2.ImportLine(number=1)] * 10)
    for _ in range(200):
        yield request
        await asyncio.sleep(0)


@pytest.fixture
async def servicer() -> Refusing:
    return Refusing()  # type: ignore[abstract]


@pytest.fixture
async def address(servicer: Refusing) -> AsyncIterator[str]:
    server = grpc.aio.server()
    cache_pb2_grpc.add_CacheServiceServicer_to_server(servicer, server)  # type: ignore[no-untyped-call, unused-ignore]
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    where = f"127.0.0.1:{port}"
    async with grpc.aio.insecure_channel(where) as channel, asyncio.timeout(GUARD):
        await channel.channel_ready()
    yield where
    await server.stop(None)


async def test_the_status_of_the_server_outlives_a_write_that_fails(servicer: Refusing, address: str) -> None:
    async with AsyncCacheClient(address) as client:
        for _ in range(CALLS):
            with pytest.raises(InvalidArgumentError) as caught:
                await client.import_(requests())
            error = caught.value
            assert (error.reason, error.message, error.retry_after) == ("TOO_LARGE", "what went wrong", 1.5)
            assert error.fields == {"prompt": "is empty"}
        servicer.refuses = False
        for _ in range(CALLS):
            assert (await client.import_(requests())).stored == 2


class OwnError(Exception):
    """The caller's."""


def broken() -> Iterator[Any]:
    yield transfer_pb2.ImportRequest()
    raise OwnError("a line is wrong")


def wrong() -> Iterator[Any]:
    yield transfer_pb2.ImportRequest()
    yield "a line"


async def each(of: Iterator[Any]) -> AsyncIterator[Any]:
    for request in of:
        yield request


@pytest.mark.parametrize(
    ("lines", "kind", "said"),
    [(broken, OwnError, "a line is wrong"), (wrong, TypeError, "requests are ImportRequest, not str")],
)
async def test_what_reading_the_requests_raises_is_raised(
    servicer: Refusing, address: str, lines: Callable[[], Iterator[Any]], kind: type[Exception], said: str
) -> None:
    def blocking() -> None:
        with CacheClient(address) as client:
            client.import_(lines())

    servicer.refuses = False
    async with AsyncCacheClient(address) as client:
        for sent in (lines(), each(lines())):
            with pytest.raises(kind, match=said):
                await client.import_(sent)
    with pytest.raises(kind, match=said):
        await asyncio.to_thread(blocking)


async def test_a_task_that_is_cancelled_while_it_sends_is_cancelled(servicer: Refusing, address: str) -> None:
    reading = asyncio.Event()

    async def never() -> AsyncIterator[transfer_pb2.ImportRequest]:
        yield transfer_pb2.ImportRequest()
        reading.set()
        await asyncio.Event().wait()

    async with AsyncCacheClient(address) as client:
        task = asyncio.create_task(client.import_(never()))
        await reading.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
