"""How each side is asked, and what it must answer."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Protocol

import aiohttp
import grpc.aio

from antiphon.cache.v1 import cache_pb2
from antiphon.completion.v1 import completion_pb2
from antiphon_client import AsyncCompletionClient
from tests.bench.echo import METHOD
from tests.bench.peers.upstream import TOKENS

ANSWER = "word " * TOKENS
PADDING = "All work and no play makes a dull benchmark. " * 21
BYPASS = cache_pb2.CachePolicy(mode=cache_pb2.CACHE_MODE_BYPASS)
CACHED = cache_pb2.CachePolicy()


class Side(Protocol):
    """Somebody who answers."""

    async def unary(self, model: str, number: int) -> None:
        """Ask question `number`."""

    async def stream(self, model: str, number: int) -> float:
        """The same, streamed; return the seconds until the first content."""


def prompt(number: int) -> str:
    """Question `number`, about 1 KB."""
    return f"{number}: {PADDING}"


class Ours:
    """Our suite. `policy`: how to use its cache; `apart` gives each question a namespace, so that it is a miss."""

    def __init__(self, client: AsyncCompletionClient, policy: cache_pb2.CachePolicy, *, apart: bool = False) -> None:
        self._client = client
        self._policy = policy
        self._apart = apart

    async def unary(self, model: str, number: int) -> None:
        """Ask question `number`."""
        response = await self._client.complete(self._request(model, number))
        assert response.answer.text == ANSWER, response

    async def stream(self, model: str, number: int) -> float:
        """The same, streamed; return the seconds until the first content."""
        began, first = time.perf_counter(), 0.0
        async with self._client.stream(self._request(model, number)) as events:
            async for event in events:
                if not first and event.HasField("delta"):
                    first = time.perf_counter() - began
        assert events.finished is not None
        assert events.finished.answer.text == ANSWER
        return first

    def _request(self, model: str, number: int) -> completion_pb2.CompleteRequest:
        namespace = f"bench-{model}-{number}" if self._apart else ""
        return completion_pb2.CompleteRequest(
            prompt=prompt(number), model=model, cache=self._policy, namespace=namespace
        )


class Http:
    """Whoever speaks OpenAI's API: LiteLLM, or the models' server itself."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session = session
        self._url = f"{url}/chat/completions"

    async def unary(self, model: str, number: int) -> None:
        """Ask question `number`."""
        async with self._session.post(self._url, json=self._body(model, number)) as response:
            found = await response.json()
        assert found["choices"][0]["message"]["content"] == ANSWER, found

    async def stream(self, model: str, number: int) -> float:
        """The same, streamed; return the seconds until the first content."""
        began, first, received = time.perf_counter(), 0.0, bytearray()
        async with self._session.post(self._url, json=self._body(model, number, stream=True)) as response:
            async for piece in response.content.iter_any():
                received += piece
                if not first and b"word" in received:
                    first = time.perf_counter() - began
        assert received.count(b"word") == TOKENS, bytes(received)
        return first

    @staticmethod
    def _body(model: str, number: int, **more: object) -> dict[str, object]:
        return {"model": model, "messages": [{"role": "user", "content": prompt(number)}], **more}


@asynccontextmanager
async def echo(address: str) -> AsyncIterator[grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]]:
    """The bare server's one method."""
    async with grpc.aio.insecure_channel(address) as channel:
        yield channel.unary_unary(METHOD)
