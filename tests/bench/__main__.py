"""`make bench`: CPU microseconds per call of the servers, minima over interleaved rounds; JSON on the last line."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc.aio
import numpy as np

import simcore
from antiphon.cache.v1 import cache_pb2
from antiphon.completion.v1 import completion_pb2
from antiphon.llm.v1 import llm_pb2
from antiphon_client import AsyncCacheClient, AsyncCompletionClient
from services.embedding.create import create
from services.embedding.settings import EmbeddingSettings
from tests.bench import crowded, hydrating, meanwhile, reading, searching
from tests.bench.crowded import echoing
from tests.bench.echo import METHOD
from tests.bench.flooded import beside_a_flood
from tests.bench.measure import Line, measure
from tests.bench.questions import COUNT, question, reworded
from tests.suite_process import SuiteProcess, environment

ROUNDS = 5
ENTRIES, MANY = 10_000, 100_000
BATCH = 16
NAMESPACE = "bench"
LOOKUP = "/antiphon.cache.v1.CacheService/Lookup"
PATIENCE = 60.0
"""Seconds; a call beside a flood may wait."""


@contextmanager
def _suite(state_dir: Path) -> Iterator[SuiteProcess]:
    suite = SuiteProcess(environment(state_dir))
    try:
        suite.wait_for("SERVING")
        yield suite
    finally:
        suite.close()


def _query(text: str) -> cache_pb2.Query:
    message = llm_pb2.Message(role=llm_pb2.ROLE_USER, parts=[llm_pb2.ContentPart(text=text)])
    return cache_pb2.Query(namespace=NAMESPACE, messages=[message])


def _answer() -> llm_pb2.Answer:
    return llm_pb2.Answer(
        text=" ".join(["word"] * 50),
        finish_reason=llm_pb2.FINISH_REASON_STOP,
        model="offline-small",
        usage=llm_pb2.Usage(input_tokens=10, output_tokens=50),
    )


async def _fill(cache: AsyncCacheClient) -> None:
    answer = _answer()

    async def some(start: int) -> None:
        for number in range(start, ENTRIES, 16):
            await cache.put(cache_pb2.PutRequest(query=_query(question(number)), answer=answer), timeout=60)

    async with asyncio.TaskGroup() as group:
        for start in range(16):
            group.create_task(some(start))


async def _embedding_cpu() -> float:
    """CPU microseconds to embed one of the questions, alone; minimum over rounds."""
    embedder = create(EmbeddingSettings())
    await embedder.warm()
    best = float("inf")
    for part in range(ROUNDS):
        texts = [reworded(n) for n in range(part * 32, part * 32 + 32)]
        before = time.process_time()
        for text in texts:
            await embedder.embed([text])
        best = min(best, (time.process_time() - before) / len(texts) * 1e6)
    await embedder.aclose()
    return best


def _search_cpu() -> float:
    """CPU microseconds of one search for the four nearest among the entries; minimum over rounds."""
    rng = np.random.default_rng(1)
    index = simcore.Index(384)
    vectors = rng.standard_normal((ENTRIES, 384), dtype=np.float32)
    index.upsert(np.arange(ENTRIES, dtype=np.uint64), vectors)
    best = float("inf")
    for _ in range(ROUNDS):
        before = time.process_time()
        for row in range(50):
            index.search(vectors[row : row + 1], 4, now=0.0, threshold=0.92)
        best = min(best, (time.process_time() - before) / 50 * 1e6)
    return best


async def _run(rounds: int) -> dict[str, object]:
    with (
        tempfile.TemporaryDirectory() as folder,
        echoing() as (echo_address, echo_pid),
        _suite(Path(folder)) as running,
    ):
        cache_pid, completion_pid = running.pid("cache"), running.pid("completion")
        router_pid, store_pid = running.pid("router"), running.pid("edgestore")
        async with (
            grpc.aio.insecure_channel(echo_address) as channel,
            AsyncCacheClient(running.address("cache")) as cache,
            AsyncCompletionClient(running.address("completion")) as completion,
        ):
            echo: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(METHOD)
            print(f"storing {ENTRIES:,} entries …", file=sys.stderr)
            await _fill(cache)
            cached = completion_pb2.CompleteRequest(prompt="How do I bench a service?", namespace=NAMESPACE)
            await completion.complete(cached)
            payload = cache_pb2.LookupRequest(query=_query(question(0))).SerializeToString()

            async def call_echo(_: int) -> None:
                await echo(payload)

            async def lookup_exact(number: int) -> None:
                found = await cache.lookup(cache_pb2.LookupRequest(query=_query(question(number % ENTRIES))))
                assert found.outcome == cache_pb2.OUTCOME_EXACT, found

            async def lookup_patiently(number: int) -> None:
                request = cache_pb2.LookupRequest(query=_query(question(number % ENTRIES)))
                await cache.lookup(request, timeout=PATIENCE)

            async def lookup_semantic(number: int) -> None:
                found = await cache.lookup(cache_pb2.LookupRequest(query=_query(reworded(number % ENTRIES))))
                assert found.outcome == cache_pb2.OUTCOME_SEMANTIC, found

            async def sixteen(ask: Callable[[int], str], number: int, outcome: int) -> None:
                numbers = range(number * BATCH, (number + 1) * BATCH)
                lookups = [cache_pb2.LookupRequest(query=_query(ask(n % ENTRIES))) for n in numbers]
                found = await cache.batch_lookup(cache_pb2.BatchLookupRequest(lookups=lookups), timeout=PATIENCE)
                assert {result.response.outcome for result in found.results} == {outcome}, found

            async def batch_exact(number: int) -> None:
                await sixteen(question, number, cache_pb2.OUTCOME_EXACT)

            async def batch_semantic(number: int) -> None:
                # Other questions than those that were looked up alone, whose embeddings are remembered.
                await sixteen(reworded, number + ENTRIES // BATCH // 2, cache_pb2.OUTCOME_SEMANTIC)

            async def complete_cached(_: int) -> None:
                done = await completion.complete(cached)
                assert done.info.cache.outcome == cache_pb2.OUTCOME_EXACT, done

            async def stream_miss(number: int) -> None:
                request = completion_pb2.CompleteRequest(
                    prompt=f"{os.getpid()}-{number}: name fifty words", namespace=f"miss-{number}"
                )
                async with completion.stream(request) as events:
                    last = [event async for event in events][-1]
                assert last.finished.info.cache.outcome == cache_pb2.OUTCOME_MISS, last

            everything = (completion_pid, cache_pid, router_pid, store_pid)
            lines = [
                Line("bare grpc.aio echo", (echo_pid,), call_echo, 1600),
                Line("Lookup EXACT", (cache_pid,), lookup_exact, 1600),
                Line("Lookup SEMANTIC, 10,000 entries", (cache_pid,), lookup_semantic, 320, concurrency=4),
                Line("BatchLookup of 16 EXACT, each", (cache_pid,), batch_exact, 100, concurrency=4, worth=BATCH),
                Line("BatchLookup of 16 SEMANTIC, each", (cache_pid,), batch_semantic, 20, concurrency=1, worth=BATCH),
                Line("Complete from the cache (completion + cache)", (completion_pid, cache_pid), complete_cached, 800),
                Line("StreamComplete miss, 50 tokens (all processes)", everything, stream_miss, 160, concurrency=4),
            ]
            await measure(lines, rounds)
            flooded = await beside_a_flood(lookup_patiently, running.address("cache"), LOOKUP, rounds)
    crowds = await crowded.measured(rounds)
    beside = await meanwhile.measured()
    kept = {ENTRIES: await hydrating.measured(ENTRIES, rounds), MANY: await hydrating.measured(MANY, 1)}
    embedding, search = await _embedding_cpu(), _search_cpu()
    searches = await searching.measured(rounds)
    read = await reading.measured(rounds)
    floor = lines[0].best
    print(f"{'':48}{'CPU µs':>10}{'× echo':>9}{'worst':>10}{'wall µs':>10}")
    for line in lines:
        print(f"{line.name:48}{line.best:10.0f}{line.best / floor:9.2f}{max(line.rounds):10.0f}{min(line.wall):10.0f}")
    semantic = lines[2].best
    print(f"{'  of SEMANTIC: embedding one text (in process)':48}{embedding:10.0f}{embedding / floor:9.2f}")
    print(f"{'  of SEMANTIC: search (in process)':48}{search:10.0f}{search / floor:9.2f}")
    print(f"{'  SEMANTIC without embedding':48}{semantic - embedding:10.0f}{(semantic - embedding) / floor:9.2f}")
    shown = crowded.show(*crowds)
    print(f"{'searches in process, wall clock':48}{'median µs':>10}")
    for name, microseconds in searches.items():
        print(f"{name:48}{microseconds:10.0f}")
    print(f"{'one caller, wall clock':48}{'median µs':>10}{'× idle':>9}{'worst':>10}")
    idle = min(flooded["idle"].medians)
    for kind, latency in flooded.items():
        median, name = min(latency.medians), f"Lookup EXACT, another connection: {kind}"
        print(f"{name:48}{median:10.0f}{median / idle:9.2f}{max(latency.worst):10.0f}")
    streams = reading.show(*read)
    waited = meanwhile.show(beside)
    stored = {}
    for count, figures in kept.items():
        print(f"embedded store, {count:,} entries")
        stored[f"{count:,}"] = hydrating.show(figures)
    return {
        "unit": "CPU microseconds per call, minimum of interleaved rounds",
        "rounds": rounds,
        **{line.name: {"best": round(line.best), "rounds": [round(r) for r in line.rounds]} for line in lines},
        "without embedding": shown,
        "embedding": round(embedding),
        "search": round(search),
        "meanwhile": waited,
        "stored": stored,
        "streams": streams,
        "searches": {name: round(microseconds) for name, microseconds in searches.items()},
        "Lookup EXACT beside a flood": {
            kind: {"median": round(min(latency.medians)), "worst": round(max(latency.worst))}
            for kind, latency in flooded.items()
        },
    }


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    args = parser.parse_args()
    if ENTRIES > COUNT:
        raise SystemExit("there are fewer questions than entries")
    print(json.dumps(asyncio.run(_run(args.rounds))))


if __name__ == "__main__":
    main()
