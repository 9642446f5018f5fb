"""A model that fails before its first content: another answers and nobody notices, or the caller is told why."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from antiphon.completion.v1 import completion_pb2
from antiphon_client import AntiphonError
from tests.fakes import behaviours
from tests.fakes.behaviours import Behaviour, answering
from tests.integration.attempts.world import TIMEOUTS, World, text, world

Code = grpc.StatusCode


async def fails(w: World, **fields: object) -> AntiphonError:
    """Return the error of a call, which tells no secret."""
    with pytest.raises(AntiphonError) as caught:
        await w.complete(**fields)
    assert "SECRET" not in f"{caught.value!r} {caught.value.metadata}"
    await w.settled()
    assert w.cache.stored == {}
    return caught.value


async def fails_with(w: World, prompt: str, attempts: completion_pb2.AttemptPolicy) -> AntiphonError:
    with pytest.raises(AntiphonError) as caught:
        await w.complete(prompt, attempts=attempts)
    return caught.value


def results(info: completion_pb2.CompletionInfo) -> list[tuple[str, str]]:
    return [(attempt.model, attempt.result) for attempt in info.attempts]


# --- another model answers --------------------------------------------------------------------------------------------


async def falls_back(fault: str, *, result: str, retried: bool = False) -> None:
    async with world(timeouts=TIMEOUTS.get(fault, "")) as w:
        w.primary.default = behaviours.FAULTS[fault]()
        events, error = await w.stream()
        assert error is None
        info = events[-1].finished.info
        tries = 2 if retried else 1
        assert results(info) == [("small", result)] * tries + [("large", "OK")]
        assert text(events) == events[-1].finished.answer.text != ""
        assert events[0].started.model == "large"
        assert (len(w.primary.chat_calls), len(w.fallback.chat_calls)) == (tries, 1)
        await w.settled()
        assert len(w.cache.stored) == 1


@pytest.mark.fault(16)
async def test_16_a_rate_limit_without_a_time_is_left_for_another_model() -> None:
    await falls_back("429_untold", result="UPSTREAM_RATE_LIMITED")


@pytest.mark.fault(16)
async def test_16_a_wait_beyond_the_deadline_is_not_waited_for() -> None:
    await falls_back("429_long", result="UPSTREAM_RATE_LIMITED")


@pytest.mark.fault(18)
@pytest.mark.parametrize("fault", ["500", "503"])
async def test_18_a_5xx_is_tried_again_once_then_elsewhere(fault: str) -> None:
    await falls_back(fault, result="UPSTREAM_UNAVAILABLE", retried=True)


@pytest.mark.fault(23)
@pytest.mark.parametrize("fault", ["no_token", "no_headers"])
async def test_23_a_slow_first_token_is_not_waited_for(fault: str) -> None:
    await falls_back(fault, result="UPSTREAM_UNAVAILABLE")


@pytest.mark.fault(26)
@pytest.mark.parametrize(
    ("fault", "result"),
    [
        ("cut_before_headers", "UPSTREAM_UNAVAILABLE"),
        ("cut_before_token", "UPSTREAM_TRUNCATED"),
        ("ended_before_token", "UPSTREAM_TRUNCATED"),
    ],
)
async def test_26_a_drop_before_the_first_token_is_invisible(fault: str, result: str) -> None:
    await falls_back(fault, result=result)


@pytest.mark.fault(30)
async def test_30_an_error_in_place_of_the_first_token_is_invisible() -> None:
    await falls_back("error_first", result="UPSTREAM_UNAVAILABLE", retried=True)


@pytest.mark.fault(31)
@pytest.mark.parametrize("fault", ["html", "wrong_shape", "unstreamed"])
async def test_31_what_is_no_answer_is_tried_again_once_then_elsewhere(fault: str) -> None:
    await falls_back(fault, result="UPSTREAM_MALFORMED", retried=True)


@pytest.mark.fault(34)
async def test_34_what_is_compressed_is_taken_from_nobody() -> None:
    await falls_back("gzip", result="UPSTREAM_MALFORMED")


@pytest.mark.fault(35)
async def test_35_a_redirect_is_left_for_another_model() -> None:
    await falls_back("redirect", result="UPSTREAM_MALFORMED")


@pytest.mark.fault(22)
async def test_22_a_server_that_is_not_there_is_left_for_another_model() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    for nowhere in (f"http://127.0.0.1:{port}/v1", "http://nowhere.invalid/v1"):
        async with world(primary_url=nowhere) as w:
            answered = await w.complete()
            assert results(answered.info) == [("small", "UPSTREAM_UNAVAILABLE"), ("large", "OK")]


@contextmanager
def black_hole() -> Iterator[str]:
    """A listener with a full backlog drops further connection attempts."""
    with socket.socket() as full, ExitStack() as fillers:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for _ in range(4):
            filler = fillers.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())
        yield f"http://127.0.0.1:{full.getsockname()[1]}/v1"


@pytest.mark.fault(22)
async def test_22_connecting_takes_no_longer_than_the_caller_allows() -> None:
    limits = completion_pb2.AttemptPolicy(connect_timeout=Duration(nanos=100_000_000), max_tries=1)
    slow = "connect_timeout_seconds = 600\nfirst_token_timeout_seconds = 3"
    with black_hole() as hole:
        async with world(primary_url=hole, timeouts=slow) as w:
            error = await fails(w, model="small", attempts=limits)
            assert (error.reason, error.metadata["silent"]) == ("UPSTREAM_UNAVAILABLE", "connect")


@pytest.mark.fault(39)
async def test_39_a_black_hole_is_not_waited_for_once_its_breaker_is_open() -> None:
    with black_hole() as hole:
        async with world(primary_url=hole, timeouts="connect_timeout_seconds = 0.1", breaker_failures=2) as w:
            for number in range(2):
                assert (await w.complete(f"{number}?")).info.model == "large"
            assert results((await w.complete("3?")).info) == [("large", "OK")]
            assert w.happened("breaker_opened") == 1


# --- waited for, or left alone for a while ----------------------------------------------------------------------------


@pytest.mark.fault(16)
async def test_16_a_short_wait_is_waited_for() -> None:
    async with world() as w:
        w.primary.enqueue(behaviours.rate_limited(0.05))
        answered = await w.complete()
        assert results(answered.info) == [("small", "UPSTREAM_RATE_LIMITED"), ("small", "OK")]
        first, second = w.primary.chat_calls
        assert second.started - first.started >= 0.05
        assert w.happened("paused") == 1


@pytest.mark.fault(16)
async def test_16_without_another_model_the_caller_is_told_when_to_come_again() -> None:
    async with world() as w:
        w.primary.default = behaviours.rate_limited(3600)
        error = await fails(w, model="small")
        assert (error.code, error.reason) == (Code.RESOURCE_EXHAUSTED, "UPSTREAM_RATE_LIMITED")
        assert error.retry_after == 3600
        assert (error.metadata["attempts"], error.metadata["last_reason"]) == ("1", "UPSTREAM_RATE_LIMITED")
        # Nobody else is sent there in the meantime.
        error = await fails(w, prompt="Another?", model="small")
        assert 3500 < (error.retry_after or 0) <= 3600
        assert len(w.primary.chat_calls) == 1


@pytest.mark.fault(16)
async def test_16_what_the_headers_say_is_left_is_heeded() -> None:
    async with world() as w:
        spent = {"x-ratelimit-limit-requests": "60", "x-ratelimit-remaining-requests": "0"}
        w.primary.default = answering("x", headers={**spent, "x-ratelimit-reset-requests": "1h"})
        assert (await w.complete("1?")).info.model == "small"
        assert results((await w.complete("2?")).info) == [("large", "OK")]


@pytest.mark.fault(17, 19)
@pytest.mark.parametrize(
    ("fault", "code", "reason"),
    [
        ("quota", Code.RESOURCE_EXHAUSTED, "UPSTREAM_RATE_LIMITED"),
        ("401", Code.FAILED_PRECONDITION, "UPSTREAM_UNAUTHENTICATED"),
        ("403", Code.FAILED_PRECONDITION, "UPSTREAM_UNAUTHENTICATED"),
    ],
)
async def test_17_19_a_key_or_account_that_is_refused_is_not_tried_for_a_while(
    fault: str, code: grpc.StatusCode, reason: str
) -> None:
    async with world() as w:
        w.primary.default = behaviours.FAULTS[fault]()
        first, second = await w.complete("1?"), await w.complete("2?")
        assert results(first.info) == [("small", reason), ("large", "OK")]
        assert results(second.info) == [("large", "OK")]
        assert len(w.primary.chat_calls) == 1
        assert w.happened("barred") == 1
        error = await _only_small(w)
        assert (error.code, error.reason) == (code, reason)
        assert len(w.primary.chat_calls) == 1


async def _only_small(w: World) -> AntiphonError:
    with pytest.raises(AntiphonError) as caught:
        await w.complete("3?", model="small")
    assert "SECRET" not in f"{caught.value!r} {caught.value.metadata}"
    return caught.value


@pytest.mark.fault(20)
async def test_20_a_prompt_that_is_too_long_goes_to_a_larger_model_or_back() -> None:
    async with world(large_context=8_000) as w:
        w.primary.default = behaviours.context_too_long()
        answered = await w.complete()
        assert results(answered.info) == [("small", "CONTEXT_TOO_LONG"), ("large", "OK")]
    async with world(large_context=4_000) as w:
        w.primary.default = behaviours.context_too_long()
        error = await fails(w)
        assert (error.code, error.reason) == (Code.INVALID_ARGUMENT, "CONTEXT_TOO_LONG")
        assert w.fallback.chat_calls == []


@pytest.mark.fault(21)
@pytest.mark.parametrize("fault", ["prompt_filtered", "filtered_first"])
async def test_21_what_is_filtered_at_once_is_refused_and_not_tried_elsewhere(fault: str) -> None:
    async with world() as w:
        w.primary.default = behaviours.FAULTS[fault]()
        error = await fails(w)
        assert (error.code, error.reason) == (Code.FAILED_PRECONDITION, "CONTENT_FILTERED")
        assert w.fallback.chat_calls == []


async def test_a_prompt_that_is_flagged_with_403_bars_nobody() -> None:
    async with world() as w:
        flagged = {"code": 403, "message": "flagged", "metadata": {"reasons": ["violence"], "flagged_input": "..."}}
        w.primary.enqueue(Behaviour(status=403, headers={"content-type": "application/json"}, body={"error": flagged}))
        assert (await fails(w)).reason == "CONTENT_FILTERED"
        assert (await w.complete("Another?")).info.model == "small"


# --- the caller's own limits ------------------------------------------------------------------------------------------


async def test_a_caller_may_tighten_tries_and_times() -> None:
    async with world() as w:
        w.primary.default = behaviours.status(500)
        error = await fails(w, attempts=completion_pb2.AttemptPolicy(max_tries=1))
        assert error.reason == "UPSTREAM_UNAVAILABLE"
        assert w.fallback.chat_calls == []
        w.primary.default = behaviours.FAULTS["no_token"]()
        quick = completion_pb2.AttemptPolicy(first_token_timeout=Duration(nanos=100_000_000))
        assert (await w.complete("2?", attempts=quick)).info.model == "large"
        whole = completion_pb2.AttemptPolicy(total_timeout=Duration(nanos=200_000_000), max_tries=1)
        error = await fails_with(w, "3?", whole)
        assert error.code is Code.DEADLINE_EXCEEDED


async def test_one_callers_impatience_closes_a_model_to_nobody() -> None:
    impatient = completion_pb2.AttemptPolicy(first_token_timeout=Duration(nanos=1_000_000), max_tries=1)
    async with world(answer_limit=1024) as w:
        w.primary.default = behaviours.FAULTS["no_token"]()
        for number in range(8):
            error = await fails_with(w, f"{number}?", impatient)
            assert error.reason == "UPSTREAM_UNAVAILABLE"
        w.primary.default = answering("x" * 2000)
        for number in range(8):
            error = await fails_with(w, f"{number}!", completion_pb2.AttemptPolicy(max_tries=1))
            assert error.code is Code.RESOURCE_EXHAUSTED
        w.primary.default = Behaviour()
        assert (await w.complete("And now?")).info.model == "small"
        assert w.happened("breaker_opened") == 0
