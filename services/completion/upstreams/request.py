"""Our values as the JSON body of `POST /chat/completions` (OpenAI API reference, "Create chat completion")."""

from __future__ import annotations

from typing import Any

from services.completion.upstreams.protocol import ChatRequest
from services.llm.values import GenerationOptions, ImagePart, Message, Part, Role, TextPart, Tool

_CHOICE_WORDS = frozenset({"auto", "none", "required"})


def body(request: ChatRequest, *, legacy_max_tokens: bool, stream_usage: bool) -> dict[str, Any]:
    """Return the whole body. What stands in `options.extra` never replaces a field that is ours."""
    ours: dict[str, Any] = {
        "model": request.model,
        "messages": [_message(message) for message in request.messages],
        "stream": True,
        **_options(request.options, legacy_max_tokens=legacy_max_tokens),
    }
    if stream_usage:
        ours["stream_options"] = {"include_usage": True}
    if request.tools:
        ours["tools"] = [_tool(tool) for tool in request.tools]
    return {**request.options.extra, **ours}


def _options(options: GenerationOptions, *, legacy_max_tokens: bool) -> dict[str, Any]:
    choice: object = options.tool_choice or None
    if choice is not None and choice not in _CHOICE_WORDS:
        choice = {"type": "function", "function": {"name": choice}}
    fields = {
        "max_tokens" if legacy_max_tokens else "max_completion_tokens": options.max_output_tokens,
        "temperature": options.temperature,
        "top_p": options.top_p,
        "stop": list(options.stop) or None,
        "seed": options.seed,
        "response_format": options.response_format,
        "tool_choice": choice,
        "parallel_tool_calls": options.parallel_tool_calls,
        "presence_penalty": options.presence_penalty,
        "frequency_penalty": options.frequency_penalty,
        "reasoning_effort": options.reasoning_effort or None,
        "logprobs": options.logprobs,
        "top_logprobs": options.top_logprobs,
    }
    return {name: value for name, value in fields.items() if value is not None}


def _message(message: Message) -> dict[str, Any]:
    written: dict[str, Any] = {"role": message.role.value, "content": _content(message)}
    if message.name:
        written["name"] = message.name
    if message.tool_calls:
        written["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in message.tool_calls
        ]
    if message.role is Role.TOOL:
        written["tool_call_id"] = message.tool_call_id
    return written


def _content(message: Message) -> str | list[dict[str, Any]] | None:
    if not message.parts:
        return None
    if len(message.parts) == 1 and isinstance(message.parts[0], TextPart):
        return message.parts[0].text  # the plain form: older servers know no parts
    return [_part(part) for part in message.parts]


def _part(part: Part) -> dict[str, Any]:
    match part:
        case TextPart(text):
            return {"type": "text", "text": text}
        case ImagePart(url, detail):
            return {"type": "image_url", "image_url": {"url": url, **({"detail": detail} if detail else {})}}


def _tool(tool: Tool) -> dict[str, Any]:
    function: dict[str, Any] = {"name": tool.name}
    if tool.description:
        function["description"] = tool.description
    if tool.json_schema:
        function["parameters"] = tool.json_schema
    return {"type": "function", "function": function}
