"""A client that has vanished without a word: its machine lost power, or a router forgot its connection."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from services.chassis import server
from tests.faults.proxy import Proxy
from tests.integration.chassis.probe import COUNT, Ping, connected, serving

GUARD_SECONDS = 30.0


@pytest.mark.fault(10)
async def test_a_client_that_has_vanished_is_noticed_and_its_call_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert server.KEEPALIVE_MS + server.KEEPALIVE_TIMEOUT_MS <= 60_000
    monkeypatch.setattr(server, "KEEPALIVE_MS", 100)
    monkeypatch.setattr(server, "KEEPALIVE_TIMEOUT_MS", 100)
    ended = asyncio.Event()

    async def silent(_request: Any, _call: Any) -> AsyncIterator[Any]:
        try:
            yield Ping(text="the first")
            await asyncio.Event().wait()
        finally:
            ended.set()

    async with serving(tmp_path) as bench:
        bench.probe.count = silent
        host, _, port = bench.server.address.rpartition(":")
        async with Proxy.to(host, int(port)) as proxy, connected(proxy.address) as channel:
            call = channel.unary_stream(COUNT)(b"", timeout=4 * GUARD_SECONDS)  # not by its deadline
            await call.read()
            proxy.black_hole()
            async with asyncio.timeout(GUARD_SECONDS):
                await ended.wait()
            call.cancel()
