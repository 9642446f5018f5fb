"""What a search costs in the cache's process: alone, sixteen at once, and handed to a thread. Decides `INLINE_ROWS`."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np

from services.cache.decision import JUDGED
from services.cache.searching import NOTED_SIMILARITY
from services.cache.similarity import INLINE_ROWS
from simcore import Index
from tests.bench.simcore.vectors import Vectors

DIM = 384
AT_ONCE = 16
QUERIES = 10 * AT_ONCE


async def measured(rounds: int) -> dict[str, float]:
    """Wall-clock microseconds per search by name: the best round's median over questions of every kind."""
    stream = Vectors(INLINE_ROWS, DIM)
    index = Index(DIM)
    start = 0
    for chunk in stream.chunks():
        rows = np.ascontiguousarray(chunk, np.float32)
        index.upsert(np.arange(start, start + len(rows), dtype=np.uint64), rows)
        start += len(rows)
    queries = np.ascontiguousarray(stream.queries(QUERIES)[0], np.float32)
    few = Index(DIM)
    few.upsert(np.arange(1, dtype=np.uint64), queries[:1])
    loop = asyncio.get_running_loop()

    def search(first: int, count: int, threshold: float) -> None:
        index.search(queries[first : first + count], JUDGED, now=0.0, threshold=threshold)

    async def alone(first: int) -> None:
        search(first, 1, NOTED_SIMILARITY)

    async def unbounded(first: int) -> None:
        search(first, 1, -1.0)

    async def together(first: int) -> None:
        search(first, AT_ONCE, NOTED_SIMILARITY)

    with ThreadPoolExecutor(1) as executor:
        nothing = partial(few.search, queries[:1], JUDGED, now=0.0)

        async def handed(_: int) -> None:
            await loop.run_in_executor(executor, nothing)

        return {
            f"{INLINE_ROWS:,} rows": await _best(alone, 1, rounds),
            f"{INLINE_ROWS:,} rows, {AT_ONCE} at once, each": await _best(together, AT_ONCE, rounds),
            f"{INLINE_ROWS:,} rows, however far": await _best(unbounded, 1, rounds),
            "1 row, on a thread": await _best(handed, 1, rounds),
        }


async def _best(body: Callable[[int], Awaitable[None]], count: int, rounds: int) -> float:
    medians = []
    for _ in range(rounds):
        times = []
        for first in range(0, QUERIES, count):
            begun = time.perf_counter()
            await body(first)
            times.append((time.perf_counter() - begun) / count * 1e6)
        medians.append(statistics.median(times))
    return min(medians)
