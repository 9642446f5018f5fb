"""Whatever is done for a request, in front of its caller or behind it, is done in the name of that caller."""

from __future__ import annotations

import asyncio

import pytest

from services.chassis.auth.values import Caller, Role
from services.chassis.errors import Aborted, NotFound, Unavailable
from services.completion.ports import Found, Lease, Outcome
from services.completion.request import CacheMode, CachePolicy
from tests.unit.completion.completion_parts import Rig, answered, ask, down, rig, until, words

ONE = Caller("one", "key-of-one", Role.CLIENT)
TWO = Caller("two", "key-of-two", Role.CLIENT)


def served(r: Rig, *names: str) -> list[tuple[str, Caller]]:
    return [(name, caller) for name, caller in r.cache.calls if name in names]


async def test_tenants_with_equal_questions_buy_an_answer_each() -> None:
    gate = asyncio.Event()
    async with rig() as r:
        r.one.scripts.extend([[gate, *words("For one.")], [gate, *words("For two.")]])
        asking = asyncio.gather(*(r.complete(ask(caller=caller)) for caller in (ONE, TWO, ONE, TWO)))
        await until(lambda: r.calls == 2)
        gate.set()
        texts = [done.completed.answer.text for done in await asking]
        await r.settled()
        again = [(await r.complete(ask(caller=caller))).completed for caller in (ONE, TWO)]
    assert texts[0] == texts[2] != texts[1] == texts[3]
    assert [done.answer.text for done in again] == texts[:2]
    assert {done.cache.outcome for done in again} == {Outcome.EXACT}
    assert r.calls == 2
    assert sorted(caller.tenant for _, caller in served(r, "commit")) == ["one", "two"]


async def test_one_key_of_a_tenant_shares_the_fill_of_another() -> None:
    gate = asyncio.Event()
    other = Caller("one", "another-key", Role.CLIENT)
    async with rig() as r:
        r.one.scripts.append([gate, *words("Shared.")])
        asking = asyncio.gather(*(r.complete(ask(caller=caller)) for caller in (ONE, other)))
        await until(lambda: r.calls == 1)
        gate.set()
        await asking
    assert r.calls == 1


async def test_renewals_and_reports_are_the_callers() -> None:
    gate = asyncio.Event()
    async with rig() as r:
        r.cache.lease_duration = 0.03
        r.one.scripts.append([gate, *words("Slow.")])
        asking = asyncio.create_task(r.complete(ask(caller=TWO)))
        await until(lambda: r.cache.renewals > 0)
        gate.set()
        await asking
        await r.settled()
    assert {caller for _, caller in r.cache.calls} == {TWO}
    assert [report.caller for report in r.router.reports] == [TWO]
    assert [request.caller for request, _ in r.router.requests] == [TWO]


async def test_what_is_given_up_is_the_callers() -> None:
    async with rig(tries=2) as r:
        r.one.scripts.append([down()])
        r.two.scripts.append([down()])
        with pytest.raises(Unavailable):
            await r.complete(ask(caller=TWO))
        await r.settled()
    assert served(r, "abort") == [("abort", TWO)]


@pytest.mark.parametrize("error", [NotFound("?"), Unavailable("?")])
async def test_an_answer_that_waits_for_the_cache_is_put_for_its_caller(error: NotFound | Unavailable) -> None:
    async with rig() as r:
        r.cache.commit_error = error
        for caller in (ONE, TWO):
            await r.complete(ask(caller=caller))
        await r.settled()
        await until(lambda: len(r.cache.puts) == 2)
    assert sorted(caller.tenant for _, caller in served(r, "put")) == ["one", "two"]


async def test_waiting_for_another_process_is_the_callers() -> None:
    async with rig() as r:
        r.cache.found.append(Found(Outcome.MISS, in_progress="elsewhere"))
        r.cache.waits.append(Lease("ours-now", 30.0))
        await r.complete(ask(caller=ONE))
        await r.settled()
    assert served(r, "wait_fill") == [("wait_fill", ONE)]


async def test_a_lost_lease_is_nobody_elses_business() -> None:
    async with rig() as r:
        r.cache.commit_error = Aborted("lost")
        await r.complete(ask(caller=ONE))
        await r.settled()
    assert {caller for _, caller in r.cache.calls} == {ONE}


async def test_who_wants_cached_answers_only_gets_none_of_another_tenants() -> None:
    only = CachePolicy(mode=CacheMode.ONLY_IF_CACHED)
    async with rig() as r:
        r.one.default = words(answered().text)
        await r.complete(ask(caller=ONE))
        await r.settled()
        with pytest.raises(NotFound):
            await r.complete(ask(caller=TWO, policy=only))
        assert (await r.complete(ask(caller=ONE, policy=only))).completed.answer.text == answered().text
