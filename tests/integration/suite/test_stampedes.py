"""A stampede: equal and reworded questions at once, and whoever answers them is left alone, fails, leaves or is killed.

One call of a model while whoever makes it lives, one more if not; everyone gets that answer, and nobody hangs. With
`STAMPEDE_SEEDS` (and `STAMPEDE_FIRST`) the campaign; otherwise one stampede of each kind.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest

from antiphon.cache.v1 import cache_pb2
from antiphon.completion.v1 import completion_pb2
from antiphon.llm.v1 import llm_pb2
from antiphon_client import AsyncCacheClient, AsyncCompletionClient
from tests.fakes import behaviours
from tests.fakes.behaviours import Behaviour, Gate
from tests.fakes.openai_server import FakeOpenAI
from tests.integration.completion.processes import ServiceProcess
from tests.suite_process import GUARD, SuiteProcess, environment

SEEDS = int(os.environ.get("STAMPEDE_SEEDS") or 0)
FIRST = int(os.environ.get("STAMPEDE_FIRST") or 0)
EQUAL, REWORDED = 1_000, 200
KINDS = ("lives", "fails", "leaves", "is killed")
PATIENCE = GUARD * 2
"""Seconds for one stampede; only a machine that is very busy needs them."""

GREETINGS = ["", "Hi, ", "Hello, ", "Hey, ", "So, ", "OK, ", "Please, ", "hi, ", "hello, ", "hey, ", "so, "]
GREETINGS += ["Hi - ", "Hello - ", "Hi! ", "Hello! ", "Hey! "]
WORDINGS = [
    f"{greeting}{start} reset my password{end}"
    for greeting, start, end in product(
        GREETINGS, ["how do I", "how can I", "How do I", "How can I"], ["?", "", " ?", "!", "?!"]
    )
]
"""Any of them may be answered with the answer to any other: the verifier serves them so with the preset `loose`."""

SEMANTIC = cache_pb2.OUTCOME_SEMANTIC
Answered = completion_pb2.CompleteResponse


@pytest.fixture
def environ(environ: dict[str, str]) -> dict[str, str]:
    """Nothing gives up for want of time: the machine has to answer more than a thousand at once."""
    return {
        **environ,
        "ANTIPHON_CACHE_PRESET": "loose",
        "ANTIPHON_MAX_CONCURRENT_RPCS": "4096",
        "ANTIPHON_CACHE_LEASE": "5",
        "ANTIPHON_CACHE_DECISION_BUDGET": "10",
        "ANTIPHON_COMPLETION_LOOKUP_TIMEOUT": "30",
        "ANTIPHON_COMPLETION_ROUTE_TIMEOUT": "30",
    }


class Arena:
    """A suite, and beside it a completion service of its own for the one who answers."""

    def __init__(self, suite: SuiteProcess, upstream: FakeOpenAI, folder: Path) -> None:
        self._suite = suite
        self._upstream = upstream
        self._folder = folder
        self._leading: ServiceProcess | None = None
        self._crowd = AsyncCompletionClient(suite.address("completion"))
        self._cache = AsyncCacheClient(suite.address("cache"))

    async def close(self) -> None:
        await self._crowd.close()
        await self._cache.close()
        if self._leading is not None:
            self._leading.close()

    async def stampede(self, seed: int, kind: str, *, equal: int, reworded: int) -> Counter[int]:
        """Let one happen; how the crowd's lookups ended, by outcome."""
        chance, namespace = random.Random(seed), f"stampede-{seed}"
        leader, *others = chance.sample(WORDINGS, reworded + 1)
        crowd = [leader] * equal + others
        chance.shuffle(crowd)
        await self._embed(namespace, [leader, *others])
        before, gate = len(self._upstream.chat_calls), Gate()
        fails = kind == "fails"
        self._upstream.enqueue(replace(behaviours.status(400), gate=gate) if fails else Behaviour(gate=gate))
        async with AsyncCompletionClient(await self._leaders()) as first, asyncio.timeout(PATIENCE):
            leading = asyncio.create_task(ask(first, namespace, leader))
            await gate.reached.wait()
            async with asyncio.TaskGroup() as group:
                asking = [group.create_task(self._ask_soon(chance.random(), namespace, text)) for text in crowd]
                await asyncio.sleep(chance.random())  # what happens meanwhile is what differs between seeds
                if kind == "is killed":
                    await self._kill()
                elif kind == "leaves":
                    leading.cancel()
                else:
                    gate.open.set()
            ended = (await asyncio.gather(leading, return_exceptions=True))[0]
        gate.open.set()
        calls = len(self._upstream.chat_calls) - before
        responses = [task.result() for task in asking]
        assert isinstance(ended, Answered) == (kind == "lives"), ended
        assert calls == (1 if kind == "lives" else 2), f"seed {seed}: {calls} calls of a model, whose leader {kind}"
        assert len({response.answer.text for response in responses}) == 1, f"seed {seed}"
        assert not any(response.info.degraded for response in responses), f"seed {seed}"
        bought = sum(bool(response.info.cost.nano_usd) for response in responses)
        assert bought == calls - 1, "who makes the answer pays for it, and nobody else"
        return Counter(response.info.cache.outcome for response in responses)

    async def _embed(self, namespace: str, texts: Sequence[str]) -> None:
        """Let the cache know the vectors: it is not the embedder that is tested, and it would be asked for them all."""
        only = cache_pb2.CachePolicy(mode=cache_pb2.CACHE_MODE_ONLY_IF_CACHED)
        lookups = [cache_pb2.LookupRequest(query=query(namespace, text), policy=only) for text in texts]
        for start in range(0, len(lookups), 50):
            batch = cache_pb2.BatchLookupRequest(lookups=lookups[start : start + 50])
            response = await self._cache.batch_lookup(batch, timeout=GUARD)
            assert {one.response.outcome for one in response.results} == {cache_pb2.OUTCOME_MISS}

    async def _ask_soon(self, seconds: float, namespace: str, text: str) -> Answered:
        await asyncio.sleep(seconds)
        return await ask(self._crowd, namespace, text)

    async def _leaders(self) -> str:
        if self._leading is None:
            variables = {
                **environment(self._folder / "leader"),
                **{name: value for name, value in self._suite.environ.items() if "_TIMEOUT" in name},
                "ANTIPHON_CATALOGUE": self._suite.environ["ANTIPHON_CATALOGUE"],
                "ANTIPHON_CACHE_TARGET": self._suite.address("cache"),
                "ANTIPHON_ROUTER_TARGET": self._suite.address("router"),
            }
            self._leading = ServiceProcess("completion", variables)
        return await asyncio.to_thread(self._leading.listening)

    async def _kill(self) -> None:
        assert self._leading is not None
        self._leading.process.send_signal(signal.SIGKILL)
        await asyncio.to_thread(self._leading.wait)
        self._leading = None


def query(namespace: str, text: str) -> cache_pb2.Query:
    message = llm_pb2.Message(role=llm_pb2.ROLE_USER, parts=[llm_pb2.ContentPart(text=text)])
    return cache_pb2.Query(namespace=namespace, model="small", messages=[message])


async def ask(client: AsyncCompletionClient, namespace: str, text: str) -> Answered:
    # An explicit model: after an error no other one is called, which would be a second call of the same answerer.
    wanted = completion_pb2.CompleteRequest(prompt=text, namespace=namespace, model="small")
    return await client.complete(wanted, timeout=PATIENCE)


@pytest.fixture
async def arena(suite: SuiteProcess, upstream: FakeOpenAI, tmp_path: Path) -> AsyncIterator[Arena]:
    made = Arena(suite, upstream, tmp_path)
    yield made
    await made.close()


@pytest.mark.fault(59, 60)
@pytest.mark.timeout(300 if not SEEDS else 60 * SEEDS)
async def test_a_stampede_costs_one_call_and_one_more_for_a_leader_that_is_lost(
    arena: Arena, suite: SuiteProcess
) -> None:
    if SEEDS:
        plan = [(seed, random.Random(seed).choice(KINDS), EQUAL, REWORDED) for seed in range(FIRST, FIRST + SEEDS)]
    else:
        plan = [
            (seed, kind, EQUAL // 5, REWORDED if kind == "lives" else REWORDED // 4) for seed, kind in enumerate(KINDS)
        ]
    shared = 0
    for seed, kind, equal, reworded in plan:
        outcomes = await arena.stampede(seed, kind, equal=equal, reworded=reworded)
        shared += outcomes[SEMANTIC]
        print(f"seed {seed}: leader {kind}; {dict(outcomes)}", flush=True)
    assert shared
