"""Calls go to those addresses of a target that report `readiness`, and follow when that changes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

import grpc.aio
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from antiphon.completion.v1 import completion_pb2, completion_pb2_grpc
from antiphon_client import AsyncCompletionClient
from antiphon_client.errors import UnavailableError
from tests.unit.client.completion_server import GUARD, Scripted

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


@dataclass
class Replica(Scripted):
    """Answers with its name."""

    name: str = ""
    health: health.aio.HealthServicer = field(default_factory=health.aio.HealthServicer)
    port: int = 0

    async def Complete(self, request: object, context: object) -> completion_pb2.CompleteResponse:  # noqa: N802
        response = completion_pb2.CompleteResponse()
        response.answer.text = self.name
        return response

    async def report(self, status: health_pb2.HealthCheckResponse.ServingStatus.ValueType) -> None:
        """Answer health checks with this from now on."""
        await self.health.set("readiness", status)


async def start(stack: AsyncExitStack, name: str, address: str) -> Replica:
    """A replica that is ready, on an address with a free or a given port."""
    replica = Replica(name=name)
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    completion_pb2_grpc.add_CompletionServiceServicer_to_server(replica, server)  # type: ignore[no-untyped-call, unused-ignore]
    health_pb2_grpc.add_HealthServicer_to_server(replica.health, server)
    replica.port = server.add_insecure_port(address)
    await replica.report(SERVING)
    await server.start()
    stack.push_async_callback(server.stop, None)
    return replica


@pytest.fixture
async def replicas() -> AsyncIterator[tuple[Replica, Replica]]:
    async with AsyncExitStack() as stack:
        yield await start(stack, "a", "127.0.0.1:0"), await start(stack, "b", "127.0.0.1:0")


@pytest.fixture
async def client(replicas: tuple[Replica, Replica]) -> AsyncIterator[AsyncCompletionClient]:
    target = "ipv4:" + ",".join(f"127.0.0.1:{replica.port}" for replica in replicas)
    async with AsyncCompletionClient(target) as client:
        yield client


async def asked(client: AsyncCompletionClient, times: int) -> set[str]:
    """Who answers when one asks this often."""
    return {(await client.complete("who?", timeout=GUARD)).answer.text for _ in range(times)}


async def until(client: AsyncCompletionClient, wanted: set[str]) -> None:
    """Ask until those answer, and nobody else."""
    async with asyncio.timeout(GUARD):
        while await asked(client, 4) != wanted:  # noqa: ASYNC110 -- the network's state
            await asyncio.sleep(0.01)


async def test_a_server_that_is_not_ready_is_avoided_until_it_is(
    replicas: tuple[Replica, Replica], client: AsyncCompletionClient
) -> None:
    await until(client, {"a", "b"})
    await replicas[1].report(NOT_SERVING)
    await until(client, {"a"})
    assert await asked(client, 20) == {"a"}
    await replicas[1].report(SERVING)
    await until(client, {"a", "b"})


async def test_without_any_server_that_is_ready_the_error_says_what_to_check(
    replicas: tuple[Replica, Replica], client: AsyncCompletionClient
) -> None:
    for replica in replicas:
        await replica.report(NOT_SERVING)
    with pytest.raises(UnavailableError, match=r"unhealthy.*the server runs and is ready") as caught:
        async with asyncio.timeout(GUARD):
            while True:
                await client.complete("who?", timeout=GUARD)
    assert (caught.value.reason, caught.value.retry_after) == ("", None)


class Names(asyncio.DatagramProtocol):
    """A name server that knows one name with two addresses, of which this machine has both."""

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        question = data[12 : data.index(b"\0", 12) + 5]
        wanted = question[-4:-2]
        addresses = [b"\x7f\0\0\1", b"\x7f\0\0\2"] if wanted == b"\0\1" else []
        header = data[:2] + b"\x81\x80" + b"\0\1" + len(addresses).to_bytes(2, "big") + b"\0\0\0\0"
        # A pointer to the question's name, type A, class IN, a TTL of 60 s, four bytes of address.
        answers = b"".join(b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4" + address for address in addresses)
        self._transport.sendto(header + question + answers, addr)


async def test_a_name_with_several_addresses_is_all_of_them() -> None:
    loop = asyncio.get_running_loop()
    async with AsyncExitStack() as stack:
        first = await start(stack, "a", "127.0.0.1:0")
        await start(stack, "b", f"127.0.0.2:{first.port}")
        transport, _ = await loop.create_datagram_endpoint(Names, local_addr=("127.0.0.1", 0))
        stack.callback(transport.close)
        authority = "{}:{}".format(*transport.get_extra_info("sockname"))
        client = AsyncCompletionClient(f"dns://{authority}/antiphon.test:{first.port}")
        await until(await stack.enter_async_context(client), {"a", "b"})
