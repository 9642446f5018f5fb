"""The answer of one call of a model, put together from the events of its stream."""

from __future__ import annotations

from dataclasses import dataclass, field

from services.completion.streaming.content import Content, Reasoning, Text, ToolCallPart
from services.completion.upstreams.protocol import (
    ChatEvent,
    Finish,
    ReasoningDelta,
    RefusalDelta,
    TextDelta,
    ToolCallDelta,
    UsageReport,
)
from services.llm.values import FinishReason, ToolCall, Usage


@dataclass(slots=True)
class Draft:
    """Grows with every event; `finish` stays None until the model says why it stopped."""

    finish: FinishReason | None = None
    usage: Usage | None = None
    begun: bool = False
    """Whether the model has written anything."""
    _text: list[str] = field(default_factory=list)
    _reasoning: list[str] = field(default_factory=list)
    _refusal: list[str] = field(default_factory=list)
    _calls: dict[int, list[str]] = field(default_factory=dict)
    """By index: id, name, and the pieces of the arguments."""

    def take(self, event: ChatEvent) -> Content | None:
        """Add an event; returns what of it a caller sees at once."""
        match event:
            case TextDelta(text):
                self._text.append(text)
                return self._begin(Text(text))
            case ReasoningDelta(text):
                self._reasoning.append(text)
                return self._begin(Reasoning(text))
            case RefusalDelta(text):
                # The contract has no event for it: callers find it in the finished answer.
                self._refusal.append(text)
                self.begun = True
            case ToolCallDelta(index, call_id, name, arguments):
                call = self._calls.setdefault(index, ["", ""])
                call[0], call[1] = call[0] or call_id, call[1] or name
                call.append(arguments)
                return self._begin(ToolCallPart(index, call_id, name, arguments))
            case UsageReport(usage):
                self.usage = usage
            case Finish(reason):
                self.finish = reason
        return None

    @property
    def text(self) -> str:
        """The answer's text."""
        return "".join(self._text)

    @property
    def delivered(self) -> int:
        """Bytes of the answer's text, as UTF-8."""
        return sum(len(piece.encode("utf-8", "surrogatepass")) for piece in self._text)

    @property
    def refusal(self) -> str:
        """The model's words when it refused."""
        return "".join(self._refusal)

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        """The calls that the model asks for, by index."""
        return tuple(ToolCall(call[0], call[1], "".join(call[2:])) for _, call in sorted(self._calls.items()))

    @property
    def written(self) -> str:
        """Everything that the model wrote, for counting its tokens."""
        calls = (part for call in self._calls.values() for part in call)
        return "".join((*self._text, *self._reasoning, *self._refusal, *calls))

    def _begin(self, content: Content) -> Content:
        self.begun = True
        return content
