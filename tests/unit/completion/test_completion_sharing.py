"""Equal requests share one fill; who leaves detaches; one pays."""

from __future__ import annotations

import asyncio

import pytest

from services.chassis.deadline import Deadline
from services.chassis.errors import DeadlineExceeded, Unavailable
from services.completion.ports import CallStatus
from services.completion.request import CacheMode, CachePolicy
from services.llm.values import Cost, Usage
from tests.unit.completion.completion_parts import Rig, ask, rig, until, words


async def _begun(r: Rig) -> asyncio.Event:
    """Make the next call of `small` stop in the middle; returns what lets it go on."""
    gate = asyncio.Event()
    r.one.scripts.append([*words("An ", finish=None, usage=None), gate, *words("answer.")])
    return gate


async def test_a_thousand_equal_requests_buy_one_answer_and_one_of_them_pays() -> None:
    async with rig() as r:
        gate = await _begun(r)
        asking = [asyncio.create_task(r.complete()) for _ in range(1_000)]
        await until(lambda: r.counted("requests", shared="true") == 999)
        gate.set()
        answers = await asyncio.gather(*asking)
        assert r.calls == 1
        assert len(r.cache.lookups) == 1
        assert {a.completed.answer.text for a in answers} == {"An answer."}
        paid = [a for a in answers if a.cost.nano_usd]
        assert len(paid) == 1
        assert paid[0].usage == Usage(10, output=5)
        assert paid[0].cost.nano_usd == 10 * 1_000 + 5 * 2_000
        assert not paid[0].shared
        assert paid[0].served_from is None
        for answer in answers:
            if answer is not paid[0]:
                assert answer.usage == Usage()
                assert answer.shared
                assert answer.served_from is not None
                assert answer.served_from.cost == paid[0].cost


@pytest.mark.parametrize(
    "other",
    [
        ask("Another question?"),
        ask(model="small"),
        ask(policy=CachePolicy(mode=CacheMode.REFRESH)),
        ask(policy=CachePolicy(max_age=1.0)),
    ],
)
async def test_requests_that_differ_do_not_share(other: object) -> None:
    async with rig() as r:
        gates = [await _begun(r), await _begun(r)]
        asking = [asyncio.create_task(r.complete(ask())), asyncio.create_task(r.complete(other))]  # type: ignore[arg-type]
        await until(lambda: r.calls == 2)
        for gate in gates:
            gate.set()
        await asyncio.gather(*asking)


async def test_who_bypasses_the_cache_gets_an_answer_of_its_own() -> None:
    async with rig() as r:
        bypass = ask(policy=CachePolicy(mode=CacheMode.BYPASS))
        gates = [await _begun(r), await _begun(r)]
        asking = [asyncio.create_task(r.complete(bypass)) for _ in range(2)]
        await until(lambda: r.calls == 2)
        for gate in gates:
            gate.set()
        for answer in await asyncio.gather(*asking):
            assert answer.completed.cache.bypass_reason == "policy"
            assert answer.cost.nano_usd > 0
            assert answer.completed.degraded == ()
        await r.settled()
        assert r.cache.lookups == []
        assert r.cache.stored == {}


async def test_when_the_first_leaves_the_others_get_the_answer_and_the_next_pays() -> None:
    async with rig() as r:
        gate = await _begun(r)
        first, second, third = r.join(), r.join(), r.join()
        asking = [asyncio.create_task(listener.result()) for listener in (second, third)]
        await until(lambda: r.calls == 1)
        with first:
            pass
        gate.set()
        with second, third:
            answers = await asyncio.gather(*asking)
        assert [bool(answer.cost.nano_usd) for answer in answers] == [True, False]
        assert r.one.closed_early == 0
        assert r.calls == 1


async def test_a_late_listener_reads_from_the_start() -> None:
    async with rig() as r:
        gate = await _begun(r)
        early = asyncio.create_task(r.complete())
        await until(lambda: r.counted("requests", shared="false") == 1 and r.calls == 1)
        with r.join(streaming=True) as late:
            gate.set()
            events = [event async for event in late.events(60.0)]
        assert "".join(getattr(event, "text", "") for event in events) == "An answer."
        assert (await early).completed.answer.text == "An answer."


@pytest.mark.fault(8)
async def test_when_the_last_listener_leaves_the_call_is_closed_and_nothing_is_kept() -> None:
    async with rig() as r:
        await _begun(r)
        first = asyncio.create_task(r.complete())
        second = asyncio.create_task(r.complete())
        await until(lambda: r.one.open == 1)
        first.cancel()
        await asyncio.wait({first})
        assert r.one.open == 1, "somebody still listens"
        second.cancel()
        await asyncio.wait({second})
        await until(lambda: r.one.open == 0)
        await r.settled()
        assert r.one.closed_early == 1
        assert [reason for _, reason in r.cache.aborts] == ["cancelled"]
        assert r.cache.commits == []
        assert r.cache.stored == {}
        assert len(r.service.fills) == 0
        report = r.router.reports[-1]
        assert report.status is CallStatus.CANCELLED
        assert report.usage.estimated
        assert report.cost.nano_usd > 0
        # And whoever asks now gets a new call, not the dying one.
        assert (await r.complete()).completed.answer.text == "An answer."
        assert r.calls == 2


async def test_a_fill_given_up_during_the_lookup_gives_its_lease_back() -> None:
    async with rig() as r:
        r.cache.hold = asyncio.Event()
        asking = asyncio.create_task(r.complete())
        await until(lambda: len(r.cache.lookups) == 1)
        asking.cancel()
        await asyncio.wait({asking})
        r.cache.hold.set()
        await until(lambda: len(r.cache.aborts) == 1)
        assert r.calls == 0
        assert r.cache.open_leases == 0


@pytest.mark.fault(7)
@pytest.mark.parametrize("seconds", [0.0, -1.0, 0.002])
async def test_a_deadline_too_short_for_a_model_calls_none(seconds: float) -> None:
    async with rig() as r:
        with pytest.raises(DeadlineExceeded):
            await r.complete(seconds=seconds)
        await until(lambda: len(r.service.fills) == 0)
        assert r.calls == 0


@pytest.mark.fault(7)
async def test_when_the_cache_has_used_up_the_time_no_model_is_called() -> None:
    time = 0.0
    async with rig() as r:
        r.cache.hold = asyncio.Event()
        with r.service.fills.join(ask(), Deadline(10.0, lambda: time), streaming=False) as listener:
            await until(lambda: len(r.cache.lookups) == 1)
            time = 9.999
            r.cache.hold.set()
            with pytest.raises(DeadlineExceeded):
                await listener.result()
        assert r.calls == 0
        await r.settled()
        assert r.cache.open_leases == 0


async def test_one_listeners_deadline_does_not_hurt_another() -> None:
    async with rig() as r:
        gate = await _begun(r)
        hasty = asyncio.create_task(r.complete(seconds=0.05))
        patient = asyncio.create_task(r.complete())
        with pytest.raises(DeadlineExceeded):
            await hasty
        assert r.one.timeouts[0] > 1, "the call of the model must not end with the first listener's deadline"
        gate.set()
        answer = await patient
        assert answer.completed.answer.text == "An answer."
        assert answer.cost.nano_usd > 0
        assert r.calls == 1


async def test_all_listeners_get_the_error_and_each_its_own() -> None:
    async with rig() as r:
        r.router.candidates = ("small",)
        gate = asyncio.Event()
        error = Unavailable("cut", retry_after=3.0)
        r.one.scripts.append([*words("An ", finish=None, usage=None), gate, error])
        asking = [asyncio.create_task(r.complete()) for _ in range(3)]
        await until(lambda: r.counted("requests", shared="true") == 2 and r.calls == 1)
        gate.set()
        errors = await asyncio.gather(*asking, return_exceptions=True)
        assert all(isinstance(e, Unavailable) and e.retry_after == 3.0 for e in errors)
        assert len({id(e) for e in errors}) == 3


async def test_a_listener_who_leaves_between_the_end_and_its_share_does_not_take_the_bill_along() -> None:
    async with rig() as r:
        first, second = r.join(), r.join()
        await until(lambda: first.fill.transcript.ended)
        with first:
            pass
        with second:
            assert (await second.result()).cost != Cost()


async def test_stopping_ends_fills_and_gives_their_leases_back() -> None:
    async with rig() as r:
        await _begun(r)
        asking = asyncio.create_task(r.complete())
        await until(lambda: r.one.open == 1)
        cache = r.cache
    with pytest.raises(Unavailable, match="stops"):
        await asking
    assert [reason for _, reason in cache.aborts] == ["shutdown"]
    assert cache.open_leases == 0


async def test_who_comes_right_after_a_failure_does_not_inherit_it() -> None:
    async with rig() as r:
        r.router.candidates = ("small",)
        r.one.scripts.append([Unavailable("down")])
        with r.join() as first:
            with pytest.raises(Unavailable):
                await first.result()
            assert (await r.complete()).completed.answer.text == "An answer."
