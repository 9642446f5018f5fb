"""What is sent to a server that speaks OpenAI's API."""

from __future__ import annotations

from typing import Any

from services.completion.upstreams.protocol import ChatRequest
from services.completion.upstreams.request import body
from services.llm.values import GenerationOptions, ImagePart, Json, Message, Role, TextPart, Tool, ToolCall


def written(
    *messages: Message,
    options: GenerationOptions | None = None,
    tools: tuple[Tool, ...] = (),
    legacy: bool = False,
    usage: bool = True,
) -> dict[str, Any]:
    request = ChatRequest("m-1", messages, tools, options or GenerationOptions())
    return body(request, legacy_max_tokens=legacy, stream_usage=usage)


def test_the_least_request() -> None:
    assert written(Message(Role.USER, (TextPart("hi"),))) == {
        "model": "m-1",
        "messages": [{"role": "user", "content": "hi"}],
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    assert "stream_options" not in written(usage=False)


def test_every_kind_of_message() -> None:
    call = ToolCall("c1", "f", '{"a": 1}')
    messages = written(
        Message(Role.DEVELOPER, (TextPart("be brief"),)),
        Message(
            Role.USER, (TextPart("look"), ImagePart("https://x/i.png", "low"), ImagePart("https://x/j.png")), name="ann"
        ),
        Message(Role.ASSISTANT, tool_calls=(call,)),
        Message(Role.TOOL, (TextPart("42"),), tool_call_id="c1"),
    )["messages"]
    assert messages == [
        {"role": "developer", "content": "be brief"},
        {
            "role": "user",
            "name": "ann",
            "content": [
                {"type": "text", "text": "look"},
                {"type": "image_url", "image_url": {"url": "https://x/i.png", "detail": "low"}},
                {"type": "image_url", "image_url": {"url": "https://x/j.png"}},
            ],
        },
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}],
        },
        {"role": "tool", "content": "42", "tool_call_id": "c1"},
    ]


def test_every_option() -> None:
    options = GenerationOptions(
        max_output_tokens=9,
        temperature=0.0,
        top_p=0.5,
        stop=("a", "b"),
        seed=0,
        response_format={"type": "json_object"},
        tool_choice="required",
        parallel_tool_calls=False,
        presence_penalty=0.0,
        frequency_penalty=-1.0,
        reasoning_effort="low",
        logprobs=False,
        top_logprobs=0,
        extra={"service_tier": "flex", "top_k": 5},
    )
    sent = written(options=options)
    expected = {
        "max_completion_tokens": 9,
        "temperature": 0.0,
        "top_p": 0.5,
        "stop": ["a", "b"],
        "seed": 0,
        "response_format": {"type": "json_object"},
        "tool_choice": "required",
        "parallel_tool_calls": False,
        "presence_penalty": 0.0,
        "frequency_penalty": -1.0,
        "reasoning_effort": "low",
        "logprobs": False,
        "top_logprobs": 0,
        "service_tier": "flex",
        "top_k": 5,
    }
    assert {
        name: sent[name] for name in sent if name not in {"model", "messages", "stream", "stream_options"}
    } == expected
    legacy = written(options=options, legacy=True)
    assert (legacy["max_tokens"], "max_completion_tokens" in legacy) == (9, False)


def test_extra_never_replaces_what_is_ours() -> None:
    extra: dict[str, Json] = {
        "model": "dearer",
        "messages": [],
        "stream": False,
        "temperature": 2,
        "stream_options": None,
    }
    sent = written(Message(Role.USER, (TextPart("hi"),)), options=GenerationOptions(temperature=0.1, extra=extra))
    assert (sent["model"], sent["stream"], sent["temperature"]) == ("m-1", True, 0.1)
    assert sent["messages"]
    assert sent["stream_options"] == {"include_usage": True}


def test_tools_and_the_choice_of_one() -> None:
    tools = (Tool("f", "does f", {"type": "object"}), Tool("g"))
    sent = written(options=GenerationOptions(tool_choice="g"), tools=tools)
    assert sent["tools"] == [
        {"type": "function", "function": {"name": "f", "description": "does f", "parameters": {"type": "object"}}},
        {"type": "function", "function": {"name": "g"}},
    ]
    assert sent["tool_choice"] == {"type": "function", "function": {"name": "g"}}
