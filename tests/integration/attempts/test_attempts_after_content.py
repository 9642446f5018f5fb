"""A model that fails after its first content: the caller is told, and what was delivered, or another goes on."""

from __future__ import annotations

import grpc
import pytest

from antiphon.completion.v1 import completion_pb2
from antiphon.llm.v1 import llm_pb2
from tests.fakes import behaviours
from tests.fakes.behaviours import Behaviour, answering
from tests.integration.attempts.world import TIMEOUTS, text, world

Code = grpc.StatusCode


# --- what breaks off --------------------------------------------------------------------------------------------------

BROKEN = [
    pytest.param("stall", "one two ", "UPSTREAM_TRUNCATED", marks=pytest.mark.fault(24)),
    pytest.param("cut", "one two ", "UPSTREAM_TRUNCATED", marks=pytest.mark.fault(27)),
    pytest.param("ended", "one two ", "UPSTREAM_TRUNCATED", marks=pytest.mark.fault(28)),
    pytest.param("malformed", "Hel", "UPSTREAM_MALFORMED", marks=pytest.mark.fault(29)),
    pytest.param("half_event", "Hel", "UPSTREAM_TRUNCATED", marks=pytest.mark.fault(29)),
    pytest.param("error", "one two ", "UPSTREAM_UNAVAILABLE", marks=pytest.mark.fault(30)),
    pytest.param("overloaded_in_stream", "one two ", "UPSTREAM_UNAVAILABLE", marks=pytest.mark.fault(30)),
]


@pytest.mark.parametrize(("fault", "delivered", "cause"), BROKEN)
async def test_an_answer_that_breaks_off_says_so_and_is_not_cached(fault: str, delivered: str, cause: str) -> None:
    async with world(timeouts=TIMEOUTS.get(fault, "")) as w:
        w.primary.default = behaviours.FAULTS[fault]()
        events, error = await w.stream()
        assert error is not None
        assert (error.code, error.reason) == (Code.UNAVAILABLE, "UPSTREAM_TRUNCATED")
        assert text(events) == delivered
        assert error.metadata["offset"] == str(len(delivered.encode()))
        assert (error.metadata["cause"], error.metadata["attempts"]) == (cause, "1")
        assert error.retry_after is not None
        assert not any(event.HasField("finished") for event in events)
        assert w.fallback.chat_calls == []
        await w.settled()
        assert w.cache.stored == {}
        await w.primary.until(lambda s: s.in_flight == 0)


@pytest.mark.parametrize(("fault", "delivered", "cause"), BROKEN)
async def test_who_asked_for_it_gets_the_rest_from_another_model(fault: str, delivered: str, cause: str) -> None:
    continues = completion_pb2.AttemptPolicy(after_content=completion_pb2.AFTER_CONTENT_CONTINUE)
    async with world(timeouts=TIMEOUTS.get(fault, "")) as w:
        w.primary.default = behaviours.FAULTS[fault]()
        w.fallback.default = answering("and ", "the rest.")
        events, error = await w.stream(attempts=continues)
        assert error is None
        finished = events[-1].finished
        assert text(events) == finished.answer.text == f"{delivered}and the rest."
        (continued,) = [event.continued for event in events if event.HasField("continued")]
        assert (continued.model, continued.upstream, continued.offset) == ("large", "fallback", len(delivered))
        assert [attempt.offset for attempt in finished.info.attempts] == [0, len(delivered)]
        assert [event.WhichOneof("event") for event in events].count("started") == 1
        asked = w.fallback.chat_calls[0].body["messages"]
        assert [message["role"] for message in asked] == ["user", "assistant", "user"]
        assert asked[1]["content"] == delivered
        costs = [attempt.cost.nano_usd for attempt in finished.info.attempts]
        assert all(costs)
        assert finished.info.cost.nano_usd == sum(costs)
        await w.settled()
        assert w.cache.stored == {}
        assert w.cache.open_leases == 0


@pytest.mark.fault(25)
async def test_25_an_endless_drip_ends_with_the_time_of_the_call() -> None:
    async with world(timeouts="total_timeout_seconds = 0.3") as w:
        w.primary.default = behaviours.slow_drip(0.01)
        events, error = await w.stream()
        assert error is not None
        assert (error.code, error.reason) == (Code.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED")
        assert error.metadata["offset"] == str(len(text(events))) != "0"
        await w.primary.until(lambda s: s.disconnects == 1)


@pytest.mark.fault(34)
async def test_34_a_line_without_end_is_cut_at_the_cap() -> None:
    async with world() as w:
        w.primary.default = behaviours.oversize_line(2 * 1024 * 1024)
        events, error = await w.stream()
        assert error is not None
        assert (error.code, error.reason) == (Code.RESOURCE_EXHAUSTED, "UPSTREAM_MALFORMED")
        assert text(events) == "Hel"


# --- what ends all the same -------------------------------------------------------------------------------------------


@pytest.mark.fault(21)
@pytest.mark.parametrize("fault", ["filtered_later", "filter_error_later"])
async def test_21_what_is_filtered_later_ends_with_that_reason_and_is_not_cached(fault: str) -> None:
    async with world() as w:
        w.primary.default = behaviours.FAULTS[fault]()
        events, error = await w.stream()
        assert error is None
        assert events[-1].finished.info.finish_reason == llm_pb2.FINISH_REASON_CONTENT_FILTER
        assert text(events) == events[-1].finished.answer.text != ""
        await w.settled()
        assert w.cache.stored == {}


@pytest.mark.fault(32)
async def test_32_odd_chunks_are_skipped() -> None:
    async with world() as w:
        w.primary.default = behaviours.with_odd_chunks("odd ", "but ", "whole")
        assert (await w.complete()).answer.text == "odd but whole"


@pytest.mark.fault(33)
async def test_33_usage_that_is_missing_is_estimated_and_never_free() -> None:
    async with world() as w:
        w.primary.default = Behaviour(report_usage=False)
        info = (await w.complete()).info
        assert info.usage.estimated
        assert min(info.usage.input_tokens, info.usage.output_tokens, info.cost.nano_usd) > 0
        assert info.attempts[0].usage == info.usage
