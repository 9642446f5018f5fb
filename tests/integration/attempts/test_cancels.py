"""Callers who leave: their model's connection is closed, unless somebody else listens.

`CANCELS` sets how many of each kind; `make campaign-streams` runs 1,000.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from functools import partial

import pytest

from tests.fakes.behaviours import Behaviour, Gate
from tests.fakes.openai_server import FakeOpenAI
from tests.integration.attempts.world import World, world
from tests.unit.completion.completion_parts import until

CANCELS = int(os.environ.get("CANCELS") or 100)
AT_ONCE = 50
EQUAL = 1_000
TOKENS = ("one ", "two ", "three")


async def _all_closed(w: World, phase: str, *, streaming: bool, gate_after: int | None) -> None:
    w.primary.default = Behaviour(tokens=TOKENS, gate=Gate(), gate_after=gate_after)
    delays: list[float] = []
    for start in range(0, CANCELS, AT_ONCE):
        asking = [
            asyncio.create_task(w.stream(f"{n}?") if streaming else w.complete(f"{n}?"))
            for n in range(start, min(start + AT_ONCE, CANCELS))
        ]
        await w.primary.until(partial(_written, calls=len(asking), events=gate_after or 0))
        left = time.monotonic()
        for task in asking:
            task.cancel()
        await asyncio.wait(asking)
        await w.primary.until(lambda s: s.in_flight == 0)
        delays += [call.ended - left for call in w.primary.chat_calls[start:] if call.ended is not None]
    assert w.primary.disconnects == len(w.primary.chat_calls) == CANCELS
    assert w.fallback.chat_calls == []
    await w.settled()
    assert w.cache.stored == {}
    assert w.cache.open_leases == 0
    p99 = sorted(delays)[int(len(delays) * 0.99) - 1]
    print(f"{phase}: {CANCELS} cancelled, {AT_ONCE} at once, closed after {p99 * 1000:.0f} ms (p99)")


def _written(server: FakeOpenAI, *, calls: int, events: int) -> bool:
    open_ones = [call for call in server.chat_calls if call.ended is None]
    return len(open_ones) == calls and all(call.events >= events for call in open_ones)


@pytest.mark.fault(8)
@pytest.mark.parametrize(
    ("phase", "streaming", "gate_after"),
    [("unary", False, None), ("before the first token", True, 0), ("in mid-stream", True, 2)],
)
async def test_the_upstream_sees_every_connection_closed(phase: str, streaming: bool, gate_after: int | None) -> None:
    async with world() as w:
        await _all_closed(w, phase, streaming=streaming, gate_after=gate_after)
        # A cancel is nobody's failure: the breaker is shut, and the model is called again.
        w.primary.default = Behaviour(tokens=TOKENS)
        assert (await w.complete("And now?")).info.model == "small"
        assert w.happened("breaker_opened") == 0


@pytest.mark.fault(8)
async def test_of_a_thousand_equal_questions_any_may_leave_and_the_others_get_it_all_from_one_call() -> None:
    rng = random.Random(EQUAL)
    async with world() as w:
        gate = Gate()
        w.primary.default = Behaviour(tokens=TOKENS, gate=gate, gate_after=1, delay_first=0.2)
        asking = [asyncio.create_task(w.stream(timeout=120)) for _ in range(EQUAL)]
        await until(lambda: any(fill.listeners == EQUAL for fill in w.service.fills._all), guard=60)
        leaving = {0, *rng.sample(range(EQUAL), EQUAL // 10)}  # the first of them made the call
        for number in sorted(leaving, key=lambda _: rng.random()):
            asking[number].cancel()
            if rng.random() < 0.1:
                await asyncio.sleep(0)
        await gate.reached.wait()
        gate.open.set()
        for number, task in enumerate(asking):
            if number not in leaving:
                events, error = await task
                assert error is None
                assert "".join(event.delta.text for event in events) == "".join(TOKENS)
        assert len(w.primary.chat_calls) == 1
        assert w.primary.disconnects == 0
