"""The way of learning: a cache that asks for audits, a completion that answers again, a rule that stays learned."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from antiphon.cache.v1 import cache_pb2
from antiphon.completion.v1 import completion_pb2
from antiphon_client import AsyncCacheClient, AsyncCompletionClient
from tests.fakes import behaviours
from tests.fakes.openai_server import FakeOpenAI
from tests.suite_process import GUARD, SuiteProcess

QUESTION = "How do I reset my password?"
REWORDED = "How can I reset my password?"
NEAR = "How do I change my password?"
STORED = "Open the settings, choose Security, and press Reset password. A link is sent to you by email."
SAID_AGAIN = "Open the settings, choose Security and press Reset password; you get a link by email."
OPEN = "When does the library open on Sundays?"
OPEN_REWORDED = "When does the library open on a Sunday?"
HOURS = "It opens at ten."
ELSE = "A leap year has 366 days, because 29 February is added."
MISS, EXACT, SEMANTIC = cache_pb2.OUTCOME_MISS, cache_pb2.OUTCOME_EXACT, cache_pb2.OUTCOME_SEMANTIC


@pytest.fixture
def environ(environ: dict[str, str]) -> dict[str, str]:
    """Every semantic hit is audited."""
    return {**environ, "ANTIPHON_CACHE_AUDIT_SHARE": "1"}


class Clients:
    """Of both services."""

    def __init__(self, suite: SuiteProcess) -> None:
        self.completion = AsyncCompletionClient(suite.address("completion"))
        self.cache = AsyncCacheClient(suite.address("cache"))

    async def __aenter__(self) -> Clients:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.completion.close()
        await self.cache.close()

    async def ask(self, prompt: str) -> completion_pb2.CompleteResponse:
        return await self.completion.complete(completion_pb2.CompleteRequest(prompt=prompt))

    async def stats(self) -> cache_pb2.GetStatsResponse:
        return await self.cache.get_stats(cache_pb2.GetStatsRequest(namespace="default"))

    async def until(self, true: Callable[[cache_pb2.GetStatsResponse], bool]) -> cache_pb2.GetStatsResponse:
        """The statistics, as soon as they say so."""
        async with asyncio.timeout(GUARD):
            while not true(stats := await self.stats()):  # noqa: ASYNC110 -- the state of another process
                await asyncio.sleep(0.02)
        return stats


async def test_hits_are_audited_near_misses_compared_and_both_are_remembered(
    suite: SuiteProcess, upstream: FakeOpenAI, environ: dict[str, str]
) -> None:
    async with Clients(suite) as clients:
        upstream.enqueue(behaviours.answering(STORED))
        assert (await clients.ask(QUESTION)).info.cache.outcome == MISS

        upstream.enqueue(behaviours.answering(SAID_AGAIN))
        served = await clients.ask(REWORDED)
        assert (served.info.cache.outcome, served.answer.text) == (SEMANTIC, STORED)
        assert served.info.cost.nano_usd == 0
        stats = await clients.until(lambda s: s.audits.agreed == 1)
        assert (stats.audits.asked, stats.audits.differed) == (1, 0)
        assert stats.audits.wrong_share_low == 0

        upstream.enqueue(behaviours.answering(ELSE))
        missed = await clients.ask(NEAR)
        assert (missed.info.cache.outcome, missed.answer.text) == (MISS, ELSE)
        stats = await clients.until(lambda s: s.learning.free_differed == 1)
        assert stats.learning.threshold == pytest.approx(0.82), "one comparison is no reason to move"
        assert stats.error_budget.max_error_rate == pytest.approx(0.02)
        assert stats.error_budget.hits == pytest.approx(1)
        assert len(upstream.chat_calls) == 3

        upstream.enqueue(behaviours.answering(HOURS))
        assert (await clients.ask(OPEN)).info.cache.outcome == MISS
    suite.close()

    again = SuiteProcess(environ)
    try:
        again.wait_for("SERVING")
        async with Clients(again) as clients:
            upstream.enqueue(behaviours.answering(STORED))
            contested = (await clients.ask(REWORDED)).info.cache
            assert (contested.outcome, list(contested.decision.veto_reasons)) == (MISS, ["contested"])

            upstream.enqueue(behaviours.answering(ELSE))
            assert (await clients.ask(OPEN_REWORDED)).info.cache.outcome == SEMANTIC
            stats = await clients.until(lambda s: s.audits.differed == 1)
            assert stats.error_budget.hits == pytest.approx(2, abs=0.01), "one of them before the restart"
            await clients.until(lambda s: s.entries_quarantined == 1)
            assert (await clients.ask(OPEN)).info.cache.outcome == EXACT, "its own question still has its answer"
            assert (await clients.ask(OPEN_REWORDED)).info.cache.outcome == MISS
    finally:
        again.close()


async def test_an_audit_under_way_does_not_hold_up_the_end(suite: SuiteProcess, upstream: FakeOpenAI) -> None:
    async with Clients(suite) as clients:
        upstream.enqueue(behaviours.answering(STORED))
        await clients.ask(QUESTION)
        gate = behaviours.Gate()
        upstream.enqueue(behaviours.answering(SAID_AGAIN, gate=gate))
        assert (await clients.ask(REWORDED)).info.cache.outcome == SEMANTIC
        async with asyncio.timeout(GUARD):
            await gate.reached.wait()
    await asyncio.to_thread(suite.close)
    await upstream.until(lambda server: server.disconnects == 1)
    assert suite.process.returncode == 0
