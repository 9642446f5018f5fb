"""An answer costs no more memory and time than it may, and who leaves it leaves nothing open."""

from __future__ import annotations

import asyncio
import tracemalloc
from contextlib import aclosing
from dataclasses import replace

import pytest

from services.chassis.errors import DeadlineExceeded, Exhausted, Reason
from services.completion.upstreams.openai import OpenAIUpstream
from services.completion.upstreams.protocol import Finish, TextDelta
from services.llm.values import FinishReason
from tests.fakes import behaviours
from tests.fakes.behaviours import Behaviour, Gate, answering
from tests.fakes.openai_server import FakeOpenAI
from tests.integration.upstreams.openai_parts import ASKED, GUARD, connected, events, failure, text

# --- limits -----------------------------------------------------------------------------------------------------------


@pytest.mark.fault(34)
async def test_a_line_without_end_is_cut_at_the_cap(server: FakeOpenAI, upstream: OpenAIUpstream) -> None:
    # The rest of the line never comes: who waits for its end waits in vain.
    server.default = replace(behaviours.oversize_line(2 * 1024 * 1024), gate=Gate(), gate_after=2)
    seen, error = await failure(upstream, timeout=5)
    assert seen == [TextDelta("Hel")]
    assert (type(error), error.reason) == (Exhausted, Reason.UPSTREAM_MALFORMED)


@pytest.mark.fault(34)
async def test_a_gzip_bomb_is_never_unpacked(server: FakeOpenAI, upstream: OpenAIUpstream) -> None:
    server.default = behaviours.gzip_bomb(64)
    tracemalloc.start()
    try:
        _, error = await failure(upstream)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (type(error), error.reason) == (Exhausted, Reason.UPSTREAM_MALFORMED)
    assert peak < 16 * 1024 * 1024


@pytest.mark.fault(34)
async def test_a_whole_answer_has_a_cap_too(server: FakeOpenAI) -> None:
    server.default = Behaviour(tokens=("x" * 1_000,), endless=True)
    async with connected(server, max_stream_bytes=100_000) as upstream, asyncio.timeout(GUARD / 2):
        seen, error = await failure(upstream)
        await server.until(lambda s: s.disconnects == 1)
    assert 50 < len(seen) < 100
    assert (type(error), error.reason) == (Exhausted, Reason.UPSTREAM_MALFORMED)


@pytest.mark.fault(25)
async def test_the_time_of_the_call_wins_over_an_endless_drip(server: FakeOpenAI, upstream: OpenAIUpstream) -> None:
    server.default = behaviours.slow_drip(0.02)
    async with asyncio.timeout(GUARD / 2):
        seen, error = await failure(upstream, timeout=0.3)
    assert isinstance(error, DeadlineExceeded)
    assert seen
    await server.until(lambda s: s.disconnects == 1)


async def test_comments_do_not_extend_the_time(server: FakeOpenAI, upstream: OpenAIUpstream) -> None:
    server.default = Behaviour(tokens=("",), comments=True, endless=True, delay_between=0.01)
    _, error = await failure(upstream, timeout=0.2)
    assert isinstance(error, DeadlineExceeded)


@pytest.mark.parametrize("gate_after", [None, 0, 2])
async def test_the_time_is_kept_wherever_the_server_hangs(
    server: FakeOpenAI, upstream: OpenAIUpstream, gate_after: int | None
) -> None:
    server.default = answering("a", "b", "c", gate=Gate(), gate_after=gate_after)
    seen, error = await failure(upstream, timeout=0.2)
    assert text(seen) == ("ab" if gate_after == 2 else "")
    assert isinstance(error, DeadlineExceeded)
    await server.until(lambda s: s.disconnects == 1)


@pytest.mark.parametrize("timeout", [0, -1])
async def test_without_time_nothing_is_sent(server: FakeOpenAI, upstream: OpenAIUpstream, timeout: float) -> None:
    _, error = await failure(upstream, timeout=timeout)
    assert isinstance(error, DeadlineExceeded)
    assert server.connections == 0


async def test_a_consumer_that_dawdles_is_not_cancelled(server: FakeOpenAI, upstream: OpenAIUpstream) -> None:
    server.default = answering("a", "b")
    async with aclosing(upstream.stream(ASKED, timeout=0.1)) as stream:
        assert (await anext(stream))[0] == TextDelta("a")
        await asyncio.sleep(0.15)  # would raise here if the timeout ran across the yield


# --- leaving ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gate_after", [None, 0, 1])
async def test_the_server_sees_at_once_that_the_task_was_cancelled(
    server: FakeOpenAI, upstream: OpenAIUpstream, gate_after: int | None
) -> None:
    gate = Gate()
    server.default = answering("a", "b", gate=gate, gate_after=gate_after)
    task = asyncio.create_task(events(upstream))
    await gate.reached.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await server.until(lambda s: s.disconnects == 1)


async def test_the_server_sees_at_once_that_the_generator_was_closed(
    server: FakeOpenAI, upstream: OpenAIUpstream
) -> None:
    server.default = Behaviour(tokens=("x",), endless=True, delay_between=0.005)
    stream = upstream.stream(ASKED, timeout=GUARD)
    await anext(stream)
    await stream.aclose()
    await server.until(lambda s: s.disconnects == 1)
    server.default = answering("fine")
    assert text(await events(upstream)) == "fine"


async def test_leaving_after_the_reason_leaves_nothing_open(server: FakeOpenAI, upstream: OpenAIUpstream) -> None:
    gate = Gate()
    server.default = answering("x", gate=gate, gate_after=1)
    async with aclosing(upstream.stream(ASKED, timeout=GUARD)) as stream:
        assert (await anext(stream))[0] == TextDelta("x")
        gate.open.set()
        assert (await anext(stream))[0] == Finish(FinishReason.STOP)
    await server.until(lambda s: s.in_flight == 0)
