"""What a caller sees of a servicer's method, over a real connection."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.chassis import errors
from services.chassis.errors import Reason
from services.chassis.handler import SLOW_SECONDS
from services.chassis.server import MAX_MESSAGE_BYTES, MAX_METADATA_BYTES
from tests.integration.chassis.probe import (
    COLLECT,
    COUNT,
    ECHO,
    WAIT,
    WAIT_SECONDS,
    Bench,
    Details,
    Ping,
    connected,
    refused,
    serving,
)

SECRET = "the prompt nobody may see"
GUARD_SECONDS = 10.0


class PanicException(BaseException):
    """Has the base and the name of what a Rust panic becomes (`pyo3_runtime.PanicException`)."""


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with serving(tmp_path) as running:
        yield running


@pytest.fixture
async def channel(bench: Bench) -> AsyncIterator[Any]:
    async with connected(bench.server.address) as connection:
        yield connection


def raising(error: BaseException) -> Any:
    async def body(_request: Any, _call: Any) -> Any:
        raise error

    return body


async def still_serves(channel: Any) -> bool:
    answer = await channel.unary_unary(ECHO)(Ping(text="still here").SerializeToString(), timeout=GUARD_SECONDS)
    return bool(Ping.FromString(answer).text == "still here")


async def test_an_answer_is_what_the_servicer_returned(channel: Any) -> None:
    assert await still_serves(channel)


# --- requests ---------------------------------------------------------------------------------------------------------


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


# --- deadlines --------------------------------------------------------------------------------------------------------


async def forever(_request: Any, _call: Any) -> Any:
    await asyncio.Event().wait()


async def never_ending(_request: Any, _call: Any) -> AsyncIterator[Any]:
    yield Ping(text="first")
    await asyncio.Event().wait()


@pytest.mark.fault(6)
async def test_without_a_deadline_the_method_has_its_default(bench: Bench, channel: Any) -> None:
    bench.probe.wait = forever
    bench.probe.count = never_ending
    for method in (channel.unary_unary(WAIT)(b""), _drained(channel.unary_stream(COUNT)(b""))):
        async with asyncio.timeout(GUARD_SECONDS):
            error = await refused(method)
        assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert Details(error).info.reason == "DEADLINE_EXCEEDED"


async def _drained(stream: Any) -> list[bytes]:
    return [message async for message in stream]


async def test_the_callers_deadline_replaces_the_default(bench: Bench, channel: Any) -> None:
    async def longer_than_default(request: Any, _call: Any) -> Any:
        await asyncio.sleep(WAIT_SECONDS * 2)  # the time itself is what is tested
        return request

    bench.probe.wait = longer_than_default
    await channel.unary_unary(WAIT)(b"", timeout=GUARD_SECONDS)
    assert WAIT_SECONDS < bench.probe.calls[0].deadline.remaining() <= GUARD_SECONDS


async def test_a_deadline_that_passes_cancels_the_method(bench: Bench, channel: Any) -> None:
    ended = asyncio.Event()

    async def body(_request: Any, _call: Any) -> Any:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    bench.probe.echo = body
    error = await refused(channel.unary_unary(ECHO)(b"", timeout=0.1))
    assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    async with asyncio.timeout(GUARD_SECONDS):
        await ended.wait()
    assert bench.probe.calls[0].cancelled
    method = "antiphon_test.Probe/Echo"
    assert bench.metric("antiphon_rpcs_total", method=method, code="DEADLINE_EXCEEDED") == 1


async def test_a_timeout_that_the_deadline_caused_is_deadline_exceeded(bench: Bench, channel: Any) -> None:
    async def body(_request: Any, call: Any) -> Any:
        async with asyncio.timeout(call.deadline.remaining()):
            await asyncio.Event().wait()

    bench.probe.wait = body
    assert (await refused(channel.unary_unary(WAIT)(b""))).code() is grpc.StatusCode.DEADLINE_EXCEEDED


# --- errors -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "code", "retryable"),
    [
        (errors.InvalidRequest("m", field="query.text"), "INVALID_ARGUMENT", False),
        (errors.NotFound("m"), "NOT_FOUND", False),
        (errors.FailedPrecondition("m", reason=Reason.NO_MODEL_FITS), "FAILED_PRECONDITION", False),
        (errors.PermissionDenied("m"), "PERMISSION_DENIED", False),
        (errors.Unauthenticated("m"), "UNAUTHENTICATED", False),
        (errors.Exhausted("m"), "RESOURCE_EXHAUSTED", True),
        (errors.Unavailable("m", reason=Reason.STORE_UNAVAILABLE), "UNAVAILABLE", True),
        (errors.DeadlineExceeded("m"), "DEADLINE_EXCEEDED", False),
        (errors.Aborted("m"), "ABORTED", False),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
async def test_a_domain_error_has_its_code_and_details(
    bench: Bench, channel: Any, error: errors.AntiphonError, code: str, retryable: bool
) -> None:
    async def stream(_request: Any, _call: Any) -> AsyncIterator[Any]:
        yield Ping()
        raise error

    bench.probe.echo = raising(error)
    bench.probe.count = stream
    for call in (
        channel.unary_unary(ECHO)(b"", timeout=GUARD_SECONDS),
        _drained(channel.unary_stream(COUNT)(b"", timeout=GUARD_SECONDS)),
    ):
        seen = await refused(call)
        details = Details(seen)
        assert (seen.code().name, seen.details()) == (code, "m")
        assert (details.info.reason, details.info.domain) == (error.reason.value, "antiphon")
        assert (details.retry is not None) == retryable
        fields = [violation.field for violation in details.bad.field_violations] if details.bad else []
        assert fields == ([error.field] if error.field else [])


async def test_retry_after_travels_as_retry_info(bench: Bench, channel: Any) -> None:
    bench.probe.echo = raising(errors.Exhausted("m", retry_after=2.5, metadata={"limit": "tokens"}))
    details = Details(await refused(channel.unary_unary(ECHO)(b"", timeout=GUARD_SECONDS)))
    assert details.retry.retry_delay.ToMilliseconds() == 2500
    assert dict(details.info.metadata) == {"limit": "tokens"}


async def test_a_message_too_long_for_a_header_still_arrives(bench: Bench, channel: Any) -> None:
    bench.probe.echo = raising(errors.InvalidRequest("語" * 50_000, field="語" * 50_000))
    error = await refused(channel.unary_unary(ECHO)(b"", timeout=GUARD_SECONDS))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert (error.details() or "").startswith("語語語")


async def cancelled_inside(_request: Any, _call: Any) -> Any:
    task = asyncio.create_task(asyncio.Event().wait())
    task.cancel()
    await task


async def wrong_answer(_request: Any, _call: Any) -> Any:
    return {"text": SECRET}


@pytest.mark.fault(76)
@pytest.mark.parametrize(
    "body",
    [
        raising(PanicException(SECRET)),
        raising(ValueError(SECRET)),
        raising(errors.Internal(SECRET)),
        raising(TimeoutError(SECRET)),
        raising(BaseExceptionGroup("several", [PanicException(SECRET)])),
        cancelled_inside,
        wrong_answer,
    ],
    ids=["panic", "ValueError", "Internal", "TimeoutError", "group", "cancelled inside", "wrong answer"],
)
async def test_a_defect_is_answered_once_with_a_reference_only(bench: Bench, channel: Any, body: Any) -> None:
    async def stream(request: Any, call: Any) -> AsyncIterator[Any]:
        yield await body(request, call)

    for method in (ECHO, COUNT):
        bench.probe.echo = body
        bench.probe.count = stream
        # Without an answer this would last until the deadline, and have its code.
        error = await refused(channel.unary_unary(method)(b"", timeout=GUARD_SECONDS))
        assert error.code() is grpc.StatusCode.INTERNAL
        reference = Details(error).info.metadata["reference"]
        assert error.details() == f"internal error, reference {reference}"
        assert SECRET not in str(error)

        (line,) = [json.loads(text) for text in bench.log().splitlines() if reference in text]
        assert line["level"] == "error"
        assert line["exception"][0]["type"]
        assert any(frame.endswith(("body", "cancelled_inside", "_serialise")) for frame in line["exception"][0]["at"])
        assert SECRET not in bench.log()

        bench.probe.echo = type(bench.probe)().echo
        assert await still_serves(channel)
        assert bench.metric("antiphon_rpcs_in_flight", method=f"antiphon_test.Probe/{method.rpartition('/')[2]}") == 0


# --- streams ----------------------------------------------------------------------------------------------------------


async def test_a_stream_arrives_in_order(bench: Bench, channel: Any) -> None:
    async def body(_request: Any, _call: Any) -> AsyncIterator[Any]:
        for number in range(100):
            yield Ping(text=str(number))

    bench.probe.count = body
    messages = await _drained(channel.unary_stream(COUNT)(b"", timeout=GUARD_SECONDS))
    assert [Ping.FromString(raw).text for raw in messages] == [str(number) for number in range(100)]


@pytest.mark.parametrize("endless", [True, False], ids=["while writing", "while waiting"])
async def test_a_stream_is_closed_when_its_caller_leaves(bench: Bench, channel: Any, endless: bool) -> None:
    closed = asyncio.Event()

    async def body(_request: Any, _call: Any) -> AsyncIterator[Any]:
        try:
            yield Ping(text="first")
            while endless:
                yield Ping(text="x" * 100_000)  # soon more than the connection's window: the write itself waits
            await asyncio.Event().wait()
        finally:
            closed.set()

    bench.probe.count = body
    stream = channel.unary_stream(COUNT)(b"", timeout=GUARD_SECONDS)
    await stream.read()
    assert not closed.is_set()
    stream.cancel()
    async with asyncio.timeout(GUARD_SECONDS / 2):
        await closed.wait()
    assert bench.probe.calls[0].cancelled
    assert await still_serves(channel)
    assert bench.metric("antiphon_rpcs_total", method="antiphon_test.Probe/Count", code="CANCELLED") == 1


@pytest.mark.fault(9)
async def test_a_reader_that_stands_still_is_cut_off(bench: Bench, channel: Any) -> None:
    sent, closed = 0, asyncio.Event()

    async def body(_request: Any, _call: Any) -> AsyncIterator[Any]:
        nonlocal sent
        try:
            while True:
                sent += 1
                yield Ping(text="x" * 100_000)
        finally:
            closed.set()

    bench.probe.count = body
    stream = channel.unary_stream(COUNT)(b"", timeout=2 * GUARD_SECONDS)
    async with asyncio.timeout(GUARD_SECONDS):
        await closed.wait()
    assert sent < 200
    error = await refused(_drained(stream))
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert Details(error).info.reason == Reason.READER_TOO_SLOW
    assert await still_serves(channel)


async def test_a_stream_of_requests_is_read_as_it_comes(bench: Bench, channel: Any) -> None:
    read: asyncio.Queue[str] = asyncio.Queue()

    async def body(requests: AsyncIterator[Any], _call: Any) -> Any:
        async for request in requests:
            read.put_nowait(request.text)
        return Ping(text="all")

    bench.probe.collect = body
    stream = channel.stream_unary(COLLECT)(timeout=GUARD_SECONDS)
    for number in range(10):
        await stream.write(Ping(text=str(number)).SerializeToString())
        assert await read.get() == str(number)
    await stream.done_writing()
    assert Ping.FromString(await stream).text == "all"


async def test_a_stream_of_requests_ends_with_the_first_that_is_wrong(bench: Bench, channel: Any) -> None:
    read: list[str] = []

    async def body(requests: AsyncIterator[Any], _call: Any) -> Any:
        async for request in requests:
            read.append(request.text)  # noqa: PERF401 -- what came before the error counts, too
        return Ping()

    bench.probe.collect = body
    for wrong, reason in (
        (b"\xff", Reason.MALFORMED_MESSAGE),
        (Ping(mood=9).SerializeToString(), Reason.INVALID_FIELD),
    ):
        read.clear()
        sent = iter((Ping(text="first").SerializeToString(), wrong, b""))
        error = await refused(channel.stream_unary(COLLECT)(sent, timeout=GUARD_SECONDS))
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert Details(error).info.reason == reason
        assert read == ["first"]
    assert await still_serves(channel)


async def test_a_method_ends_when_who_sends_to_it_leaves(bench: Bench, channel: Any) -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    async def body(requests: AsyncIterator[Any], _call: Any) -> Any:
        try:
            async for _ in requests:
                begun.set()
        finally:
            ended.set()
        return Ping()

    bench.probe.collect = body
    stream = channel.stream_unary(COLLECT)(timeout=GUARD_SECONDS)
    await stream.write(b"")
    async with asyncio.timeout(GUARD_SECONDS / 2):
        await begun.wait()
        stream.cancel()
        await ended.wait()
    assert await still_serves(channel)


# --- limits -----------------------------------------------------------------------------------------------------------


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


# --- telemetry and metadata -------------------------------------------------------------------------------------------


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
