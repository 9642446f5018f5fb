"""From `antiphon.llm.v1` to the plain values; validates what a caller sends.

Every `read_*` takes the path of its field and raises `InvalidRequest` naming the field that is wrong.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from google.protobuf.timestamp_pb2 import Timestamp

from antiphon.llm.v1 import llm_pb2
from services.llm.fields import invalid, is_blank, missing, refuse_unsupported
from services.llm.structs import Values, read_struct, struct_to_json
from services.llm.values import (
    Answer,
    Cost,
    FinishReason,
    GenerationOptions,
    ImagePart,
    Message,
    Part,
    Role,
    TextPart,
    Tool,
    ToolCall,
    Usage,
)

MAX_MESSAGES = 1_024

MAX_PARTS = 256

MAX_TOOLS = 128

MAX_STOPS = 16

MAX_NAME = 64

MAX_PIECES = 4_096
"""Parts and tool calls of a whole conversation; a megabyte holds a hundred thousand, which take seconds to read."""

MOST_TOKENS = 10**9
"""Of any kind in one call; no model takes as many."""

MOST_NANO_USD = 10**15
"""Of one call: a million US dollars."""

_TOOL_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")

ROLES = {
    llm_pb2.ROLE_SYSTEM: Role.SYSTEM,
    llm_pb2.ROLE_DEVELOPER: Role.DEVELOPER,
    llm_pb2.ROLE_USER: Role.USER,
    llm_pb2.ROLE_ASSISTANT: Role.ASSISTANT,
    llm_pb2.ROLE_TOOL: Role.TOOL,
}

FINISH_REASONS = {
    llm_pb2.FINISH_REASON_STOP: FinishReason.STOP,
    llm_pb2.FINISH_REASON_LENGTH: FinishReason.LENGTH,
    llm_pb2.FINISH_REASON_TOOL_CALLS: FinishReason.TOOL_CALLS,
    llm_pb2.FINISH_REASON_CONTENT_FILTER: FinishReason.CONTENT_FILTER,
}

# Keys of OpenAI's request body that have a field of their own; in `extra` they would contradict it or our streaming.
_OWN_KEYS = frozenset(
    {
        "model", "messages", "tools", "functions", "function_call", "stream", "stream_options", "n",
        "max_tokens", "max_completion_tokens", "temperature", "top_p", "stop", "seed", "response_format", "tool_choice",
        "parallel_tool_calls", "presence_penalty", "frequency_penalty", "reasoning_effort", "logprobs", "top_logprobs",
    }
)  # fmt: skip

_NO_OPTIONS = GenerationOptions()


def _read_part(part: llm_pb2.ContentPart, path: str) -> Part:
    match part.WhichOneof("part"):
        case "text":
            return TextPart(part.text)
        case "image_url":
            if not part.image_url.url.startswith(("https:", "http:", "data:")):
                raise invalid(f"{path}.image_url.url", "must be an https: or data: URL")
            return ImagePart(part.image_url.url, part.image_url.detail)
        case _:
            raise missing(f"{path}.part", "one of text, image_url is required")


def _read_message(message: llm_pb2.Message, path: str) -> Message:
    role = ROLES.get(message.role)
    if role is None:
        raise missing(f"{path}.role", "is required")
    if len(message.parts) > MAX_PARTS:
        raise invalid(f"{path}.parts", f"at most {MAX_PARTS}")
    if len(message.name) > MAX_NAME:
        raise invalid(f"{path}.name", f"at most {MAX_NAME} characters")
    if len(message.tool_calls) > MAX_TOOLS:
        raise invalid(f"{path}.tool_calls", f"at most {MAX_TOOLS}")
    if message.tool_calls and role is not Role.ASSISTANT:
        raise invalid(f"{path}.tool_calls", "only an assistant calls tools")
    if bool(message.tool_call_id) != (role is Role.TOOL):
        raise invalid(f"{path}.tool_call_id", "is required for role TOOL and refused for others")
    if not message.parts and not message.tool_calls:
        raise missing(f"{path}.parts", "at least one part is required")
    return Message(
        role=role,
        parts=tuple(_read_part(p, f"{path}.parts[{i}]") for i, p in enumerate(message.parts)),
        name=message.name,
        tool_calls=tuple(ToolCall(c.id, c.name, c.arguments) for c in message.tool_calls),
        tool_call_id=message.tool_call_id,
    )


def read_messages(messages: Sequence[llm_pb2.Message], path: str = "messages") -> tuple[Message, ...]:
    """Read a conversation: at least one message, and some content in the last one, whoever's it is."""
    if not messages:
        raise missing(path, "at least one message is required")
    if len(messages) > MAX_MESSAGES:
        raise invalid(path, f"at most {MAX_MESSAGES}")
    if sum(len(message.parts) + len(message.tool_calls) for message in messages) > MAX_PIECES:
        raise invalid(path, f"at most {MAX_PIECES} parts and tool calls in all")
    read = tuple(_read_message(m, f"{path}[{i}]") for i, m in enumerate(messages))
    last = read[-1]
    # A tool may well have nothing to say.
    if last.role is not Role.TOOL and not last.tool_calls and last.text_only and is_blank(last.text):
        raise missing(f"{path}[{len(read) - 1}].parts", "the question is empty")
    return read


def read_tools(tools: Sequence[llm_pb2.Tool], path: str = "tools") -> tuple[Tool, ...]:
    """Read the tools; names must be unique."""
    if not tools:
        return ()
    if len(tools) > MAX_TOOLS:
        raise invalid(path, f"at most {MAX_TOOLS}")
    names: set[str] = set()
    for i, tool in enumerate(tools):
        if not _TOOL_NAME.fullmatch(tool.name):
            raise invalid(f"{path}[{i}].name", "must be 1 to 64 of a-z A-Z 0-9 _ -")
        if tool.name in names:
            raise invalid(f"{path}[{i}].name", "is used twice")
        names.add(tool.name)
    values = Values()
    return tuple(Tool(t.name, t.description, read_struct(t.json_schema, path, values)) for t in tools)


def _in_range(value: float, low: float, high: float, field: str) -> float:
    if not (math.isfinite(value) and low <= value <= high):
        raise invalid(field, f"must be between {low:g} and {high:g}")
    return value


def read_options(options: llm_pb2.GenerationOptions, path: str = "options") -> GenerationOptions:
    """Read the generation options; absent fields stay `None` or empty."""
    if not options.ListFields():  # as mostly
        return _NO_OPTIONS
    refuse_unsupported(options, ("logprobs", "top_logprobs"), path)
    if options.HasField("max_output_tokens") and options.max_output_tokens < 1:
        raise invalid(f"{path}.max_output_tokens", "must be at least 1")
    if options.HasField("top_p") and options.top_p <= 0:
        raise invalid(f"{path}.top_p", "must be more than 0")
    if len(options.stop) > MAX_STOPS or not all(options.stop):
        raise invalid(f"{path}.stop", f"at most {MAX_STOPS}, none empty")
    extra = struct_to_json(options.extra, f"{path}.extra")
    for key in extra:
        if key in _OWN_KEYS:
            raise invalid(f"{path}.extra", f"{key} has a field of its own or is set by the server")

    def number(name: str, low: float, high: float) -> float | None:
        return _in_range(getattr(options, name), low, high, f"{path}.{name}") if options.HasField(name) else None  # type: ignore[arg-type]

    return GenerationOptions(
        max_output_tokens=options.max_output_tokens if options.HasField("max_output_tokens") else None,
        temperature=number("temperature", 0, 2),
        top_p=number("top_p", 0, 1),
        stop=tuple(options.stop),
        seed=options.seed if options.HasField("seed") else None,
        response_format=struct_to_json(options.response_format, f"{path}.response_format")
        if options.HasField("response_format")
        else None,
        tool_choice=options.tool_choice,
        parallel_tool_calls=options.parallel_tool_calls if options.HasField("parallel_tool_calls") else None,
        presence_penalty=number("presence_penalty", -2, 2),
        frequency_penalty=number("frequency_penalty", -2, 2),
        reasoning_effort=options.reasoning_effort,
        extra=extra,
    )


def read_usage(usage: llm_pb2.Usage) -> Usage:
    """Read a usage report; counts that no call can have become the nearest ones: 0, or `MOST_TOKENS`."""
    return Usage(
        input=min(max(usage.input_tokens, 0), MOST_TOKENS),
        cached_input=min(max(usage.cached_input_tokens, 0), MOST_TOKENS),
        cache_write_input=min(max(usage.cache_write_input_tokens, 0), MOST_TOKENS),
        output=min(max(usage.output_tokens, 0), MOST_TOKENS),
        reasoning=min(max(usage.reasoning_tokens, 0), MOST_TOKENS),
        estimated=usage.estimated,
    )


def read_cost(cost: llm_pb2.Cost) -> Cost:
    """Read a cost, between 0 and `MOST_NANO_USD`."""
    return Cost(min(max(cost.nano_usd, 0), MOST_NANO_USD), cost.price_version)


def read_answer(answer: llm_pb2.Answer, path: str = "answer") -> Answer:
    """Read an answer; it must say why the model stopped and which model it was."""
    finish = FINISH_REASONS.get(answer.finish_reason)
    if finish is None:
        raise missing(f"{path}.finish_reason", "is required")
    if not answer.model:
        raise missing(f"{path}.model", "is required")
    return Answer(
        text=answer.text,
        finish_reason=finish,
        model=answer.model,
        upstream=answer.upstream,
        tool_calls=tuple(ToolCall(c.id, c.name, c.arguments) for c in answer.tool_calls),
        refusal=answer.refusal,
        usage=read_usage(answer.usage),
        cost=read_cost(answer.cost),
        created_at=read_timestamp(answer.create_time, f"{path}.create_time") if answer.HasField("create_time") else 0.0,
    )


def read_timestamp(timestamp: Timestamp, path: str) -> float:
    """Read a time as Unix seconds, to the microsecond."""
    try:
        return timestamp.ToMicroseconds() / 1e6
    except ValueError:
        raise invalid(path, "must be a time between the years 1 and 9999") from None
