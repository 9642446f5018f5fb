"""The TCP proxy does to connections what it says."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

import pytest

from tests.faults.proxy import Proxy

GUARD = 10.0


@dataclass
class Echo:
    """A server that sends back what it gets, in upper case, and says what it saw."""

    port: int = 0
    ended: int = 0
    """Clients whose end of stream arrived."""
    reset: int = 0
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65_536):
                writer.write(data.upper())
                await writer.drain()
            self.ended += 1
            writer.write(b"BYE")
            await writer.drain()
        except ConnectionError:
            self.reset += 1
        finally:
            writer.close()
            self.changed.set()


@pytest.fixture
async def echo() -> AsyncIterator[Echo]:
    echo = Echo()
    server = await asyncio.start_server(echo.serve, "127.0.0.1", 0)
    echo.port = server.sockets[0].getsockname()[1]
    async with asyncio.timeout(60):
        yield echo
        server.close()


@pytest.fixture
async def proxy(echo: Echo) -> AsyncIterator[Proxy]:
    async with Proxy.to("127.0.0.1", echo.port) as proxy:
        yield proxy


class Client:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def say(self, data: bytes) -> bytes:
        self.writer.write(data)
        async with asyncio.timeout(GUARD):
            return await self.reader.readexactly(len(data))

    async def rest(self) -> bytes:
        async with asyncio.timeout(GUARD):
            return await self.reader.read()

    async def hears_nothing(self) -> bool:
        try:
            async with asyncio.timeout(0.1):
                await self.reader.read(1)
        except TimeoutError:
            return True
        return False


Dial = Callable[[Proxy], Awaitable[Client]]


@pytest.fixture
async def dial() -> AsyncIterator[Dial]:
    """Makes clients that end with the test."""
    made: list[Client] = []

    async def connect(proxy: Proxy) -> Client:
        made.append(Client(*await asyncio.open_connection(proxy.host, proxy.port)))
        return made[-1]

    yield connect
    for client in made:
        client.writer.transport.abort()
        await asyncio.gather(client.writer.wait_closed(), return_exceptions=True)


async def test_it_forwards_both_ways_and_counts(proxy: Proxy, dial: Dial) -> None:
    client = await dial(proxy)
    assert await client.say(b"hello") == b"HELLO"
    big = b"x" * 1_000_000
    assert await client.say(big) == big.upper()
    assert proxy.bytes == {"up": 1_000_005, "down": 1_000_005}
    assert (proxy.connections, proxy.open_connections) == (1, 1)
    client.writer.write_eof()
    assert await client.rest() == b"BYE"
    await proxy.until(lambda p: p.open_connections == 0)


async def test_delay_is_added_each_way_and_keeps_the_order(proxy: Proxy, dial: Dial) -> None:
    client = await dial(proxy)
    await client.say(b"warm")
    proxy.delay = 0.1
    started = asyncio.get_running_loop().time()
    client.writer.write(b"a")
    await asyncio.sleep(0.02)
    proxy.delay = 0.05
    assert await client.say(b"b") == b"A"
    assert await client.reader.readexactly(1) == b"B"
    assert asyncio.get_running_loop().time() - started >= 0.15


async def test_cut_resets_both_ends_and_new_connections_work(proxy: Proxy, echo: Echo, dial: Dial) -> None:
    client = await dial(proxy)
    await client.say(b"hello")
    proxy.cut()
    with pytest.raises(ConnectionResetError):
        await client.rest()
    await echo.changed.wait()
    assert (echo.reset, echo.ended) == (1, 0)
    assert await (await dial(proxy)).say(b"again") == b"AGAIN"


async def test_a_black_hole_swallows_and_healing_resets_what_lost_bytes(proxy: Proxy, dial: Dial) -> None:
    client = await dial(proxy)
    await client.say(b"hello")
    proxy.black_hole("down")
    client.writer.write(b"lost")
    assert await client.hears_nothing()
    assert proxy.bytes["up"] == 9
    await proxy.heal()
    with pytest.raises(ConnectionResetError):
        await client.rest()
    assert await (await dial(proxy)).say(b"again") == b"AGAIN"


async def test_a_stall_holds_bytes_back_and_loses_none(proxy: Proxy, dial: Dial) -> None:
    client = await dial(proxy)
    await client.say(b"hello")
    proxy.stall("up")
    client.writer.write(b"held")
    assert await client.hears_nothing()
    await proxy.heal()
    assert await client.reader.readexactly(4) == b"HELD"


async def test_half_closed_by_the_server_the_client_may_still_send(proxy: Proxy, dial: Dial) -> None:
    client = await dial(proxy)
    await client.say(b"hello")
    proxy.half_close("server")
    assert await client.rest() == b""
    client.writer.write(b"more")
    await proxy.until(lambda p: p.bytes["up"] == 9)


async def test_half_closed_by_the_client_the_server_may_still_send(proxy: Proxy, echo: Echo, dial: Dial) -> None:
    client = await dial(proxy)
    await client.say(b"hello")
    proxy.half_close("client")
    assert await client.rest() == b"BYE"
    assert echo.ended == 1


async def test_refusing_and_listening_again_on_the_same_port(proxy: Proxy, dial: Dial) -> None:
    client = await dial(proxy)
    await client.say(b"hello")
    await proxy.refuse()
    with pytest.raises(ConnectionRefusedError):
        await dial(proxy)
    assert await client.say(b"open ones live") == b"OPEN ONES LIVE"
    await proxy.heal()
    assert await (await dial(proxy)).say(b"again") == b"AGAIN"


async def test_a_reply_can_be_lost_at_a_byte(proxy: Proxy, echo: Echo, dial: Dial) -> None:
    proxy.cut_at["down"] = 3
    client = await dial(proxy)
    client.writer.write(b"hello")
    assert await client.reader.readexactly(3) == b"HEL"
    with pytest.raises(ConnectionResetError):
        await client.rest()
    assert proxy.bytes == {"up": 5, "down": 3}


async def test_a_target_that_is_down_resets(dial: Dial) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    async with Proxy.to("127.0.0.1", port) as proxy:
        client = await dial(proxy)
        with pytest.raises(ConnectionResetError):
            await client.rest()
