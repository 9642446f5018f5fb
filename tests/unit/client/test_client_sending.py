"""A call that sends a stream ends with the status the server gave it, also while something is being sent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
import pytest

from antiphon.cache.v1 import cache_pb2_grpc, transfer_pb2
from antiphon_client import AsyncCacheClient
from antiphon_client.errors import InvalidArgumentError
from tests.unit.client.completion_server import fail

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


async def test_the_status_of_the_server_outlives_a_write_that_fails() -> None:
    servicer, server = Refusing(), grpc.aio.server()  # type: ignore[abstract]
    cache_pb2_grpc.add_CacheServiceServicer_to_server(servicer, server)  # type: ignore[no-untyped-call, unused-ignore]
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with AsyncCacheClient(f"127.0.0.1:{port}") as client:
            for _ in range(CALLS):
                with pytest.raises(InvalidArgumentError) as caught:
                    await client.import_(requests())
                error = caught.value
                assert (error.reason, error.message, error.retry_after) == ("TOO_LARGE", "what went wrong", 1.5)
                assert error.fields == {"prompt": "is empty"}
            servicer.refuses = False
            for _ in range(CALLS):
                assert (await client.import_(requests())).stored == 2
    finally:
        await server.stop(None)
