"""The fake is a server that OpenAI's own SDK takes for one."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import openai
import pytest

from tests.fakes import behaviours
from tests.fakes.behaviours import Behaviour, answering
from tests.fakes.openai_server import FakeOpenAI, answer_to, vector_of

SMALL = "text-embedding-3-small"
USER: Any = [{"role": "user", "content": "hi"}]


@pytest.fixture
async def server() -> AsyncIterator[FakeOpenAI]:
    async with FakeOpenAI.start() as running:
        yield running


@pytest.fixture
async def sdk(server: FakeOpenAI) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=server.base_url, api_key="sk-test", max_retries=0) as client:
        yield client


async def test_unary_chat(server: FakeOpenAI, sdk: openai.AsyncOpenAI) -> None:
    completion = await sdk.chat.completions.create(model="fake-1", messages=USER)
    assert completion.choices[0].message.content == answer_to(server.calls[0].body)
    assert completion.choices[0].finish_reason == "stop"
    assert completion.usage is not None
    assert completion.usage.total_tokens > 0


async def test_streamed_chat(server: FakeOpenAI, sdk: openai.AsyncOpenAI) -> None:
    server.default = answering("Hel", "lo")
    stream = await sdk.chat.completions.create(
        model="fake-1", messages=USER, stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in stream]
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == "Hello"
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert server.calls[0].events == 2


@pytest.mark.parametrize("encoding", ["base64", "float"])
async def test_embeddings(server: FakeOpenAI, sdk: openai.AsyncOpenAI, encoding: Any) -> None:
    texts = ["one", "two"]
    made = await sdk.embeddings.create(model=SMALL, input=texts, encoding_format=encoding)
    # The SDK decodes base64 by itself only where it chose the encoding.
    got: Any = made.data[0].embedding
    vector = got if isinstance(got, list) else np.frombuffer(base64.b64decode(got), "<f4")
    assert np.allclose(vector, vector_of("one", 1536), atol=1e-6)
    assert made.usage.prompt_tokens == 2
    assert len(server.embedding_calls) == 1
    shorter = await sdk.embeddings.create(model=SMALL, input="one", dimensions=8)
    assert np.isclose(np.linalg.norm(shorter.data[0].embedding), 1, atol=1e-5)
    assert len(shorter.data[0].embedding) == 8


@pytest.mark.parametrize(
    ("fault", "holds"),
    [
        ({"vector_dim": 7}, lambda data: all(len(item.embedding) == 7 for item in data)),
        ({"vector_fault": "nan"}, lambda data: all(np.isnan(item.embedding[0]) for item in data)),
        ({"vector_fault": "inf"}, lambda data: all(np.isinf(item.embedding[0]) for item in data)),
        ({"vector_fault": "zero"}, lambda data: all(not any(item.embedding) for item in data)),
        ({"vector_fault": "missing"}, lambda data: len(data) == 2),
        ({"vector_fault": "reversed"}, lambda data: [item.index for item in data] == [2, 1, 0]),
    ],
)
async def test_faulty_embeddings(server: FakeOpenAI, sdk: openai.AsyncOpenAI, fault: Any, holds: Any) -> None:
    server.enqueue(Behaviour(**fault))
    made = await sdk.embeddings.create(model=SMALL, input=["a", "b", "c"])
    assert holds(made.data)


async def test_models(sdk: openai.AsyncOpenAI) -> None:
    assert [model.id async for model in sdk.models.list()] == ["fake-1", "fake-2"]


async def test_queued_behaviours_come_first_and_once(server: FakeOpenAI, sdk: openai.AsyncOpenAI) -> None:
    server.default = answering("default")
    server.enqueue(behaviours.rate_limited(3), behaviours.status(500))
    with pytest.raises(openai.RateLimitError) as limited:
        await sdk.chat.completions.create(model="fake-1", messages=USER)
    assert limited.value.response.headers["retry-after"] == "3"
    with pytest.raises(openai.InternalServerError):
        await sdk.embeddings.create(model=SMALL, input="x")
    completion = await sdk.chat.completions.create(model="fake-1", messages=USER)
    assert completion.choices[0].message.content == "default"
    assert [call.outcome for call in server.calls] == ["finished"] * 3


async def test_a_key_can_be_asked_for() -> None:
    async with (
        FakeOpenAI.start(api_key="right") as server,
        openai.AsyncOpenAI(base_url=server.base_url, api_key="wrong", max_retries=0) as sdk,
    ):
        with pytest.raises(openai.AuthenticationError, match="wrong"):
            await sdk.models.list()
