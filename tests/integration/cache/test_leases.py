"""The right to make an answer, over gRPC: it is never lost, never doubled, and waiting for it holds nobody up."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from antiphon.cache.v1 import cache_pb2
from antiphon.llm.v1 import llm_pb2
from antiphon_client import AsyncCacheClient
from antiphon_client.errors import AbortedError, NotFoundError, ResourceExhaustedError
from tests.suite_process import SuiteProcess, environment

Start = Callable[..., SuiteProcess]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    started: list[SuiteProcess] = []

    def starter(**variables: str) -> SuiteProcess:
        started.append(SuiteProcess(environment(tmp_path / "state", **variables)))
        started[-1].wait_for("SERVING")
        return started[-1]

    yield starter
    for suite in started:
        suite.close()


def lookup(text: str, token: str = "") -> cache_pb2.LookupRequest:
    message = llm_pb2.Message(role=llm_pb2.ROLE_USER, parts=[llm_pb2.ContentPart(text=text)])
    return cache_pb2.LookupRequest(query=cache_pb2.Query(messages=[message]), fill_token=token)


def commit(lease_id: str, text: str = "an answer") -> cache_pb2.CommitRequest:
    answer = llm_pb2.Answer(text=text, finish_reason=llm_pb2.FINISH_REASON_STOP, model="m")
    return cache_pb2.CommitRequest(lease_id=lease_id, answer=answer)


@pytest.mark.fault(82)
async def test_a_lost_reply_costs_nothing_and_ends_are_idempotent(start: Start) -> None:
    async with AsyncCacheClient(start().address("cache")) as cache:
        first = (await cache.lookup(lookup("one?", "mine"))).fill.granted
        again = (await cache.lookup(lookup("one?", "mine"))).fill.granted
        assert first.id
        assert again.id == first.id
        other = await cache.lookup(lookup("one?", "someone else's"))
        assert other.fill.in_progress_lease_id == first.id
        unnamed = await cache.lookup(lookup("one?"))
        assert unnamed.fill.in_progress_lease_id == first.id

        stored = await cache.commit(commit(first.id))
        assert stored.stored
        assert await cache.commit(commit(first.id)) == stored
        await cache.abort(cache_pb2.AbortRequest(lease_id=first.id, reason="too late"))
        found = await cache.lookup(lookup("one?"))
        assert (found.outcome, found.answer.text) == (cache_pb2.OUTCOME_EXACT, "an answer")
        waited = await cache.wait_fill(cache_pb2.WaitFillRequest(lease_id=first.id))
        assert waited.filled.answer.text == "an answer"
        for unknown in (cache.commit(commit("nobody's")), cache.renew_fill(cache_pb2.RenewFillRequest(lease_id="x"))):
            with pytest.raises(NotFoundError) as caught:
                await unknown
            assert caught.value.reason == "LEASE_UNKNOWN"


@pytest.mark.fault(81)
async def test_a_dead_holders_lease_goes_to_one_who_waits(start: Start) -> None:
    async with AsyncCacheClient(start(ANTIPHON_CACHE_LEASE="0.5").address("cache")) as cache:
        dead = (await cache.lookup(lookup("who?", "dead"))).fill.granted
        waiting = [
            asyncio.create_task(cache.wait_fill(cache_pb2.WaitFillRequest(lease_id=dead.id, fill_token=str(number))))
            for number in range(5)
        ]
        done, rest = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED, timeout=30)
        assert len(done) == 1, "the lease goes to one"
        heir = done.pop().result().granted
        assert heir.id not in {"", dead.id}
        with pytest.raises(AbortedError) as caught:
            await cache.commit(commit(dead.id))
        assert caught.value.reason == "LEASE_LOST"
        await cache.commit(commit(heir.id, "from the heir"))
        answers = await asyncio.gather(*rest)
        assert {answer.filled.answer.text for answer in answers} == {"from the heir"}


@pytest.mark.fault(80)
async def test_those_who_wait_take_no_places_from_those_who_finish(start: Start) -> None:
    suite = start(ANTIPHON_CACHE_MAX_WAITERS="2", ANTIPHON_MAX_CONCURRENT_RPCS="2")
    async with AsyncCacheClient(suite.address("cache")) as cache:
        lease = (await cache.lookup(lookup("why?"))).fill.granted
        wanted = cache_pb2.WaitFillRequest(lease_id=lease.id)
        asking = [asyncio.create_task(cache.wait_fill(wanted)) for _ in range(3)]
        refused, waiting = await asyncio.wait(asking, return_when=asyncio.FIRST_COMPLETED, timeout=30)
        assert len(refused) == 1
        error = refused.pop().exception()
        assert isinstance(error, ResourceExhaustedError)
        assert error.reason == "OVERLOADED"
        assert error.retry_after
        assert (await cache.renew_fill(cache_pb2.RenewFillRequest(lease_id=lease.id))).lease.id == lease.id
        assert (await cache.commit(commit(lease.id))).stored
        assert [answer.filled.answer.text for answer in await asyncio.gather(*waiting)] == ["an answer"] * 2


async def test_a_commit_after_a_clear_is_invisible_but_reaches_those_who_wait(start: Start) -> None:
    async with AsyncCacheClient(start().address("cache")) as cache:
        lease = (await cache.lookup(lookup("when?"))).fill.granted
        waiting = asyncio.create_task(cache.wait_fill(cache_pb2.WaitFillRequest(lease_id=lease.id)))
        await cache.clear(cache_pb2.ClearRequest())
        stored = await cache.commit(commit(lease.id))
        assert (stored.stored, stored.not_stored_reason) == (False, "cleared")
        assert (await waiting).filled.answer.text == "an answer"
        assert (await cache.lookup(lookup("when?"))).outcome == cache_pb2.OUTCOME_MISS
