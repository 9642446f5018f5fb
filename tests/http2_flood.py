"""One connection of raw HTTP/2 that misbehaves, on loopback and bounded."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Literal

import h2.config
import h2.connection
import h2.events
import h2.exceptions

Kind = Literal["pings", "resets"]


@dataclass
class Flood:
    """What was sent and how the server ended it; `error_code` is that of its GOAWAY."""

    sent: int = 0
    error_code: int | None = None
    closed: bool = False
    heard: asyncio.Event = field(default_factory=asyncio.Event)


async def flood(address: str, kind: Kind, count: int, *, path: str = "/test/Flood") -> Flood:
    """Send up to `count` pings, or requests that are reset at once, until the server has had enough."""
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    connection = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, header_encoding="utf-8"))
    connection.initiate_connection()
    state = Flood()
    listening = asyncio.create_task(_listen(reader, connection, state))
    headers = [(":method", "POST"), (":scheme", "http"), (":path", path), (":authority", address)]
    headers += [("content-type", "application/grpc"), ("te", "trailers")]
    try:
        if kind == "resets":
            # All at once: more calls than gRPC by itself lets wait to be handed over.
            for _ in range(count):
                stream = connection.get_next_available_stream_id()
                connection.send_headers(stream, headers)
                connection.reset_stream(stream)
            state.sent = count
            writer.write(connection.data_to_send())
            await writer.drain()
        while kind == "pings" and state.sent < count and not state.closed:
            # One after the other: what a server that closes has not read yet would cost us its last word.
            connection.ping(b"flooding")
            state.sent += 1
            state.heard.clear()
            writer.write(connection.data_to_send())
            await state.heard.wait()
    except (OSError, h2.exceptions.ProtocolError):  # it has closed
        await listening
    finally:
        listening.cancel()
        writer.close()
    return state


async def _listen(reader: asyncio.StreamReader, connection: h2.connection.H2Connection, state: Flood) -> None:
    try:
        while data := await reader.read(65_536):
            for event in connection.receive_data(data):
                if isinstance(event, h2.events.ConnectionTerminated):
                    state.error_code = int(event.error_code or 0)
                    state.closed = True
            state.heard.set()
    except (OSError, h2.exceptions.ProtocolError):
        pass
    state.closed = True
    state.heard.set()
