"""Thousands of streams, each with faults of its own: nothing ruined is stored, all end, and nothing is left over.

`STREAMS` sets how many, `STREAMS_SEED` the seed; `make campaign-streams` runs 100,000.
"""

from __future__ import annotations

import asyncio
import os
import random
import re
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration

from antiphon.completion.v1 import completion_pb2
from antiphon_client import AntiphonError
from services.llm.values import FinishReason
from tests.fakes import behaviours
from tests.fakes.behaviours import Behaviour
from tests.fakes.openai_server import answer_to
from tests.integration.attempts.world import World, world
from tests.unit.completion.completion_parts import until

STREAMS = int(os.environ.get("STREAMS") or 2_000)
SEED = int(os.environ.get("STREAMS_SEED") or 1)
AT_ONCE = 48
HEALTHY = 0.2
"""Of all requests, besides the faulty ones: a primary that does nothing but fail would not be called any more."""

TIMEOUTS = "first_token_timeout_seconds = 1\nidle_timeout_seconds = 1\ntotal_timeout_seconds = 3"
SETTINGS = {"breaker_failures": 1_000, "cooldown": 0.001, "retry_share": 1.0}
"""So that faults are met, again and again, and not avoided."""

NAMES = sorted(set(behaviours.FAULTS) - {"429_long"})
WHOLE = {"odd but whole"}
_THEN = re.compile(r"\[then:([a-z0-9_]+)\]")

pytestmark = pytest.mark.timeout(max(300, STREAMS // 5))


def then(body: Mapping[str, Any]) -> Behaviour | None:
    """What the fallback does: the fault that the prompt names for it."""
    found = _THEN.search(str(body["messages"]))
    return behaviours.FAULTS[found[1]]() if found else None


def prompt(number: int, rng: random.Random) -> str:
    first = f"[fault:{rng.choice(NAMES)}]" if rng.random() >= HEALTHY else ""
    second = f" [then:{rng.choice(NAMES)}]" if first and rng.random() < 0.3 else ""
    return f"{SEED}-{number}: why? {first}{second}"


async def ask(w: World, number: int, seen: Counter[str]) -> None:
    """Make one request in one of the ways in which callers do."""
    rng = random.Random(f"{SEED} {number}")
    text = prompt(number, rng)
    limits = completion_pb2.AttemptPolicy(
        after_content=rng.choice([completion_pb2.AFTER_CONTENT_FAIL, completion_pb2.AFTER_CONTENT_CONTINUE])
    )
    way = rng.random()
    if way < 0.2:
        try:
            await w.complete(text, attempts=limits)
        except AntiphonError as error:
            assert error.reason, error
            seen[f"unary {error.reason}"] += 1
        else:
            seen["unary OK"] += 1
    elif way < 0.3:
        task = asyncio.create_task(w.stream(text, attempts=limits))
        await asyncio.sleep(rng.random() * 0.05)
        task.cancel()
        await asyncio.wait({task})
        seen["left"] += 1
    else:
        if way < 0.35:
            limits.total_timeout.CopyFrom(Duration(nanos=rng.randrange(1, 50_000_000)))
        events, failure = await w.stream(text, attempts=limits)
        finished = bool(events) and events[-1].HasField("finished")
        assert finished != (failure is not None), (text, failure)
        if failure is not None:
            assert failure.reason, (text, failure)
            seen[f"stream {failure.reason}"] += 1
        else:
            written = "".join(event.delta.text for event in events)
            assert written == events[-1].finished.answer.text, text
            seen["stream OK"] += 1


def opened() -> set[str]:
    """Open files and sockets, without gRPC's own pollers, which come and go."""
    found = set[str]()
    for path in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):
            found.add(str(path.readlink()))
    return {name for name in found if not name.startswith(("anon_inode:", "/proc/"))}


@pytest.mark.fault(27, 28, 29, 30)
async def test_no_faulty_stream_is_stored_or_left_without_an_end_and_nothing_is_left_over() -> None:
    async with world() as w:
        await w.complete()  # whatever is opened once and kept is open now
    files, tasks, seen = opened(), len(asyncio.all_tasks()), Counter[str]()
    async with world(timeouts=TIMEOUTS, fallback_timeouts=TIMEOUTS, **SETTINGS) as w:
        w.primary.chooses, w.fallback.chooses = behaviours.asked_for, then
        numbers = iter(range(round(STREAMS / (1 - HEALTHY))))

        async def caller() -> None:
            for number in numbers:
                await ask(w, number, seen)

        async with asyncio.TaskGroup() as group:
            for _ in range(AT_ONCE):
                group.create_task(caller())
        await w.settled()
        for server in (w.primary, w.fallback):
            await server.until(lambda s: s.in_flight == 0)
        await until(lambda: w.cache.open_leases == 0)
        print(f"seed {SEED}: {sum(seen.values()):,} requests, {dict(sorted(seen.items()))}")
        for (_, _, asked), answer in w.cache.stored.items():
            whole = {
                answer_to({"model": model, "messages": [{"role": "user", "content": asked}]})
                for model in ("small", "large")
            }
            assert answer.text in whole | WHOLE, (asked, answer)
            assert answer.finish_reason is FinishReason.STOP
        assert len(w.cache.stored) > STREAMS / 4
        assert seen["stream OK"] > 0
        assert seen["stream UPSTREAM_TRUNCATED"] > 0
    await until(lambda: len(asyncio.all_tasks()) <= tasks)
    await until(lambda: opened() <= files)
