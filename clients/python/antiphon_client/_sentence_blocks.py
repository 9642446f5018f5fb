"""What a line of Markdown begins: lists, headings, tables, fenced code.

After CommonMark 0.31 and GitHub's tables, as far as sentences need it.
"""

from __future__ import annotations

import re
from enum import Enum

from antiphon_client._sentence_ends import UndecidedError

LINE_CHARS = 80
"""Characters of a line that are looked at to see what it begins."""


class Block(Enum):
    """What a line begins."""

    TEXT = "text"
    ITEM = "item"
    WHOLE_LINE = "whole line"
    """A heading, a row of a table, a rule: the line is one unit."""
    QUOTE = "quote"
    FENCE = "fence"


FENCE = re.compile(r"`{3,}|~{3,}")
_ITEM = re.compile(
    r"(?:[-*+•‣◦▪●○–—]|\d{1,3}[.)]|\(\d{1,3}\)|[a-zA-Z]\)|\([a-zA-Z]\)|[ivx]{1,5}[.)]|[①-⑳])(?=[ \t\u00a0])|[•‣◦▪●①-⑳]"
)
_HEADING = re.compile(r"#{1,6}(?=[ \t])")
_RULE = re.compile(r"([-*_=])\1{2,}[ \t]*(?=[\r\n])")
_MAY_BE_ITEM = re.compile(r"[-*+•‣◦▪●○–—]|\d{1,3}[.)]?|\(\w{0,3}\)?|[a-zA-Z]\)?|[ivx]{1,5}[.)]?")
_MAY_BE_HEADING = re.compile(r"#{1,6}")
_MAY_BE_RULE = re.compile(r"([-*_=])\1*[ \t]*")
_MAY_BE_FENCE = re.compile(r"`{1,2}|~{1,2}|(?:`{3,}|~{3,})[^\n]*")


def begun(text: str, start: int, *, final: bool) -> Block:
    """Return what the line that has its first visible character at `start` begins.

    Raises `UndecidedError` if that lies behind the end of a text that goes on; at most `LINE_CHARS` are looked at.
    """
    line = text[start : start + LINE_CHARS]
    if final and len(line) < LINE_CHARS:
        line += "\n"
    elif len(line) < LINE_CHARS and _may_change(line):
        raise UndecidedError
    if fence := FENCE.match(line):
        info = line[fence.end() :].split("\n", 1)[0]
        if fence[0][0] == "~" or "`" not in info:
            return Block.FENCE
    if _HEADING.match(line) or _RULE.match(line) or line[0] == "|":
        return Block.WHOLE_LINE
    if _ITEM.match(line):
        return Block.ITEM
    return Block.QUOTE if line[0] == ">" else Block.TEXT


def _may_change(line: str) -> bool:
    """Whether more of the line may make it begin something else."""
    return any(pattern.fullmatch(line) for pattern in (_MAY_BE_ITEM, _MAY_BE_HEADING, _MAY_BE_RULE, _MAY_BE_FENCE))


def closes(line: str, fence: str) -> bool:
    """Whether a line, without its end, closes what `fence` opened."""
    line = line.strip()
    return len(line) >= len(fence) and line == fence[0] * len(line)
