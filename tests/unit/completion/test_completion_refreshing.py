"""Stale answers: served at once, made anew behind the caller's back, once, and only when there is time for it."""

from __future__ import annotations

import asyncio

from services.completion.ports import Found, Lease, Outcome
from tests.unit.completion.completion_parts import answered, ask, rig, until, words


def stale(lease_id: str = "") -> Found:
    lease = Lease(lease_id, 30.0) if lease_id else None
    return Found(Outcome.STALE, answer=answered("Old."), entry_id="entry", lease=lease)


async def test_a_stale_answer_is_served_and_made_anew_behind_the_callers_back() -> None:
    async with rig() as running:
        gate = asyncio.Event()
        running.one.scripts.append([gate, *words("Made anew.")])
        running.cache.found.append(stale("lease-1"))
        running.cache._leases["lease-1"] = ask("How?").question
        result = await running.complete(ask("How?"))
        assert (result.completed.answer.text, result.completed.cache.outcome) == ("Old.", Outcome.STALE)
        assert result.cost.nano_usd == 0
        await until(lambda: running.one.calls == 1)
        assert running.cache.commits == [], "the caller had its answer before the model began"
        gate.set()
        await until(lambda: len(running.cache.commits) == 1)
        ((lease_id, made),) = running.cache.commits
        assert (lease_id, made.text) == ("lease-1", "Made anew.")
        assert running.counted("refreshes", result="stored") == 1
        assert running.spent == [], "no caller's key is charged"


async def test_who_is_not_asked_to_does_not_make_it_anew() -> None:
    async with rig() as running:
        running.cache.found.append(stale())
        assert (await running.complete(ask("How?"))).completed.answer.text == "Old."
        assert len(running.service.auditing) == 0
    assert running.calls == 0


async def test_a_refresh_that_finds_no_room_or_no_time_gives_its_lease_back() -> None:
    async with rig(audits_waiting=1, audits_below=1) as running:
        gate = asyncio.Event()
        running.one.scripts.append([gate, *words("For a caller.")])
        with running.join(ask("A miss")) as waiting:
            await until(lambda: running.one.calls == 1)
            running.cache.found.append(stale("busy"))
            await running.complete(ask("Stale"))
            await until(lambda: ("busy", "busy") in running.cache.aborts)
            gate.set()
            await waiting.result()
        assert running.counted("refreshes", result="busy") == 1
    async with rig(audits_waiting=0) as running:
        running.cache.found.append(stale("full"))
        await running.complete(ask("Stale"))
        await until(lambda: ("full", "full") in running.cache.aborts)


async def test_an_answer_that_cannot_be_stored_leaves_the_old_one() -> None:
    async with rig() as running:
        running.one.scripts.append(words(""))
        running.cache.found.append(stale("unfit"))
        await running.complete(ask("Stale"))
        await until(lambda: len(running.cache.aborts) == 1)
        assert running.cache.commits == []
