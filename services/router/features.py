"""What the form of a request tells about how hard it is: lengths, counts and shapes, no understanding.

Each feature is a number of order one (counts pass through log(1 + n): ten questions are not ten times one), zero when
the shape is absent. All but the conversation's features read the last user message; of a long one, its beginning and
its end, which hold the instruction. Words are English; in other languages length, code, mathematics and structure
remain. `REVISION` changes with any change here: fitted coefficients belong to one revision.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

from services.llm.values import GenerationOptions, Message, Role, Tool
from services.router.terms import words
from services.router.vocabulary import DEMANDS, GREETINGS, LOOKUP_OPENINGS, MATHEMATICS, OPEN_TASK, STEPS

REVISION = 1

SCANNED_CHARS = 4_096
"""Of a longer message the first and the last half of this are read; bounds the time of the patterns below."""

NAMES = (
    "length",
    "sentence_length",
    "word_length",
    "questions",
    "code",
    "mathematics",
    "numbers",
    "steps",
    "demands",
    "open_task",
    "lookup",
    "choices",
    "turns",
    "tools",
    "schema",
)

Features = Mapping[str, float]
"""One number for each of `NAMES`."""


_SENTENCE_END = re.compile(r"[.!?](?=\s|$)|\n")
_CODE_LINE = re.compile(
    r"^\s*(?:def |class |import |from \w+ import|return\b|#include|public |private |func |fn |let |const |var |SELECT |"
    r"if ?\(|for ?\(|while ?\(|>>> |\$ )|[{};]\s*$",
    re.MULTILINE,
)
_MATHS = re.compile(r"\\[a-zA-Z]{2,12}\b|[∑∫√≤≥≠∈∀∃∞π∂∇±×÷^]|[\w)] ?[=<>] ?[\w(-]|\d ?[+*/] ?\d")
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_LIST_ITEM = re.compile(r"^\s*(?:\d{1,2}[.)]|[-*•])\s", re.MULTILINE)
_CHOICE = re.compile(r"^\s*\(?[A-E][.):]\s", re.MULTILINE)


def extract(messages: Sequence[Message], tools: Sequence[Tool], options: GenerationOptions) -> Features:
    """Return the features of a request; pure, below a millisecond whatever the length."""
    asked = next((message.text for message in reversed(messages) if message.role is Role.USER), "")
    turns = sum(message.role in {Role.USER, Role.ASSISTANT} for message in messages)
    wants_json = bool(options.response_format) and options.response_format != {"type": "text"}
    return _text_features(asked) | {
        "turns": math.log1p(max(0, turns - 1)),
        "tools": math.log1p(len(tools)),
        "schema": float(wants_json),
    }


def scanned(text: str) -> str:
    """Return what is read of a text: all, or the beginning and the end of a long one."""
    if len(text) <= SCANNED_CHARS:
        return text
    half = SCANNED_CHARS // 2
    return f"{text[:half]}\n{text[-half:]}"


def _text_features(text: str) -> dict[str, float]:
    seen = scanned(text)
    found = words(seen)
    sentences = max(1, sum(bool(part.strip()) for part in _SENTENCE_END.split(seen)))
    lines = seen.count("\n") + 1
    mathematics = len(_MATHS.findall(seen)) + len(MATHEMATICS.find(found))
    return {
        # Characters, not tokens, so that the score is the same whatever the model's tokenizer.
        "length": math.log1p(len(text) / 40),
        "sentence_length": math.log1p(len(found) / sentences / 10),
        "word_length": sum(map(len, found)) / len(found) / 5 if found else 0.0,
        "questions": math.log1p(max(0, seen.count("?") - 1)),
        "code": min(1.0, seen.count("```") / 2 + 2 * len(_CODE_LINE.findall(seen)) / (lines + 3)),
        "mathematics": math.log1p(mathematics),
        "numbers": math.log1p(len(_NUMBER.findall(seen))),
        "steps": math.log1p(len(STEPS.find(found)) + len(_LIST_ITEM.findall(seen))),
        "demands": math.log1p(len(DEMANDS.find(found))),
        "open_task": math.log1p(len(OPEN_TASK.find(found))),
        "lookup": float(_opens_as_lookup(found)),
        "choices": float(len(_CHOICE.findall(seen)) >= 2),
    }


def _opens_as_lookup(found: Sequence[str]) -> bool:
    start = next((i for i, word in enumerate(found[:6]) if word not in GREETINGS), 0)
    return LOOKUP_OPENINGS.starts(found, start)
