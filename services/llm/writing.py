"""From the plain values to `antiphon.llm.v1`."""

from __future__ import annotations

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from antiphon.llm.v1 import llm_pb2
from services.llm.reading import FINISH_REASONS, ROLES
from services.llm.structs import json_to_struct
from services.llm.values import Answer, Cost, FinishReason, GenerationOptions, Message, Part, TextPart, Tool, Usage

LARGEST = 2**63 - 1
"""Of an int64."""

_ROLE_NUMBERS = {role: number for number, role in ROLES.items()}

_FINISH_NUMBERS = {reason: number for number, reason in FINISH_REASONS.items()}


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
