"""One fill's dealings with the cache: hits, leases, waiting for another process, and a cache that is away."""

from __future__ import annotations

import asyncio

import pytest

from services.chassis.errors import (
    Aborted,
    AntiphonError,
    DeadlineExceeded,
    Exhausted,
    InvalidRequest,
    NotFound,
    Reason,
    Unavailable,
)
from services.completion.caching import LookupBudget
from services.completion.ports import Decision, Filled, Found, Outcome, ServedFrom
from services.completion.request import CacheMode, CachePolicy
from services.llm.values import Cost, ToolCall, Usage
from tests.unit.completion.completion_parts import answered, ask, down, rig, until, words

CACHE_DOWN = down(Reason.CACHE_UNAVAILABLE)


async def test_a_hit_is_replayed_and_costs_nothing() -> None:
    async with rig() as r:
        stored = answered("Stored.", cost=Cost(99, "v1"))
        decision = Decision(similarity=0.97, threshold=0.95)
        served = ServedFrom(stored.usage, stored.cost)
        r.cache.found.append(
            Found(Outcome.SEMANTIC, answer=stored, entry_id="e1", decision=decision, served_from=served)
        )
        delivered = await r.complete()
        assert delivered.completed.answer == stored
        assert (delivered.usage, delivered.cost.nano_usd) == (Usage(), 0)
        assert delivered.served_from == served
        assert not delivered.shared
        assert delivered.completed.cache.outcome is Outcome.SEMANTIC
        assert delivered.completed.cache.entry_id == "e1"
        assert delivered.completed.attempts == ()
        assert r.calls == 0
        assert r.router.requests == [], "a hit needs no route"


async def test_what_was_bought_is_stored_and_served_the_next_time() -> None:
    async with rig() as r:
        bought = await r.complete()
        await r.settled()
        assert len(r.cache.commits) == 1
        again = await r.complete()
        assert bought.completed.cache.outcome is Outcome.MISS
        assert again.completed.cache.outcome is Outcome.EXACT
        assert again.cost.nano_usd == 0
        assert again.served_from is not None
        assert again.served_from.cost == bought.cost
        assert r.calls == 1
        assert r.router.requests[0][1] is not None, "the router gets the question's embedding"


async def test_a_hit_with_tool_calls_is_replayed_with_them() -> None:
    async with rig() as r:
        stored = answered("", tool_calls=(ToolCall("c1", "weather", "{}"),))
        r.cache.found.append(Found(Outcome.EXACT, answer=stored))
        with r.join(streaming=True) as listener:
            events = [event async for event in listener.events(60.0)]
        assert [type(event).__name__ for event in events] == ["Opened", "ToolCallPart", "Delivered"]


async def test_another_processs_answer_is_waited_for_and_costs_nothing() -> None:
    async with rig() as r:
        r.cache.found.append(Found(Outcome.MISS, in_progress="theirs"))
        r.cache.waits.extend([None, DeadlineExceeded("soon"), Filled(answered(), "e9")])
        delivered = await r.complete()
        assert r.cache.waited == 3
        assert delivered.completed.answer.text == "Made elsewhere."
        assert delivered.completed.cache.entry_id == "e9"
        assert delivered.completed.cache.outcome is Outcome.MISS
        assert delivered.shared
        assert delivered.usage == Usage()
        assert delivered.served_from is not None
        assert r.calls == 0
        assert r.cache.commits == []


async def test_an_answer_to_another_question_is_waited_for_and_is_a_semantic_hit() -> None:
    async with rig() as r:
        decision = Decision(similarity=0.97, p_wrong=0.01, matched_prompt="A question like it?")
        served = ServedFrom(Usage(5, output=2), Cost(7))
        r.cache.found.append(Found(Outcome.MISS, in_progress="a place behind it"))
        r.cache.waits.extend(
            [None, Filled(answered(), "e9", Outcome.SEMANTIC, decision, served_from=served, audit_id="")]
        )
        delivered = await r.complete()
        cache = delivered.completed.cache
        assert (cache.outcome, cache.entry_id, cache.decision) == (Outcome.SEMANTIC, "e9", decision)
        assert (delivered.usage, delivered.shared, delivered.served_from) == (Usage(), True, served)
        assert r.calls == 0
        assert (r.cache.commits, r.cache.aborts) == ([], [])


async def test_an_audit_of_what_was_waited_for_is_made() -> None:
    async with rig() as r:
        r.cache.found.append(Found(Outcome.MISS, in_progress="a place behind it"))
        r.cache.waits.append(Filled(answered(), "e9", Outcome.SEMANTIC, Decision(similarity=0.97), audit_id="a1"))
        await r.complete()
        await until(lambda: len(r.cache.audits) == 1)
        assert r.cache.audits[0][0] == "a1"


async def test_when_the_other_process_gives_up_it_is_our_turn() -> None:
    async with rig() as r:
        r.cache.found.append(Found(Outcome.MISS, in_progress="theirs"))
        lease = r.cache.grant(ask().question)
        r.cache.waits.append(lease)
        delivered = await r.complete()
        await r.settled()
        assert delivered.cost.nano_usd > 0
        assert [lease_id for lease_id, _ in r.cache.commits] == [lease.id]


async def test_a_lease_that_the_cache_has_forgotten_is_looked_up_again() -> None:
    async with rig() as r:
        r.cache.found.extend(
            [Found(Outcome.MISS, in_progress="old"), Found(Outcome.EXACT, answer=answered("Now here."))]
        )
        r.cache.waits.append(NotFound("?", reason=Reason.LEASE_UNKNOWN))
        assert (await r.complete()).completed.answer.text == "Now here."
        assert len({token for _, _, token in r.cache.lookups}) == 1, "a repeated lookup is the same caller"


async def test_a_cache_that_always_forgets_does_not_keep_a_fill_going_round() -> None:
    async with rig() as r:
        r.cache.found.extend([Found(Outcome.MISS, in_progress="old")] * 10)
        r.cache.waits.extend([NotFound("?", reason=Reason.LEASE_UNKNOWN)] * 10)
        delivered = await r.complete()
        assert delivered.completed.answer.text == "An answer."
        assert delivered.completed.degraded == ("cache_unavailable",)
        assert len(r.cache.lookups) == 3


@pytest.mark.parametrize("error", [CACHE_DOWN, Exhausted("too many wait"), AntiphonError("defect there")])
async def test_a_cache_that_fails_while_we_wait_is_gone_round(error: AntiphonError) -> None:
    async with rig() as r:
        r.cache.found.append(Found(Outcome.MISS, in_progress="theirs"))
        r.cache.waits.append(error)
        delivered = await r.complete()
        assert delivered.completed.cache.outcome is Outcome.BYPASS
        assert delivered.completed.degraded == ("cache_unavailable",)
        assert r.calls == 1


async def test_waiting_for_another_ends_with_the_deadline() -> None:
    async with rig() as r:
        r.cache.found.append(Found(Outcome.MISS, in_progress="theirs"))
        r.cache.waits.extend([None] * 100_000)
        with pytest.raises(DeadlineExceeded):
            await r.complete(seconds=0.05)
        assert r.calls == 0


async def test_a_lease_is_renewed_while_the_model_writes() -> None:
    async with rig() as r:
        r.cache.lease_duration = 0.03
        gate = asyncio.Event()
        r.one.scripts.append([gate, *words("Slow.")])
        asking = asyncio.create_task(r.complete())
        await until(lambda: r.cache.renewals >= 3)
        gate.set()
        await asking
        await r.settled()
        assert len(r.cache.commits) == 1


async def test_a_lost_lease_does_not_spoil_the_answer_but_it_is_not_stored() -> None:
    async with rig() as r:
        r.cache.lease_duration = 0.03
        r.cache.renew_error = Aborted("someone else has it")
        gate = asyncio.Event()
        r.one.scripts.append([gate, *words("Slow.")])
        asking = asyncio.create_task(r.complete())
        await until(lambda: r.cache.renewals == 1)
        gate.set()
        delivered = await asking
        await r.settled()
        assert delivered.completed.answer.text == "Slow."
        assert delivered.completed.degraded == ("not_stored",)
        assert r.cache.commits == []
        assert r.cache.puts == []


async def test_a_commit_that_comes_too_late_is_counted() -> None:
    async with rig() as r:
        r.cache.commit_error = Aborted("someone else has it")
        await r.complete()
        await r.settled()
        assert r.counted("not_stored", reason="lease_lost") == 1
        assert r.cache.puts == []


@pytest.mark.parametrize("error", [NotFound("?", reason=Reason.LEASE_UNKNOWN), CACHE_DOWN])
async def test_when_the_cache_forgot_the_lease_the_answer_is_put(error: AntiphonError) -> None:
    async with rig() as r:
        r.cache.commit_error = error
        await r.complete()
        await r.settled()
        assert [answer.text for answer in r.cache.puts] == ["An answer."]


async def test_a_commit_that_is_refused_frees_the_question() -> None:
    async with rig() as r:
        r.cache.commit_error = InvalidRequest("too large")
        await r.complete()
        await r.settled()
        assert [reason for _, reason in r.cache.aborts] == ["refused"]
        assert r.counted("not_stored", reason="refused") == 1


async def test_without_the_cache_there_is_an_answer_and_it_is_stored_when_the_cache_is_back() -> None:
    async with rig() as r:
        r.cache.error = CACHE_DOWN
        delivered = await r.complete()
        assert delivered.completed.cache.outcome is Outcome.BYPASS
        assert delivered.completed.cache.bypass_reason == "cache_unavailable"
        assert delivered.completed.degraded == ("cache_unavailable",)
        r.cache.error = None
        await r.settled()
        assert [answer.text for answer in r.cache.puts] == ["An answer."]
        healed = await r.complete()
        assert healed.completed.cache.outcome is Outcome.EXACT
        assert healed.completed.degraded == ()


@pytest.mark.parametrize("policy", [CachePolicy(no_store=True), CachePolicy(mode=CacheMode.BYPASS)])
async def test_what_must_not_be_stored_is_not_put_either(policy: CachePolicy) -> None:
    async with rig() as r:
        r.cache.error = CACHE_DOWN
        await r.complete(ask(policy=policy))
        r.cache.error = None
        await r.settled()
        assert r.cache.puts == []


async def test_a_cut_answer_is_not_put() -> None:
    async with rig() as r:
        r.cache.error = CACHE_DOWN
        r.one.scripts.append(words("Half of", finish=None))
        with pytest.raises(Unavailable):
            await r.complete()
        r.cache.error = None
        await r.settled()
        assert r.cache.puts == []


async def test_a_bypass_by_the_cache_says_which_part_of_it_was_slow() -> None:
    async with rig() as r:
        r.cache.found.append(Found(Outcome.BYPASS, bypass_reason="embedding_timeout"))
        delivered = await r.complete()
        assert delivered.completed.cache.bypass_reason == "embedding_timeout"
        assert delivered.completed.degraded == ("cache_embedding_timeout",)
        await r.settled()
        assert len(r.cache.puts) == 1


@pytest.mark.fault(79)
async def test_while_the_cache_is_slow_equal_requests_still_share_one_fill() -> None:
    async with rig(lookup_timeout=0.01, embedding_timeout=0) as r:
        r.cache.hold = asyncio.Event()
        gate = asyncio.Event()
        r.one.scripts.append([gate, *words("Once.")])
        asking = [asyncio.create_task(r.complete()) for _ in range(200)]
        await until(lambda: r.calls == 1)
        late = [asyncio.create_task(r.complete()) for _ in range(200)]
        await until(lambda: r.counted("requests", shared="true") == 399)
        gate.set()
        answers = await asyncio.gather(*asking, *late)
        assert r.calls == 1, "no stampede on the paid upstream"
        assert sum(bool(a.cost.nano_usd) for a in answers) == 1
        assert {a.completed.degraded for a in answers} == {("cache_timeout",)}
        r.cache.hold.set()
        await r.settled()
        assert len(r.cache.stored) == 1


async def test_a_grant_that_comes_after_the_budget_is_used_for_the_commit() -> None:
    async with rig(lookup_timeout=0.01, embedding_timeout=0) as r:
        r.cache.hold = asyncio.Event()
        gate = asyncio.Event()
        r.one.scripts.append([gate, *words("Once.")])
        asking = asyncio.create_task(r.complete())
        await until(lambda: r.calls == 1)
        r.cache.hold.set()
        await until(lambda: r.cache.open_leases == 1)
        gate.set()
        await asking
        await r.settled()
        assert len(r.cache.commits) == 1
        assert r.cache.puts == []


async def test_a_grant_that_comes_after_the_answer_still_gets_it() -> None:
    async with rig(lookup_timeout=0.01, embedding_timeout=0) as r:
        r.cache.hold = asyncio.Event()
        await r.complete()
        lease = r.cache.grant(ask().question)
        r.cache.found.append(Found(Outcome.MISS, lease=lease))
        r.cache.hold.set()
        await until(lambda: len(r.cache.commits) == 1)
        assert r.cache.commits[0][0] == lease.id
        assert r.cache.open_leases == 0


async def test_a_grant_that_comes_after_the_fill_failed_is_given_back() -> None:
    async with rig(lookup_timeout=0.01, embedding_timeout=0, tries=1) as r:
        r.cache.hold = asyncio.Event()
        r.one.scripts.append([down()])
        with pytest.raises(Unavailable):
            await r.complete()
        r.cache.hold.set()
        await until(lambda: len(r.cache.aborts) == 1)
        assert r.cache.open_leases == 0


async def test_only_if_cached_is_not_found_on_a_miss_and_calls_no_model() -> None:
    async with rig() as r:
        with pytest.raises(NotFound) as caught:
            await r.complete(ask(policy=CachePolicy(mode=CacheMode.ONLY_IF_CACHED)))
        assert caught.value.reason is Reason.NOT_CACHED
        r.cache.error = CACHE_DOWN
        with pytest.raises(Unavailable) as insisted:
            await r.complete(ask(policy=CachePolicy(mode=CacheMode.ONLY_IF_CACHED)))
        assert insisted.value.reason is Reason.CACHE_UNAVAILABLE
        assert r.calls == 0


async def test_refresh_buys_a_new_answer_and_replaces_the_old() -> None:
    async with rig() as r:
        await r.complete()
        await r.settled()
        r.one.scripts.append(words("Newer."))
        refreshed = await r.complete(ask(policy=CachePolicy(mode=CacheMode.REFRESH)))
        await r.settled()
        assert refreshed.completed.answer.text == "Newer."
        assert (await r.complete()).completed.answer.text == "Newer."
        assert r.calls == 2


async def test_what_the_cache_refuses_as_wrong_is_the_callers_to_know() -> None:
    async with rig() as r:
        r.cache.error = InvalidRequest("messages: too long", field="messages")
        with pytest.raises(InvalidRequest):
            await r.complete()
        assert r.calls == 0


async def test_answers_say_when_the_store_is_away_and_when_it_is_back() -> None:
    async with rig() as r:
        r.cache.healthy = False
        await r.service.surroundings.check_store()
        assert (await r.complete(ask("One?"))).completed.degraded == ("store_unavailable",)
        r.cache.healthy = True
        await r.service.surroundings.check_store()
        assert (await r.complete(ask("Two?"))).completed.degraded == ()


async def test_at_the_end_commits_are_waited_for_and_puts_are_not_if_the_cache_is_away() -> None:
    loop = asyncio.get_running_loop()
    async with rig(settle_time=30.0) as r:
        await r.complete(ask("Stored?"))
        r.cache.error = CACHE_DOWN
        await r.complete(ask("Waiting?"))
        began = loop.time()
    assert len(r.cache.commits) == 1
    assert len(r.service.storing) == 0
    assert r.counted("not_stored", reason="shutdown") == 1
    assert loop.time() - began < 10, "a cache that is away must not hold up the end"


def test_the_budget_of_a_lookup_grows_with_the_question_up_to_a_limit() -> None:
    budget = LookupBudget(base=0.1, per_window=0.1, embedding_at_most=2.0)
    assert budget.of(ask("short")) == pytest.approx(0.2)
    assert budget.of(ask("x" * 2_000)) == pytest.approx(0.1 + 0.4)
    assert budget.of(ask("x" * 1_000_000)) == pytest.approx(2.1)
