"""What a key is charged for: the tokens of every call of a model that was made for it, however the call ended."""

from __future__ import annotations

import asyncio

import pytest

from services.chassis.auth.values import Caller, Role
from services.chassis.errors import AntiphonError
from services.completion.upstreams.protocol import TextDelta
from services.llm.values import Usage
from tests.unit.completion.completion_parts import Rig, ask, down, rig, until, words

KEY = Caller("acme", "keyaaaaaaaaa", Role.CLIENT)
SECOND = Caller("acme", "keybbbbbbbbb", Role.CLIENT)


async def charged(r: Rig, calls: int) -> list[tuple[str, int]]:
    await until(lambda: len(r.spent) >= calls)
    await r.settled()
    return r.spent


async def test_an_answer_that_was_bought_is_charged_and_a_hit_is_not() -> None:
    async with rig() as r:
        r.one.scripts.append(words("yes", usage=Usage(100, cached_input=90, output=7, reasoning=4)))
        await r.complete(ask(caller=KEY))
        assert await charged(r, 1) == [(KEY.key_id, 107)]
        await r.complete(ask(caller=SECOND))
        await r.settled()
        assert r.calls == 1
        assert r.spent == [(KEY.key_id, 107)]


async def test_a_call_that_is_shared_is_charged_once_to_the_key_it_was_begun_for() -> None:
    async with rig() as r:
        go = asyncio.Event()
        r.one.scripts.append([go, *words("yes")])
        first = asyncio.create_task(r.complete(ask(caller=KEY)))
        await until(lambda: r.one.calls == 1)
        second = asyncio.create_task(r.complete(ask(caller=SECOND)))
        await until(lambda: sum(1 for fill in r.service.fills._all for _ in range(fill.listeners)) == 2)
        go.set()
        await asyncio.gather(first, second)
        assert await charged(r, 1) == [(KEY.key_id, 15)]


async def test_leaving_before_the_end_does_not_make_it_free() -> None:
    async with rig() as r:
        r.one.scripts.append([TextDelta("a long answer that is read, "), asyncio.Event()])
        asking = asyncio.create_task(r.complete(ask(caller=KEY)))
        await until(lambda: any(len(fill.transcript) for fill in r.service.fills._all))
        asking.cancel()
        await asyncio.wait({asking})
        ((key_id, tokens),) = await charged(r, 1)
        assert key_id == KEY.key_id
        assert tokens > 5


async def test_a_failed_attempt_is_charged_for_what_it_wrote_and_nothing_if_it_wrote_nothing() -> None:
    async with rig() as r:
        r.one.scripts.append([down()])
        r.two.scripts.append([TextDelta("half"), down()])
        with pytest.raises(AntiphonError):
            await r.complete(ask(caller=KEY))
        ((key_id, tokens),) = await charged(r, 1)
        assert key_id == KEY.key_id
        assert tokens > 0
