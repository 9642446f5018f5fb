"""Streams: what they yield, how they end, and that the call behind them always does."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Iterator

import grpc
import pytest

from antiphon.completion.v1 import completion_pb2
from antiphon_client import AsyncCompletionClient, CompletionClient, errors
from tests.unit.client.completion_server import GUARD, Context, Scripted, Step, answer, fails, serving

WORDS = "one two three"
DELTAS = ["one ", "two ", "three "]


def first(count: int, *, then_wait: bool) -> Step:
    """Send that many events of the answer, and then end as if that were all, or never."""

    async def step(service: Scripted, context: Context) -> None:
        service.answering = False
        for event in answer(WORDS)[:count]:
            await context.write(event)
        if then_wait:
            await asyncio.Event().wait()

    return step


@pytest.fixture
def service() -> Scripted:
    return Scripted()


@pytest.fixture
async def address(service: Scripted) -> AsyncIterator[str]:
    async with serving(service) as address:
        yield address


@pytest.fixture
async def client(address: str) -> AsyncIterator[AsyncCompletionClient]:
    async with AsyncCompletionClient(address) as client:
        yield client


@pytest.fixture
async def blocking(address: str) -> AsyncIterator[CompletionClient]:
    """To be used in threads, as the server runs on the loop of the test."""
    with CompletionClient(address) as client:
        yield client


async def test_the_text_alone_and_the_end(client: AsyncCompletionClient, blocking: CompletionClient) -> None:
    async with client.stream(WORDS) as stream:
        assert stream.finished is None
        assert [text async for text in stream.text_stream] == DELTAS
        assert stream.finished is not None
        assert (await stream.final()).answer.text == "one two three "

    def of_a_thread() -> None:
        with blocking.stream(WORDS) as stream:
            assert stream.finished is None
            assert list(stream.text_stream) == DELTAS
            assert stream.finished is not None
            assert stream.final().answer.text == "one two three "

    await asyncio.to_thread(of_a_thread)


async def test_the_text_as_sentences(
    service: Scripted, client: AsyncCompletionClient, blocking: CompletionClient
) -> None:
    text = "Dr. No left. Then silence."
    async with client.stream(text) as stream:
        assert [sentence async for sentence in stream.sentence_stream] == ["Dr. No left. ", "Then silence. "]
        assert stream.finished is not None

    def of_a_thread() -> list[str]:
        with blocking.stream(text) as stream:
            return list(stream.sentence_stream)

    assert await asyncio.to_thread(of_a_thread) == ["Dr. No left. ", "Then silence. "]

    service.steps.append(fails(grpc.StatusCode.UNAVAILABLE, after=answer("One. Two three.")[:4]))
    got: list[str] = []
    with pytest.raises(errors.UnavailableError):
        async with client.stream(text) as stream:
            async for sentence in stream.sentence_stream:
                got.append(sentence)  # noqa: PERF401 -- what arrived before a failure counts
    assert got == ["One. "], "not the sentence that was broken off"


async def test_only_the_end(client: AsyncCompletionClient, blocking: CompletionClient) -> None:
    async with client.stream(WORDS) as stream:
        assert (await stream.final()).answer.text == "one two three "

    def of_a_thread() -> str:
        with blocking.stream(WORDS) as stream:
            return stream.final().answer.text

    assert await asyncio.to_thread(of_a_thread) == "one two three "


async def test_what_is_asked_for_is_sent(
    service: Scripted, client: AsyncCompletionClient, blocking: CompletionClient
) -> None:
    request = completion_pb2.CompleteRequest(prompt=WORDS, namespace="theirs", request_id="r1")
    before = request.SerializeToString()
    async with client.stream(
        request, model="m", namespace="n", heartbeat_interval=2.5, replay_tokens_per_second=0
    ) as stream:
        await stream.final()

    def of_a_thread() -> None:
        with blocking.stream(
            request, model="m", namespace="n", heartbeat_interval=2.5, replay_tokens_per_second=0
        ) as stream:
            stream.final()
        blocking.complete(request, model="m", namespace="n")

    await asyncio.to_thread(of_a_thread)
    await client.complete(request, model="m", namespace="n")
    wanted = completion_pb2.CompleteRequest(prompt=WORDS, model="m", namespace="n", request_id="r1")
    assert [each.request for each in service.requests] == [wanted] * 4
    assert [each.heartbeat_interval.ToMilliseconds() for each in service.requests] == [2500, 2500, 0, 0]
    assert [each.HasField("replay_tokens_per_second") for each in service.requests] == [True, True, False, False]
    assert request.SerializeToString() == before


async def test_a_stream_that_just_stops_is_an_error(
    service: Scripted, client: AsyncCompletionClient, blocking: CompletionClient
) -> None:
    service.steps += [first(3, then_wait=False)] * 2
    got: list[str] = []
    with pytest.raises(errors.InternalError, match="without `finished`"):
        async with client.stream(WORDS) as stream:
            got += [text async for text in stream.text_stream]

    def of_a_thread() -> None:
        with blocking.stream(WORDS) as stream:
            got.extend(stream.text_stream)

    with pytest.raises(errors.InternalError, match="without `finished`"):
        await asyncio.to_thread(of_a_thread)


async def ended(service: Scripted) -> None:
    """Wait until the server has seen the end of the call."""
    async with asyncio.timeout(GUARD):
        await service.closed.wait()


async def test_leaving_the_block_ends_the_call(service: Scripted, client: AsyncCompletionClient) -> None:
    service.steps.append(first(3, then_wait=True))
    async with client.stream(WORDS) as stream:
        async for _ in stream.text_stream:
            break
    await ended(service)
    with pytest.raises(errors.CancelledError):
        await anext(aiter(stream))


async def test_leaving_the_block_ends_the_call_of_a_thread(service: Scripted, blocking: CompletionClient) -> None:
    service.steps.append(first(3, then_wait=True))

    def of_a_thread() -> None:
        with blocking.stream(WORDS) as stream:
            for _ in stream.text_stream:
                break
        with pytest.raises(errors.CancelledError):
            next(iter(stream))

    await asyncio.to_thread(of_a_thread)
    await ended(service)


async def test_an_abandoned_iterator_ends_the_call(service: Scripted, client: AsyncCompletionClient) -> None:
    service.steps.append(first(3, then_wait=True))

    async def words() -> AsyncIterator[str]:
        async with client.stream(WORDS) as stream:
            async for text in stream.text_stream:
                yield text

    iterator = words()
    assert await anext(iterator) == "one "
    del iterator
    gc.collect()
    await ended(service)


async def test_an_abandoned_iterator_ends_the_call_of_a_thread(service: Scripted, blocking: CompletionClient) -> None:
    service.steps.append(first(3, then_wait=True))

    def words() -> Iterator[str]:
        with blocking.stream(WORDS) as stream:
            yield from stream.text_stream

    def of_a_thread() -> None:
        iterator = words()
        assert next(iterator) == "one "
        del iterator
        gc.collect()

    await asyncio.to_thread(of_a_thread)
    await ended(service)


async def test_closing_the_client_is_not_the_end_of_the_task(service: Scripted, address: str) -> None:
    service.steps.append(first(3, then_wait=True))
    client = AsyncCompletionClient(address)
    async with client.stream(WORDS) as stream:
        await anext(aiter(stream))
        await client.close()
        with pytest.raises(errors.CancelledError):
            await stream.final()
    task = asyncio.current_task()
    assert task is not None
    assert not task.cancelling()


async def test_a_cancelled_task_is_cancelled(service: Scripted, client: AsyncCompletionClient) -> None:
    service.steps.append(first(3, then_wait=True))
    reading = asyncio.Event()

    async def read() -> None:
        async with client.stream(WORDS) as stream:
            async for _ in stream:
                reading.set()

    task = asyncio.create_task(read())
    await reading.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await ended(service)
