"""What the completion service asks of an upstream, and what it hears back."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import field
from typing import Protocol

from services.chassis.value import value
from services.llm.values import FinishReason, GenerationOptions, Message, Tool, Usage


@value
class ChatRequest:
    """One call of a model. `model` is the upstream's own name of it."""

    model: str
    messages: tuple[Message, ...]
    tools: tuple[Tool, ...] = ()
    options: GenerationOptions = field(default_factory=GenerationOptions)


@value
class TextDelta:
    """The next piece of the answer; never empty."""

    text: str


@value
class ReasoningDelta:
    """The next piece of what the model thinks aloud; never empty, not part of the answer."""

    text: str


@value
class RefusalDelta:
    """The next piece of the sentence by which the model declines; never empty."""

    text: str


@value
class ToolCallDelta:
    """A piece of tool call number `index`: id and name come once, `arguments` (JSON text) in pieces to be joined."""

    index: int
    id: str = ""
    name: str = ""
    arguments: str = ""


@value
class UsageReport:
    """Tokens of the call so far; a later report replaces an earlier one. It may come before or after `Finish`."""

    usage: Usage


@value
class Finish:
    """The model said why it stopped: the answer is whole. Comes at most once, after all of the content."""

    reason: FinishReason


@value
class RateLimit:
    """What is left of our rate, as the server says: `calls` more within `seconds`, or none for so long. Comes first."""

    calls: int
    seconds: float


ChatEvent = TextDelta | ReasoningDelta | RefusalDelta | ToolCallDelta | UsageReport | Finish | RateLimit


class Upstream(Protocol):
    """A server that runs models, or the stand-in for one. Safe for concurrent calls."""

    @property
    def name(self) -> str:
        """Its name in the catalogue."""

    def stream(
        self, request: ChatRequest, *, timeout: float, connect_timeout: float | None = None
    ) -> AsyncGenerator[Sequence[ChatEvent], None]:
        """Yield the events of one call, those together that arrived together.

        Nothing is sent before the first `anext`, and nothing is tried twice.

        `timeout` (seconds) bounds the whole call from that moment on, `connect_timeout` making a connection (default:
        the upstream's own). `aclose()` on the generator, or cancelling the
        task that waits in it, closes the connection at once. A stream that ends without `Finish` was truncated; one
        without `UsageReport` leaves the usage to be estimated.

        Raises `Unavailable` (UPSTREAM_UNAVAILABLE: not reached, or 5xx, then with `metadata["upstream_status"]`;
        UPSTREAM_TRUNCATED: broke off while answering; UPSTREAM_MALFORMED: not an answer), `Exhausted`
        (UPSTREAM_RATE_LIMITED with `retry_after`; UPSTREAM_MALFORMED: larger than our limits), `FailedPrecondition`
        (UPSTREAM_UNAUTHENTICATED, CONTENT_FILTERED, UPSTREAM_REJECTED: it has no such model), `InvalidRequest`
        (CONTEXT_TOO_LONG, UPSTREAM_REJECTED), `DeadlineExceeded`. Each names the upstream in `metadata["upstream"]`,
        known error codes in `metadata["upstream_code"]`.
        """

    async def aclose(self) -> None:
        """Close idle connections; calls in flight fail."""
