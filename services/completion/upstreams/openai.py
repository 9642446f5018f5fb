"""Any server that speaks OpenAI's chat completions: OpenAI itself, vLLM, llama.cpp, gateways.

The SDK makes the request and hands over the raw response: its typed chunks would cost 80 to 115 µs each. It never
retries: attempts are the pipeline's decision.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AsyncExitStack, aclosing
from typing import Any

import anyio
import httpx2
import openai

from services.chassis.errors import AntiphonError, DeadlineExceeded, Reason
from services.completion.upstreams import failures, request
from services.completion.upstreams.chunks import ChunkReader
from services.completion.upstreams.client import connecting_within, http_client, own_headers
from services.completion.upstreams.protocol import ChatEvent, ChatRequest
from services.completion.upstreams.rate_limits import rate_limit
from services.completion.upstreams.sse import MAX_LINE_BYTES, LineTooLongError, SseDecoder

MAX_STREAM_BYTES = 256 * 1024 * 1024
"""Of one whole response. The longest answers on offer, 128k tokens in chunks of 300 bytes to 1 KiB, fit."""

TAIL_SECONDS = 2.0
"""How long to wait for usage and `[DONE]` once the model has said why it stopped: the answer itself is whole."""

DRAIN_SECONDS = 0.05
"""How long to wait for the end of the response after `[DONE]`, so that the connection can be used again."""

_BROKEN = (httpx2.RequestError, ssl.SSLError, anyio.EndOfStream)
"""A connection that broke, in all the ways in which the HTTP library reports it."""


class OpenAIUpstream:
    """One server. `api_key` is sent as bearer token and nowhere shown; `headers` are sent with every request.

    `legacy_max_tokens` sends `max_tokens` in place of `max_completion_tokens`; `stream_usage=False` leaves out
    `stream_options`, which a few servers refuse. Loads the system's certificates: make it at start, not on the loop.
    """

    def __init__(
        self,
        name: str,
        *,
        base_url: str,
        api_key: str | None = None,
        headers: Mapping[str, str] | None = None,
        connect_timeout: float = 5.0,
        legacy_max_tokens: bool = False,
        stream_usage: bool = True,
        max_line_bytes: int = MAX_LINE_BYTES,
        max_stream_bytes: int = MAX_STREAM_BYTES,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._name = name
        self._legacy_max_tokens = legacy_max_tokens
        self._stream_usage = stream_usage
        self._max_line_bytes = max_line_bytes
        self._max_stream_bytes = max_stream_bytes
        self._timeout = connecting_within(connect_timeout)
        own = own_headers(name, api_key, headers or {})
        # The SDK takes what it is not given from OPENAI_API_KEY and OPENAI_ADMIN_KEY, whatever the server; and it
        # insists on a key. The client's hook replaces all of its headers by `own`.
        self._client = openai.AsyncOpenAI(
            base_url=base_url,
            api_key="replaced",
            admin_api_key="",
            max_retries=0,
            http_client=http_client(name, own, timeout=self._timeout, now=now),
        )

    @property
    def name(self) -> str:
        """Its name in the catalogue."""
        return self._name

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def stream(
        self, request: ChatRequest, *, timeout: float, connect_timeout: float | None = None
    ) -> AsyncGenerator[ChatEvent, None]:
        """Yield the events of one call; see `protocol.Upstream`."""
        # Timeouts are set around each wait, never across a `yield`: there they would cancel the consumer.
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        if timeout <= 0:
            raise self._too_late()
        async with AsyncExitStack() as stack:
            response = await self._open(stack, request, deadline, connect_timeout)
            if (limit := rate_limit(response.headers)) is not None:
                yield limit
            pieces = await stack.enter_async_context(aclosing(response.aiter_raw()))
            decoder = SseDecoder(max_line_bytes=self._max_line_bytes)
            reader = ChunkReader(self._name)
            received = 0
            until = deadline
            while not reader.done:
                piece = await self._next(pieces, reader, until)
                received += len(piece)
                if received > self._max_stream_bytes:
                    raise failures.oversize(self._name, f"more than {self._max_stream_bytes} bytes")
                try:
                    payloads = decoder.feed(piece) if piece else decoder.flush()
                except LineTooLongError:
                    raise failures.oversize(self._name, f"a line of more than {self._max_line_bytes} bytes") from None
                for payload in payloads:
                    for event in self._read(reader, payload, ended=not piece):
                        yield event
                if not piece:
                    return
                if reader.finished and until == deadline:
                    until = min(deadline, loop.time() + TAIL_SECONDS)
            await self._drain(pieces)

    async def _open(
        self, stack: AsyncExitStack, request: ChatRequest, deadline: float, connect_timeout: float | None
    ) -> httpx2.Response:
        """Return the response once its headers are there; it is closed with `stack`."""
        context = self._client.chat.completions.with_streaming_response.create(
            model=request.model,
            messages=[],  # the body below replaces them; the SDK would walk through and copy each
            stream=True,
            extra_body=self._body(request),
            timeout=self._timeout if connect_timeout is None else connecting_within(connect_timeout),
        )
        try:
            async with asyncio.timeout_at(deadline):
                response = await stack.enter_async_context(context)
        except TimeoutError:
            raise self._too_late() from None
        except openai.APITimeoutError:
            raise failures.unreachable(self._name, "cannot be connected to in time", silent="connect") from None
        except (openai.APIConnectionError, *_BROKEN):
            raise failures.unreachable(self._name) from None
        return response.http_response

    def _body(self, request_: ChatRequest) -> dict[str, Any]:
        return request.body(request_, legacy_max_tokens=self._legacy_max_tokens, stream_usage=self._stream_usage)

    async def _next(self, pieces: AsyncGenerator[bytes, None], reader: ChunkReader, until: float) -> bytes:
        """Return the next bytes, none at the end. After `Finish` any trouble is an end: only usage may be missing."""
        try:
            async with asyncio.timeout_at(until):
                return await anext(pieces, b"")
        except TimeoutError:
            if not reader.finished:
                raise self._too_late() from None
        except _BROKEN:
            if not reader.finished:
                raise failures.truncated(self._name) from None
        return b""

    def _read(self, reader: ChunkReader, payload: bytes, *, ended: bool) -> list[ChatEvent]:
        finished = reader.finished
        try:
            return reader.read(payload)
        except AntiphonError as error:
            if finished:
                reader.done = True
                return []
            if ended and error.reason is Reason.UPSTREAM_MALFORMED:
                raise failures.truncated(self._name) from None  # half a chunk: cut, not malformed
            raise

    async def _drain(self, pieces: AsyncGenerator[bytes, None]) -> None:
        """Wait shortly for the end of the response; one that goes on is cut by closing it."""
        try:
            async with asyncio.timeout(DRAIN_SECONDS):
                await anext(pieces, b"")
        except (TimeoutError, *_BROKEN):
            return

    def _too_late(self) -> DeadlineExceeded:
        return DeadlineExceeded(
            f"upstream '{self._name}' did not finish within the time of the call", metadata={"upstream": self._name}
        )
