"""Stored answers at a pace, over gRPC: with keys, resumed, left, and asked for wrongly."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import grpc
import pytest

from antiphon_client import AntiphonError, AsyncCompletionClient
from antiphon_client.streams import Event
from services.completion.ports import Found, Outcome
from services.completion.service import Timing
from tests.fakes.behaviours import answering
from tests.integration.attempts.world import World, world
from tests.unit.completion.completion_parts import answered, until

TEXT = "abcd" * 10


@dataclass
class Clock:
    """Time that passes when somebody sleeps, and only while `running` is set."""

    now: float = 1_000.0
    sleepers: int = 0
    running: asyncio.Event = field(default_factory=asyncio.Event)

    async def sleep(self, seconds: float) -> None:
        self.sleepers += 1
        try:
            await self.running.wait()
        finally:
            self.sleepers -= 1
        self.now += seconds
        await asyncio.sleep(0)


@asynccontextmanager
async def paced(**settings: object) -> AsyncIterator[tuple[World, Clock]]:
    """A world with one stored answer."""
    clock = Clock()
    timing = Timing(monotonic=lambda: clock.now, sleep=clock.sleep, rng=random.Random(1))
    async with world(timing=timing, coalesce_time=0, **settings) as w:
        w.cache.found.append(Found(Outcome.EXACT, answer=answered(TEXT), entry_id="e"))
        yield w, clock


def deltas(events: list[Event]) -> list[str]:
    return [event.delta.text for event in events if event.HasField("delta")]


async def test_the_caller_says_the_pace_and_the_operator_the_default() -> None:
    async with paced(replay_tokens_per_second=10) as (w, clock):
        clock.running.set()
        for pace, pieces, seconds in ((None, 10, 0.9), (5, 10, 1.8), (0, 1, 0.0)):
            began = clock.now
            async with w.client.stream("Why?", replay_tokens_per_second=pace, timeout=30) as stream:
                events = [event async for event in stream]
            assert len(deltas(events)) == pieces
            assert "".join(deltas(events)) == TEXT == events[-1].finished.answer.text
            assert clock.now - began == pytest.approx(seconds)
            w.cache.found.append(Found(Outcome.EXACT, answer=answered(TEXT), entry_id="e"))


@pytest.mark.parametrize("pace", [-1, 10_001, 2**31 - 1])
async def test_another_pace_is_refused(pace: int) -> None:
    async with paced() as (w, _):
        with pytest.raises(AntiphonError) as caught:
            async with w.client.stream("Why?", replay_tokens_per_second=pace, timeout=30) as stream:
                await stream.final()
        assert caught.value.code is grpc.StatusCode.INVALID_ARGUMENT
        assert list(caught.value.fields) == ["replay_tokens_per_second"]


async def test_an_answer_that_a_key_has_bought_has_the_pace_too() -> None:
    async with paced() as (w, clock):
        w.cache.found.clear()
        w.primary.default = answering(TEXT)
        bought = await w.complete(idempotency_key="k")
        assert clock.sleepers == 0
        clock.running.set()
        began = clock.now
        async with w.client.stream("Why?", idempotency_key="k", replay_tokens_per_second=5, timeout=30) as stream:
            events = [event async for event in stream]
        assert clock.now - began == pytest.approx(1.8)
        assert deltas(events) == ["abcd"] * 10
        assert [event.sequence for event in events] == list(range(1, 13))
        assert events[-1].finished.info.replayed
        assert events[-1].finished.info.completion_id == bought.info.completion_id
        assert len(w.primary.chat_calls) == 1


async def test_a_hit_that_a_key_asks_for_has_the_pace_too() -> None:
    async with paced() as (w, clock):
        clock.running.set()
        async with w.client.stream("Why?", idempotency_key="k", replay_tokens_per_second=5, timeout=30) as stream:
            events = [event async for event in stream]
        assert deltas(events) == ["abcd"] * 10
        assert not events[-1].finished.info.replayed


async def test_a_replay_is_taken_up_where_it_was_left_and_goes_on_meanwhile() -> None:
    async with paced() as (w, clock):
        async with w.client.stream("Why?", resumable=True, replay_tokens_per_second=5, timeout=30) as stream:
            events = [await anext(stream), await anext(stream)]
        assert deltas(events) == ["abcd"]
        await until(lambda: clock.sleepers == 1)
        stream_id = events[0].started.stream_id
        clock.running.set()
        (kept,) = w.service.resuming._streams.values()
        await until(lambda: kept.recording.ended)
        async with (
            AsyncCompletionClient(w.address) as other,
            other.resume_stream(stream_id, after_sequence=2, timeout=30) as rest,
        ):
            events += [event async for event in rest]
        assert [event.sequence for event in events] == list(range(1, 13))
        assert deltas(events) == ["abcd"] * 10


async def test_who_leaves_a_replay_leaves_nothing_running() -> None:
    async with paced() as (w, clock):
        async with w.client.stream("Why?", replay_tokens_per_second=1, timeout=30) as stream:
            await anext(stream)
            await until(lambda: clock.sleepers == 1)
        await until(lambda: clock.sleepers == 0)
        await w.settled()
