"""Any server that speaks OpenAI's chat completions: OpenAI itself, vLLM, llama.cpp, gateways.

The stream is read raw, since the SDK's typed chunks would cost 80 to 115 µs each. Nothing is tried twice: attempts are
the pipeline's decision.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence

import aiohttp
import orjson

from services.chassis.errors import AntiphonError, DeadlineExceeded, Reason
from services.completion.upstreams import failures, request
from services.completion.upstreams.chunks import ChunkReader
from services.completion.upstreams.client import BROKEN, HttpClient, at_hand, own_headers
from services.completion.upstreams.protocol import ChatEvent, ChatRequest
from services.completion.upstreams.rate_limits import rate_limit
from services.completion.upstreams.sse import MAX_LINE_BYTES, LineTooLongError, SseDecoder

MAX_STREAM_BYTES = 256 * 1024 * 1024
"""Of one whole response. The longest answers on offer, 128k tokens in chunks of 300 bytes to 1 KiB, fit."""

TAIL_SECONDS = 2.0
"""How long to wait for usage and `[DONE]` once the model has said why it stopped: the answer itself is whole."""

DRAIN_SECONDS = 0.05
"""How long to wait for the end of the response after `[DONE]`, so that the connection can be used again."""


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
        self._connect_timeout = connect_timeout
        own = own_headers(name, api_key, headers or {})
        self._http = HttpClient(name, f"{base_url.rstrip('/')}/chat/completions", own, now=now)

    @property
    def name(self) -> str:
        """Its name in the catalogue."""
        return self._name

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def stream(
        self, request: ChatRequest, *, timeout: float, connect_timeout: float | None = None
    ) -> AsyncGenerator[Sequence[ChatEvent], None]:
        """Yield the events of one call; see `protocol.Upstream`."""
        # No `asyncio.timeout` across a `yield`, where it would cancel the consumer.
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        if timeout <= 0:
            raise self._too_late()
        response = await self._open(request, deadline, connect_timeout)
        until = deadline
        timer = loop.call_at(until, _break_off, response)
        try:
            if (limit := rate_limit(response.headers)) is not None:
                yield (limit,)
            decoder = SseDecoder(max_line_bytes=self._max_line_bytes)
            reader = ChunkReader(self._name)
            received = 0
            while not reader.done:
                piece = await self._next(response, reader, late=loop.time() >= until)
                received += len(piece)
                if received > self._max_stream_bytes:
                    raise failures.oversize(self._name, f"more than {self._max_stream_bytes} bytes")
                events, error = self._events(decoder, reader, piece)
                if events:
                    yield events
                if error is not None:
                    raise error
                if not piece:
                    return
                if reader.finished and until == deadline:
                    until = min(deadline, loop.time() + TAIL_SECONDS)
                    timer.cancel()
                    timer = loop.call_at(until, _break_off, response)
            await self._drain(response)
        finally:
            timer.cancel()
            response.close()

    async def _open(
        self, request: ChatRequest, deadline: float, connect_timeout: float | None
    ) -> aiohttp.ClientResponse:
        """Return the response once its headers are there."""
        limit = self._connect_timeout if connect_timeout is None else connect_timeout
        try:
            async with asyncio.timeout_at(deadline):
                return await self._http.post(self._body(request), connect_timeout=limit)
        except aiohttp.ConnectionTimeoutError:
            raise failures.unreachable(self._name, "cannot be connected to in time", silent="connect") from None
        except TimeoutError:
            raise self._too_late() from None
        except BROKEN:
            raise failures.unreachable(self._name) from None

    def _body(self, request_: ChatRequest) -> bytes:
        fields = request.body(request_, legacy_max_tokens=self._legacy_max_tokens, stream_usage=self._stream_usage)
        return orjson.dumps(fields)

    async def _next(self, response: aiohttp.ClientResponse, reader: ChunkReader, *, late: bool) -> bytes:
        """Return the next bytes, none at the end. After `Finish` any trouble is an end: only usage may be missing."""
        if not late and (piece := at_hand(response)):
            return piece
        try:
            return await response.content.readany()
        except TimeoutError:
            if not reader.finished:
                raise self._too_late() from None
        except BROKEN:
            if not reader.finished:
                raise failures.truncated(self._name) from None
        return b""

    def _events(
        self, decoder: SseDecoder, reader: ChunkReader, piece: bytes
    ) -> tuple[list[ChatEvent], AntiphonError | None]:
        """Return the events that some bytes complete, or the end does, and the error that comes after them."""
        events: list[ChatEvent] = []
        too_long = False
        try:
            payloads = decoder.feed(piece) if piece else decoder.flush()
        except LineTooLongError as error:
            payloads, too_long = error.before, True
        try:
            for payload in payloads:
                events += self._read(reader, payload, ended=not piece)
        except AntiphonError as error:
            return events, error
        what = f"a line of more than {self._max_line_bytes} bytes"
        return events, failures.oversize(self._name, what) if too_long else None

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

    async def _drain(self, response: aiohttp.ClientResponse) -> None:
        """Wait shortly for the end of the response; one that goes on is cut by closing it."""
        if response.content.at_eof():
            return
        try:
            async with asyncio.timeout(DRAIN_SECONDS):
                await response.content.readany()
        except BROKEN:
            return

    def _too_late(self) -> DeadlineExceeded:
        return DeadlineExceeded(
            f"upstream '{self._name}' did not finish within the time of the call", metadata={"upstream": self._name}
        )


def _break_off(response: aiohttp.ClientResponse) -> None:
    """Have who reads it get a `TimeoutError`, now or when they come back."""
    response.content.set_exception(TimeoutError())
