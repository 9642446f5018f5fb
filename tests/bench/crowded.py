"""`Lookup` SEMANTIC where much is stored: everything in one scope, and the same in a thousand.

`python -m tests.bench.crowded`, and a part of `make bench`. Every question that is asked was asked before, so that the
cache remembers its vector: what is measured is a semantic hit without its embedding.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import grpc.aio
import numpy as np

from antiphon.cache.v1 import cache_pb2 as pb
from antiphon.llm.v1 import llm_pb2
from antiphon_client import AsyncCacheClient
from services.cache.adapters.entry_store import StoredEntries
from services.cache.adapters.verifier_file import load_judge
from services.cache.decision import JUDGED, Judge
from services.cache.ports import Write
from services.cache.scope import entry_id
from services.cache.searching import NOTED_SIMILARITY
from services.cache.settings import CacheSettings
from services.chassis.polling import VARIABLE, WITHOUT_LISTENER
from services.storage import Connection
from simcore import MISSING_ID, Index
from tests.bench.echo import METHOD
from tests.bench.measure import Body, Line, measure
from tests.bench.questions import question, reworded
from tests.bench.simcore.vectors import Vectors
from tests.integration.cache.cache_process import CacheProcess
from tests.integration.cache.stored_cache import place_of
from tests.integration.edgestore.store_process import StoreProcess

ENTRIES = 100_000
ASKED = 1_000
"""Questions with an answer that a rewording finds: as many as the cache remembers vectors of, nearly."""

SCOPES = {"one scope": 1, "1,000 scopes": 1_000}
ROUNDS = 5
CALLS = 800
WRITTEN = 500
"""Entries in one request while the store is filled."""

DIM = 384
SECONDS = 60.0
START_SECONDS = 900.0
ONLY = pb.CachePolicy(mode=pb.CACHE_MODE_ONLY_IF_CACHED)


@dataclass
class Crowd:
    """A cache with its store, and the questions whose rewordings it answers."""

    name: str
    scopes: int
    store: StoreProcess
    cache: CacheProcess
    asked: list[int]

    def query(self, number: int, ask: Callable[[int], str]) -> pb.Query:
        """Question `number` in its scope."""
        message = llm_pb2.Message(role=llm_pb2.ROLE_USER, parts=[llm_pb2.ContentPart(text=ask(number))])
        return pb.Query(namespace=f"bench-{number % self.scopes}", messages=[message])

    def lookup(self, number: int) -> pb.LookupRequest:
        """A lookup of the rewording."""
        return pb.LookupRequest(query=self.query(number, reworded), policy=ONLY)


@asynccontextmanager
async def crowd(name: str, scopes: int, folder: Path) -> AsyncIterator[Crowd]:
    """Fill a store and start a cache over it, which has read everything."""
    store = StoreProcess(folder / "state")
    store.start()
    made = Crowd(name, scopes, store, await _serving(store), [])
    try:
        await _put(made)
        await _multiply(made)
        made.cache.end()
        made.cache = await _serving(store)
        await _ask_first(made)
        yield made
    finally:
        made.cache.end()
        store.close()


async def _serving(store: StoreProcess) -> CacheProcess:
    """A cache that has read what is stored, however long that takes where others work beside it."""
    cache = CacheProcess(store.state_dir)
    try:
        await asyncio.to_thread(cache.listening)
        async with asyncio.timeout(START_SECONDS):
            while not await asyncio.to_thread(cache.is_ready):  # noqa: ASYNC110 -- the state of another process
                await asyncio.sleep(0.1)
    except BaseException:
        cache.end()
        raise
    return cache


async def _put(made: Crowd) -> None:
    """Store the questions that will be found, the way of a caller."""
    answer = llm_pb2.Answer(
        text=" ".join(["word"] * 50), finish_reason=llm_pb2.FINISH_REASON_STOP, model="offline-small"
    )
    async with AsyncCacheClient(made.cache.address) as client, asyncio.TaskGroup() as group:
        at_once = asyncio.Semaphore(16)

        async def put(number: int) -> None:
            async with at_once:
                request = pb.PutRequest(query=made.query(number, question), answer=answer, durable=True)
                await client.put(request, timeout=SECONDS)

        for number in range(ASKED):
            group.create_task(put(number))


async def _multiply(made: Crowd) -> None:
    """Write further entries into the same scopes, with vectors like those of texts, straight into the store."""
    async with _stored(made) as (store, writes):
        patterns: dict[str, Write] = {write.entry.scope: write for write in writes}
        left = _others(list(patterns.values()), ENTRIES - len(writes))
        while batch := list(islice(left, WRITTEN)):
            await store.save(batch)


def _others(patterns: Sequence[Write], count: int) -> Iterator[Write]:
    vectors = (vector for chunk in Vectors(count, DIM).chunks() for vector in chunk)
    for number, vector in enumerate(vectors):
        like = patterns[number % len(patterns)].entry
        key = f"{number:064x}"
        entry = replace(
            like,
            id=entry_id(like.scope, key),
            key=key,
            question=question(ASKED + number % ASKED),
            ver=like.ver + 1 + number,
        )
        yield Write(entry, np.ascontiguousarray(vector, np.float32))


async def _ask_first(made: Crowd) -> None:
    """Let the cache learn the vectors of all rewordings; which of them it serves."""
    async with AsyncCacheClient(made.cache.address) as client:
        for number in range(ASKED):
            found = await client.lookup(made.lookup(number), timeout=SECONDS)
            if found.outcome == pb.OUTCOME_SEMANTIC:
                made.asked.append(number)
    if not made.asked:
        raise RuntimeError("no rewording is served")


@asynccontextmanager
async def _stored(made: Crowd) -> AsyncIterator[tuple[StoredEntries, list[Write]]]:
    """The store with all that is in it."""
    connection = Connection(lambda: place_of(made.store), timeout=SECONDS)
    try:
        async with AsyncCacheClient(made.cache.address) as client:
            slug = (await client.get_stats(pb.GetStatsRequest(), timeout=SECONDS)).embedder
        store = StoredEntries(connection, embedder=slug, dim=DIM)
        writes: list[Write] = []
        async with aclosing(store.load(now_us=int(time.time() * 1e6))) as pages:  # type: ignore[type-var]
            async for page in pages:
                writes.extend(page)
        yield store, writes
    finally:
        await connection.aclose()


async def _shares(made: Crowd, rounds: int) -> dict[str, float]:
    """CPU microseconds of a lookup's search and of its judgement, in this process; minimum over rounds."""
    async with _stored(made) as (_, writes), AsyncCacheClient(made.cache.address) as client:
        slug = (await client.get_stats(pb.GetStatsRequest(), timeout=SECONDS)).embedder
        found = [await client.lookup(made.lookup(number), timeout=SECONDS) for number in made.asked[:200]]
    judge = load_judge(CacheSettings(), embedder=slug, min_similarity=0.92)
    groups = {scope: number for number, scope in enumerate(sorted({write.entry.scope for write in writes}))}
    index, questions = Index(DIM), {row: write.entry.question for row, write in enumerate(writes)}
    kept = [(row, write) for row, write in enumerate(writes) if write.vector is not None]
    for start in range(0, len(kept), 10_000):
        part = kept[start : start + 10_000]
        index.upsert(
            np.array([row for row, _ in part], np.uint64),
            np.stack([write.vector for _, write in part if write.vector is not None]),
            groups=np.array([groups[write.entry.scope] for _, write in part], np.uint32),
        )
    served = {write.entry.id: row for row, write in kept}
    # A question's vector lies near that of the entry that was served: what the search costs is what that one's does.
    rows = [served[one.entry_id] for one in found if one.entry_id in served]
    return {
        "of it search": _least(rounds, lambda row: _search(index, writes, groups, row), rows),
        "of it guard and verifier": _least(rounds, _judged(judge, index, writes, groups, questions), rows),
    }


def _search(index: Index, writes: Sequence[Write], groups: dict[str, int], row: int) -> tuple[list[int], list[float]]:
    write = writes[row]
    assert write.vector is not None
    query = np.array(write.vector[None, :])  # one that was read from a message need not be aligned
    ids, scores = index.search(query, JUDGED, now=0.0, threshold=NOTED_SIMILARITY, groups=groups[write.entry.scope])
    return [one for one in ids[0].tolist() if one != MISSING_ID], scores[0].tolist()


def _judged(
    judge: Judge, index: Index, writes: Sequence[Write], groups: dict[str, int], questions: dict[int, str]
) -> Callable[[int], object]:
    known: dict[int, tuple[list[str], list[float]]] = {}

    def one(row: int) -> object:
        if row not in known:
            ids, scores = _search(index, writes, groups, row)
            known[row] = [questions[i] for i in ids], scores[: len(ids)]
        return judge.judge(questions[row].replace("How do I", "How can I", 1), *known[row])

    return one


def _least(rounds: int, body: Callable[[int], object], rows: Sequence[int]) -> float:
    for row in rows:
        body(row)
    best = float("inf")
    for _ in range(rounds):
        before = time.process_time()
        for row in rows:
            body(row)
        best = min(best, (time.process_time() - before) / len(rows) * 1e6)
    return best


def _asking(made: Crowd, client: AsyncCacheClient) -> Body:
    async def ask(number: int) -> None:
        found = await client.lookup(made.lookup(made.asked[number % len(made.asked)]), timeout=SECONDS)
        assert found.outcome == pb.OUTCOME_SEMANTIC, found

    return ask


def _echoed(channel: grpc.aio.Channel, payload: bytes) -> Body:
    call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(METHOD)

    async def echo(_: int) -> None:
        await call(payload)

    return echo


async def measured(rounds: int) -> tuple[list[Line], dict[str, dict[str, float]]]:
    """The lines, of which the first is the echo's, and the shares of each of the others."""
    async with AsyncExitStack() as stack:
        echoes = {
            "bare grpc.aio echo": stack.enter_context(echoing()),
            "the same without gRPC's listener": stack.enter_context(echoing(**{VARIABLE: WITHOUT_LISTENER})),
        }
        crowds = []
        for name, scopes in SCOPES.items():
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            print(f"storing {ENTRIES:,} entries in {name} …", file=sys.stderr)
            crowds.append(await stack.enter_async_context(crowd(name, scopes, Path(folder))))
        payload = crowds[0].lookup(crowds[0].asked[0]).SerializeToString()
        lines = []
        for name, (address, pid) in echoes.items():
            channel = await stack.enter_async_context(grpc.aio.insecure_channel(address))
            lines.append(Line(name, (pid,), _echoed(channel, payload), 2 * CALLS))
        for made in crowds:
            client = await stack.enter_async_context(AsyncCacheClient(made.cache.address))
            name = f"Lookup SEMANTIC, {ENTRIES:,} in {made.name}"
            lines.append(Line(name, (made.cache.process.pid,), _asking(made, client), CALLS))
        await measure(lines, rounds)
        shares = {
            line.name: await _shares(made, rounds) for line, made in zip(lines[len(echoes) :], crowds, strict=True)
        }
    return lines, shares


def show(lines: Sequence[Line], shares: dict[str, dict[str, float]]) -> dict[str, object]:
    """Print the figures; return them for the JSON."""
    floor = lines[0].best
    print(f"{'without embedding':48}{'CPU µs':>10}{'× echo':>9}{'worst':>10}{'wall µs':>10}")
    for line in lines:
        print(f"{line.name:48}{line.best:10.0f}{line.best / floor:9.2f}{max(line.rounds):10.0f}{min(line.wall):10.0f}")
        for part, microseconds in shares.get(line.name, {}).items():
            print(f"{f'  {part} (in process)':48}{microseconds:10.0f}{microseconds / floor:9.2f}")
    return {
        line.name: {
            "best": round(line.best),
            "rounds": [round(one) for one in line.rounds],
            "times echo": round(line.best / floor, 2),
            **{part: round(microseconds) for part, microseconds in shares.get(line.name, {}).items()},
        }
        for line in lines
    }


@contextmanager
def echoing(**variables: str) -> Iterator[tuple[str, int]]:
    """The address and process of an echo, with these environment variables."""
    command, environ = [sys.executable, "-m", "tests.bench.echo"], os.environ | variables
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environ) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().strip(), process.pid
        finally:
            process.terminate()


async def _run(rounds: int) -> dict[str, object]:
    return show(*await measured(rounds))


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    args = parser.parse_args()
    print(json.dumps(asyncio.run(_run(args.rounds))))


if __name__ == "__main__":
    main()
