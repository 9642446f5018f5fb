"""The stand-in: answers without a model, a key or a network, and says so. Deterministic, so that tests can rely on it.

Its token is a word: usage, `max_output_tokens` and the pace count those.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence

from services.chassis.errors import DeadlineExceeded
from services.completion.upstreams.protocol import ChatEvent, ChatRequest, Finish, TextDelta, UsageReport
from services.llm.values import FinishReason, ImagePart, Message, Usage

QUOTED_CHARACTERS = 60
"""Of the question, as a reminder in the answer."""

_WORD = re.compile(r"\S+\s*")


class OfflineUpstream:
    """Answers as any model that is asked for; `pace` is the seconds that each word takes."""

    def __init__(
        self,
        name: str = "offline",
        *,
        pace: float = 0.0,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name = name
        self._pace = pace
        self._sleep = sleep
        self._monotonic = monotonic

    @property
    def name(self) -> str:
        """Its name in the catalogue."""
        return self._name

    async def aclose(self) -> None:
        """Nothing to close."""

    async def stream(
        self, request: ChatRequest, *, timeout: float, connect_timeout: float | None = None
    ) -> AsyncGenerator[Sequence[ChatEvent], None]:
        """Yield one `TextDelta` per word, then usage and the end; tools are accepted and never called."""
        del connect_timeout  # nothing is connected to
        deadline = self._monotonic() + timeout
        if timeout <= 0:
            raise self._too_late()
        words, reason = _cut(answer(request), request)
        for word in words:
            if self._pace > 0:
                left = deadline - self._monotonic()
                await self._sleep(min(self._pace, max(left, 0.0)))
                if left < self._pace:
                    raise self._too_late()
            yield (TextDelta(word),)
        asked = sum(len(message.text.split()) for message in request.messages)
        yield UsageReport(Usage(input=max(asked, 1), output=len(words))), Finish(reason)

    def _too_late(self) -> DeadlineExceeded:
        return DeadlineExceeded(
            f"upstream '{self._name}' did not finish within the time of the call", metadata={"upstream": self._name}
        )


def answer(request: ChatRequest) -> str:
    """Return the whole stand-in text: the same for the same model and messages, another for any other."""
    question = " ".join(request.messages[-1].text.split()) if request.messages else ""
    shown = question if len(question) <= QUOTED_CHARACTERS else question[: QUOTED_CHARACTERS - 1] + "…"
    return (
        f"[stand-in] This text was made by {request.model}, which is no language model: it only stands in for one, so "
        f"that everything around it can be tried without a key or a network. "
        f"You asked: “{shown}” ({len(question.split())} words, digest {_digest(request)}). "
        f"Configure an upstream in the catalogue, or set OPENAI_API_KEY, to get a real answer here."
    )


def _digest(request: ChatRequest) -> str:
    digest = hashlib.sha256()
    for message in request.messages:
        for field in _fields(message):
            encoded = field.encode("utf-8", "surrogatepass")
            digest.update(len(encoded).to_bytes(8, "little") + encoded)
    return digest.hexdigest()[:12]


def _fields(message: Message) -> list[str]:
    parts = [f"image {part.url}" if isinstance(part, ImagePart) else f"text {part.text}" for part in message.parts]
    calls = [f"call {call.id} {call.name} {call.arguments}" for call in message.tool_calls]
    return [message.role.value, message.name, message.tool_call_id, *parts, *calls]


def _cut(text: str, request: ChatRequest) -> tuple[list[str], FinishReason]:
    """Return the words that the options let through, and why they end."""
    ends = [end for stop in request.options.stop if stop and (end := text.find(stop)) >= 0]
    words = _WORD.findall(text[: min(ends)] if ends else text)
    limit = request.options.max_output_tokens
    if limit is not None and len(words) > limit:
        return words[:limit], FinishReason.LENGTH
    return words, FinishReason.STOP
