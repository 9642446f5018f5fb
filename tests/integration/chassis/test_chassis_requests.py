"""A request that cannot be read, is too large or one too many is refused with its reason, and the next is served."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import grpc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.chassis import errors
from services.chassis.server import MAX_MESSAGE_BYTES, MAX_METADATA_BYTES
from tests.integration.chassis.probe import (
    COUNT,
    ECHO,
    GUARD_SECONDS,
    WAIT,
    Bench,
    Details,
    PanicException,
    Ping,
    connected,
    raising,
    refused,
    serving,
    still_serves,
)

SECRET = "the prompt nobody may see"


# --- what is asked ----------------------------------------------------------------------------------------------------


async def test_an_answer_is_what_the_servicer_returned(channel: Any) -> None:
    assert await still_serves(channel)


def nested(depth: int) -> bytes:
    raw = b""
    for _ in range(depth):
        # Tag of field 4, `inner`, then its length as a varint.
        length, prefix = len(raw), bytearray(b"\x22")
        while length > 0x7F:
            prefix.append(length & 0x7F | 0x80)
            length >>= 7
        prefix.append(length)
        raw = bytes(prefix) + raw
    return raw


@pytest.mark.fault(1)
@pytest.mark.parametrize(
    "raw",
    [b"\xff\xff\xff", b"\x0a\xff\x01", b"\x0a\x02\xff\xfe", nested(20_000)],
    ids=["garbage", "length beyond the end", "bad UTF-8", "nested 20,000 deep"],
)
async def test_a_malformed_message_is_an_invalid_argument(bench: Bench, channel: Any, raw: bytes) -> None:
    for method in (channel.unary_unary(ECHO), channel.unary_unary(COUNT)):
        error = await refused(method(raw, timeout=GUARD_SECONDS))
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
        details = Details(error)
        assert details.info.reason == "MALFORMED_MESSAGE"
        assert error.details() == "the bytes are not a antiphon_test.Ping"
        assert details.retry is None
    assert bench.probe.calls == []
    assert await still_serves(channel)


@pytest.mark.fault(1)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(raw=st.binary(max_size=200))
async def test_any_bytes_are_answered_or_refused_as_invalid(channel: Any, raw: bytes) -> None:
    try:
        await channel.unary_unary(ECHO)(raw, timeout=GUARD_SECONDS)
    except grpc.aio.AioRpcError as error:
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert Details(error).info.domain == "antiphon"


@pytest.mark.fault(5)
@pytest.mark.parametrize(
    ("request_", "path"),
    [
        (Ping(mood=7), "mood"),
        (Ping(moods=[1, 0, 9]), "moods[2]"),
        (Ping(inner=Ping(inner=Ping(mood=7))), "inner.inner.mood"),
        (Ping(inners=[Ping(), Ping(moods=[7])]), "inners[1].moods[0]"),
        (Ping(mood_by_name={SECRET: 7}), "mood_by_name"),
        (Ping(inner_by_name={SECRET: Ping(mood=7)}), "inner_by_name.mood"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_an_unknown_enum_number_is_refused_with_its_field(channel: Any, request_: Any, path: str) -> None:
    error = await refused(channel.unary_unary(ECHO)(request_.SerializeToString(), timeout=GUARD_SECONDS))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    details = Details(error)
    assert details.info.reason == "INVALID_FIELD"
    assert [violation.field for violation in details.bad.field_violations] == [path]
    assert SECRET not in str(error)


async def test_known_enum_numbers_and_unknown_fields_are_accepted(channel: Any) -> None:
    known = Ping(mood=1, moods=[0, 1], inner=Ping(mood=1), mood_by_name={"a": 1}, inner_by_name={"a": Ping(mood=1)})
    unknown_field = b"\xf8\x3f\x01"  # field 1023, a varint
    answer = await channel.unary_unary(ECHO)(known.SerializeToString() + unknown_field, timeout=GUARD_SECONDS)
    assert Ping.FromString(answer).inner.mood == 1


@pytest.mark.fault(3)
async def test_a_message_may_have_16_mib_and_not_more(bench: Bench) -> None:
    options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    async with connected(bench.server.address, options=options) as channel:
        fits = Ping(text="x" * (MAX_MESSAGE_BYTES - 1024)).SerializeToString()
        assert len(await channel.unary_unary(ECHO)(fits, timeout=GUARD_SECONDS)) == len(fits)
        too_large = Ping(text="x" * (MAX_MESSAGE_BYTES + 1)).SerializeToString()
        error = await refused(channel.unary_unary(ECHO)(too_large, timeout=GUARD_SECONDS))
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert len(bench.probe.calls) == 1
        assert await still_serves(channel)


@pytest.mark.fault(4)
async def test_metadata_may_have_16_kib_and_not_more(bench: Bench, channel: Any) -> None:
    fits = (("x-filler", "x" * (MAX_METADATA_BYTES - 1024)),)
    await channel.unary_unary(ECHO)(b"", metadata=fits, timeout=GUARD_SECONDS)
    # Refused always, not with the growing probability that gRPC's default has between its two limits.
    for _ in range(20):
        too_large = (("x-filler", "x" * (MAX_METADATA_BYTES + 1)),)
        error = await refused(channel.unary_unary(ECHO)(b"", metadata=too_large, timeout=GUARD_SECONDS))
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert len(bench.probe.calls) == 1
    assert await still_serves(channel)


# --- how much at once -------------------------------------------------------------------------------------------------


async def test_waiting_calls_cannot_take_the_places_of_others(tmp_path: Path) -> None:
    entered, release = asyncio.Semaphore(0), asyncio.Event()

    async def body(request: Any, _call: Any) -> Any:
        entered.release()
        await release.wait()
        return request

    async with (
        serving(tmp_path, limits={"waiters": 3}, max_concurrent_rpcs=1) as bench,
        connected(bench.server.address) as channel,
    ):
        bench.probe.wait = body
        waiting = [channel.unary_unary(WAIT)(b"", timeout=GUARD_SECONDS) for _ in range(3)]
        for _ in waiting:
            await entered.acquire()

        error = await refused(channel.unary_unary(WAIT)(b"", timeout=GUARD_SECONDS))
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        details = Details(error)
        assert details.info.reason == "OVERLOADED"
        assert details.retry.retry_delay.ToMilliseconds() > 0
        assert await still_serves(channel)

        release.set()
        await asyncio.gather(*waiting)
        await channel.unary_unary(WAIT)(b"", timeout=GUARD_SECONDS)


async def test_a_failed_call_gives_its_place_back(tmp_path: Path) -> None:
    async with (
        serving(tmp_path, max_concurrent_rpcs=1) as bench,
        connected(bench.server.address) as channel,
    ):
        for error in (errors.NotFound("m"), PanicException("m")):
            bench.probe.echo = raising(error)
            await refused(channel.unary_unary(ECHO)(b"", timeout=GUARD_SECONDS))
        await refused(channel.unary_unary(ECHO)(b"\xff", timeout=GUARD_SECONDS))
        bench.probe.echo = type(bench.probe)().echo
        assert await still_serves(channel)
