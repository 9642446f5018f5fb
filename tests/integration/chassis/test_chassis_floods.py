"""One connection that floods a server, and the others that it serves all the same."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from h2.errors import ErrorCodes

from tests.http2_flood import Kind, flood
from tests.integration.chassis.probe import ECHO, Bench, connected

GUARD_SECONDS = 60.0
CALLS = 1_000
FRAMES = 5_000
FLOODS = 3


@pytest.mark.fault(11)
async def test_pings_without_end_are_answered_with_goaway(bench: Bench) -> None:
    async with asyncio.timeout(GUARD_SECONDS):
        for _ in range(3):  # the end of one connection is not the end of the server
            ended = await flood(bench.server.address, "pings", FRAMES)
            assert ended.error_code == ErrorCodes.ENHANCE_YOUR_CALM
            assert ended.sent < FRAMES


@pytest.mark.fault(11)
@pytest.mark.parametrize("kind", ["pings", "resets"])
async def test_a_flood_costs_nobody_else_a_call(bench: Bench, kind: Kind) -> None:
    async def attack() -> None:
        for _ in range(FLOODS):
            await flood(bench.server.address, kind, FRAMES, path=ECHO)

    async with connected(bench.server.address) as channel, asyncio.timeout(GUARD_SECONDS):
        echo: Any = channel.unary_unary(ECHO)
        await echo(b"", timeout=GUARD_SECONDS)
        async with asyncio.TaskGroup() as group:
            attacking = group.create_task(attack())
            answered = 0
            while answered < CALLS or not attacking.done():
                await asyncio.gather(*(echo(b"", timeout=GUARD_SECONDS) for _ in range(10)))
                answered += 10
