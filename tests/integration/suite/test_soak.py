"""Whoever asks for days finds the suite as it was: no memory, file or task stays behind a request.

`SOAK_REQUESTS` sets how many after the warm-up, `SOAK_SEED` the seed; `make soak` runs 200,000.
"""

from __future__ import annotations

import os

import pytest

from antiphon.cache.v1 import cache_pb2
from antiphon_client import AsyncCacheClient, AsyncCompletionClient
from tests.fakes import behaviours
from tests.fakes.openai_server import FakeOpenAI
from tests.integration.suite.soaking import AT_ONCE, MEASURED, NAMES, SETTINGS, Soak, slope
from tests.suite_process import SuiteProcess

REQUESTS = int(os.environ.get("SOAK_REQUESTS") or 400)
SEED = int(os.environ.get("SOAK_SEED") or 1)
SAMPLES = 40
WARM_UP = 0.25
"""Of the requests, before them: allocators and caches have their size then."""

ENOUGH = 20_000
"""Requests after which a slope of memory says something: below that it is the allocator's."""

MOST_GROWTH = 1.0
"""MiB in 100,000 requests."""

FEW = 4
"""Threads, or tasks, by which one moment may differ from another."""

FILES = AT_ONCE + FEW
"""The same of files: connections to the models' server wait 15 s for somebody who needs them."""

pytestmark = pytest.mark.timeout(max(300, REQUESTS // 10))


@pytest.fixture
def environ(environ: dict[str, str]) -> dict[str, str]:
    entries = {} if REQUESTS >= ENOUGH else {"ANTIPHON_CACHE_MAX_ENTRIES": "50"}
    return {**environ, **SETTINGS, **entries}


@pytest.mark.fault(8, 52)
async def test_nothing_stays_behind_of_any_request(suite: SuiteProcess, upstream: FakeOpenAI) -> None:
    upstream.chooses = behaviours.asked_for
    async with AsyncCompletionClient(suite.address("completion")) as client:
        soak = Soak(suite, upstream, client, SEED)
        await client.complete("Is everybody there?")
        idle = {name: await soak.tasks(name) + FEW for name in NAMES}
        await soak.ask(max(round(REQUESTS * WARM_UP), 250))  # by then each collection has its threads
        await soak.sample(idle)
        for _ in range(SAMPLES if REQUESTS >= ENOUGH else 4):
            await soak.ask(REQUESTS // (SAMPLES if REQUESTS >= ENOUGH else 4))
            await soak.sample(idle)
        print(f"seed {SEED}: {soak.done:,} requests, {dict(sorted(soak.seen.items()))}")
        for name, samples in soak.samples.items():
            first, last = samples[0], samples[-1]
            print(
                f"{name:10} {first.memory / 2**20:6.1f} to {last.memory / 2**20:6.1f} MiB, "
                f"{slope(samples):+7.2f} MiB in 100,000; files {first.files} to {last.files}, "
                f"threads {first.threads} to {last.threads}, tasks {first.tasks} to {last.tasks}"
            )
            print("           " + " ".join(f"{sample.memory / 2**20:.1f}" for sample in samples))
            assert last.files <= first.files + FILES, name
            assert last.threads <= first.threads + FEW, name
        async with AsyncCacheClient(suite.address("cache")) as cache:
            stats = await cache.get_stats(cache_pb2.GetStatsRequest())
        assert stats.evictions > 0, "the cache was never full"
        if REQUESTS >= ENOUGH:
            assert {
                name: slope(soak.samples[name]) for name in MEASURED if slope(soak.samples[name]) > MOST_GROWTH
            } == {}
