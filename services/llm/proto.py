"""Between `antiphon.llm.v1` and the plain values; validates what a caller sends.

Every `read_*` takes the path of its field and raises `InvalidRequest` naming the field that is wrong.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from google.protobuf import struct_pb2
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from antiphon.llm.v1 import llm_pb2
from services.chassis.errors import InvalidRequest, Reason
from services.llm.values import (
    Answer,
    Cost,
    FinishReason,
    GenerationOptions,
    ImagePart,
    Json,
    Message,
    Part,
    Role,
    TextPart,
    Tool,
    ToolCall,
    Usage,
)

if TYPE_CHECKING:
    from google.protobuf.message import Message as ProtoMessage

MAX_MESSAGES = 1_024
MAX_PARTS = 256
MAX_TOOLS = 128
MAX_STOPS = 16
MAX_NAME = 64

MAX_PIECES = 4_096
"""Parts and tool calls of a whole conversation; a megabyte holds a hundred thousand, which take seconds to read."""

MAX_VALUES = 8_192
"""Values in the JSON objects of one field, nested ones too; the same."""

MOST_TOKENS = 10**9
"""Of any kind in one call; no model takes as many."""

MOST_NANO_USD = 10**15
"""Of one call: a million US dollars."""

LARGEST = 2**63 - 1
"""Of an int64."""

_BLANK = re.compile(
    r"[\s\x00-\x1f\x7f-\x9f\xad\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u180e\u200b-\u200f\u202a-\u202e"
    r"\u2060-\u2064\u2066-\u206f\ufeff\ufff9-\ufffb\U000110bd\U000110cd\U00013430-\U0001343f\U0001bca0-\U0001bca3"
    r"\U0001d173-\U0001d17a\U000e0001\U000e0020-\U000e007f]*"
)
"""White space, and Unicode's categories Cc and Cf. A set in C: sixteen megabytes of them are looked through at once."""

_TOOL_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")

_ROLES = {
    llm_pb2.ROLE_SYSTEM: Role.SYSTEM,
    llm_pb2.ROLE_DEVELOPER: Role.DEVELOPER,
    llm_pb2.ROLE_USER: Role.USER,
    llm_pb2.ROLE_ASSISTANT: Role.ASSISTANT,
    llm_pb2.ROLE_TOOL: Role.TOOL,
}
_ROLE_NUMBERS = {role: number for number, role in _ROLES.items()}

_FINISH = {
    llm_pb2.FINISH_REASON_STOP: FinishReason.STOP,
    llm_pb2.FINISH_REASON_LENGTH: FinishReason.LENGTH,
    llm_pb2.FINISH_REASON_TOOL_CALLS: FinishReason.TOOL_CALLS,
    llm_pb2.FINISH_REASON_CONTENT_FILTER: FinishReason.CONTENT_FILTER,
}
_FINISH_NUMBERS = {reason: number for number, reason in _FINISH.items()}

# Keys of OpenAI's request body that have a field of their own; in `extra` they would contradict it or our streaming.
_OWN_KEYS = frozenset(
    {
        "model", "messages", "tools", "functions", "function_call", "stream", "stream_options", "n",
        "max_tokens", "max_completion_tokens", "temperature", "top_p", "stop", "seed", "response_format", "tool_choice",
        "parallel_tool_calls", "presence_penalty", "frequency_penalty", "reasoning_effort", "logprobs", "top_logprobs",
    }
)  # fmt: skip

_NO_OPTIONS = GenerationOptions()


class _Values:
    """Counts values before they are read, so that too many cost nothing."""

    def __init__(self) -> None:
        self._left = MAX_VALUES

    def expect(self, count: int, path: str) -> None:
        self._left -= count
        if self._left < 0:
            raise invalid(path, f"at most {MAX_VALUES} values in all")


def _value_to_json(value: struct_pb2.Value, path: str, values: _Values) -> Json:
    match value.WhichOneof("kind"):
        case "number_value":
            number = value.number_value
            if not math.isfinite(number):
                raise invalid(path, "numbers must be finite")
            # A struct has only doubles; model servers insist on whole numbers where JSON Schema says integer.
            return int(number) if number.is_integer() and abs(number) < 2**53 else number
        case "string_value":
            return value.string_value
        case "bool_value":
            return value.bool_value
        case "struct_value":
            return _struct_to_json(value.struct_value, path, values)
        case "list_value":
            values.expect(len(value.list_value.values), path)
            return [_value_to_json(v, path, values) for v in value.list_value.values]
        case _:
            return None


def struct_to_json(struct: struct_pb2.Struct, path: str) -> dict[str, Json]:
    """Return the struct as a JSON object; whole numbers come back as `int`, as a JSON parser would give them."""
    return _struct_to_json(struct, path, _Values())


def _struct_to_json(struct: struct_pb2.Struct, path: str, values: _Values) -> dict[str, Json]:
    values.expect(len(struct.fields), path)
    return {key: _value_to_json(value, path, values) for key, value in struct.fields.items()}


def json_to_struct(value: Mapping[str, Json]) -> struct_pb2.Struct:
    """Return a JSON object as a struct."""
    struct = struct_pb2.Struct()
    struct.update(value)
    return struct


def is_blank(text: str) -> bool:
    """Whether a reader sees nothing: only white space, control and format characters (a zero-width space, for one)."""
    return _BLANK.fullmatch(text) is not None


def missing(field: str, what: str) -> InvalidRequest:
    """Return the error for a required field that is absent."""
    return InvalidRequest(f"{field}: {what}", reason=Reason.MISSING_FIELD, field=field)


def invalid(field: str, what: str) -> InvalidRequest:
    """Return the error for a field with a value that is not allowed."""
    return InvalidRequest(f"{field}: {what}", reason=Reason.INVALID_FIELD, field=field)


def refuse_unsupported(message: ProtoMessage, fields: Sequence[str], path: str = "") -> None:
    """Raise for each of `fields` that is set on `message`: part of the contract, but not honoured by this server."""
    present = {descriptor.name for descriptor, _ in message.ListFields()}
    for name in fields:
        if name in present:
            field = f"{path}.{name}" if path else name
            raise InvalidRequest(f"{field}: not supported by this server", reason=Reason.UNSUPPORTED_FIELD, field=field)


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
    role = _ROLES.get(message.role)
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
    values = _Values()
    return tuple(Tool(t.name, t.description, _struct_to_json(t.json_schema, path, values)) for t in tools)


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
    finish = _FINISH.get(answer.finish_reason)
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


def write_usage(usage: Usage) -> llm_pb2.Usage:
    """Write a usage report."""
    message = llm_pb2.Usage()
    fill_usage(message, usage)
    return message


def write_total(usage: Usage, cost: Cost) -> tuple[llm_pb2.Usage, llm_pb2.Cost]:
    """Write what many calls took together; what is beyond the largest number of a message is that."""
    total = Usage(
        input=min(usage.input, LARGEST),
        cached_input=min(usage.cached_input, LARGEST),
        cache_write_input=min(usage.cache_write_input, LARGEST),
        output=min(usage.output, LARGEST),
        reasoning=min(usage.reasoning, LARGEST),
        estimated=usage.estimated,
    )
    return write_usage(total), write_cost(Cost(min(cost.nano_usd, LARGEST), cost.price_version))


def fill_usage(message: llm_pb2.Usage, usage: Usage) -> None:
    """As `write_usage`, into a new part of a message: what is made apart has to be copied there."""
    message.SetInParent()
    if usage.input:
        message.input_tokens = usage.input
    if usage.cached_input:
        message.cached_input_tokens = usage.cached_input
    if usage.cache_write_input:
        message.cache_write_input_tokens = usage.cache_write_input
    if usage.output:
        message.output_tokens = usage.output
    if usage.reasoning:
        message.reasoning_tokens = usage.reasoning
    if usage.estimated:
        message.estimated = True


def write_cost(cost: Cost) -> llm_pb2.Cost:
    """Write a cost."""
    message = llm_pb2.Cost()
    fill_cost(message, cost)
    return message


def fill_cost(message: llm_pb2.Cost, cost: Cost) -> None:
    """As `write_cost`, into a new part of a message."""
    message.SetInParent()
    if cost.nano_usd:
        message.nano_usd = cost.nano_usd
    if cost.price_version:
        message.price_version = cost.price_version


def write_timestamp(seconds: float) -> Timestamp:
    """Write Unix seconds, to the microsecond."""
    timestamp = Timestamp()
    fill_microseconds(timestamp, round(seconds * 1e6))
    return timestamp


def fill_microseconds(message: Timestamp | Duration, microseconds: int) -> None:
    """As `FromMicroseconds`, which takes several times as long, of a time since 1970 or a duration of at least 0."""
    message.seconds = microseconds // 1_000_000
    message.nanos = microseconds % 1_000_000 * 1_000


def write_finish_reason(reason: FinishReason) -> llm_pb2.FinishReason.ValueType:
    """Write why a model stopped."""
    return _FINISH_NUMBERS[reason]


def write_answer(answer: Answer) -> llm_pb2.Answer:
    """Write an answer."""
    message = llm_pb2.Answer()
    fill_answer(message, answer)
    return message


def fill_answer(message: llm_pb2.Answer, answer: Answer) -> None:
    """As `write_answer`, into a new part of a message."""
    message.finish_reason = _FINISH_NUMBERS[answer.finish_reason]
    message.text = answer.text
    message.model = answer.model
    message.upstream = answer.upstream
    if answer.tool_calls:
        message.tool_calls.extend(
            llm_pb2.ToolCall(id=c.id, name=c.name, arguments=c.arguments) for c in answer.tool_calls
        )
    message.refusal = answer.refusal
    fill_usage(message.usage, answer.usage)
    fill_cost(message.cost, answer.cost)
    if answer.created_at > 0:
        fill_microseconds(message.create_time, round(answer.created_at * 1e6))


def _write_part(part: Part) -> llm_pb2.ContentPart:
    if isinstance(part, TextPart):
        return llm_pb2.ContentPart(text=part.text)
    return llm_pb2.ContentPart(image_url=llm_pb2.ImageUrl(url=part.url, detail=part.detail))


def write_message(message: Message) -> llm_pb2.Message:
    """Write one message."""
    return llm_pb2.Message(
        role=_ROLE_NUMBERS[message.role],
        parts=[_write_part(p) for p in message.parts],
        name=message.name,
        tool_calls=[llm_pb2.ToolCall(id=c.id, name=c.name, arguments=c.arguments) for c in message.tool_calls],
        tool_call_id=message.tool_call_id,
    )


def write_tool(tool: Tool) -> llm_pb2.Tool:
    """Write one tool."""
    return llm_pb2.Tool(name=tool.name, description=tool.description, json_schema=json_to_struct(tool.json_schema))


def write_options(options: GenerationOptions) -> llm_pb2.GenerationOptions:
    """Write generation options; what is `None` or empty stays absent."""
    return llm_pb2.GenerationOptions(
        max_output_tokens=options.max_output_tokens,
        temperature=options.temperature,
        top_p=options.top_p,
        stop=options.stop,
        seed=options.seed,
        response_format=None if options.response_format is None else json_to_struct(options.response_format),
        tool_choice=options.tool_choice,
        parallel_tool_calls=options.parallel_tool_calls,
        presence_penalty=options.presence_penalty,
        frequency_penalty=options.frequency_penalty,
        reasoning_effort=options.reasoning_effort,
        extra=json_to_struct(options.extra) if options.extra else None,
    )
