"""`make bench-overload`: a real overload of 30 s, as `test_overload` simulates it; JSON last.

A model's server that takes so many calls at once, and refuses more with 429, gets three times what it can answer. The
service, its gRPC server and client and the HTTP server are real and share this process, so that a busy machine shows.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from antiphon.cache.v1 import cache_pb2
from antiphon.completion.v1 import completion_pb2
from antiphon_client import AntiphonError
from tests.fakes import behaviours
from tests.fakes.behaviours import Behaviour, answering
from tests.fakes.openai_server import FakeOpenAI
from tests.integration.attempts.world import World, world

PLACES = 8
CALL_SECONDS = 0.2
CAPACITY = PLACES / CALL_SECONDS
"""Calls per second: few enough for one process to be caller, service and server."""

DEADLINE = 2.0
CALM, OVERLOAD, AFTER = 10.0, 30.0, 20.0
"""Seconds at half of the capacity, at three times of it, and at half of it again."""

SETTLING = 5.0
"""Seconds of the overload, and after it, that are not looked at."""

URGENT_SHARE = 0.2
BYPASS = cache_pb2.CachePolicy(mode=cache_pb2.CACHE_MODE_BYPASS)


@dataclass(frozen=True, slots=True)
class Asked:
    """One request. Seconds since the beginning; `answered` None if it was not, for `reason`."""

    came: float
    urgent: bool
    answered: float | None
    reason: str


class Model:
    """The server's behaviour."""

    def __init__(self, server: FakeOpenAI, rng: random.Random) -> None:
        self._server = server
        self._rng = rng
        self.refused = 0

    def __call__(self, _: Mapping[str, Any]) -> Behaviour:
        """Answer the call, or refuse it if there are too many."""
        self._server.calls[:] = [call for call in self._server.calls if call.ended is None]
        if len(self._server.calls) > PLACES:
            self.refused += 1
            return behaviours.rate_limited()
        return answering("Yes.", delay_first=CALL_SECONDS * self._rng.uniform(0.5, 1.5))


async def _ask(w: World, number: int, urgent: bool, began: float, into: list[Asked]) -> None:
    request = completion_pb2.CompleteRequest(
        prompt=f"{number}?", model="small", cache=BYPASS, priority=0 if urgent else -1
    )
    came, answered, reason = time.monotonic() - began, None, ""
    try:
        await w.client.complete(request, timeout=DEADLINE)
        answered = time.monotonic() - began
    except AntiphonError as error:
        reason = error.reason or error.code.name
    into.append(Asked(came, urgent, answered, reason))


async def overloaded(seed: int) -> dict[str, object]:
    """Run it and return the figures."""
    rng, asked = random.Random(seed), list[Asked]()
    async with world(reader_patience=600) as w:
        w.primary.chooses = model = Model(w.primary, rng)
        began, number = time.monotonic(), 0
        end = CALM + OVERLOAD + AFTER
        async with asyncio.TaskGroup() as group:
            due = 0.0
            while due < end:
                rate = CAPACITY * (3.0 if CALM <= due < CALM + OVERLOAD else 0.5)
                due += rng.expovariate(rate)
                await asyncio.sleep(max(began + due - time.monotonic(), 0.0))
                group.create_task(_ask(w, number, rng.random() < URGENT_SHARE, began, asked))
                number += 1
        await w.settled()
    return _figures(asked, model.refused)


def _figures(asked: Sequence[Asked], refused: int) -> dict[str, object]:
    start, end = CALM + SETTLING, CALM + OVERLOAD
    during = [one for one in asked if start <= one.came < end]
    after = [one for one in asked if end + SETTLING <= one.came < end + AFTER - DEADLINE]
    answered = sum(start <= (one.answered or -1.0) < end for one in asked)
    reasons = sorted({one.reason for one in asked if one.reason})
    return {
        "requests": len(asked),
        "goodput, share of capacity": round(answered / (end - start) / CAPACITY, 3),
        "urgent answered": _share([one for one in during if one.urgent]),
        "batch answered": _share([one for one in during if not one.urgent]),
        "answered 5 s after": _share(after),
        "refused by the server": refused,
        "not answered": {reason: sum(one.reason == reason for one in asked) for reason in reasons},
    }


def _share(asked: Sequence[Asked]) -> float:
    return round(sum(one.answered is not None for one in asked) / max(len(asked), 1), 4)


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    figures = asyncio.run(overloaded(parser.parse_args().seed))
    for name, figure in figures.items():
        print(f"{name:32}{figure}")
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
