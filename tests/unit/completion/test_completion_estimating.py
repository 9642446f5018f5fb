"""What a call took is estimated without holding up anybody: long texts are counted beside the event loop."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from services.catalogue.catalogue import Catalogue
from services.catalogue.tokens import SOON_CHARS, RequestTokens, TokenCounter
from services.completion.estimating import Estimator
from services.completion.request import Question
from services.llm.values import GenerationOptions, Message, Role, TextPart, Tool, ToolCall
from tests.unit.completion.completion_parts import CATALOGUE

MODEL = next(iter(Catalogue.parse(CATALOGUE.format(timeouts=""), {}).models))
LONG = "x" * (SOON_CHARS + 1)


class Watched(TokenCounter):
    """Knows on which threads it counted."""

    def __init__(self) -> None:
        super().__init__({})
        self.threads: list[int] = []

    def request(
        self, messages: Sequence[Message], tools: Sequence[Tool] = (), options: GenerationOptions | None = None
    ) -> RequestTokens:
        self.threads.append(threading.get_ident())
        return super().request(messages, tools, options)


def asked(*calls: ToolCall, text: str = "why?") -> Question:
    return Question((Message(Role.USER, (TextPart(text),), tool_calls=calls),))


@pytest.mark.parametrize(
    ("question", "written", "inline"),
    [
        (asked(), "because", True),
        (asked(text=LONG), "because", False),
        (asked(), LONG, False),
        (asked(ToolCall("1", "f", LONG)), "because", False),
        (replace(asked(), tools=(Tool("f"),)), "because", False),
        (replace(asked(), options=GenerationOptions(response_format={"type": "json_object"})), "because", False),
    ],
    ids=["short", "long question", "long answer", "long call of a tool", "tools", "a format"],
)
async def test_only_what_is_short_is_counted_on_the_loop(question: Question, written: str, inline: bool) -> None:
    counter = Watched()
    with ThreadPoolExecutor(1) as executor:
        usage = await Estimator(counter, executor).usage(question, written, MODEL)
    assert [one == threading.get_ident() for one in counter.threads] == [inline]
    assert usage.estimated
    assert usage.output >= len(written) // 8
