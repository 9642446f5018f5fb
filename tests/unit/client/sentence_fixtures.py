"""Texts with their sentences, and the buffer that users write themselves to compare with."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from antiphon_client.sentences import SentenceSegmenter

FILE = Path(__file__).with_name("sentences.txt")
ESCAPES = {"\\n": "\n", "\\t": "\t", "\\r": "\r", "\\\\": "\\"}
MARK = "¦"


@dataclass(frozen=True)
class Fixture:
    """One text. `known_wrong`: it needs more than its own characters to be cut rightly."""

    topic: str
    sentences: tuple[str, ...]
    known_wrong: bool

    @property
    def text(self) -> str:
        """All of its sentences in a row."""
        return "".join(self.sentences)


def read() -> list[Fixture]:
    """Return all fixtures."""
    fixtures, topic = [], ""
    for line in FILE.read_text(encoding="utf-8").split("\n"):
        if line.startswith("%%"):
            topic = line.removeprefix("%%").strip()
        elif line:
            text = re.sub(r"\\[ntr\\]", lambda escape: ESCAPES[escape[0]], line.removeprefix("!!"))
            sentences = tuple(sentence for sentence in text.split(MARK) if sentence)
            fixtures.append(Fixture(topic, sentences, line.startswith("!!")))
    return fixtures


def segmented(text: str, pieces: list[str] | None = None, limit: int | None = None) -> list[str]:
    """Return the sentences of a text that arrives in these pieces, by default in one."""
    segmenter = SentenceSegmenter() if limit is None else SentenceSegmenter(limit)
    sentences = [sentence for piece in pieces or [text] for sentence in segmenter.feed(piece)]
    return sentences + segmenter.flush()


def naive(text: str) -> list[str]:
    """Return what a buffer gives that is cut after every `.`, `?` or `!` that a space follows."""
    sentences, buffer = [], ""
    for character in text:
        buffer += character
        if character.isspace() and len(buffer) > 1 and buffer[-2] in ".?!":
            sentences.append(buffer)
            buffer = ""
    return sentences + [buffer] * bool(buffer)


def stripped(sentences: list[str] | tuple[str, ...]) -> list[str]:
    """Return sentences without the white space around them, which the naive buffer puts elsewhere."""
    return [text for sentence in sentences if (text := sentence.strip())]
