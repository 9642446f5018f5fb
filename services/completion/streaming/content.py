"""Pieces of an answer's content, and joining and splitting them into messages of a good size."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import replace

from services.chassis.value import value

PIECE_CHARS = 16_384
"""The most characters of one piece that is sent: at most 64 KiB of UTF-8, a fraction of a connection's flow window."""


@value
class Text:
    """Text to append to the answer."""

    text: str


@value
class Reasoning:
    """Text to append to the visible reasoning."""

    text: str


@value
class ToolCallPart:
    """A piece of the answer's tool call number `index`; `id` and `name` only in its first piece."""

    index: int
    id: str = ""
    name: str = ""
    arguments: str = ""


@value
class Continued:
    """The model that wrote so far broke off, for `reason`; from here on another writes.

    `offset`: bytes of the answer's text so far.
    """

    model: str
    upstream: str
    offset: int
    reason: str


@value
class Sentence:
    """A sentence of the answer's text, for those who want them; `offset`: bytes of the text before it."""

    text: str
    offset: int


Content = Text | Reasoning | ToolCallPart | Continued


def size(content: Content) -> int:
    """Bytes of a piece's text."""
    match content:
        case Text(text) | Reasoning(text):
            return _bytes(text)
        case ToolCallPart():
            return _bytes(content.id) + _bytes(content.name) + _bytes(content.arguments)
        case Continued():
            return 0


def _bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def cut(piece: Content, share: float) -> tuple[Content, Content | None]:
    """Return about that share of a piece, at least a character of it, and the rest, if there is one."""
    match piece:
        case Text(text) | Reasoning(text):
            at = max(math.ceil(len(text) * share), 1)
            return replace(piece, text=text[:at]), replace(piece, text=text[at:]) if text[at:] else None
        case ToolCallPart():
            at = max(math.ceil(len(piece.arguments) * share), 1)
            rest = piece.arguments[at:]
            return replace(piece, arguments=piece.arguments[:at]), ToolCallPart(
                piece.index, arguments=rest
            ) if rest else None
        case Continued():
            return piece, None


def joined(pieces: Iterable[Content]) -> Iterator[Content]:
    """Yield the same content in as few pieces as may be, none much over `PIECE_CHARS`."""
    run: list[Content] = []
    for piece in pieces:
        if run and not _continues(run[0], piece):
            yield from _flush(run)
            run = []
        run.append(piece)
    if run:
        yield from _flush(run)


def _continues(first: Content, piece: Content) -> bool:
    match first, piece:
        case (Text(), Text()) | (Reasoning(), Reasoning()):
            return True
        case ToolCallPart(), ToolCallPart():
            return first.index == piece.index and not piece.id and not piece.name
        case _:
            return False


def _flush(run: list[Content]) -> Iterator[Content]:
    first = run[0]
    match first:
        case Text():
            for part in _split("".join(p.text for p in run if isinstance(p, Text))):
                yield Text(part)
        case Reasoning():
            for part in _split("".join(p.text for p in run if isinstance(p, Reasoning))):
                yield Reasoning(part)
        case ToolCallPart():
            parts = _split("".join(p.arguments for p in run if isinstance(p, ToolCallPart)))
            yield replace(first, arguments=next(parts, ""))
            for part in parts:
                yield ToolCallPart(first.index, arguments=part)
        case Continued():
            yield first


def _split(text: str) -> Iterator[str]:
    for start in range(0, len(text), PIECE_CHARS):
        yield text[start : start + PIECE_CHARS]
