"""A fake server that wants a key, and an openai upstream that has it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from services.completion.upstreams.openai import OpenAIUpstream
from tests.fakes.openai_server import FakeOpenAI
from tests.integration.upstreams.openai_parts import KEY, connected


@pytest.fixture
async def server() -> AsyncIterator[FakeOpenAI]:
    async with FakeOpenAI.start(api_key=KEY) as running:
        yield running


@pytest.fixture
async def upstream(server: FakeOpenAI) -> AsyncIterator[OpenAIUpstream]:
    async with connected(server) as ready:
        yield ready
