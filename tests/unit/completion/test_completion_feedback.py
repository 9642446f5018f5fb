"""Feedback on an answer finds the cache's entry, for a while, for the tenant that was answered."""

from __future__ import annotations

import asyncio

import pytest

from services.chassis.auth.values import ANYONE, Caller, Role
from services.chassis.errors import (
    AntiphonError,
    DeadlineExceeded,
    Exhausted,
    NotFound,
    PermissionDenied,
    Reason,
    Unauthenticated,
    Unavailable,
)
from services.completion.feedback import Feedback, Submitted
from services.completion.metrics import Metrics
from services.completion.ports import FeedbackSource, Filled, Found, Outcome
from services.completion.request import CacheMode, CachePolicy, Request
from services.completion.storing import KEEP_SECONDS
from services.llm.values import FinishReason
from tests.unit.completion.completion_parts import GUARD, Rig, answered, ask, down, rig, words

ONE = Caller("one", "key-of-one", Role.CLIENT)
TWO = Caller("two", "key-of-two", Role.CLIENT)
OPERATOR = Caller("one", "key-of-operator", Role.OPERATOR)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def memory(r: Rig, clock: Clock, *, most: int = 10, keep: float = 100.0) -> Feedback:
    """A memory of its own beside the service's."""
    return Feedback(
        r.cache, r.service.reporting, Metrics(type(r.telemetry.registry)()), most=most, keep=keep, monotonic=clock
    )


async def answer(r: Rig, feedback: Feedback, name: str, request: Request) -> None:
    done = await r.complete(request)
    feedback.remember(name, request, done.completed)
    await r.settled()


async def submit(
    feedback: Feedback,
    name: str,
    caller: Caller = ONE,
    source: FeedbackSource = FeedbackSource.USER,
    *,
    right: bool = False,
    user: str = "",
) -> bool:
    return await feedback.submit(caller, Submitted(name, right, source, user), within=GUARD)


async def test_it_is_told_to_the_cache_for_the_caller() -> None:
    async with rig() as r:
        feedback = memory(r, Clock())
        await answer(r, feedback, "bought", ask(caller=ONE))
        await answer(r, feedback, "served", ask(caller=ONE))
        r.cache.found.append(Found(Outcome.SEMANTIC, answer=answered(created_at=12.5), entry_id="near"))
        await answer(r, feedback, "reworded", ask("Another?", caller=ONE))
        for name in ("bought", "served", "reworded"):
            assert await submit(feedback, name, user="ada")
        assert not await submit(feedback, "served", user="ada"), "the cache says so"
    assert [verdict.entry_id for verdict in r.cache.verdicts[:3]] == ["entry", "entry", "near"]
    assert [verdict.semantic for verdict in r.cache.verdicts[:3]] == [False, False, True]
    near = r.cache.verdicts[2]
    assert (near.namespace, near.completion_id, near.user, near.answered_at) == ("default", "reworded", "ada", 12.5)
    assert {caller for name, caller in r.cache.calls if name == "feedback"} == {ONE}


async def test_what_another_process_made_is_known_too() -> None:
    async with rig() as r:
        feedback = memory(r, Clock())
        r.cache.found.append(Found(Outcome.MISS, in_progress="elsewhere"))
        r.cache.waits.append(Filled(answered(), "theirs"))
        await answer(r, feedback, "waited", ask(caller=ONE))
        await submit(feedback, "waited")
    assert [verdict.entry_id for verdict in r.cache.verdicts] == ["theirs"]


@pytest.mark.parametrize("caller", [TWO, ANYONE])
async def test_another_tenants_completion_is_not_known(caller: Caller) -> None:
    async with rig() as r:
        feedback = memory(r, Clock())
        await answer(r, feedback, "mine", ask(caller=ONE))
        seen = []
        for name in ("mine", "nobodys"):
            with pytest.raises(NotFound) as caught:
                await submit(feedback, name, caller)
            seen.append((caught.value.reason, caught.value.field, caught.value.message))
    assert seen[0] == seen[1]
    assert seen[0][:2] == (Reason.COMPLETION_NOT_FOUND, "completion_id")
    assert r.cache.verdicts == []


async def test_only_operators_speak_for_others() -> None:
    async with rig() as r:
        feedback = memory(r, Clock())
        await answer(r, feedback, "mine", ask(caller=ONE))
        for source in set(FeedbackSource) - {FeedbackSource.USER}:
            with pytest.raises(PermissionDenied) as caught:
                await submit(feedback, "mine", ONE, source)
            assert (caught.value.reason, caught.value.field) == (Reason.SOURCE_NOT_ALLOWED, "source")
            assert await submit(feedback, "mine", OPERATOR, source)
    assert len(r.cache.verdicts) == 3


async def test_the_memory_is_bounded_by_time_and_number() -> None:
    async with rig() as r:
        clock = Clock()
        feedback = memory(r, clock, most=2, keep=100.0)
        for name in ("a", "b", "c"):
            await answer(r, feedback, name, ask(caller=ONE))
            clock.now += 10
        assert len(feedback) == 2
        with pytest.raises(NotFound):
            await submit(feedback, "a")
        await submit(feedback, "b")
        clock.now = 110.0
        with pytest.raises(NotFound):
            await submit(feedback, "b")
        assert len(feedback) == 1
        await submit(feedback, "c")


@pytest.mark.parametrize(
    ("policy", "finish"),
    [
        (CachePolicy(mode=CacheMode.BYPASS), FinishReason.STOP),
        (CachePolicy(no_store=True), FinishReason.STOP),
        (CachePolicy(), FinishReason.LENGTH),
    ],
)
async def test_an_answer_that_was_not_stored_has_no_entry(policy: CachePolicy, finish: FinishReason) -> None:
    async with rig() as r:
        feedback = memory(r, Clock())
        r.one.default = r.two.default = words("Text.", finish=finish)
        if policy.no_store:
            r.cache.found.append(Found(Outcome.BYPASS, bypass_reason="decision_timeout"))
        r.router.error = down(Reason.ROUTER_UNAVAILABLE)
        await answer(r, feedback, "x", ask(caller=ONE, policy=policy))
        with pytest.raises(NotFound) as caught:
            await submit(feedback, "x")
        assert caught.value.reason is Reason.ENTRY_NOT_FOUND
        r.router.error = None
        await answer(r, feedback, "routed", ask("Another?", caller=ONE, policy=policy))
        if policy.no_store:  # the cache says nothing of its own accord in this rig: it would store what it is given
            return
        assert await submit(feedback, "routed"), "the router has a part in it"
        assert not await submit(feedback, "routed")
        await r.settled()
    assert [verdict.decision_id for verdict in r.router.verdicts] != []


async def test_an_answer_that_waits_for_the_cache_can_be_asked_about_later() -> None:
    clock = Clock()
    async with rig() as r:
        feedback = memory(r, clock, keep=10_000.0)
        r.cache.error = down(Reason.CACHE_UNAVAILABLE)
        r.router.error = down(Reason.ROUTER_UNAVAILABLE)
        request = ask(caller=ONE)
        feedback.remember("waits", request, (await r.complete(request)).completed)
        with pytest.raises(Unavailable) as caught:
            await submit(feedback, "waits")
        assert caught.value.reason is Reason.CACHE_UNAVAILABLE
        assert caught.value.retry_after
        clock.now = KEEP_SECONDS
        with pytest.raises(NotFound):
            await submit(feedback, "waits")
        clock.now = 0.0
        r.cache.error = None
        await r.settled()
        assert await submit(feedback, "waits")


@pytest.mark.parametrize(
    "error",
    [
        down(Reason.CACHE_UNAVAILABLE),
        DeadlineExceeded("too late"),
        Exhausted("too many"),
        Unauthenticated("who are you?"),
        PermissionDenied("not you"),
    ],
)
async def test_a_cache_that_is_away_is_said_to_be(error: AntiphonError) -> None:
    async with rig() as r:
        feedback = memory(r, Clock())
        await answer(r, feedback, "x", ask(caller=ONE))
        r.cache.error = error
        with pytest.raises(Unavailable) as caught:
            await submit(feedback, "x")
        assert caught.value.reason is Reason.CACHE_UNAVAILABLE
        r.cache.error = None
        assert await submit(feedback, "x")


async def test_the_router_hears_of_what_it_decided_once_from_each() -> None:
    async with rig() as r:
        feedback = memory(r, Clock())
        await answer(r, feedback, "bought", ask(caller=ONE))
        await answer(r, feedback, "served", ask(caller=ONE))
        for user, right in (("ada", True), ("bob", False), ("ada", False)):
            await submit(feedback, "bought", right=right, user=user)
            await submit(feedback, "served", right=right, user=user)
        await submit(feedback, "bought", OPERATOR, FeedbackSource.OPERATOR, right=True, user="ada")
        await r.settled()
        heard = r.router.verdicts
        assert [(one.decision_id, one.model, one.right) for one in heard] == [
            ("decision-1", "small", True),
            ("decision-1", "small", False),
            ("decision-1", "small", True),
        ], "the hit was nobody's decision; whoever changes their mind is heard once"
        assert [one.caller for one in heard] == [ONE, ONE, OPERATOR]
        assert len({one.source for one in heard}) == 3
        assert not any("ada" in one.source or len(one.source) > 64 for one in heard)
        assert [one.source.rpartition("/")[0] for one in heard] == ["feedback/user"] * 2 + ["feedback/operator"]


async def test_the_router_is_not_told_what_nobody_may_say() -> None:
    async with rig() as r:
        feedback = memory(r, Clock())
        await answer(r, feedback, "mine", ask(caller=ONE))
        with pytest.raises(PermissionDenied):
            await submit(feedback, "mine", ONE, FeedbackSource.JUDGE)
        with pytest.raises(NotFound):
            await submit(feedback, "mine", TWO)
        r.cache.error = down(Reason.CACHE_UNAVAILABLE)
        with pytest.raises(Unavailable):
            await submit(feedback, "mine")
        await r.settled()
        assert r.router.verdicts == [], "whoever is told that nothing was recorded repeats it"
        r.cache.error = None
        assert await submit(feedback, "mine")
        await r.settled()
        assert len(r.router.verdicts) == 1


async def test_a_router_that_is_away_delays_nobody_and_hears_it_later() -> None:
    async with rig() as r:
        feedback = memory(r, Clock())
        await answer(r, feedback, "mine", ask(caller=ONE))
        r.router.error = down(Reason.ROUTER_UNAVAILABLE)
        assert await submit(feedback, "mine", right=True)
        r.router.error = None
        await r.settled()
        assert [one.right for one in r.router.verdicts] == [True]


async def test_an_entry_that_is_gone_is_the_routers_business_still() -> None:
    async with rig() as r:
        feedback = memory(r, Clock())
        await answer(r, feedback, "mine", ask(caller=ONE))
        r.cache.error = NotFound("gone", reason=Reason.ENTRY_NOT_FOUND)
        assert await submit(feedback, "mine")
        assert not await submit(feedback, "mine")
        r.cache.error = None
        await r.settled()
        assert len(r.router.verdicts) == 1


async def test_all_who_share_a_fill_speak_of_the_same_entry() -> None:
    gate = asyncio.Event()
    async with rig() as r:
        feedback = memory(r, Clock())
        r.one.scripts.append([gate, *words("Shared.")])
        request = ask(caller=ONE)
        asking = asyncio.gather(r.complete(request), r.complete(request))
        gate.set()
        for number, done in enumerate(await asking):
            feedback.remember(str(number), request, done.completed)
        await r.settled()
        assert await submit(feedback, "0")
        assert await submit(feedback, "1")
    assert r.calls == 1
    assert {verdict.entry_id for verdict in r.cache.verdicts} == {"entry"}
