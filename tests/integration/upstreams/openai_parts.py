"""What the tests of the openai upstream are made of: one that calls a fake server, what it answers, how it fails."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from services.chassis.errors import AntiphonError
from services.completion.upstreams.openai import OpenAIUpstream
from services.completion.upstreams.protocol import ChatEvent, ChatRequest, TextDelta
from services.llm.values import Message, Role, TextPart
from tests.fakes.openai_server import FakeOpenAI

KEY = "sk-test-SECRET"
PROMPT = "a PRIVATE prompt"
ASKED = ChatRequest("fake-1", (Message(Role.USER, (TextPart(PROMPT),)),))
GUARD = 20.0


@asynccontextmanager
async def connected(server: FakeOpenAI, **settings: Any) -> AsyncIterator[OpenAIUpstream]:
    upstream = OpenAIUpstream("up", **{"base_url": server.base_url, "api_key": KEY, **settings})
    try:
        yield upstream
    finally:
        await upstream.aclose()


async def events(upstream: OpenAIUpstream, request: ChatRequest = ASKED, timeout: float = GUARD) -> list[ChatEvent]:
    return [event async for batch in upstream.stream(request, timeout=timeout) for event in batch]


def text(events: list[ChatEvent]) -> str:
    return "".join(event.text for event in events if isinstance(event, TextDelta))


async def failure(upstream: OpenAIUpstream, timeout: float = GUARD) -> tuple[list[ChatEvent], AntiphonError]:
    """What came before the error, and the error, which must not tell any secret."""
    seen: list[ChatEvent] = []
    with pytest.raises(AntiphonError) as raised:
        async for batch in upstream.stream(ASKED, timeout=timeout):
            seen += batch
    error = raised.value
    told = f"{error!r} {error} {error.field} {dict(error.metadata)} {error.__cause__!r}"
    assert "SECRET" not in told
    assert "PRIVATE" not in told
    assert error.metadata["upstream"] == "up"
    return seen, error
