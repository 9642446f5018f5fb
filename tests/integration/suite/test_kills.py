"""Nothing acknowledged is lost when a process is killed, and answers go on while a part is away."""

from __future__ import annotations

import asyncio
import os
import random
import signal

import pytest

from antiphon.cache.v1 import cache_pb2
from antiphon.completion.v1 import completion_pb2
from antiphon.llm.v1 import llm_pb2
from antiphon_client import AntiphonError, AsyncCacheClient, AsyncCompletionClient
from tests.fakes.openai_server import FakeOpenAI
from tests.suite_process import SuiteProcess

PUTS = 1_000
GUARD = 60.0


def query(number: int) -> cache_pb2.Query:
    text = f"question number {number} of this run"
    message = llm_pb2.Message(role=llm_pb2.ROLE_USER, parts=[llm_pb2.ContentPart(text=text)])
    return cache_pb2.Query(namespace="kills", messages=[message])


def answer(number: int) -> llm_pb2.Answer:
    return llm_pb2.Answer(text=f"answer {number}", finish_reason=llm_pb2.FINISH_REASON_STOP, model="small")


@pytest.mark.parametrize("victim", ["edgestore", "cache", "completion"])
async def test_every_acknowledged_entry_outlives_a_kill(suite: SuiteProcess, victim: str) -> None:
    moment = random.Random(victim).randrange(50, PUTS - 200)
    acknowledged: set[int] = set()
    numbers = iter(range(PUTS))

    async def putting(client: AsyncCacheClient) -> None:
        for number in numbers:
            try:
                await client.put(
                    cache_pb2.PutRequest(query=query(number), answer=answer(number), durable=True), timeout=10
                )
            except AntiphonError:
                await asyncio.sleep(0.01)  # not acknowledged, hence nothing is promised; spares a busy loop
            else:
                acknowledged.add(number)
            if number == moment:
                os.kill(suite.pid(victim), signal.SIGKILL)

    async with AsyncCacheClient(suite.address("cache")) as client:
        async with asyncio.TaskGroup() as group:
            for _ in range(8):
                group.create_task(putting(client))
        suite.wait_for(f"{victim:<10} killed by SIGKILL")
        suite.wait_for(f"{victim:<10} serving")
        assert len(acknowledged) > moment // 2
        # The memory is not what is tested: what is served now was read from the store.
        os.kill(suite.pid("cache"), signal.SIGKILL)
        suite.wait_for("cache      killed by SIGKILL")
        suite.wait_for("cache      serving")
        for number in sorted(acknowledged):
            found = await served(client, number)
            assert found.outcome == cache_pb2.OUTCOME_EXACT, number
            assert found.answer.text == f"answer {number}"


async def served(client: AsyncCacheClient, number: int) -> cache_pb2.LookupResponse:
    """Look up; the connection may need a moment to find the restarted process."""
    wanted = cache_pb2.LookupRequest(
        query=query(number), policy=cache_pb2.CachePolicy(mode=cache_pb2.CACHE_MODE_ONLY_IF_CACHED)
    )
    async with asyncio.timeout(GUARD):
        while True:
            try:
                return await client.lookup(wanted)
            except AntiphonError as error:
                if error.code.name != "UNAVAILABLE":
                    raise
                await asyncio.sleep(0.05)


@pytest.mark.parametrize("part", ["edgestore", "cache", "router"])
async def test_answers_go_on_while_a_part_is_away(suite: SuiteProcess, upstream: FakeOpenAI, part: str) -> None:
    pid = suite.pid(part)
    async with AsyncCompletionClient(suite.address("completion")) as client:

        async def ask(number: int) -> completion_pb2.CompleteResponse:
            # Questions with other numbers are alike to the embedder; only the exact tier tells here what was kept.
            policy = cache_pb2.CachePolicy(min_similarity=1.0)
            return await client.complete(
                completion_pb2.CompleteRequest(prompt=f"{part}: what is {number} squared?", cache=policy)
            )

        assert not (await ask(0)).info.degraded
        os.kill(pid, signal.SIGSTOP)
        try:
            number = 0
            async with asyncio.timeout(GUARD):
                while not (response := await ask(number := number + 1)).info.degraded:
                    assert response.answer.text
            assert response.answer.text
            assert any(reason.startswith(("store", "cache", "router")) for reason in response.info.degraded)
        finally:
            os.kill(pid, signal.SIGCONT)
        async with asyncio.timeout(GUARD):
            while (await ask(number := number + 1)).info.degraded:  # noqa: ASYNC110 -- each turn is another request
                await asyncio.sleep(0.05)
        kept = await ask(number)
    assert kept.info.cache.outcome == cache_pb2.OUTCOME_EXACT
