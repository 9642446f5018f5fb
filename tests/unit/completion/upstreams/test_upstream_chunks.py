"""Chunks as real servers write them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.chassis.errors import AntiphonError, Exhausted, FailedPrecondition, InvalidRequest, Reason, Unavailable
from services.completion.upstreams.chunks import MAX_TOOL_CALLS, ChunkReader
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


def read(*chunks: Any) -> list[ChatEvent]:
    reader = ChunkReader("up")
    return [
        event
        for chunk in chunks
        for event in reader.read(chunk if isinstance(chunk, bytes) else json.dumps(chunk).encode())
    ]


def delta(**fields: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": fields, "finish_reason": None}]}


def finish(reason: str | None) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]}


@pytest.mark.fault(32)
@pytest.mark.parametrize(
    ("chunk", "expected"),
    [
        (delta(role="assistant", content=""), []),
        (delta(content=None), []),
        ({"choices": []} | {"prompt_filter_results": []}, []),
        ({"choices": [], "usage": None}, []),
        ({"choices": [{"index": 0, "delta": None, "finish_reason": "stop"}]}, [Finish(FinishReason.STOP)]),
        ({"choices": [{"delta": {"content": "x"}}]}, [TextDelta("x")]),
        ({"choices": [{"index": 1, "delta": {"content": "other"}}]}, []),
        ({"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 4}}, [UsageReport(Usage(3, output=4))]),
    ],
)
def test_empty_choices_and_null_content_are_skipped(chunk: Any, expected: list[ChatEvent]) -> None:
    assert read(chunk) == expected


def test_content_reasoning_and_refusal() -> None:
    assert read(
        delta(reasoning_content="a", reasoning="a"), delta(reasoning="b"), delta(content="c"), delta(refusal="d")
    ) == [ReasoningDelta("a"), ReasoningDelta("b"), TextDelta("c"), RefusalDelta("d")]


def test_content_that_ends_with_its_chunk_comes_before_the_finish() -> None:
    chunk = {"choices": [{"index": 0, "delta": {"content": "x"}, "finish_reason": "length"}]}
    assert read(chunk) == [TextDelta("x"), Finish(FinishReason.LENGTH)]


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("stop", FinishReason.STOP),
        ("length", FinishReason.LENGTH),
        ("tool_calls", FinishReason.TOOL_CALLS),
        ("function_call", FinishReason.TOOL_CALLS),
        ("content_filter", FinishReason.CONTENT_FILTER),
        ("eos_token", FinishReason.STOP),
    ],
)
def test_reasons_to_stop(word: str, reason: FinishReason) -> None:
    assert read(finish(word), finish(word)) == [Finish(reason)]


@pytest.mark.parametrize("word", ["abort", "cancelled", "", None])
def test_a_word_that_is_no_clean_end_is_none(word: str | None) -> None:
    assert read(finish(word)) == []


def test_tool_calls_in_pieces() -> None:
    def call(**fields: Any) -> dict[str, Any]:
        return delta(tool_calls=[fields])

    assert read(
        call(index=0, id="a", type="function", function={"name": "f", "arguments": ""}),
        call(index=0, function={"arguments": '{"x":'}),
        call(index=1, id="b", function={"name": "g", "arguments": "{}"}),
        call(index=0, function={"arguments": None}),
    ) == [ToolCallDelta(0, "a", "f"), ToolCallDelta(0, arguments='{"x":'), ToolCallDelta(1, "b", "g", "{}")]


def test_tool_calls_without_index_are_told_apart_by_id() -> None:
    def call(**fields: Any) -> dict[str, Any]:
        return {"function": {"arguments": "x"}, **fields}

    chunks = [
        delta(tool_calls=[call(id="a")]),
        delta(tool_calls=[call()]),
        delta(tool_calls=[call(id="b"), call(id="a")]),
    ]
    assert [event.index for event in read(*chunks) if isinstance(event, ToolCallDelta)] == [0, 0, 1, 0]


def test_tool_calls_have_a_limit() -> None:
    with pytest.raises(Exhausted):
        read(*(delta(tool_calls=[{"id": str(i)}]) for i in range(MAX_TOOL_CALLS + 1)))
    with pytest.raises(Unavailable):
        read(delta(tool_calls=[{"index": MAX_TOOL_CALLS, "id": "a"}]))


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        (
            {
                "prompt_tokens": 100,
                "completion_tokens": 50,
                "total_tokens": 150,
                "prompt_tokens_details": {"cached_tokens": 60, "cache_write_tokens": 10},
                "completion_tokens_details": {"reasoning_tokens": 20},
            },
            Usage(100, 60, 10, 50, 20),
        ),
        ({"prompt_tokens": 9, "completion_tokens": 1, "prompt_cache_hit_tokens": 8}, Usage(9, 8, 0, 1)),
        # Reasoning left out of completion_tokens: bought all the same.
        (
            {
                "prompt_tokens": 10,
                "completion_tokens": 5,
                "total_tokens": 45,
                "completion_tokens_details": {"reasoning_tokens": 30},
            },
            Usage(10, output=35, reasoning=30),
        ),
        (
            {"prompt_tokens": 5, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 7}},
            Usage(5, 5, 0, 2),
        ),
        ({"prompt_tokens": 5, "completion_tokens": True, "prompt_tokens_details": None}, Usage(5)),
        ({"prompt_tokens": 5, "completion_tokens": -1}, Usage(5)),
    ],
)
def test_usage(usage: Any, expected: Usage) -> None:
    assert read({"choices": [], "usage": usage}) == [UsageReport(expected)]


@pytest.mark.parametrize("usage", [{}, {"prompt_tokens": 0, "completion_tokens": 0}, {"prompt_tokens": "many"}])
def test_a_report_that_says_nothing_is_no_report(usage: Any) -> None:
    assert read({"choices": [], "usage": usage}) == []


def test_done() -> None:
    reader = ChunkReader("up")
    assert (reader.read(b" [DONE] "), reader.done) == ([], True)


@pytest.mark.parametrize(
    ("error", "kind", "reason"),
    [
        ({"code": "rate_limit_exceeded"}, Exhausted, Reason.UPSTREAM_RATE_LIMITED),
        ({"code": 429}, Exhausted, Reason.UPSTREAM_RATE_LIMITED),
        ({"type": "server_error", "code": None}, Unavailable, Reason.UPSTREAM_UNAVAILABLE),
        ({"code": "context_length_exceeded"}, InvalidRequest, Reason.CONTEXT_TOO_LONG),
        ({"code": "content_filter"}, FailedPrecondition, Reason.CONTENT_FILTERED),
        ({"code": True}, Unavailable, Reason.UPSTREAM_UNAVAILABLE),
        ("it broke", Unavailable, Reason.UPSTREAM_UNAVAILABLE),
        (["odd"], Unavailable, Reason.UPSTREAM_UNAVAILABLE),
    ],
)
def test_errors_in_the_stream_are_mapped(error: Any, kind: type[AntiphonError], reason: Reason) -> None:
    with pytest.raises(kind) as raised:
        read({"error": error})
    assert raised.value.reason is reason


def test_other_forms_of_errors_in_the_stream() -> None:
    with pytest.raises(InvalidRequest):
        read({"object": "error", "message": "no", "type": "BadRequestError", "code": 400})
    with pytest.raises(Unavailable):
        read(finish("error"))


@pytest.mark.parametrize(
    "chunk",
    [
        *(b"{", b"[]", b"1", b"null", b'"x"', b"{}", b"\xff", b'{"choices": 1}'),
        *({"choices": ["x"]}, {"choices": [{"delta": "x"}]}, delta(content=1), delta(content=["x"])),
        *(delta(tool_calls="x"), delta(tool_calls=["x"]), delta(tool_calls=[{"function": "x"}])),
        *(delta(tool_calls=[{"index": -1}]), delta(tool_calls=[{"function": {"arguments": {}}}])),
        {"object": "chat.completion", "choices": [{"index": 0, "message": {"content": "x"}, "finish_reason": "stop"}]},
    ],
)
def test_what_is_no_chunk_is_malformed(chunk: Any) -> None:
    with pytest.raises(Unavailable) as raised:
        read(chunk)
    assert raised.value.reason is Reason.UPSTREAM_MALFORMED


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 2**70) | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    *(
                        "choices",
                        "delta",
                        "content",
                        "index",
                        "finish_reason",
                        "usage",
                        "error",
                        "tool_calls",
                        "function",
                    ),
                    *(
                        "arguments",
                        "id",
                        "prompt_tokens",
                        "prompt_tokens_details",
                        "code",
                        "message",
                        "object",
                        "reasoning",
                    ),
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(st.one_of(st.binary(max_size=40), json_values.map(lambda value: json.dumps(value).encode())))
def test_nothing_but_our_errors_comes_out(payload: bytes) -> None:
    try:
        events = ChunkReader("up").read(payload)
    except AntiphonError:
        return
    assert all(event.text for event in events if isinstance(event, TextDelta | ReasoningDelta | RefusalDelta))
