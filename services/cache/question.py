"""The question in a conversation: its text, its normal form, and which tiers may answer it."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

from services.cache.referring import refers_back
from services.llm.values import Message, Role, TextPart

_LINE_BREAK = re.compile(r"[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]")
_SPACES = re.compile(r"\s+")
_SYMBOLS = re.compile(r"[^\w\s\x00-\x7f]{31,}")
"""Among symbols are all combining marks: none is a letter, a digit or white space."""

MOST_MARKS = 30
"""In a row, as in Unicode's Stream-Safe Text Format (UAX #15): putting marks in order takes the square of their number,
minutes for a message of a hundred kilobytes."""

_TURNS = frozenset({Role.USER, Role.ASSISTANT, Role.TOOL})


@dataclass(frozen=True, slots=True)
class Question:
    """`text` is what is embedded and shown; `parts` is its normal form for the exact tier.

    `in_words`: the last message is a user's and all text, so it is left out of the fingerprint. `semantic`: a reworded
    question may be served the same answer. `follows`: turns of a conversation come before it.
    """

    text: str
    parts: tuple[str, ...]
    in_words: bool
    semantic: bool
    follows: bool = False


def read_question(messages: tuple[Message, ...], *, longest: int) -> Question:
    """The question that `messages`, of which there is at least one, ends with.

    One of more than `longest` characters is taken as it is: it is never stored, and reading megabytes for their meaning
    would keep everybody else waiting.
    """
    last = messages[-1]
    if last.role is not Role.USER or not last.text_only:
        return Question(text=last.text, parts=(), in_words=False, semantic=False)
    return question_in_words(
        tuple(part.text for part in last.parts if isinstance(part, TextPart)),
        follows=any(message.role in _TURNS for message in messages[:-1]),
        longest=longest,
    )


def question_in_words(texts: tuple[str, ...], *, follows: bool, longest: int) -> Question:
    """The question that a user's message of these texts is; `follows`, `longest`: as above."""
    text = "\n".join(texts)
    if len(text) > longest:
        return Question(text=text, parts=texts, in_words=True, semantic=False, follows=follows)
    return Question(
        text=text,
        parts=tuple(map(normalise, texts)),
        in_words=True,
        semantic=bool(text.strip()) and not refers_back(text, has_earlier_turns=follows),
        follows=follows,
    )


def normalise(text: str) -> str:
    """The form in which texts are compared: NFC, CRLF as LF, trimmed.

    NFC only without a heap of more than `MOST_MARKS` combining marks, as no language writes it. Whitespace inside folds
    only in a single line without backticks: elsewhere it may be code, where it means something.
    """
    if not _has_heap(text):
        text = unicodedata.normalize("NFC", text)
    text = text.replace("\r\n", "\n").strip()
    if "`" in text or _LINE_BREAK.search(text):
        return text
    return _SPACES.sub(" ", text)


def _has_heap(text: str) -> bool:
    if text.isascii():
        return False
    return any(sum(map(_is_mark, symbols)) > MOST_MARKS for symbols in _SYMBOLS.findall(text))


def _is_mark(character: str) -> bool:
    # Some marks are themselves of class 0 and fall apart into others.
    return unicodedata.combining(unicodedata.normalize("NFD", character)[0]) != 0
