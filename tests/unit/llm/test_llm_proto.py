"""What callers send becomes plain values, comes back unchanged, and is refused by the name of its field."""

from __future__ import annotations

import sys
import unicodedata
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from antiphon.llm.v1 import llm_pb2
from services.chassis.errors import InvalidRequest, Reason
from services.llm.fields import is_blank
from services.llm.reading import (
    MAX_MESSAGES,
    MAX_PIECES,
    MAX_TOOLS,
    MOST_NANO_USD,
    MOST_TOKENS,
    read_answer,
    read_cost,
    read_messages,
    read_options,
    read_tools,
    read_usage,
)
from services.llm.structs import MAX_VALUES, json_to_struct, struct_to_json
from services.llm.values import (
    Answer,
    Cost,
    FinishReason,
    GenerationOptions,
    ImagePart,
    Message,
    Role,
    TextPart,
    Tool,
    ToolCall,
    Usage,
)
from services.llm.writing import write_answer, write_message, write_options, write_tool

TEXT = st.text(max_size=20)
COUNT = st.integers(0, 2**53)


def user(text: str) -> llm_pb2.Message:
    return llm_pb2.Message(role=llm_pb2.ROLE_USER, parts=[llm_pb2.ContentPart(text=text)])


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(TEXT, JSON, max_size=4))
def test_json_survives_the_wire(value: dict[str, Any]) -> None:
    there = llm_pb2.GenerationOptions()
    there.extra.CopyFrom(json_to_struct(value))
    back = llm_pb2.GenerationOptions.FromString(there.SerializeToString())
    assert struct_to_json(back.extra, "extra") == value


def test_whole_numbers_of_a_struct_are_integers() -> None:
    options = llm_pb2.GenerationOptions()
    options.extra.update({"top_k": 40, "min_p": 0.05, "big": 1e300})
    extra = read_options(options).extra
    assert extra == {"top_k": 40, "min_p": 0.05, "big": 1e300}
    assert isinstance(extra["top_k"], int)


@given(
    st.builds(
        Answer,
        text=TEXT,
        finish_reason=st.sampled_from(FinishReason),
        model=st.text(min_size=1, max_size=9),
        upstream=TEXT,
        tool_calls=st.lists(st.builds(ToolCall, TEXT, TEXT, TEXT), max_size=2).map(tuple),
        refusal=TEXT,
        usage=st.builds(Usage, *[st.integers(0, MOST_TOKENS)] * 5, st.booleans()),
        cost=st.builds(Cost, st.integers(0, MOST_NANO_USD), TEXT),
        created_at=st.integers(0, 2**31 * 10**6).map(lambda us: us / 1e6),
    )
)
@example(Answer("", FinishReason.STOP, "m", created_at=1152921505.25))  # its nanoseconds are no float
def test_an_answer_survives_the_wire(answer: Answer) -> None:
    wire = write_answer(answer).SerializeToString()
    assert read_answer(llm_pb2.Answer.FromString(wire)) == answer


def test_a_conversation_survives_the_wire() -> None:
    messages = (
        Message(Role.SYSTEM, (TextPart("be brief"),)),
        Message(Role.USER, (TextPart("what is this?"), ImagePart("https://example.org/a.png", "low")), name="ann"),
        Message(Role.ASSISTANT, tool_calls=(ToolCall("c1", "look", '{"x": 1}'),)),
        Message(Role.TOOL, (TextPart("a cat"),), tool_call_id="c1"),
    )
    assert read_messages([write_message(m) for m in messages]) == messages


def test_options_and_tools_survive_the_wire() -> None:
    options = GenerationOptions(
        max_output_tokens=5,
        temperature=0.0,
        top_p=0.5,
        stop=("\n",),
        seed=0,
        response_format={"type": "json_object"},
        tool_choice="auto",
        parallel_tool_calls=False,
        presence_penalty=-2.0,
        frequency_penalty=0.0,
        reasoning_effort="low",
        extra={"top_k": 1},
    )
    tools = (Tool("look", "looks", {"type": "object", "properties": {"x": {"type": "integer"}}}), Tool("stop"))
    assert read_options(write_options(options)) == options
    assert read_options(write_options(GenerationOptions())) == GenerationOptions()
    assert read_tools([write_tool(t) for t in tools]) == tools


def options(**fields: Any) -> llm_pb2.GenerationOptions:
    extra = fields.pop("extra", None)
    made = llm_pb2.GenerationOptions(**fields)
    if extra:
        made.extra.update(extra)
    return made


@pytest.mark.parametrize(
    ("wrong", "field", "reason"),
    [
        (options(max_output_tokens=0), "options.max_output_tokens", Reason.INVALID_FIELD),
        (options(temperature=2.1), "options.temperature", Reason.INVALID_FIELD),
        (options(temperature=float("nan")), "options.temperature", Reason.INVALID_FIELD),
        (options(top_p=0), "options.top_p", Reason.INVALID_FIELD),
        (options(stop=[""]), "options.stop", Reason.INVALID_FIELD),
        (options(presence_penalty=-3), "options.presence_penalty", Reason.INVALID_FIELD),
        (options(extra={"stream": True}), "options.extra", Reason.INVALID_FIELD),
        (options(extra={"x": float("inf")}), "options.extra", Reason.INVALID_FIELD),
        (options(logprobs=False), "options.logprobs", Reason.UNSUPPORTED_FIELD),
        (options(top_logprobs=1), "options.top_logprobs", Reason.UNSUPPORTED_FIELD),
    ],
)
def test_wrong_options_name_their_field(wrong: llm_pb2.GenerationOptions, field: str, reason: Reason) -> None:
    with pytest.raises(InvalidRequest) as caught:
        read_options(wrong)
    assert (caught.value.field, caught.value.reason) == (field, reason)


@pytest.mark.parametrize(
    ("messages", "field"),
    [
        ([], "messages"),
        ([user("")], "messages[0].parts"),
        ([user(" \n\t")], "messages[0].parts"),
        ([user("a")] * (MAX_MESSAGES + 1), "messages"),
        ([llm_pb2.Message(parts=[llm_pb2.ContentPart(text="a")])], "messages[0].role"),
        ([llm_pb2.Message(role=llm_pb2.ROLE_USER)], "messages[0].parts"),
        ([llm_pb2.Message(role=llm_pb2.ROLE_USER, parts=[llm_pb2.ContentPart()])], "messages[0].parts[0].part"),
        (
            [
                llm_pb2.Message(
                    role=llm_pb2.ROLE_USER,
                    parts=[llm_pb2.ContentPart(image_url=llm_pb2.ImageUrl(url="file:///etc/passwd"))],
                )
            ],
            "messages[0].parts[0].image_url.url",
        ),
        (
            [llm_pb2.Message(role=llm_pb2.ROLE_USER, parts=[llm_pb2.ContentPart(text="a")], tool_call_id="x")],
            "messages[0].tool_call_id",
        ),
        ([llm_pb2.Message(role=llm_pb2.ROLE_TOOL, parts=[llm_pb2.ContentPart(text="a")])], "messages[0].tool_call_id"),
        (
            [
                llm_pb2.Message(
                    role=llm_pb2.ROLE_USER, parts=[llm_pb2.ContentPart(text="a")], tool_calls=[llm_pb2.ToolCall(id="1")]
                )
            ],
            "messages[0].tool_calls",
        ),
    ],
)
def test_wrong_messages_name_their_field(messages: list[llm_pb2.Message], field: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        read_messages(messages)
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("tools", "field"),
    [
        ([llm_pb2.Tool(name="")], "tools[0].name"),
        ([llm_pb2.Tool(name="a b")], "tools[0].name"),
        ([llm_pb2.Tool(name="a"), llm_pb2.Tool(name="a")], "tools[1].name"),
        ([llm_pb2.Tool(name="a")] * (MAX_TOOLS + 1), "tools"),
    ],
)
def test_wrong_tools_name_their_field(tools: list[llm_pb2.Tool], field: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        read_tools(tools)
    assert caught.value.field == field


def test_an_answer_must_say_why_it_ended_and_whose_it_is() -> None:
    with pytest.raises(InvalidRequest) as caught:
        read_answer(llm_pb2.Answer(model="m"))
    assert caught.value.field == "answer.finish_reason"
    with pytest.raises(InvalidRequest) as caught:
        read_answer(llm_pb2.Answer(finish_reason=llm_pb2.FINISH_REASON_STOP))
    assert caught.value.field == "answer.model"


# --- what would take too long -----------------------------------------------------------------------------------------


def test_every_character_that_shows_nothing_is_blank() -> None:
    hidden = [c for c in map(chr, range(sys.maxunicode + 1)) if c.isspace() or unicodedata.category(c) in {"Cc", "Cf"}]
    assert [c for c in hidden if not is_blank(c)] == []
    assert is_blank("".join(hidden))
    assert not is_blank("".join(hidden) + "a")
    assert not any(map(is_blank, "a.\u0301\u4e00\U0001f600"))


def test_a_conversation_has_so_many_parts_and_calls() -> None:
    part, call = llm_pb2.ContentPart(text="a"), llm_pb2.ToolCall(id="i", name="n")
    full = [llm_pb2.Message(role=llm_pb2.ROLE_USER, parts=[part] * 256)] * (MAX_PIECES // 256)
    assert len(read_messages(full)) == len(full)
    calls = llm_pb2.Message(role=llm_pb2.ROLE_ASSISTANT, tool_calls=[call])
    for more in (user("a"), calls):
        with pytest.raises(InvalidRequest, match="messages: at most 4096 parts and tool calls in all"):
            read_messages([*full, more])


def test_json_objects_have_so_many_values() -> None:
    options = llm_pb2.GenerationOptions()
    options.extra.update({"list": [{"a": 1}] * ((MAX_VALUES - 1) // 2)})
    assert read_options(options).extra
    options.extra.update({"b": 1, "c": 1})
    with pytest.raises(InvalidRequest, match=r"options\.extra: at most 8192 values in all"):
        read_options(options)


def test_all_tools_together_have_so_many_values() -> None:
    tools = [llm_pb2.Tool(name="a"), llm_pb2.Tool(name="b")]
    for tool in tools:
        tool.json_schema.update({"list": [1] * (MAX_VALUES // 2)})
    assert read_tools(tools[:1])
    with pytest.raises(InvalidRequest, match="tools: at most 8192 values in all"):
        read_tools(tools)


@pytest.mark.parametrize(("said", "read"), [(-1, 0), (0, 0), (7, 7), (2**63 - 1, MOST_TOKENS)])
def test_counts_that_no_call_can_have_become_the_nearest_ones(said: int, read: int) -> None:
    names = ("input_tokens", "cached_input_tokens", "cache_write_input_tokens", "output_tokens", "reasoning_tokens")
    usage = read_usage(llm_pb2.Usage(**dict.fromkeys(names, said)))
    assert usage == Usage(*[read] * 5)


@pytest.mark.parametrize(("said", "read"), [(-1, 0), (7, 7), (2**63 - 1, MOST_NANO_USD)])
def test_so_do_costs(said: int, read: int) -> None:
    assert read_cost(llm_pb2.Cost(nano_usd=said, price_version="p")) == Cost(read, "p")
