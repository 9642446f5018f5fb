"""What goes wrong in a method, or takes too long, is told its caller as a status with details; a defect is not."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from services.chassis import errors
from services.chassis.errors import Reason
from tests.integration.chassis.probe import (
    COUNT,
    ECHO,
    GUARD_SECONDS,
    WAIT,
    WAIT_SECONDS,
    Bench,
    Details,
    PanicException,
    Ping,
    drained,
    raising,
    refused,
    still_serves,
)

SECRET = "the prompt nobody may see"


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
    for method in (channel.unary_unary(WAIT)(b""), drained(channel.unary_stream(COUNT)(b""))):
        async with asyncio.timeout(GUARD_SECONDS):
            error = await refused(method)
        assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert Details(error).info.reason == "DEADLINE_EXCEEDED"


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
        drained(channel.unary_stream(COUNT)(b"", timeout=GUARD_SECONDS)),
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
