"""What a lookup waits for while its cache reads what is stored, and while half of that is cleared and purged.

`python -m tests.bench.meanwhile`, and a part of `make bench`: one caller asks for an answer that memory has, one
question after the other, and the wall clock tells how long each takes.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import grpc.aio

from antiphon.cache.v1 import cache_pb2 as pb
from antiphon.cache.v1 import cache_pb2_grpc
from antiphon.llm.v1 import llm_pb2
from antiphon_client import AsyncCacheClient
from tests.bench.crowded import ENTRIES, ONLY, SECONDS, Crowd, crowd
from tests.bench.questions import question
from tests.integration.cache.cache_process import CacheProcess

IDLE = 2_000
"""Lookups while nothing else goes on."""

STAYS, GOES = 0, 1
"""Numbers of questions of the namespace that is asked, and of the one that is cleared."""


@dataclass(slots=True)
class Waited:
    """Microseconds of lookups, and how long the work beside them took."""

    lookups: list[float] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def median(self) -> float:
        return statistics.median(self.lookups)

    @property
    def worst(self) -> float:
        return max(self.lookups)


async def _ask(made: Crowd, over: Callable[[pb.LookupResponse], bool]) -> Waited:
    """Ask again and again until `over` says so of a response."""
    waited = Waited()
    request = pb.LookupRequest(query=made.query(STAYS, question), policy=ONLY)
    # Our own client waits until the cache is healthy, which it is not before it has read everything.
    async with grpc.aio.insecure_channel(made.cache.address) as channel:
        lookup = cache_pb2_grpc.CacheServiceStub(channel).Lookup
        await lookup(request, timeout=SECONDS)
        begun = time.perf_counter()
        while True:
            at = time.perf_counter()
            response = await lookup(request, timeout=SECONDS)
            waited.lookups.append((time.perf_counter() - at) * 1e6)
            if over(response):
                waited.seconds = time.perf_counter() - begun
                return waited


async def _purged(made: Crowd) -> None:
    """Clear a namespace, and wait until the store has purged it: a durable write comes after that."""
    answer = llm_pb2.Answer(text="a word", finish_reason=llm_pb2.FINISH_REASON_STOP, model="offline-small")
    async with AsyncCacheClient(made.cache.address) as client:
        query = made.query(GOES, question)
        await client.clear(pb.ClearRequest(namespace=query.namespace), timeout=SECONDS)
        await client.put(pb.PutRequest(query=query, answer=answer, durable=True), timeout=SECONDS)


async def measured() -> dict[str, Waited]:
    """By what goes on beside the lookups."""
    with tempfile.TemporaryDirectory() as folder:
        print(f"storing {ENTRIES:,} entries in two namespaces …", file=sys.stderr)
        async with crowd("two namespaces", 2, Path(folder)) as made:
            left = iter(range(IDLE))
            found = {"idle": await _ask(made, lambda _: next(left, None) is None)}
            made.cache.end()
            made.cache = CacheProcess(made.store.state_dir)
            await asyncio.to_thread(made.cache.listening)
            found[f"hydrating {ENTRIES:,}"] = await _ask(made, lambda found: found.outcome == pb.OUTCOME_EXACT)
            clearing = asyncio.create_task(_purged(made))
            found[f"clearing and purging {ENTRIES // 2:,}"] = await _ask(made, lambda _: clearing.done())
            await clearing
    return found


def show(found: dict[str, Waited]) -> dict[str, dict[str, float]]:
    """Print the figures; return them for the JSON."""
    print(f"{'Lookup by one caller, wall clock':48}{'median µs':>10}{'× idle':>9}{'worst':>10}{'of':>8}{'seconds':>9}")
    for name, waited in found.items():
        times = waited.median / found["idle"].median
        counted = f"{len(waited.lookups):8,}{waited.seconds:9.1f}"
        print(f"{f'  {name}':48}{waited.median:10.0f}{times:9.2f}{waited.worst:10.0f}{counted}")
    return {
        name: {"median": round(one.median), "worst": round(one.worst), "seconds": round(one.seconds, 1)}
        for name, one in found.items()
    }


if __name__ == "__main__":
    print(json.dumps(show(asyncio.run(measured()))))
