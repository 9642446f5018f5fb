"""What is counted, logged and known of a call, and the metadata that it takes and gives."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from services.chassis import errors
from services.chassis.handler import SLOW_SECONDS
from tests.integration.chassis.probe import (
    ECHO,
    GUARD_SECONDS,
    Bench,
    Details,
    Ping,
    connected,
    raising,
    refused,
    serving,
    still_serves,
)

SECRET = "the prompt nobody may see"


async def test_calls_are_counted_by_status(bench: Bench, channel: Any) -> None:
    for _ in range(3):
        await still_serves(channel)
    bench.probe.echo = raising(errors.NotFound("m"))
    await refused(channel.unary_unary(ECHO)(b"", timeout=GUARD_SECONDS))
    method = "antiphon_test.Probe/Echo"
    assert bench.metric("antiphon_rpcs_total", method=method, code="OK") == 3
    assert bench.metric("antiphon_rpcs_total", method=method, code="NOT_FOUND") == 1
    assert bench.metric("antiphon_rpc_duration_seconds_count", method=method) == 4
    assert bench.metric("antiphon_rpcs_in_flight", method=method) == 0


async def test_errors_and_slow_calls_are_logged_and_ordinary_ones_sampled(bench: Bench, channel: Any) -> None:
    async def slow(request: Any, _call: Any) -> Any:
        await asyncio.sleep(SLOW_SECONDS)  # the time itself is what is tested
        return request

    await still_serves(channel)
    assert '"rpc"' not in bench.log()
    bench.probe.echo = slow
    await channel.unary_unary(ECHO)(Ping(text=SECRET).SerializeToString(), timeout=GUARD_SECONDS)
    bench.probe.echo = raising(errors.NotFound("m"))
    await refused(channel.unary_unary(ECHO)(b"", metadata=(("x-request-id", "req-1"),), timeout=GUARD_SECONDS))
    lines = [line for line in map(json.loads, bench.log().splitlines()) if line["event"] == "rpc"]
    assert [(line["code"], line.get("reason")) for line in lines] == [("OK", None), ("NOT_FOUND", "ENTRY_NOT_FOUND")]
    assert lines[1]["request_id"] == "req-1"
    assert SECRET not in bench.log()


async def test_a_sample_of_ordinary_calls_is_logged(tmp_path: Path) -> None:
    async with (
        serving(tmp_path, log_sample=1.0) as bench,
        connected(bench.server.address) as channel,
    ):
        await still_serves(channel)
        assert '"code":"OK"' in bench.log()


@pytest.mark.parametrize(
    ("given_id", "kept"), [("trace-7:a/b", True), ("with space", False), ("x" * 129, False), (None, False)]
)
async def test_a_request_id_is_the_callers_if_it_is_a_plain_one(
    bench: Bench, channel: Any, given_id: str | None, kept: bool
) -> None:
    metadata = (("x-request-id", given_id),) if given_id else ()
    await channel.unary_unary(ECHO)(b"", metadata=metadata, timeout=GUARD_SECONDS)
    call = bench.probe.calls[0]
    assert call.request_id
    assert (call.request_id == given_id) == kept


async def test_a_call_can_be_asked_about_after_its_end(bench: Bench, channel: Any) -> None:
    async def asks(request: Any, call: Any) -> Any:
        assert call.peer.startswith("ipv4:127.0.0.1:")
        return request

    await channel.unary_unary(ECHO)(b"", metadata=(("x-key", "value"),), timeout=GUARD_SECONDS)
    bench.probe.echo = asks
    await channel.unary_unary(ECHO)(b"", timeout=GUARD_SECONDS)
    unasked, asked = bench.probe.calls
    assert unasked.ended
    assert unasked.peer == ""
    assert unasked.metadata["x-key"] == "value"
    assert unasked.deadline.remaining() > 0
    assert asked.peer.startswith("ipv4:127.0.0.1:")


async def test_trailing_metadata_is_sent_whatever_the_end(bench: Bench, channel: Any) -> None:
    async def good(request: Any, call: Any) -> Any:
        call.add_trailing("grpc-retry-pushback-ms", "-1")
        return request

    async def bad(request: Any, call: Any) -> Any:
        await good(request, call)
        raise errors.Unavailable("m")

    bench.probe.echo = good
    call = channel.unary_unary(ECHO)(b"", timeout=GUARD_SECONDS)
    await call
    assert dict(await call.trailing_metadata())["grpc-retry-pushback-ms"] == "-1"
    bench.probe.echo = bad
    error = await refused(channel.unary_unary(ECHO)(b"", timeout=GUARD_SECONDS))
    assert dict(error.trailing_metadata())["grpc-retry-pushback-ms"] == "-1"
    assert Details(error).info is not None
