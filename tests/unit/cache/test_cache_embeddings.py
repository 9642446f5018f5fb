"""The time that embedding a question may take: its own, and that of the questions it has to wait for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from services.cache.background import Background
from services.cache.embeddings import MOST_SECONDS, SECONDS_PER_WINDOW, Embeddings
from services.cache.scope import Address, Addresses
from services.chassis.errors import Reason, Unavailable
from tests.unit.cache.cache_parts import KEY, TENANT, KnownEmbedder, ask

ADDRESSES = Addresses(KEY, embedder="known_1", longest=1_000_000)


def at(text: str) -> Address:
    return ADDRESSES.of(TENANT, ask(text))


@pytest.fixture
def embedder() -> KnownEmbedder:
    made = KnownEmbedder()
    made.passes = 1
    return made


@pytest.fixture
async def embeddings(embedder: KnownEmbedder) -> AsyncIterator[Embeddings]:
    background = Background(lambda _name, _error: None)
    yield Embeddings(embedder, background)
    await background.aclose()


async def test_alone_a_question_has_the_time_of_its_own_windows(
    embeddings: Embeddings, embedder: KnownEmbedder
) -> None:
    assert embeddings.budget(at("a question")) == SECONDS_PER_WINDOW
    embedder.passes = 2
    assert embeddings.budget(at("a question")) == 2 * SECONDS_PER_WINDOW
    embedder.passes = 1_000
    assert embeddings.budget(at("a question")) == MOST_SECONDS


async def test_those_that_it_waits_for_add_theirs_until_they_are_done(
    embeddings: Embeddings, embedder: KnownEmbedder
) -> None:
    embedder.gate.clear()
    others = [asyncio.create_task(embeddings.of(at(f"question {number}"), within=10)) for number in range(2)]
    while len(embedder.calls) < 2:  # noqa: ASYNC110 -- what is awaited has no event
        await asyncio.sleep(0)
    assert embeddings.budget(at("another one")) == 3 * SECONDS_PER_WINDOW
    assert embeddings.budget(at("question 0")) == 2 * SECONDS_PER_WINDOW, "its windows count once"
    embedder.passes = 1_000
    assert embeddings.budget(at("another one")) == MOST_SECONDS
    embedder.passes = 1
    embedder.gate.set()
    await asyncio.gather(*others)
    assert embeddings.budget(at("another one")) == SECONDS_PER_WINDOW


async def test_one_that_fails_or_is_left_gives_its_time_back(embeddings: Embeddings, embedder: KnownEmbedder) -> None:
    embedder.gate.clear()
    embedder.error = Unavailable("down", reason=Reason.EMBEDDER_UNAVAILABLE)
    left = asyncio.create_task(embeddings.of(at("left alone"), within=0.0))
    with pytest.raises(TimeoutError):
        await left
    assert embeddings.budget(at("another one")) == 2 * SECONDS_PER_WINDOW, "it is still being embedded"
    embedder.gate.set()
    with pytest.raises(Unavailable):
        await embeddings.of(at("left alone"), within=10)
    assert embeddings.budget(at("another one")) == SECONDS_PER_WINDOW
