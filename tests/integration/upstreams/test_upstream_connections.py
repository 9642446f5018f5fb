"""What goes to a proxy, and what becomes of a connection on which a server writes what nobody asked for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from services.chassis.errors import AntiphonError, Reason
from services.completion.upstreams.openai import OpenAIUpstream
from services.completion.upstreams.protocol import ChatRequest, TextDelta
from services.llm.values import Message, Role, TextPart

KEY = "sk-test-SECRET"
ASKED = ChatRequest("fake-1", (Message(Role.USER, (TextPart("a question"),)),))
GUARD = 20.0

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def answer(text: str) -> bytes:
    """A whole response."""
    body = (
        f'data: {{"choices":[{{"index":0,"delta":{{"content":"{text}"}}}}]}}\n\n'
        'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
    )
    return (f"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: {len(body)}\r\n\r\n{body}").encode()


@asynccontextmanager
async def listening(serve: Serve) -> AsyncIterator[int]:
    """A server of raw bytes; its port."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await serve(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


async def request(reader: asyncio.StreamReader) -> bytes:
    """Read one request; its head."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
    await reader.readexactly(int(length.partition(b":")[2]))
    return head


async def asked(upstream: OpenAIUpstream) -> str:
    """The text of an answer."""
    batches = [batch async for batch in upstream.stream(ASKED, timeout=GUARD)]
    return "".join(event.text for batch in batches for event in batch if isinstance(event, TextDelta))


@pytest.mark.parametrize("credentials", ["", "somebody:password@"])
async def test_no_key_and_no_header_of_ours_is_told_to_a_proxy(
    monkeypatch: pytest.MonkeyPatch, credentials: str
) -> None:
    heads: list[bytes] = []

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 403 no\r\ncontent-length: 0\r\n\r\n")
        await writer.drain()

    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    async with listening(refuse) as port:
        for name in ("HTTPS_PROXY", "https_proxy"):
            monkeypatch.setenv(name, f"http://{credentials}127.0.0.1:{port}")
        upstream = OpenAIUpstream(
            "up", base_url="https://nowhere.invalid/v1", api_key=KEY, headers={"api-key": "SECRET-too"}
        )
        with pytest.raises(AntiphonError):
            await asked(upstream)
        await upstream.aclose()
    assert heads
    assert all(head.startswith(b"CONNECT nowhere.invalid:443") for head in heads)
    assert not any(b"SECRET" in head for head in heads)
    assert all((b"proxy-authorization: basic" in head.lower()) == bool(credentials) for head in heads)


async def test_what_comes_unasked_on_an_idle_connection_answers_nobody() -> None:
    served, unasked = 0, asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal served
        while True:
            await request(reader)
            served += 1
            writer.write(answer(f"answer {served}"))
            await writer.drain()
            if served == 1:
                await unasked.wait()
                writer.write(answer("of somebody else"))
                await writer.drain()

    async with listening(serve) as port:
        upstream = OpenAIUpstream("up", base_url=f"http://127.0.0.1:{port}/v1", api_key=KEY)
        assert await asked(upstream) == "answer 1"
        session = upstream._http._session
        assert session is not None and session.connector is not None
        (idle,) = [protocol for pooled in session.connector._conns.values() for protocol, _ in pooled]
        unasked.set()
        async with asyncio.timeout(GUARD):
            while not idle.should_close:  # noqa: ASYNC110 -- the loop has read what came; nothing tells of it
                await asyncio.sleep(0)
        assert [await asked(upstream) for _ in range(3)] == ["answer 2", "answer 3", "answer 4"]
        await upstream.aclose()


async def test_no_content_is_no_stream() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request(reader)
        writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        await writer.drain()

    async with listening(serve) as port:
        upstream = OpenAIUpstream("up", base_url=f"http://127.0.0.1:{port}/v1", api_key=KEY)
        with pytest.raises(AntiphonError) as raised:
            await asked(upstream)
        assert raised.value.reason is Reason.UPSTREAM_MALFORMED
        await upstream.aclose()
