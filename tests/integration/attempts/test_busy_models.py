"""Models with as many calls as they take: who waits, who goes first, who is told to come again."""

from __future__ import annotations

import asyncio
from functools import partial

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from antiphon.completion.v1 import completion_pb2
from antiphon_client import AntiphonError
from services.completion.resilience.targets import Targets
from tests.fakes.behaviours import Behaviour, Gate
from tests.integration.attempts.world import World, world
from tests.unit.completion.completion_parts import until

ONE_AT_A_TIME = {"concurrency_start": 1, "concurrency_max": 1}


def waiting(w: World) -> int:
    targets: Targets = w.service.fills._work.__self__._caller._attempts.targets  # type: ignore[attr-defined]
    return sum(target.admission.waiting for target in targets._targets.values())


def _are_waiting(w: World, count: int) -> bool:
    return waiting(w) == count


@pytest.mark.fault(54)
async def test_who_waits_for_a_model_is_served_by_priority() -> None:
    async with world(**ONE_AT_A_TIME, queue_wait=60) as w:
        gate = Gate()
        w.primary.enqueue(Behaviour(gate=gate))
        asking = [asyncio.create_task(w.complete("first", model="small"))]
        await gate.reached.wait()
        for number, (prompt, priority) in enumerate([("batch", -1), ("normal", 0), ("urgent", 5)], start=1):
            asking.append(asyncio.create_task(w.complete(prompt, model="small", priority=priority)))
            await until(partial(_are_waiting, w, number))
        # Somebody urgent asks what a batch asks already: both get it sooner.
        asking.append(asyncio.create_task(w.complete("batch", model="small", priority=9)))
        await until(lambda: any(fill.listeners == 2 for fill in w.service.fills._all))
        gate.open.set()
        await asyncio.gather(*asking)
        asked = [call.body["messages"][-1]["content"] for call in w.primary.chat_calls]
        assert asked == ["first", "batch", "urgent", "normal"]
        assert w.primary.peak_in_flight == 1


@pytest.mark.fault(54)
async def test_who_would_wait_too_long_goes_to_another_model_or_is_told_to_come_again() -> None:
    async with world(**ONE_AT_A_TIME, queue_wait=0) as w:
        await w.complete("how long a call takes", model="small")
        await w.complete("how long a call takes", model="large")
        gates = [Gate(), Gate()]
        w.primary.default, w.fallback.default = Behaviour(gate=gates[0]), Behaviour(gate=gates[1])
        first = asyncio.create_task(w.complete("1"))
        await gates[0].reached.wait()
        second = asyncio.create_task(w.complete("2"))
        await gates[1].reached.wait()
        with pytest.raises(AntiphonError) as refused:
            await w.complete("3")
        assert (refused.value.code, refused.value.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "OVERLOADED")
        assert (refused.value.retry_after or 0) > 0
        for gate in gates:
            gate.open.set()
        answers = await asyncio.gather(first, second)
        assert [answer.info.model for answer in answers] == ["small", "large"]
        assert w.happened("shed") == 2


@pytest.mark.fault(54)
async def test_who_leaves_the_queue_calls_nobody_and_takes_no_place() -> None:
    async with world(**ONE_AT_A_TIME, queue_wait=60) as w:
        gate = Gate()
        w.primary.enqueue(Behaviour(gate=gate))
        first = asyncio.create_task(w.complete("1", model="small"))
        await gate.reached.wait()
        leaving = asyncio.create_task(w.complete("2", model="small"))
        await until(lambda: waiting(w) == 1)
        leaving.cancel()
        await until(lambda: waiting(w) == 0)
        gate.open.set()
        await first
        assert (await w.complete("3", model="small")).info.model == "small"
        assert len(w.primary.chat_calls) == 2


async def test_a_limit_on_all_calls_counts_the_wait_for_a_place_too() -> None:
    async with world(**ONE_AT_A_TIME, queue_wait=60) as w:
        gate = Gate()
        w.primary.enqueue(Behaviour(gate=gate))
        first = asyncio.create_task(w.complete("1", model="small"))
        await gate.reached.wait()
        limits = completion_pb2.AttemptPolicy(total_timeout=Duration(nanos=100_000_000))
        with pytest.raises(AntiphonError) as refused:
            await w.complete("2", model="small", attempts=limits)
        assert refused.value.code in {grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.DEADLINE_EXCEEDED}
        gate.open.set()
        await first
        assert len(w.primary.chat_calls) == 1
