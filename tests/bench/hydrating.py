"""`python -m tests.bench.hydrating`: how fast a cache fills the embedded store and reads it, and what an entry takes.

`--entries 100000` for more than the usual 10,000, `--answer-bytes` of each answer, `--hot-bytes` of memory for their
bodies; JSON on the last line.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import random
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from itertools import islice
from pathlib import Path

import numpy as np
import psutil

from services.cache.adapters.entry_store import StoredEntries
from services.cache.entries import Entries
from services.cache.entry import MICROSECONDS, Entry, Source
from services.cache.hot import ALL_HOT
from services.cache.ports import Write
from services.cache.room import Capacity, Room
from services.cache.scope import entry_id
from services.chassis.collector import building
from services.llm.values import Answer, FinishReason
from services.storage import Connection
from tests.bench.measure import cpu_of
from tests.bench.questions import question
from tests.integration.cache.stored_cache import place_of
from tests.integration.edgestore.store_process import StoreProcess

DIM = 384
ROUNDS = 3
ANSWER_BYTES = 250
WRITTEN = 500
"""Entries in one request while the store is filled."""


def _entries(count: int, size: int) -> Iterator[Write]:
    """Yield entries of one scope with answers of so many bytes."""
    rng = np.random.default_rng(1)
    scope, now_us = hashlib.sha256(b"scope").hexdigest(), int(time.time() * MICROSECONDS)
    answer = Answer(text=("word " * (size // 5 + 1))[:size], finish_reason=FinishReason.STOP, model="small")
    for number in range(count):
        key = hashlib.sha256(str(number).encode()).hexdigest()
        vector = rng.standard_normal(DIM).astype(np.float32)
        entry = Entry(
            id=entry_id(scope, key),
            tenant="default",
            namespace="default",
            scope=scope,
            key=key,
            question=question(number),
            answer=answer,
            created_us=now_us,
            updated_us=now_us,
            expires_us=now_us + 86_400 * MICROSECONDS,
            ver=now_us + number,
            epoch=0,
            source=Source.PUT,
        )
        yield Write(entry, vector / np.linalg.norm(vector))


async def _read(store: StoredEntries, hot_bytes: int) -> tuple[int, float, int]:
    """Read everything the way a start does; return how many, the seconds in memory and index, and the bytes of both."""
    before = psutil.Process().memory_info().rss
    with ThreadPoolExecutor(1) as executor:
        room = Room(Capacity(100_000_000), dim=DIM, chance=random.random)
        entries = Entries(DIM, room=room, threads=1, executor=executor, hot_bytes=hot_bytes)
        kept = 0.0
        with building():
            async with aclosing(store.load(now_us=int(time.time() * MICROSECONDS))) as pages:  # type: ignore[type-var]
                indexing = asyncio.create_task(asyncio.sleep(0))
                async for page in pages:
                    begun = time.thread_time()
                    writes = [write for write in page if isinstance(write, Write)]
                    _, rows = entries.take_many([(write.entry, write.vector) for write in writes])
                    for write in writes:
                        entries.hot.offer(write.entry)
                    kept += time.thread_time() - begun
                    await indexing
                    indexing = asyncio.create_task(entries.index_beside(rows))
                    await asyncio.sleep(0)
                await indexing
        return len(entries), kept, psutil.Process().memory_info().rss - before


async def measured(count: int, rounds: int, *, size: int = ANSWER_BYTES, hot_bytes: int = ALL_HOT) -> dict[str, float]:
    """Fill a store with so many entries and read them so often; return the best of each figure by its name."""
    with tempfile.TemporaryDirectory() as folder:
        process = StoreProcess(Path(folder) / "state")
        process.start()
        assert process._process is not None
        pid = process._process.pid
        connection = Connection(lambda: place_of(process), timeout=60.0)
        try:
            store = StoredEntries(connection, embedder="bench", dim=DIM)
            await store.is_empty()
            empty, seconds, left = disk(process.state_dir), 0.0, _entries(count, size)
            while batch := list(islice(left, WRITTEN)):
                begun = time.perf_counter()
                await store.save(batch)
                seconds += time.perf_counter() - begun
            taken = (disk(process.state_dir) - empty) / count
            read = [await _round(store, pid, hot_bytes) for _ in range(rounds)]
            # Later rounds get the memory that the first one has let go.
            memory = {"bytes per entry, memory": read[0].pop("bytes"), "bytes per entry, disk": taken}
            for one in read[1:]:
                del one["bytes"]
            return {"upserts per second": count / seconds, **_best(read), **memory}
        finally:
            await connection.aclose()
            process.close()


def disk(folder: Path) -> int:
    """Bytes that the files below a folder take."""
    return sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file())


async def _round(store: StoredEntries, pid: int, hot_bytes: int) -> dict[str, float]:
    wall, own, other = time.perf_counter(), time.process_time(), cpu_of(pid)
    count, kept, size = await _read(store, hot_bytes)
    return {
        "bytes": size / count,
        "entries per second": count / (time.perf_counter() - wall),
        "cache, CPU µs per entry": (time.process_time() - own) / count * 1e6,
        "  of it memory": kept / count * 1e6,
        "store, CPU µs per entry": (cpu_of(pid) - other) / count * 1e6,
    }


def _best(rounds: Sequence[dict[str, float]]) -> dict[str, float]:
    return {name: (max if "second" in name else min)(one[name] for one in rounds) for name in rounds[0]}


def show(figures: dict[str, float]) -> dict[str, int]:
    """Print them; return what goes into the JSON."""
    for name, figure in figures.items():
        print(f"{name:48}{figure:10,.0f}")
    return {name.strip(): round(figure) for name, figure in figures.items()}


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--entries", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--answer-bytes", type=int, default=ANSWER_BYTES)
    parser.add_argument("--hot-bytes", type=int, default=ALL_HOT)
    args = parser.parse_args()
    figures = asyncio.run(measured(args.entries, args.rounds, size=args.answer_bytes, hot_bytes=args.hot_bytes))
    print(json.dumps({"entries": args.entries, **show(figures)}))


if __name__ == "__main__":
    main()
