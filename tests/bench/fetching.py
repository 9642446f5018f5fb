"""`python -m tests.bench.fetching`: what a hit costs whose answer is in memory, and one whose answer is in the store.

In CPU time of the cache's domain and of the embedded store, without the rpc to the cache, which all have in common.
Minima over rounds that alternate. JSON on the last line.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from services.cache.hot import ALL_HOT
from services.cache.values import Asked, LookupResult, Outcome
from services.chassis.deadline import Deadline
from tests.bench.measure import cpu_of
from tests.bench.questions import question
from tests.integration.cache.stored_cache import StoredCache
from tests.integration.edgestore.store_process import StoreProcess
from tests.unit.cache.cache_parts import ONLY, TENANT, ask

QUESTIONS = 1_024
TOGETHER = 64
ROUNDS = 9

Round = Callable[[], Awaitable[None]]


async def measured(size: int, rounds: int) -> dict[str, float]:
    """CPU microseconds of each way of asking, for answers of so many bytes."""
    with tempfile.TemporaryDirectory() as folder:
        store = StoreProcess(Path(folder) / "state").start()
        hot, cold = StoredCache(store, hot_bytes=ALL_HOT), StoredCache(store, hot_bytes=0)
        try:
            await hot.ready()
            for number in range(QUESTIONS):
                await hot.put(question(number), ("word " * (size // 5 + 1))[:size])
            await cold.ready()
            ways: dict[str, Round] = {
                "hit in memory": lambda: _one_by_one(hot),
                "hit in the store": lambda: _one_by_one(cold),
                "hit in the store, 64 at once": lambda: _at_once(cold),
                "hit in memory, batch of 64": lambda: _together(hot),
                "hit in the store, batch of 64": lambda: _together(cold),
            }
            best: dict[str, float] = {}
            for _ in range(rounds):
                for name, work in ways.items():
                    own, other = time.process_time(), cpu_of(store.pid)
                    await work()
                    spent = {name: time.process_time() - own}
                    if "store" in name:
                        spent[f"  {name}, store"] = cpu_of(store.pid) - other
                    for what, seconds in spent.items():
                        best[what] = min(best.get(what, 1e9), seconds / QUESTIONS * 1e6)
            return best
        finally:
            await hot.stop()
            await cold.stop()
            store.close()


async def _one_by_one(cache: StoredCache) -> None:
    for number in range(QUESTIONS):
        _check([await cache.look(question(number))])


async def _at_once(cache: StoredCache) -> None:
    for start in range(0, QUESTIONS, TOGETHER):
        asked = (cache.look(question(number)) for number in range(start, start + TOGETHER))
        _check(await asyncio.gather(*asked))


async def _together(cache: StoredCache) -> None:
    for start in range(0, QUESTIONS, TOGETHER):
        asked = [Asked(ask(question(number)), ONLY) for number in range(start, start + TOGETHER)]
        _check(await cache.cache.lookup_many(TENANT, asked, Deadline.after(10)))


def _check(results: list[LookupResult]) -> None:
    if any(one.outcome is not Outcome.EXACT for one in results):
        raise AssertionError(results)


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    args = parser.parse_args()
    found = {size: asyncio.run(measured(size, args.rounds)) for size in (600, 4_000)}
    print(f"{'CPU µs':34}" + "".join(f"{size:>9,} B" for size in found))
    for name in next(iter(found.values())):
        print(f"{name:34}" + "".join(f"{figures[name]:11,.0f}" for figures in found.values()))
    print(json.dumps({str(size): {name.strip(): round(us) for name, us in one.items()} for size, one in found.items()}))


if __name__ == "__main__":
    main()
