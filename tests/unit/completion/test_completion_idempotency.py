"""Equal keys get equal answers and buy once, in one process."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace

import pytest

from services.chassis.deadline import Deadline
from services.chassis.errors import AntiphonError, DeadlineExceeded, InvalidRequest, Reason, Unavailable
from services.completion.idempotency.keys import NOT_KEPT, Asked, Kept, Keyed
from services.completion.idempotency.records import Scope
from services.completion.request import CacheMode, CachePolicy, Request
from services.completion.result import Delivered
from services.completion.streaming.content import Text
from services.completion.streaming.signs import Beat
from services.completion.streaming.transcript import Opened
from tests.unit.completion.completion_parts import GUARD, Rig, ask, rig, until, words

ACME = Scope("acme", "k1")


def asked(request: Request | None = None, scope: Scope = ACME, name: str = "c1") -> Asked:
    request = request or ask()

    def write(delivered: Delivered, degraded: tuple[str, ...]) -> bytes:
        told = (name, delivered.completed.answer.text, delivered.cost.nano_usd, *degraded)
        return " ".join(map(str, told)).encode()

    return Asked(scope, request.key.hex(), request, name, write)


def join(r: Rig, what: Asked | None = None, *, seconds: float = GUARD, streaming: bool = False) -> Keyed:
    return r.service.keys.join(what or asked(), Deadline.after(seconds), streaming=streaming)


async def complete(r: Rig, what: Asked | None = None, *, seconds: float = GUARD) -> Kept:
    with join(r, what, seconds=seconds) as keyed:
        return await keyed.result()


async def _held(r: Rig) -> asyncio.Event:
    gate = asyncio.Event()
    r.one.scripts.append([*words("An ", finish=None, usage=None), gate, *words("answer.")])
    return gate


async def _free(r: Rig) -> None:
    await until(lambda: len(r.service.keys) == 0 and not r.records.stored)


@pytest.mark.fault(12)
async def test_a_thousand_at_once_buy_one_answer_which_all_of_them_get() -> None:
    async with rig() as r:
        gate = await _held(r)
        asking = [asyncio.create_task(complete(r, asked(name=f"c{i}"))) for i in range(1_000)]
        await until(lambda: r.counted("idempotency", event="joined") == 999 and r.calls == 1)
        gate.set()
        answers = await asyncio.gather(*asking)
        assert r.calls == 1
        assert {answer.response for answer in answers} == {b"c0 An answer. 20000"}
        assert sorted(answer.replayed for answer in answers) == [False] + [True] * 999


@pytest.mark.fault(12)
@pytest.mark.parametrize("mode", [CacheMode.DEFAULT, CacheMode.BYPASS, CacheMode.REFRESH])
async def test_a_repeated_request_gets_the_stored_answer_again(mode: CacheMode) -> None:
    async with rig() as r:
        request = ask(policy=CachePolicy(mode=mode))
        first = await complete(r, asked(request))
        second = await complete(r, asked(request, name="c2"))
        assert (first.replayed, second.replayed) == (False, True)
        assert second.response == first.response
        assert r.calls == 1
        assert r.counted("idempotency", event="replayed") == 1


@pytest.mark.fault(13)
async def test_a_key_stands_for_one_request() -> None:
    async with rig() as r:
        gate = await _held(r)
        other = asked(ask("Something else?"))
        first = asyncio.create_task(complete(r))
        await until(lambda: r.calls == 1)
        with pytest.raises(InvalidRequest) as meanwhile:
            await complete(r, other)
        gate.set()
        await first
        with pytest.raises(InvalidRequest) as afterwards:
            await complete(r, other)
        for caught in (meanwhile, afterwards):
            assert caught.value.reason is Reason.IDEMPOTENCY_KEY_REUSED
            assert caught.value.field == "idempotency_key"
        assert r.calls == 1
        assert (await complete(r)).replayed, "the refusal has changed nothing"


async def test_another_tenants_key_is_another_key() -> None:
    async with rig() as r:
        await complete(r)
        answer = await complete(r, asked(ask("Something else?"), Scope("globex", ACME.key), name="theirs"))
        assert answer.response.startswith(b"theirs ")
        assert not answer.replayed


async def test_a_failure_frees_the_key_before_it_is_told() -> None:
    async with rig(tries=1) as r:
        r.one.scripts.append([Unavailable("down", reason=Reason.UPSTREAM_UNAVAILABLE)])
        with pytest.raises(Unavailable):
            await complete(r)
        assert r.records.stored == {}
        assert not (await complete(r, asked(ask("Now something else?")))).replayed


@pytest.mark.parametrize("streaming", [False, True])
async def test_all_who_wait_get_the_failure(streaming: bool) -> None:
    async with rig() as r:
        r.router.candidates = ("small",)
        gate = asyncio.Event()
        r.one.scripts.append([*words("An ", finish=None, usage=None), gate, Unavailable("cut", retry_after=3.0)])

        async def stream() -> None:
            with join(r, streaming=True) as keyed:
                async for _ in keyed.events(GUARD):
                    pass

        asking = [asyncio.create_task(stream() if streaming else complete(r)) for _ in range(3)]
        await until(lambda: r.calls == 1)
        gate.set()
        errors = await asyncio.gather(*asking, return_exceptions=True)
        assert all(isinstance(error, Unavailable) and error.retry_after == 3.0 for error in errors)
        assert len({id(error) for error in errors}) == 3
        assert r.records.stored == {}


@pytest.mark.fault(87)
async def test_what_was_bought_is_finished_although_its_caller_has_left() -> None:
    async with rig() as r:
        gate = await _held(r)
        first = asyncio.create_task(complete(r))
        await until(lambda: r.calls == 1)
        first.cancel()
        await asyncio.wait({first})
        assert r.one.open == 1
        gate.set()
        again = await complete(r, asked(name="c2"))
        assert again.response == b"c1 An answer. 20000"
        assert r.calls == 1


async def test_a_caller_whose_time_is_up_finds_the_answer_later() -> None:
    async with rig() as r:
        gate = await _held(r)
        hasty = asyncio.create_task(complete(r, seconds=0.05))
        with pytest.raises(DeadlineExceeded):
            await hasty
        await until(lambda: r.calls == 1)
        gate.set()
        assert (await complete(r)).response == b"c1 An answer. 20000"
        assert r.calls == 1


async def test_who_leaves_before_a_model_was_called_leaves_the_key_free() -> None:
    async with rig() as r:
        r.cache.hold = asyncio.Event()
        asking = asyncio.create_task(complete(r))
        await until(lambda: len(r.cache.lookups) == 1)
        assert ACME in r.records.stored
        asking.cancel()
        await asyncio.wait({asking})
        await _free(r)
        r.cache.hold.set()
        assert not (await complete(r)).replayed
        assert r.calls == 1


@pytest.mark.fault(7)
@pytest.mark.parametrize("seconds", [0.0, 0.002])
async def test_no_time_buys_nothing_and_leaves_the_key_free(seconds: float) -> None:
    async with rig() as r:
        with pytest.raises(DeadlineExceeded):
            await complete(r, seconds=seconds)
        await _free(r)
        assert r.calls == 0


async def test_without_the_store_nothing_is_bought_with_a_key_and_all_else_without() -> None:
    async with rig() as r:
        r.records.error = Unavailable("away", reason=Reason.STORE_UNAVAILABLE, retry_after=1.0)
        with pytest.raises(Unavailable) as caught:
            await complete(r)
        assert caught.value.reason is Reason.STORE_UNAVAILABLE
        assert caught.value.retry_after == 1.0
        assert r.calls == 0
        assert (await r.complete()).completed.answer.text == "An answer."
        r.records.error = None
        assert not (await complete(r)).replayed


async def test_an_answer_that_could_not_be_kept_is_delivered_and_says_so() -> None:
    async with rig() as r:
        gate = await _held(r)
        asking = asyncio.create_task(complete(r))
        await until(lambda: r.calls == 1)
        r.records.error = Unavailable("away", reason=Reason.STORE_UNAVAILABLE)
        gate.set()
        assert (await asking).response == f"c1 An answer. 20000 {NOT_KEPT}".encode()
        assert r.counted("idempotency", event="not_kept") == 1


async def test_a_store_that_was_wiped_meanwhile_gets_the_answer_all_the_same() -> None:
    async with rig() as r:
        gate = await _held(r)
        asking = asyncio.create_task(complete(r))
        await until(lambda: r.calls == 1)
        r.records.stored.clear()
        gate.set()
        first = await asking
        assert (await complete(r)) == replace(first, replayed=True)
        assert r.calls == 1


async def test_a_stream_reads_along_and_ends_with_the_kept_answer() -> None:
    async with rig() as r:
        gate = await _held(r)
        with join(r, streaming=True) as keyed:
            events = []
            async for event in keyed.events(GUARD):
                events.append(event)
                if isinstance(event, Text):
                    gate.set()
        assert [event.text for event in events if isinstance(event, Text)] == ["An ", "answer."]
        assert any(isinstance(event, Opened) for event in events)
        assert events[-1] == Kept(b"c1 An answer. 20000", replayed=False, live=True)
        assert r.records.stored[ACME].response == b"c1 An answer. 20000"
        with join(r, streaming=True) as keyed:
            assert [event async for event in keyed.events(GUARD)] == [
                Kept(b"c1 An answer. 20000", replayed=True, live=False)
            ]


async def test_a_stream_that_waits_for_another_process_gets_heartbeats() -> None:
    async with rig() as r, rig() as elsewhere:
        elsewhere.records.stored = r.records.stored
        gate = await _held(elsewhere)
        first = asyncio.create_task(complete(elsewhere, asked(name="theirs")))
        await until(lambda: elsewhere.calls == 1)
        beats = 0
        with join(r, streaming=True) as keyed:
            async for event in keyed.events(0.01):
                beats += isinstance(event, Beat)
                if beats:
                    gate.set()
        assert beats
        assert event == Kept((await first).response, replayed=True, live=False)
        assert r.calls == 0


async def test_what_has_expired_is_deleted_and_means_nothing() -> None:
    async with rig(idempotency_keep=60.0) as r:
        first = await complete(r)
        record = r.records.stored[ACME]
        assert time.time() < record.expires_at <= time.time() + 60.0
        r.records.stored[ACME] = replace(record, expires_at=time.time() - 1.0)
        second = await complete(r, asked(ask("Something else?"), name="c2"))
        assert second.response != first.response
        r.records.stored[ACME] = replace(r.records.stored[ACME], expires_at=time.time() - 1.0)
        await r.service.keys.purge_once()
        assert r.records.stored == {}
        r.records.error = Unavailable("away")
        await r.service.keys.purge_once()
        assert r.counted("idempotency", event="purge_failed") == 1


async def test_stopping_finishes_what_was_bought_and_frees_the_rest() -> None:
    async with rig(settle_time=GUARD) as r:
        gate = await _held(r)
        bought = asyncio.create_task(complete(r))
        await until(lambda: r.calls == 1)
        r.cache.hold = asyncio.Event()
        waiting = asyncio.create_task(complete(r, asked(ask("Not yet asked?"), Scope("acme", "k2"))))
        await until(lambda: len(r.cache.lookups) == 2)
        settling = asyncio.create_task(r.service.keys.settle(GUARD))
        with pytest.raises(AntiphonError) as caught:
            await waiting
        assert caught.value.reason is Reason.SHUTTING_DOWN
        gate.set()
        await settling
        assert (await bought).response == b"c1 An answer. 20000"
        await until(lambda: list(r.records.stored) == [ACME])
