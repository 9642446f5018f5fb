"""A stream is passed on message by message, in both directions, and ends as soon as either side has left."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from services.chassis.errors import Reason
from tests.integration.chassis.probe import (
    COLLECT,
    COUNT,
    GUARD_SECONDS,
    Bench,
    Details,
    Ping,
    drained,
    refused,
    still_serves,
)


async def test_a_stream_arrives_in_order(bench: Bench, channel: Any) -> None:
    async def body(_request: Any, _call: Any) -> AsyncIterator[Any]:
        for number in range(100):
            yield Ping(text=str(number))

    bench.probe.count = body
    messages = await drained(channel.unary_stream(COUNT)(b"", timeout=GUARD_SECONDS))
    assert [Ping.FromString(raw).text for raw in messages] == [str(number) for number in range(100)]


@pytest.mark.parametrize("endless", [True, False], ids=["while writing", "while waiting"])
async def test_a_stream_is_closed_when_its_caller_leaves(bench: Bench, channel: Any, endless: bool) -> None:
    closed = asyncio.Event()

    async def body(_request: Any, _call: Any) -> AsyncIterator[Any]:
        try:
            yield Ping(text="first")
            while endless:
                yield Ping(text="x" * 100_000)  # soon more than the connection's window: the write itself waits
            await asyncio.Event().wait()
        finally:
            closed.set()

    bench.probe.count = body
    stream = channel.unary_stream(COUNT)(b"", timeout=GUARD_SECONDS)
    await stream.read()
    assert not closed.is_set()
    stream.cancel()
    async with asyncio.timeout(GUARD_SECONDS / 2):
        await closed.wait()
    assert bench.probe.calls[0].cancelled
    assert await still_serves(channel)
    assert bench.metric("antiphon_rpcs_total", method="antiphon_test.Probe/Count", code="CANCELLED") == 1


@pytest.mark.fault(9)
async def test_a_reader_that_stands_still_is_cut_off(bench: Bench, channel: Any) -> None:
    sent, closed = 0, asyncio.Event()

    async def body(_request: Any, _call: Any) -> AsyncIterator[Any]:
        nonlocal sent
        try:
            while True:
                sent += 1
                yield Ping(text="x" * 100_000)
        finally:
            closed.set()

    bench.probe.count = body
    stream = channel.unary_stream(COUNT)(b"", timeout=2 * GUARD_SECONDS)
    async with asyncio.timeout(GUARD_SECONDS):
        await closed.wait()
    assert sent < 200
    error = await refused(drained(stream))
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert Details(error).info.reason == Reason.READER_TOO_SLOW
    assert await still_serves(channel)


async def test_a_stream_of_requests_is_read_as_it_comes(bench: Bench, channel: Any) -> None:
    read: asyncio.Queue[str] = asyncio.Queue()

    async def body(requests: AsyncIterator[Any], _call: Any) -> Any:
        async for request in requests:
            read.put_nowait(request.text)
        return Ping(text="all")

    bench.probe.collect = body
    stream = channel.stream_unary(COLLECT)(timeout=GUARD_SECONDS)
    for number in range(10):
        await stream.write(Ping(text=str(number)).SerializeToString())
        assert await read.get() == str(number)
    await stream.done_writing()
    assert Ping.FromString(await stream).text == "all"


async def test_a_stream_of_requests_ends_with_the_first_that_is_wrong(bench: Bench, channel: Any) -> None:
    read: list[str] = []

    async def body(requests: AsyncIterator[Any], _call: Any) -> Any:
        async for request in requests:
            read.append(request.text)  # noqa: PERF401 -- what came before the error counts, too
        return Ping()

    bench.probe.collect = body
    for wrong, reason in (
        (b"\xff", Reason.MALFORMED_MESSAGE),
        (Ping(mood=9).SerializeToString(), Reason.INVALID_FIELD),
    ):
        read.clear()
        sent = iter((Ping(text="first").SerializeToString(), wrong, b""))
        error = await refused(channel.stream_unary(COLLECT)(sent, timeout=GUARD_SECONDS))
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert Details(error).info.reason == reason
        assert read == ["first"]
    assert await still_serves(channel)


async def test_a_method_ends_when_who_sends_to_it_leaves(bench: Bench, channel: Any) -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    async def body(requests: AsyncIterator[Any], _call: Any) -> Any:
        try:
            async for _ in requests:
                begun.set()
        finally:
            ended.set()
        return Ping()

    bench.probe.collect = body
    stream = channel.stream_unary(COLLECT)(timeout=GUARD_SECONDS)
    await stream.write(b"")
    async with asyncio.timeout(GUARD_SECONDS / 2):
        await begun.wait()
        stream.cancel()
        await ended.wait()
    assert await still_serves(channel)
