"""Messages, tools, options, usage and answers as plain immutable values; no gRPC, no protobuf.

Units: tokens are counts of the model's own tokenizer; money is integer nano-USD (1 USD = 10⁹ nano-USD).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Union

from services.chassis.value import value

Json = Union[None, bool, int, float, str, Sequence["Json"], Mapping[str, "Json"]]
"""A JSON value."""


class Role(StrEnum):
    """Who wrote a message; the values are OpenAI's wire names."""

    SYSTEM = "system"
    DEVELOPER = "developer"
    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"


@value
class TextPart:
    """A piece of text."""

    text: str


@dataclass(frozen=True, slots=True)
class ImagePart:
    """A picture by URL (`https:` or `data:`); `detail` is the upstream's own word (`low`, `high`, `auto`) or empty."""

    url: str
    detail: str = ""


Part = TextPart | ImagePart


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call of a tool that an assistant asked for; `arguments` is JSON text exactly as the model wrote it."""

    id: str
    name: str
    arguments: str


@value
class Message:
    """One turn of a conversation."""

    role: Role
    parts: tuple[Part, ...] = ()
    name: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str = ""

    @property
    def text(self) -> str:
        """All text parts, joined by a newline."""
        return "\n".join(p.text for p in self.parts if isinstance(p, TextPart))

    @property
    def text_only(self) -> bool:
        """True if there is at least one part and each is text."""
        return bool(self.parts) and all(isinstance(p, TextPart) for p in self.parts)


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that the model may call; `json_schema` describes its arguments (JSON Schema object)."""

    name: str
    description: str = ""
    json_schema: Mapping[str, Json] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class GenerationOptions:
    """Sampling and output options, all part of the fingerprint; `None` or empty means: the upstream's default."""

    max_output_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    stop: tuple[str, ...] = ()
    seed: int | None = None
    response_format: Mapping[str, Json] | None = None
    """OpenAI's `response_format` object: `{"type": "json_object"}` or `{"type": "json_schema", "json_schema": {…}}`."""
    tool_choice: str = ""
    """`auto`, `none`, `required` or a tool's name; empty: the upstream's default."""
    parallel_tool_calls: bool | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    reasoning_effort: str = ""
    logprobs: bool | None = None
    top_logprobs: int | None = None
    extra: Mapping[str, Json] = field(default_factory=dict)
    """Fields passed to the upstream as they are."""


@value
class Usage:
    """Tokens of one call. `input` includes `cached_input` and `cache_write_input`; `output` includes `reasoning`."""

    input: int = 0
    cached_input: int = 0
    cache_write_input: int = 0
    output: int = 0
    reasoning: int = 0
    estimated: bool = False
    """True if the upstream did not report usage and these are our own upper estimates."""


@value
class Cost:
    """Money of one call under one price list."""

    nano_usd: int = 0
    price_version: str = ""


class FinishReason(StrEnum):
    """Why a model stopped; the values are OpenAI's wire names."""

    STOP = "stop"
    LENGTH = "length"
    TOOL_CALLS = "tool_calls"
    CONTENT_FILTER = "content_filter"


@value
class Answer:
    """One finished answer of a model with what it took to get it."""

    text: str
    finish_reason: FinishReason
    model: str
    """Catalogue name of the model that answered."""
    upstream: str = ""
    """Catalogue name of the upstream that was called."""
    tool_calls: tuple[ToolCall, ...] = ()
    refusal: str = ""
    usage: Usage = Usage()
    cost: Cost = Cost()
    created_at: float = 0.0
    """Unix seconds at which the answer was finished."""
