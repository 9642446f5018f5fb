"""Payloads of a chat completion stream (`chat.completion.chunk` objects) to events.

Written for what servers send in fact: a usage chunk with empty `choices`, `content: null`, reasoning under two names,
tool calls without `index`, errors in the middle. Only choice 0 counts: more are never asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from services.completion.upstreams import failures
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

DONE = b"[DONE]"
MAX_COUNT = 2**53
"""Larger token counts are nonsense, and JSON could not carry them."""

MAX_TOOL_CALLS = 128
"""Most tool calls of one answer, as many as a request may name tools."""

_FINISH = {
    "stop": FinishReason.STOP,
    "eos_token": FinishReason.STOP,
    "stop_sequence": FinishReason.STOP,
    "end_turn": FinishReason.STOP,
    "length": FinishReason.LENGTH,
    "max_tokens": FinishReason.LENGTH,
    "tool_calls": FinishReason.TOOL_CALLS,
    "function_call": FinishReason.TOOL_CALLS,
    "content_filter": FinishReason.CONTENT_FILTER,
}
"""Any other word (`abort`, `error`, `cancelled`) is no clean end, so it makes no `Finish`."""


class ChunkReader:
    """Reads the chunks of one answer."""

    def __init__(self, upstream: str) -> None:
        self._upstream = upstream
        self._call_ids: list[str] = []
        self._indices: dict[int, tuple[str, int]] = {}
        """By the index that the server states: the id of the latest call there, and its number here."""
        self._numbers: set[int] = set()
        self.done = False
        """The server said that nothing follows."""
        self.finished = False
        """The model said why it stopped."""

    def read(self, payload: bytes) -> list[ChatEvent]:
        """Return the events of one payload; raises the error that it tells of, or `Unavailable(UPSTREAM_MALFORMED)`."""
        if payload.strip() == DONE:
            self.done = True
            return []
        try:
            chunk = orjson.loads(payload)
        except orjson.JSONDecodeError:
            raise failures.malformed(self._upstream, "a chunk that is not JSON") from None
        if not isinstance(chunk, dict):
            raise failures.malformed(self._upstream, "a chunk that is no object")
        if chunk.get("error"):
            raise failures.in_stream(self._upstream, chunk["error"])
        if chunk.get("object") == "error":
            raise failures.in_stream(self._upstream, chunk)
        choices, usage = chunk.get("choices"), chunk.get("usage")
        if usage is None and (text := _nothing_but_text(choices)):
            return [TextDelta(text)]
        if not isinstance(choices, list) and not isinstance(usage, dict):
            raise failures.malformed(self._upstream, "a chunk of a wrong shape")
        events: list[ChatEvent] = []
        for choice in choices or ():
            if not isinstance(choice, dict):
                raise failures.malformed(self._upstream, "a chunk of a wrong shape")
            if not choice.get("index"):
                self._choice(choice, events)
        report = _usage(usage) if isinstance(usage, dict) else None
        if report is not None:
            events.append(UsageReport(report))
        return events

    def _choice(self, choice: Mapping[str, Any], events: list[ChatEvent]) -> None:
        delta = choice.get("delta")
        if delta is not None:
            if not isinstance(delta, dict):
                raise failures.malformed(self._upstream, "a chunk of a wrong shape")
            # Where both names of reasoning are sent, they hold the same text.
            if thought := self._text(delta, "reasoning_content") or self._text(delta, "reasoning"):
                events.append(ReasoningDelta(thought))
            if text := self._text(delta, "content"):
                events.append(TextDelta(text))
            if refusal := self._text(delta, "refusal"):
                events.append(RefusalDelta(refusal))
            if calls := delta.get("tool_calls"):
                self._tool_calls(calls, events)
        elif "message" in choice:
            raise failures.malformed(self._upstream, "a whole completion where a stream was asked for")
        reason = choice.get("finish_reason")
        if reason == "error":
            raise failures.in_stream(self._upstream, None)
        if isinstance(reason, str) and reason in _FINISH and not self.finished:
            self.finished = True
            events.append(Finish(_FINISH[reason]))

    def _text(self, delta: Mapping[str, Any], name: str) -> str:
        text = delta.get(name)
        if text is None:
            return ""
        if not isinstance(text, str):
            raise failures.malformed(self._upstream, f"{name} that is no text")
        return text

    def _tool_calls(self, calls: object, events: list[ChatEvent]) -> None:
        if not isinstance(calls, list):
            raise failures.malformed(self._upstream, "tool calls of a wrong shape")
        for call in calls:
            function = call.get("function") if isinstance(call, dict) else None
            if function is None and isinstance(call, dict):
                function = {}
            if not isinstance(function, dict):
                raise failures.malformed(self._upstream, "tool calls of a wrong shape")
            identity = self._text(call, "id")
            event = ToolCallDelta(
                self._index(call.get("index"), identity),
                identity,
                self._text(function, "name"),
                self._text(function, "arguments"),
            )
            if event.id or event.name or event.arguments:
                events.append(event)

    def _index(self, stated: object, identity: str) -> int:
        """Return the number of a tool call; servers that state none start a new call with each new id."""
        if isinstance(stated, int) and not isinstance(stated, bool) and 0 <= stated < MAX_TOOL_CALLS:
            return self._stated(stated, identity)
        if stated is not None:
            raise failures.malformed(self._upstream, "tool calls of a wrong shape")
        if identity and identity not in self._call_ids:
            if len(self._call_ids) == MAX_TOOL_CALLS:
                raise failures.oversize(self._upstream, f"more than {MAX_TOOL_CALLS} tool calls")
            self._call_ids.append(identity)
        return self._call_ids.index(identity) if identity else max(len(self._call_ids) - 1, 0)

    def _stated(self, stated: int, identity: str) -> int:
        """Return the number of a call with a stated index; some servers give all parallel calls the same one."""
        known = self._indices.get(stated)
        if known is None:
            self._indices[stated] = (identity, self._free(stated))
        elif identity and known[0] and identity != known[0]:
            self._indices[stated] = (identity, self._free(len(self._numbers)))
        return self._indices[stated][1]

    def _free(self, wanted: int) -> int:
        while wanted in self._numbers:
            wanted += 1
        if wanted >= MAX_TOOL_CALLS:
            raise failures.oversize(self._upstream, f"more than {MAX_TOOL_CALLS} tool calls")
        self._numbers.add(wanted)
        return wanted


def _nothing_but_text(choices: object) -> str:
    """Return the text of a chunk that says nothing else, as nearly all do; else nothing: to be read with care."""
    if not isinstance(choices, list) or len(choices) != 1 or not isinstance(choice := choices[0], dict):
        return ""
    delta = choice.get("delta")
    if choice.get("index") or choice.get("finish_reason") is not None or not isinstance(delta, dict) or len(delta) != 1:
        return ""
    text = delta.get("content")
    return text if isinstance(text, str) else ""


def _count(table: object, name: str) -> int:
    value = table.get(name) if isinstance(table, dict) else None
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < MAX_COUNT else 0


def _usage(usage: Mapping[str, Any]) -> Usage | None:
    """Return the reported usage, or `None` if it says nothing: an all-zero one would make the call look free."""
    prompt, completion = _count(usage, "prompt_tokens"), _count(usage, "completion_tokens")
    if not prompt and not completion:
        return None
    details = usage.get("prompt_tokens_details")
    cached = _count(details, "cached_tokens") or _count(usage, "prompt_cache_hit_tokens")
    reasoning = _count(usage.get("completion_tokens_details"), "reasoning_tokens")
    # A few servers leave the reasoning out of completion_tokens; their total shows it.
    if reasoning and _count(usage, "total_tokens") == prompt + completion + reasoning:
        completion += reasoning
    return Usage(
        input=prompt,
        cached_input=min(cached, prompt),
        cache_write_input=min(_count(details, "cache_write_tokens"), prompt - min(cached, prompt)),
        output=completion,
        reasoning=min(reasoning, completion),
    )
