"""A part of `make bench-eviction`: a cache over the embedded store, ten times as many answers as it has room for.

`python -m tests.bench.churning --hot-bytes 200000` alone, and with memory for so many bytes of answers.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from services.cache.hot import ALL_HOT
from services.cache.room import Capacity
from tests.bench.hydrating import disk
from tests.bench.questions import question
from tests.integration.cache.stored_cache import StoredCache
from tests.integration.edgestore.store_process import StoreProcess

ROOM = 1_000
TIMES = 10
AT_ONCE = 50


@dataclass(frozen=True, slots=True)
class Size:
    """After so many answers: entries in memory, records in the store; megabytes of the process, and on disk.

    `bodies`: megabytes of answers that are in memory and may leave it.

    The store's log grows to some 64 MB, whatever is stored, and is used anew then.
    """

    answers: int
    entries: int
    records: int
    memory: float
    bodies: float
    disk: float
    log: float


async def churned(hot_bytes: int = ALL_HOT) -> list[Size]:
    """Put the answers; the sizes each time that the room was filled once more."""
    with tempfile.TemporaryDirectory() as folder:
        process = StoreProcess(Path(folder) / "state")
        process.start()
        cache = StoredCache(process, capacity=Capacity(ROOM), hot_bytes=hot_bytes)
        try:
            await cache.ready()
            sizes = []
            for begun in range(0, ROOM * TIMES, ROOM):
                for start in range(begun, begun + ROOM, AT_ONCE):
                    async with asyncio.TaskGroup() as group:
                        for number in range(start, start + AT_ONCE):
                            group.create_task(cache.put(question(number), "word " * 200, durable=False))
                await cache.cache.writer.drain()
                sizes.append(await _size(cache, process, begun + ROOM))
            return sizes
        finally:
            await cache.stop()
            process.close()


async def _size(cache: StoredCache, process: StoreProcess, answers: int) -> Size:
    gc.collect()
    records = sum([len(page) async for page in cache.store.heads(since_us=None)])
    memory = psutil.Process().memory_info().rss
    log = sum(disk(folder) for folder in process.state_dir.rglob("wal"))
    kept = disk(process.state_dir) - log
    bodies = cache.cache.entries.hot.bytes
    return Size(answers, len(cache.cache.entries), records, memory / 1e6, bodies / 1e6, kept / 1e6, log / 1e6)


def show(sizes: list[Size]) -> None:
    """Print a table."""
    print(
        f"{'answers stored':>16}{'in memory':>12}{'in the store':>14}{'process MB':>12}{'bodies MB':>11}{'disk MB':>9}"
        f"{'log MB':>8}"
    )
    for size in sizes:
        print(
            f"{size.answers:16,}{size.entries:12,}{size.records:14,}{size.memory:12,.0f}{size.bodies:11,.2f}"
            f"{size.disk:9,.1f}{size.log:8,.1f}"
        )


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hot-bytes", type=int, default=ALL_HOT)
    sizes = asyncio.run(churned(parser.parse_args().hot_bytes))
    show(sizes)
    print(json.dumps({"churned": [asdict(size) for size in sizes]}))


if __name__ == "__main__":
    main()
