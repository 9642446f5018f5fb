"""Who asks nothing is told so, however it is said, and no model is called."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from antiphon.completion.v1 import completion_pb2
from antiphon.llm.v1 import llm_pb2
from services.chassis.auth.values import ANYONE
from services.chassis.errors import InvalidRequest, Reason
from services.completion.proto.requests import read_request

Sent = completion_pb2.CompleteRequest

pytestmark = pytest.mark.fault(2)

NOTHING = st.text(st.sampled_from(" \t\r\n\v\f\0\x1c\u0085\u00a0\u00ad\u200b\u200d\u2028\u2060\u3000\ufeff"))
ROLES = st.sampled_from(
    [llm_pb2.ROLE_SYSTEM, llm_pb2.ROLE_DEVELOPER, llm_pb2.ROLE_USER, llm_pb2.ROLE_ASSISTANT],
)


def message(role: llm_pb2.Role.ValueType, *texts: str) -> llm_pb2.Message:
    return llm_pb2.Message(role=role, parts=[llm_pb2.ContentPart(text=text) for text in texts])


def refused(sent: Sent, path: str = "") -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        read_request(sent, caller=ANYONE, resolve=lambda name, _: name, path=path)
    return caught.value


@given(prompt=NOTHING, path=st.sampled_from(["", "request."]))
def test_an_empty_prompt_is_named(prompt: str, path: str) -> None:
    error = refused(Sent(prompt=prompt), path)
    assert (error.field, error.reason) == (f"{path}prompt", Reason.MISSING_FIELD)


@given(
    before=st.lists(st.tuples(ROLES, st.text(st.characters(codec="utf-8"), max_size=5)), max_size=3),
    role=ROLES,
    parts=st.lists(NOTHING, min_size=1, max_size=3),
    path=st.sampled_from(["", "request."]),
)
def test_a_last_message_without_a_visible_character_is_named(
    before: list[tuple[llm_pb2.Role.ValueType, str]], role: llm_pb2.Role.ValueType, parts: list[str], path: str
) -> None:
    messages = [*(message(r, text) for r, text in before), message(role, *parts)]
    error = refused(Sent(messages=messages), path)
    assert (error.field, error.reason) == (f"{path}messages[{len(before)}].parts", Reason.MISSING_FIELD)


@pytest.mark.parametrize("role", [llm_pb2.ROLE_USER, llm_pb2.ROLE_TOOL])
def test_a_message_without_parts_is_named(role: llm_pb2.Role.ValueType) -> None:
    sent = llm_pb2.Message(role=role, tool_call_id="c" if role == llm_pb2.ROLE_TOOL else "")
    error = refused(Sent(messages=[message(llm_pb2.ROLE_USER, "Hi"), sent]))
    assert (error.field, error.reason) == ("messages[1].parts", Reason.MISSING_FIELD)


def test_a_part_without_content_is_named() -> None:
    sent = llm_pb2.Message(role=llm_pb2.ROLE_USER, parts=[llm_pb2.ContentPart()])
    assert refused(Sent(messages=[sent])).field == "messages[0].parts[0].part"


@pytest.mark.parametrize("prompt", ["0", "？", "\u200bא", "\u3000。", "👍"])
def test_anything_that_is_seen_is_asked(prompt: str) -> None:
    read = read_request(Sent(prompt=prompt), caller=ANYONE, resolve=lambda name, _: name)
    assert read.question.messages[0].text == prompt


def test_a_tool_may_have_nothing_to_say() -> None:
    called = llm_pb2.Message(role=llm_pb2.ROLE_ASSISTANT, tool_calls=[llm_pb2.ToolCall(id="c", name="look")])
    silent = llm_pb2.Message(role=llm_pb2.ROLE_TOOL, tool_call_id="c", parts=[llm_pb2.ContentPart(text="")])
    sent = Sent(messages=[message(llm_pb2.ROLE_USER, "Look!"), called, silent])
    assert len(read_request(sent, caller=ANYONE, resolve=lambda name, _: name).question.messages) == 3
