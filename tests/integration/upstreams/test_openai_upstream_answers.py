"""What a model says arrives while it is said, in whatever form it comes, and is finished only if the model says so."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import Any

import pytest

from services.chassis.errors import Reason, Unavailable
from services.completion.upstreams import openai
from services.completion.upstreams.openai import OpenAIUpstream
from services.completion.upstreams.protocol import (
    ChatEvent,
    Finish,
    ReasoningDelta,
    RefusalDelta,
    TextDelta,
    ToolCallDelta,
    UsageReport,
)
from services.llm.values import FinishReason, Usage
from tests.fakes import behaviours
from tests.fakes.behaviours import Behaviour, Gate, answering
from tests.fakes.openai_server import FakeOpenAI, answer_to
from tests.integration.upstreams.openai_parts import ASKED, GUARD, connected, events, failure, text

# --- answers ----------------------------------------------------------------------------------------------------------


async def test_an_answer_arrives_with_usage_and_reason(server: FakeOpenAI, upstream: OpenAIUpstream) -> None:
    answered = await events(upstream)
    assert text(answered) == answer_to(server.calls[0].body)
    assert [type(event) for event in answered[-2:]] == [Finish, UsageReport]
    assert Finish(FinishReason.STOP) in answered
    assert server.calls[0].outcome == "finished"


async def test_everything_a_model_may_say(server: FakeOpenAI, upstream: OpenAIUpstream) -> None:
    server.default = answering(
        "Grüße, ",
        "世界 🌍",
        reasoning=("hm", "m"),
        refusal=("no",),
        tool_calls=({"index": 0, "id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}},),
        finish_reason="tool_calls",
        usage={
            "prompt_tokens": 10,
            "completion_tokens": 8,
            "total_tokens": 18,
            "prompt_tokens_details": {"cached_tokens": 4},
            "completion_tokens_details": {"reasoning_tokens": 2},
        },
    )
    assert await events(upstream) == [
        *(ReasoningDelta("hm"), ReasoningDelta("m"), TextDelta("Grüße, "), TextDelta("世界 🌍"), RefusalDelta("no")),
        ToolCallDelta(0, "c1", "f", "{}"),
        Finish(FinishReason.TOOL_CALLS),
        UsageReport(Usage(10, 4, 0, 8, 2)),
    ]


@pytest.mark.parametrize("form", [{"piece_bytes": 1}, {"piece_bytes": 7}, {"line_end": b"\r\n"}, {"comments": True}])
async def test_the_form_of_the_stream_does_not_matter(
    server: FakeOpenAI, upstream: OpenAIUpstream, form: dict[str, Any]
) -> None:
    server.default = answering("Grüße 🌍", " und ", "世界", **form)
    answered = await events(upstream)
    assert text(answered) == "Grüße 🌍 und 世界"
    assert Finish(FinishReason.STOP) in answered


async def test_events_arrive_while_the_model_writes(server: FakeOpenAI, upstream: OpenAIUpstream) -> None:
    gate = Gate()
    server.default = answering("one", "two", gate=gate, gate_after=1)
    async with aclosing(upstream.stream(ASKED, timeout=GUARD)) as stream:
        assert (await anext(stream))[0] == TextDelta("one")
        gate.open.set()
        assert (await anext(stream))[0] == TextDelta("two")


async def test_usage_that_was_not_reported_is_not_made_up(server: FakeOpenAI, upstream: OpenAIUpstream) -> None:
    server.default = answering("x", report_usage=False)
    assert await events(upstream) == [TextDelta("x"), Finish(FinishReason.STOP)]


async def test_without_done_the_end_of_the_stream_is_the_end(server: FakeOpenAI, upstream: OpenAIUpstream) -> None:
    server.default = answering("x", done=False)
    assert [type(event) for event in await events(upstream)] == [TextDelta, Finish, UsageReport]


async def test_a_connection_is_used_again(server: FakeOpenAI, upstream: OpenAIUpstream) -> None:
    for _ in range(5):
        await events(upstream)
    assert server.connections == 1


async def test_many_calls_at_once(server: FakeOpenAI, upstream: OpenAIUpstream) -> None:
    gate = Gate()
    server.default = answering("x", gate=gate, gate_after=0)
    calls = [asyncio.create_task(events(upstream)) for _ in range(50)]
    await server.until(lambda s: s.in_flight == 50)
    gate.open.set()
    assert [text(answered) for answered in await asyncio.gather(*calls)] == ["x"] * 50


# --- ends that are none -----------------------------------------------------------------------------------------------


async def test_a_clean_end_without_a_reason_has_no_finish(server: FakeOpenAI, upstream: OpenAIUpstream) -> None:
    server.default = behaviours.clean_end_after(2)
    assert await events(upstream) == [TextDelta("one "), TextDelta("two ")]


async def test_a_broken_connection_is_truncated(server: FakeOpenAI, upstream: OpenAIUpstream) -> None:
    server.default = behaviours.cut_after(2)
    seen, error = await failure(upstream)
    assert text(seen) == "one two "
    assert (type(error), error.reason) == (Unavailable, Reason.UPSTREAM_TRUNCATED)


async def test_a_connection_that_broke_before_the_answer_was_never_one(
    server: FakeOpenAI, upstream: OpenAIUpstream
) -> None:
    server.default = Behaviour(cut_before_headers=True)
    _, error = await failure(upstream)
    assert (type(error), error.reason) == (Unavailable, Reason.UPSTREAM_UNAVAILABLE)


async def test_half_a_chunk_at_the_end_is_truncated(server: FakeOpenAI, upstream: OpenAIUpstream) -> None:
    server.default = behaviours.malformed(b'data: {"choices": [{"delta": {"content": "Hel')
    _, error = await failure(upstream)
    assert (type(error), error.reason) == (Unavailable, Reason.UPSTREAM_TRUNCATED)


async def test_once_the_model_has_finished_nothing_spoils_the_answer(
    server: FakeOpenAI, upstream: OpenAIUpstream
) -> None:
    whole = b'data: {"choices": [{"delta": {"content": "x"}, "finish_reason": "stop"}]}\n\n'
    server.enqueue(
        behaviours.malformed(whole, b"data: {nonsense\n\n"),
        behaviours.malformed(whole, b'data: {"error": {"code": 500}}\n\n'),
        behaviours.malformed(whole, b"data: {nons"),
        Behaviour(raw=(whole,), cut_after=1),
    )
    for _ in range(4):
        assert await events(upstream) == [TextDelta("x"), Finish(FinishReason.STOP)]


async def test_what_arrived_before_a_break_is_delivered_though_it_was_not_read_yet(server: FakeOpenAI) -> None:
    server.default = behaviours.cut_after(2)
    async with connected(server) as upstream:
        told: list[ChatEvent] = []
        with pytest.raises(Unavailable):
            async for batch in upstream.stream(ASKED, timeout=GUARD):
                told += batch
                await asyncio.sleep(0.1)  # the rest arrives, and the break
        assert text(told) == "one two "


async def test_usage_is_not_waited_for_without_end(server: FakeOpenAI, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openai, "TAIL_SECONDS", 0.1)
    whole = b'data: {"choices": [{"delta": {"content": "x"}, "finish_reason": "stop"}]}\n\n'
    server.default = Behaviour(raw=(whole,), gate=Gate(), gate_after=1)
    async with connected(server) as upstream:
        assert await events(upstream) == [TextDelta("x"), Finish(FinishReason.STOP)]
    await server.until(lambda s: s.disconnects == 1)
