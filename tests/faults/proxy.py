"""A TCP proxy between two parts, which does to their connection what networks do.

    async with Proxy.to("127.0.0.1", port) as proxy:
        client = connect(proxy.address)
        proxy.delay = 0.2           # seconds that each byte takes, both ways
        proxy.black_hole()          # swallow all bytes, keep the connections
        proxy.cut()                 # reset what is open; new connections work
        proxy.half_close("server")  # the client sees the end of the stream, and may go on sending
        await proxy.refuse()        # nobody listens
        await proxy.heal()          # everything as it was; broken connections stay broken

It runs on the loop of the test. `up` is from client to server, `down` back.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Literal

PIECE_BYTES = 64 * 1024
GUARD_SECONDS = 20.0

Direction = Literal["up", "down"]
Side = Literal["client", "server"]


class Proxy:
    """Forwards connections to one target. Made by `to`."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._server: asyncio.Server | None = None
        self._links: set[_Link] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._port = 0
        self._changed = asyncio.Event()
        self.delay = 0.0
        """Seconds between the arrival of bytes and their being forwarded, in either direction."""
        self.swallowed: frozenset[Direction] = frozenset()
        """Directions whose bytes vanish."""
        self.stalled: frozenset[Direction] = frozenset()
        """Directions in which nothing is read any more, so that the sender's buffers fill up."""
        self.cut_at: dict[Direction, int] = {}
        """Reset a connection instead of forwarding the byte after this many, counted per direction over all of them."""
        self.connections = 0
        """Connections accepted so far."""
        self.bytes: dict[Direction, int] = {"up": 0, "down": 0}
        """Bytes forwarded so far."""

    @classmethod
    @asynccontextmanager
    async def to(cls, host: str, port: int) -> AsyncIterator[Proxy]:
        """Listen on a free port of 127.0.0.1 until the block ends."""
        proxy = cls(host, port)
        await proxy._listen()
        try:
            yield proxy
        finally:
            await proxy._close()

    @property
    def host(self) -> str:
        """Where it listens."""
        return "127.0.0.1"

    @property
    def port(self) -> int:
        """Stays the same through `refuse` and `heal`."""
        return self._port

    @property
    def address(self) -> str:
        """`host:port`."""
        return f"{self.host}:{self.port}"

    @property
    def open_connections(self) -> int:
        """Connections that are open now."""
        return len(self._links)

    def cut(self) -> None:
        """Reset (RST) every open connection, both ends."""
        for link in tuple(self._links):
            link.reset()

    def black_hole(self, *directions: Direction) -> None:
        """Swallow the bytes of these directions (default: both) from now on; connections stay open."""
        self.swallowed = frozenset(directions or ("up", "down"))

    def stall(self, *directions: Direction) -> None:
        """Stop reading in these directions (default: both); what is sent waits in the sender's buffers."""
        self.stalled = frozenset(directions or ("up", "down"))
        self._changed.set()

    def half_close(self, side: Side) -> None:
        """Let every open connection look as if `side` had stopped sending; the other direction works on."""
        for link in tuple(self._links):
            link.half_close(side)

    async def refuse(self) -> None:
        """Listen no more: new connections are refused, open ones live."""
        if self._server is not None:
            self._server.close()
            self._server = None

    async def heal(self) -> None:
        """Undo everything that lasts. Connections with lost bytes are reset, since they could only hang."""
        lossy = bool(self.swallowed)
        self.delay, self.swallowed, self.stalled = 0.0, frozenset(), frozenset()
        self.cut_at.clear()
        self._changed.set()
        if lossy:
            self.cut()
        if self._server is None:
            await self._listen()

    async def until(self, true_of: Callable[[Proxy], bool], *, guard: float = GUARD_SECONDS) -> None:
        """Return as soon as `true_of(proxy)`; it is looked at whenever a connection or a byte comes or goes."""
        async with asyncio.timeout(guard):
            while not true_of(self):
                self._changed.clear()
                await self._changed.wait()

    async def passable(self, direction: Direction) -> None:
        """Wait while `direction` is stalled."""
        while direction in self.stalled:
            self._changed.clear()
            await self._changed.wait()

    def notify(self) -> None:
        """Something changed."""
        self._changed.set()

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._accepted, self.host, self._port, limit=PIECE_BYTES)
        self._port = self._server.sockets[0].getsockname()[1]

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._serve(reader, writer)
        except asyncio.CancelledError:
            writer.transport.abort()  # only `_close` cancels, and asyncio would report a cancelled handler
        finally:
            self._tasks.discard(task)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._changed.set()
        try:
            there, back = await asyncio.open_connection(*self._target, limit=PIECE_BYTES)
        except OSError:
            _reset(writer)
            return
        link = _Link(self, (reader, writer), (there, back))
        self._links.add(link)
        self._changed.set()
        try:
            await link.run()
        finally:
            self._links.discard(link)
            self._changed.set()

    async def _close(self) -> None:
        await self.refuse()
        self.cut()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


class _Link:
    """One connection through the proxy."""

    def __init__(
        self,
        proxy: Proxy,
        client: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        server: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    ) -> None:
        self._proxy = proxy
        self._client = client
        self._server = server
        self._ended: set[asyncio.StreamWriter] = set()

    async def run(self) -> None:
        ways: tuple[tuple[Direction, asyncio.StreamReader, asyncio.StreamWriter], ...] = (
            ("up", self._client[0], self._server[1]),
            ("down", self._server[0], self._client[1]),
        )
        try:
            async with asyncio.TaskGroup() as group:
                for direction, reader, writer in ways:
                    queue: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
                    group.create_task(self._receive(direction, reader, queue))
                    group.create_task(self._send(direction, writer, queue))
        except* OSError:
            pass  # one end reset the connection, or we cut it: both ends learn it below
        finally:
            self.reset()

    def reset(self) -> None:
        _reset(self._client[1])
        _reset(self._server[1])

    def half_close(self, side: Side) -> None:
        self._end(self._server[1] if side == "client" else self._client[1])

    def _end(self, writer: asyncio.StreamWriter) -> None:
        if writer not in self._ended and not writer.is_closing():
            self._ended.add(writer)
            with suppress(OSError):
                writer.write_eof()

    async def _receive(
        self, direction: Direction, reader: asyncio.StreamReader, queue: asyncio.Queue[tuple[float, bytes]]
    ) -> None:
        data = b"-"
        while data:
            await self._proxy.passable(direction)
            data = await reader.read(PIECE_BYTES)
            await self._proxy.passable(direction)  # it may have stalled while this piece was awaited
            if direction not in self._proxy.swallowed:  # swallows the end of the stream too
                queue.put_nowait((asyncio.get_running_loop().time() + self._proxy.delay, data))

    async def _send(
        self, direction: Direction, writer: asyncio.StreamWriter, queue: asyncio.Queue[tuple[float, bytes]]
    ) -> None:
        """Send each piece when it is due, in order; the delays of pieces in flight overlap."""
        while True:
            due, data = await queue.get()
            await asyncio.sleep(max(due - asyncio.get_running_loop().time(), 0))
            if not data:
                self._end(writer)
                return
            left = self._proxy.cut_at.get(direction, len(data) + self._proxy.bytes[direction])
            allowed = data[: max(left - self._proxy.bytes[direction], 0)]
            if allowed and not writer.is_closing() and writer not in self._ended:
                writer.write(allowed)
                await writer.drain()
                self._proxy.bytes[direction] += len(allowed)
                self._proxy.notify()
            if len(allowed) < len(data):
                raise ConnectionResetError


def _reset(writer: asyncio.StreamWriter) -> None:
    sock: socket.socket | None = writer.get_extra_info("socket")
    if sock is not None and sock.fileno() >= 0 and not writer.is_closing():
        with suppress(OSError):
            # Linger of zero makes closing send RST (RFC 9293 §3.10.5).
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
