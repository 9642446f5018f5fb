"""Questions in flight that mean the same: one of them is answered, the others get that answer or the next turn."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from services.cache import followers as followers_module
from services.cache import judges
from services.cache.fill_values import Filled, Granted, InProgress, Pending
from services.cache.judges import GuardedJudge
from services.cache.values import Asked, LookupResult, Mode, Outcome, Policy, Query
from services.chassis.errors import NotFound
from services.llm.values import FinishReason, GenerationOptions
from tests.unit.cache.cache_parts import START, TENANT, Bench, answer, ask, benched, lease, user

ASKED = "How do I reset my password?"
REWORDED = "How can I reset my password?"
THIRD = "How could I reset my password?"
FAR = "What does the planet Saturn weigh?"
LEASE = 30.0


def alike(bench: Bench) -> None:
    bench.embedder.alike(REWORDED, ASKED, 0.95)
    bench.embedder.alike(THIRD, REWORDED, 0.97)


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    async with benched(lease=LEASE) as made:
        alike(made)
        yield made


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


def place(result: LookupResult) -> str:
    assert isinstance(result.fill, InProgress), result
    return result.fill.lease_id


async def begin(bench: Bench, *texts: str) -> tuple[str, list[asyncio.Task[Any]]]:
    """The first question's lease, and the others, waiting."""
    first = lease(await bench.look(texts[0], token=texts[0]))
    tasks = []
    for text in texts[1:]:
        behind = place(await bench.look(text, token=text))
        tasks.append(asyncio.create_task(bench.cache.wait(TENANT, behind, text, bench.deadline(1e6))))
        await settle()
    return first, tasks


async def commit(bench: Bench, lease_id: str, text: str = "made once", **fields: object) -> None:
    await bench.cache.commit(TENANT, lease_id, answer(text, **fields), durable=False)


async def stored_under(bench: Bench, text: str) -> str:
    """What the question itself is answered with, without others."""
    found = await bench.look(text, Policy(mode=Mode.ONLY_IF_CACHED, min_similarity=1.0))
    return found.entry.answer.text if found.entry else ""


@pytest.mark.fault(59)
async def test_a_reworded_question_waits_for_the_answer_and_is_served_as_a_semantic_hit(bench: Bench) -> None:
    first, (waiting,) = await begin(bench, ASKED, REWORDED)
    assert not waiting.done()
    await commit(bench, first)
    served = await waiting
    assert isinstance(served, LookupResult)
    assert (served.outcome, served.entry.answer.text, served.entry.question) == (Outcome.SEMANTIC, "made once", ASKED)
    assert served.decision.similarity == pytest.approx(0.95, abs=1e-5)
    assert await stored_under(bench, REWORDED) == "", "its answer belongs to the other question"
    tally = (await bench.cache.report(TENANT, "default")).tally
    assert (tally.fills_granted, tally.fills_in_progress, tally.fills_joined, tally.fills_shared) == (1, 1, 1, 1)
    assert tally.usage_saved.output == 20


@pytest.mark.fault(59)
async def test_of_many_that_are_embedded_at_once_one_is_granted(bench: Bench) -> None:
    bench.embedder.gate.clear()
    tasks = [asyncio.create_task(bench.look(text, token=text)) for text in (ASKED, REWORDED, THIRD)]
    await settle()
    bench.embedder.gate.set()
    results = await asyncio.gather(*tasks)
    assert [type(result.fill) for result in results] == [Granted, InProgress, InProgress]


@pytest.mark.fault(59)
async def test_one_call_of_many_lookups_shares_as_well(bench: Bench) -> None:
    asked = [Asked(ask(text), token=text) for text in (ASKED, FAR, REWORDED)]
    results = await bench.look_many(asked)
    assert [type(result.fill) for result in results] == [Granted, Granted, InProgress]
    waiting = asyncio.create_task(bench.cache.wait(TENANT, place(results[2]), REWORDED, bench.deadline()))
    await settle()
    await commit(bench, lease(results[0]))
    assert (await waiting).entry.question == ASKED


@pytest.mark.fault(60)
@pytest.mark.parametrize("ends", ["aborts", "runs out"])
async def test_who_inherits_fills_its_own_question_and_the_rest_wait_for_that(bench: Bench, ends: str) -> None:
    first, (second, third) = await begin(bench, ASKED, REWORDED, THIRD)
    if ends == "aborts":
        assert bench.cache.abort(TENANT, first)
    else:
        bench.clock.advance(LEASE)
        bench.cache.fills.expire()
    heir = lease(await second)
    await settle()
    assert not third.done(), "one more call, not two"
    await commit(bench, heir, "made by the heir")
    served = await third
    assert (served.entry.question, served.entry.answer.text) == (REWORDED, "made by the heir")
    assert await stored_under(bench, ASKED) == ""
    assert await stored_under(bench, REWORDED) == "made by the heir"


@pytest.mark.fault(60)
async def test_an_equal_question_inherits_before_reworded_ones(bench: Bench) -> None:
    first, (reworded, equal) = await begin(bench, ASKED, REWORDED, ASKED + " ")
    bench.cache.abort(TENANT, first)
    heir = lease(await equal)
    await settle()
    assert not reworded.done()
    await commit(bench, heir)
    assert (await reworded).entry.question == ASKED


@pytest.mark.fault(60)
async def test_an_equal_question_that_comes_back_late_does_not_fill_beside_the_heir(bench: Bench) -> None:
    first, (reworded,) = await begin(bench, ASKED, REWORDED)
    late = place(await bench.look(ASKED, token="late"))
    bench.cache.abort(TENANT, first)
    lease(await reworded)
    with pytest.raises(NotFound):
        await bench.cache.wait(TENANT, late, "late", bench.deadline())
    assert isinstance((await bench.look(ASKED, token="late")).fill, InProgress)


@pytest.mark.parametrize(
    "fields",
    [{"finish_reason": FinishReason.LENGTH}, {"finish_reason": FinishReason.CONTENT_FILTER}, {"refusal": "no"}],
)
async def test_what_must_not_be_stored_is_not_handed_on_and_nobody_waits_for_the_next(
    bench: Bench, fields: dict[str, object]
) -> None:
    first, (second, third) = await begin(bench, ASKED, REWORDED, THIRD)
    await commit(bench, first, "must not be shared", **fields)
    assert lease(await second) != lease(await third), "each makes its own at once"


async def test_a_question_whose_answer_will_not_be_stored_is_not_waited_for(bench: Bench) -> None:
    lease(await bench.look(ASKED, Policy(no_store=True), token="a"))
    lease(await bench.look(REWORDED, token="b"))


@pytest.mark.parametrize(
    ("policy", "token"),
    [
        (Policy(), ""),
        (Policy(mode=Mode.REFRESH), "b"),
        (Policy(min_similarity=0.96), "b"),
        (Policy(min_similarity=1.0), "b"),
        (Policy(max_error_rate=0.01), "b"),
    ],
)
async def test_who_cannot_be_served_by_it_does_not_wait_for_it(bench: Bench, policy: Policy, token: str) -> None:
    lease(await bench.look(ASKED, token="a"))
    lease(await bench.look(REWORDED, policy, token=token))


async def test_who_wants_stored_answers_only_is_not_told_to_wait(bench: Bench) -> None:
    lease(await bench.look(ASKED, token="a"))
    assert (await bench.look(REWORDED, Policy(mode=Mode.ONLY_IF_CACHED), token="b")).fill is None


@pytest.mark.parametrize(
    "other",
    [
        ask(REWORDED, namespace="other"),
        ask(REWORDED, model="large"),
        ask(REWORDED, objective="cheapest"),
        ask(REWORDED, options=GenerationOptions(temperature=0.5)),
        ask(REWORDED, user("Before that:")),
        Query((replace(user(REWORDED), name="bob"),)),
    ],
)
async def test_nothing_is_shared_across_scopes(bench: Bench, other: Query) -> None:
    lease(await bench.look(ASKED, token="a"))
    lease(await bench.look(other, token="b"))


async def test_nothing_is_shared_across_tenants(bench: Bench) -> None:
    first = lease(await bench.look(ASKED, token="a"))
    lease(await bench.look(REWORDED, token="b", tenant="other"))
    behind = place(await bench.look(REWORDED, token="b"))
    await commit(bench, first)
    with pytest.raises(NotFound):
        await bench.cache.wait("other", behind, "b", bench.deadline())
    with pytest.raises(NotFound):
        bench.cache.renew(TENANT, behind)
    assert not bench.cache.abort(TENANT, behind)


async def test_a_difference_that_the_guard_finds_keeps_questions_apart() -> None:
    async with benched(judge=GuardedJudge(0.9)) as bench:
        bench.embedder.alike("Is a visit on 6 May free?", "Is a visit on 5 May free?", 0.99)
        lease(await bench.look("Is a visit on 5 May free?", token="a"))
        lease(await bench.look("Is a visit on 6 May free?", token="b"))


async def test_a_clear_keeps_what_was_asked_before_it_from_those_who_wait(bench: Bench) -> None:
    first, (waiting,) = await begin(bench, ASKED, REWORDED)
    bench.cache.entries.raise_epoch(TENANT, "default", 7)
    assert isinstance((await bench.look(THIRD, token="c")).fill, Granted), "nobody joins a fill from before it"
    await commit(bench, first)
    assert lease(await waiting)


async def test_an_answer_older_than_the_caller_allows_is_not_served_to_it(bench: Bench) -> None:
    first = lease(await bench.look(ASKED, token="a"))
    behind = place(await bench.look(REWORDED, Policy(max_age=60), token="b"))
    await commit(bench, first, created_at=START - 3_600)
    lease(await bench.cache.wait(TENANT, behind, "b", bench.deadline()))


async def test_who_asks_again_has_its_own_fill_whatever_like_it_is_in_flight(bench: Bench) -> None:
    bench.embedder.alike(REWORDED, ASKED, 0.95)
    mine = lease(await bench.look(ASKED, token="a"))
    assert lease(await bench.look(REWORDED)) != mine, "who has no token waits for nobody"
    assert lease(await bench.look(ASKED, token="a")) == mine


async def test_waiting_again_gets_the_same(bench: Bench) -> None:
    first, (waiting,) = await begin(bench, ASKED, REWORDED)
    behind = place(await bench.look(REWORDED, token=REWORDED))
    assert await bench.cache.wait(TENANT, behind, REWORDED, bench.deadline(0.0)) == Pending()
    bench.cache.abort(TENANT, first)
    heir = lease(await waiting)
    for _ in range(2):
        assert lease(await bench.cache.wait(TENANT, behind, REWORDED, bench.deadline())) == heir
    assert lease(await bench.look(REWORDED, token=REWORDED)) == heir
    await commit(bench, heir)
    again = await bench.cache.wait(TENANT, behind, REWORDED, bench.deadline())
    assert again.outcome is Outcome.EXACT


async def test_an_equal_one_that_was_first_to_inherit_answers_its_equals_as_usual(bench: Bench) -> None:
    first, waiting = await begin(bench, ASKED, REWORDED, REWORDED + " ")
    bench.cache.abort(TENANT, first)
    await commit(bench, lease(await waiting[0]), finish_reason=FinishReason.LENGTH)
    assert isinstance(await waiting[1], Filled), "an equal question is handed what came, stored or not"


async def test_who_leaves_inherits_nothing(bench: Bench) -> None:
    first, (second, third) = await begin(bench, ASKED, REWORDED, THIRD)
    second.cancel()
    await settle()
    bench.cache.abort(TENANT, first)
    assert lease(await third)


async def test_places_are_bounded_and_who_lost_one_looks_up_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(followers_module, "REMEMBER_PLACES", 3)
    lease(await bench.look(ASKED, token="a"))
    behind = [place(await bench.look(REWORDED, token=str(number))) for number in range(5)]
    with pytest.raises(NotFound):
        await bench.cache.wait(TENANT, behind[0], "0", bench.deadline(0.0))
    assert await bench.cache.wait(TENANT, behind[4], "4", bench.deadline(0.0)) == Pending()
    bench.clock.advance(followers_module.REMEMBER_SECONDS)
    lease(await bench.look(REWORDED, token="later"))
    place(await bench.look(THIRD, token="behind it"))
    assert len(bench.cache._answering.waiting._followers) == 1


@pytest.mark.parametrize("fault", ["search", "change"])
async def test_a_broken_index_of_flights_costs_sharing_and_nothing_else(bench: Bench, fault: str) -> None:
    flying = bench.cache._answering.lookups._joining._flying
    first = lease(await bench.look(ASKED, token="a"))
    flying._index._inject_panic()
    await bench.look(REWORDED if fault == "search" else FAR, token="b")
    assert isinstance((await bench.look(THIRD, token="c")).fill, InProgress), "it was made anew"
    await commit(bench, first)


async def test_flights_leave_nothing_behind(bench: Bench) -> None:
    flying = bench.cache._answering.lookups._joining._flying
    leases = [lease(await bench.look(f"question {number} of its own kind", token="a")) for number in range(20)]
    assert len(flying) == 20
    for number, one in enumerate(leases):
        if number % 2:
            await commit(bench, one)
        else:
            bench.cache.abort(TENANT, one)
    assert not len(flying)
    assert not any([flying._groups, flying._rows, len(flying._index)])


async def test_an_answer_that_comes_while_long_questions_are_compared_is_found(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The comparison is on a thread then: what was in flight when it began may have landed when it ends."""
    monkeypatch.setattr(judges, "INLINE_CHARACTERS", 0)
    first = lease(await bench.look(ASKED, token="a"))
    asking = asyncio.create_task(bench.look(REWORDED, token="b"))
    while not bench.cache._executor._work_queue.qsize() and not asking.done():  # noqa: ASYNC110 -- a step of the loop
        await asyncio.sleep(0)
    await commit(bench, first)
    found = await asking
    served = found if found.entry else await bench.cache.wait(TENANT, place(found), "b", bench.deadline())
    assert isinstance(served, LookupResult)
    assert served.entry.question == ASKED


@pytest.mark.fault(60)
@pytest.mark.parametrize("seed", range(40))
async def test_whatever_becomes_of_leaders_each_costs_one_call_and_nobody_hangs(seed: int) -> None:
    """Equal and reworded questions at once; whoever holds the lease answers, fails or vanishes, at random."""
    chance = random.Random(seed)
    words = ["do", "can", "could", "might", "would", "should"]
    texts = [f"How {word} I reset my password?" for word in words]
    async with benched(lease=LEASE) as bench:
        for text in texts[1:]:
            bench.embedder.alike(text, texts[0], 0.99)
        granted: list[str] = []
        answered: list[int] = []
        lost = chance.randrange(4)

        async def fill(lease_id: str) -> bool:
            """Whether the holder of a lease has made the answer."""
            granted.append(lease_id)
            for _ in range(chance.randrange(30)):
                await asyncio.sleep(0)
            if len(granted) > lost:
                await commit(bench, lease_id)
                return True
            if chance.random() < 0.5:
                assert bench.cache.abort(TENANT, lease_id)
            else:
                bench.clock.advance(LEASE)
                bench.cache.fills.expire()
            return False

        async def one(number: int) -> None:
            for _ in range(chance.randrange(10)):
                await asyncio.sleep(0)
            text, token = chance.choice(texts), str(number)
            while True:
                found = await bench.look(text, token=token)
                if found.entry is not None:
                    break
                try:
                    result: object = found.fill
                    if isinstance(found.fill, InProgress):
                        result = await bench.cache.wait(TENANT, found.fill.lease_id, token, bench.deadline(1e6))
                except NotFound:
                    continue
                if isinstance(result, Granted) and not await fill(result.lease_id):
                    return  # it failed, or is dead
                break
            answered.append(number)

        async with asyncio.timeout(60):
            await asyncio.gather(*(one(number) for number in range(40)))
        assert len(granted) == lost + 1
        assert len(answered) == 40 - lost
