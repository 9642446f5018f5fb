"""Audits: hits that the cache wants answered again. Nobody waits for them, pays for them, or is held up by them."""

from __future__ import annotations

import asyncio

from services.completion.ports import Found, Outcome
from services.completion.request import CacheMode, CachePolicy
from services.llm.values import FinishReason
from tests.unit.completion.completion_parts import Rig, answered, ask, down, rig, until, words


def hit(audit_id: str = "audit-1") -> Found:
    return Found(Outcome.SEMANTIC, answer=answered("Stored."), entry_id="entry", audit_id=audit_id)


def audited(running: Rig, result: str) -> float:
    return running.counted("audits", result=result)


async def test_a_hit_is_answered_again_and_reported_behind_the_callers_back() -> None:
    async with rig() as running:
        gate = asyncio.Event()
        running.one.scripts.append([gate, *words("Made anew.")])
        running.cache.found.append(hit())
        result = await running.complete(ask("How?"))
        assert result.completed.answer.text == "Stored."
        assert result.cost.nano_usd == 0
        await until(lambda: running.one.calls == 1)
        assert running.cache.audits == [], "the caller had its answer before the model began"
        gate.set()
        await until(lambda: len(running.cache.audits) == 1)
        ((audit_id, made),) = running.cache.audits
        assert (audit_id, made.text, made.finish_reason) == ("audit-1", "Made anew.", FinishReason.STOP)
        assert running.one.requests[0].messages == ask("How?").question.messages
        await until(lambda: audited(running, "reported") == 1)
        assert running.spent == [], "no caller's key is charged"
        assert running.counted("cost_nano_usd", model="small") > 0, "but it is seen what it cost"
        assert (running.cache.commits, running.cache.puts) == ([], [])


async def test_who_wants_cached_answers_only_is_audited_too_and_other_hits_are_not() -> None:
    async with rig() as running:
        running.cache.found.append(hit())
        await running.complete(ask(policy=CachePolicy(mode=CacheMode.ONLY_IF_CACHED)))
        await until(lambda: len(running.cache.audits) == 1)
        running.cache.found.append(hit(audit_id=""))
        await running.complete(ask("Another"))
        assert len(running.service.auditing) == 0
        assert running.calls == 1


async def test_one_is_answered_at_a_time_and_what_does_not_fit_the_queue_is_dropped() -> None:
    async with rig(audits_waiting=2) as running:
        gate = asyncio.Event()
        running.one.scripts.append([gate, *words("Made anew.")])
        for number in range(6):
            running.cache.found.append(hit(f"audit-{number}"))
            await running.complete(ask(f"Question {number}"))
            await until(lambda: running.one.calls == 1)
        assert running.one.open == 1
        assert audited(running, "full") == 3
        gate.set()
        await until(lambda: audited(running, "reported") == 3)
        assert [audit_id for audit_id, _ in running.cache.audits] == ["audit-0", "audit-1", "audit-2"]


async def test_while_callers_need_the_models_audits_are_dropped() -> None:
    async with rig(audits_below=1) as running:
        gate = asyncio.Event()
        running.one.scripts.append([gate, *words("For a caller.")])
        with running.join(ask("A miss")) as waiting:
            await until(lambda: running.one.calls == 1)
            running.cache.found.append(hit())
            await running.complete(ask("A hit"))
            await until(lambda: audited(running, "busy") == 1)
            gate.set()
            await waiting.result()
        assert running.calls == 1


async def test_with_no_room_for_audits_none_is_run() -> None:
    async with rig(audits_waiting=0) as running:
        running.cache.found.append(hit())
        await running.complete()
        assert audited(running, "full") == 1
        assert running.calls == 0


async def test_a_model_a_router_or_a_cache_that_fails_ends_one_audit_and_not_the_next() -> None:
    async with rig(tries=1) as running:
        running.router.candidates = ("small",)
        running.one.scripts.append([down()])
        running.cache.found.append(hit())
        await running.complete(ask("1"))
        await until(lambda: audited(running, "failed") == 1)

        running.router.error = down()
        running.cache.found.append(hit())
        await running.complete(ask("2"))
        await until(lambda: audited(running, "failed") == 2)
        running.router.error = None

        gate = asyncio.Event()
        running.one.scripts.append([gate, *words("Made anew.")])
        running.cache.found.append(hit())
        await running.complete(ask("3"))
        await until(lambda: running.one.open == 1)
        running.cache.error = down()
        gate.set()
        await until(lambda: audited(running, "failed") == 3)
        running.cache.error = None

        running.one.scripts.append(words("Cut", finish=FinishReason.LENGTH))
        running.cache.found.append(hit())
        await running.complete(ask("4"))
        await until(lambda: audited(running, "unfit") == 1)
        assert running.cache.audits == []

        running.cache.found.append(hit())
        await running.complete(ask("5"))
        await until(lambda: audited(running, "reported") == 1)


async def test_at_the_end_an_audit_is_broken_off_and_those_that_wait_are_dropped() -> None:
    async with rig(settle_time=30.0) as running:
        running.one.scripts.append([asyncio.Event()])
        for number in range(3):
            running.cache.found.append(hit(f"audit-{number}"))
            await running.complete(ask(f"Question {number}"))
        await until(lambda: running.one.open == 1)
    assert running.one.closed_early == 1
    assert audited(running, "shutdown") == 3
    assert running.cache.audits == []
    assert len(running.router.reports) == 1, "what was bought until then is reported"
