"""Mixed requests to a whole suite, and what its processes hold of memory, files and tasks between them.

Every request follows from the seed and its number: distinct questions, questions that were asked before, keys, streams
that are left in the middle, resumable ones that nobody comes back for, faults of the models' server.
"""

from __future__ import annotations

import asyncio
import random
import urllib.request
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil

from antiphon.cache.v1 import cache_pb2
from antiphon.completion.v1 import completion_pb2
from antiphon_client import AntiphonError, AsyncCompletionClient
from tests.fakes import behaviours
from tests.fakes.openai_server import FakeOpenAI
from tests.suite_process import SuiteProcess

NAMES = ("completion", "cache", "router", "edgestore")
MEASURED = ("completion", "cache", "router")
"""Whose memory must not grow. The store keeps what it is given: reports of outcomes for 30 days, keys for one."""

SLOW = {"429_long", "no_headers", "no_token", "stall", "drip"}
FAULTS = sorted(set(behaviours.FAULTS) - SLOW)
"""Those that end by themselves: one that waits for a timeout is as much work, and takes a second."""

AT_ONCE = 32
AGAIN = 500
"""Questions back from which one may be asked again."""

SETTLE_SECONDS = 60.0
SETTINGS = {
    # Everything that is kept in bounds reaches them in the warm-up.
    "ANTIPHON_CACHE_MAX_ENTRIES": "1000",
    "ANTIPHON_COMPLETION_FEEDBACK_ANSWERS": "1000",
    "ANTIPHON_ROUTER_REMEMBERED_DECISIONS": "1000",
    "ANTIPHON_ROUTER_REMEMBERED_OUTCOMES": "1000",
    # Streams that nobody comes back for are dropped soon.
    "ANTIPHON_COMPLETION_RESUME_TIME": "1",
    # Faults are met, again and again, and not avoided.
    "ANTIPHON_COMPLETION_BREAKER_FAILURES": "1000",
    "ANTIPHON_COMPLETION_COOLDOWN": "0.001",
    "ANTIPHON_COMPLETION_RETRY_SHARE": "1",
}


@dataclass(frozen=True, slots=True)
class Sample:
    """What one process holds after so many requests. `memory` in bytes, without pages of files that are mapped."""

    requests: int
    memory: int
    files: int
    threads: int
    tasks: int


@dataclass
class Soak:
    """A run. `seen` counts how requests ended."""

    suite: SuiteProcess
    upstream: FakeOpenAI
    client: AsyncCompletionClient
    seed: int
    done: int = 0
    seen: Counter[str] = field(default_factory=Counter)
    samples: dict[str, list[Sample]] = field(default_factory=lambda: {name: [] for name in NAMES})

    async def ask(self, requests: int) -> None:
        """Make the next so many requests, and wait until nothing is left of them."""
        numbers = iter(range(self.done, self.done + requests))
        async with asyncio.TaskGroup() as group:
            for _ in range(AT_ONCE):
                group.create_task(self._caller(numbers))
        self.done += requests
        await self.upstream.until(lambda server: server.in_flight == 0)
        self.upstream.calls.clear()  # the fake's own memory is nobody's concern

    async def sample(self, idle: dict[str, int]) -> None:
        """Note what the processes hold, as soon as they have no more tasks than when they were idle."""
        for name in NAMES:
            async with asyncio.timeout(SETTLE_SECONDS):
                while (tasks := await self.tasks(name)) > idle.get(name, tasks):  # noqa: ASYNC110 -- another process
                    await asyncio.sleep(0.2)
            process = psutil.Process(self.suite.pid(name))
            self.samples[name].append(
                Sample(self.done, _anonymous(process.pid), process.num_fds(), process.num_threads(), tasks)
            )

    async def tasks(self, name: str) -> int:
        """Tasks of a process's loop, from its metrics."""
        address = self.suite.running(name).metrics
        text = await asyncio.to_thread(_read, f"http://{address}/metrics")
        return next(
            int(float(line.split()[1])) for line in text.splitlines() if line.startswith("antiphon_loop_tasks ")
        )

    async def _caller(self, numbers: Iterator[int]) -> None:
        for number in numbers:
            try:
                self.seen[await self._one(number)] += 1
            except AntiphonError as error:
                assert error.reason, error
                self.seen[error.reason] += 1

    async def _one(self, number: int) -> str:
        """Make one request, in one of the ways in which callers do; return how it ended."""
        rng = random.Random(f"{self.seed} {number}")
        way = rng.random()
        keyed = way < 0.05
        # With a key the client asks again and again until its time is over.
        fault = f" [fault:{rng.choice(FAULTS)}]" if rng.random() < 0.1 and not keyed else ""
        again = number - rng.randrange(1, AGAIN) if number > AGAIN and rng.random() < 0.1 else number
        text = f"{self.seed}-{again}: what is {rng.choice(WORDS)} to {rng.choice(WORDS)}?{fault}"
        mode = cache_pb2.CACHE_MODE_BYPASS if rng.random() < 0.1 else cache_pb2.CACHE_MODE_DEFAULT
        request = completion_pb2.CompleteRequest(prompt=text, cache=cache_pb2.CachePolicy(mode=mode))
        if keyed:
            request.idempotency_key = f"{self.seed}-{again}"
        if way < 0.5:
            await self.client.complete(request, timeout=30)
            return "unary"
        if way < 0.85:
            async with self.client.stream(request, timeout=30) as stream:
                await stream.final()
            return "stream"
        with suppress(StopAsyncIteration):
            async with self.client.stream(request, resumable=way > 0.95, timeout=30) as stream:
                for _ in range(rng.randrange(3)):
                    await anext(stream)
                if rng.random() < 0.5:
                    await asyncio.sleep(rng.random() * 0.02)
        return "left"


WORDS = ("a lock", "rain", "the sea", "a clock", "bread", "a lamp", "iron", "a song", "dust", "paper", "a gate", "snow")


def slope(samples: Sequence[Sample]) -> float:
    """MiB by which the memory grows in 100,000 requests: linear regression over the samples."""
    requests = [sample.requests / 100_000 for sample in samples]
    return float(np.polyfit(requests, [sample.memory / 2**20 for sample in samples], 1)[0])


def _anonymous(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("RssAnon:"))


def _read(url: str) -> str:
    with urllib.request.urlopen(url, timeout=10) as response:
        return str(response.read().decode())
