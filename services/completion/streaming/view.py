"""How a reader wants to see an answer's text: as the model's pieces, as sentences, or as both."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import Enum

from antiphon_client.sentences import SentenceSegmenter
from services.completion.streaming.content import PIECE_CHARS, Content, Sentence, Text, size


class TextEvents(Enum):
    """What is told of the text."""

    DELTAS = "deltas"
    SENTENCES = "sentences"
    DELTAS_AND_SENTENCES = "deltas and sentences"


class View:
    """One reader's view of one answer: `of` its content in order, then `rest`."""

    def __init__(self, events: TextEvents = TextEvents.DELTAS) -> None:
        self._deltas = events is not TextEvents.SENTENCES
        self._segmenter = None if events is TextEvents.DELTAS else SentenceSegmenter(PIECE_CHARS)
        self._offset = 0

    def of(self, pieces: Iterable[Content]) -> Iterator[Content | Sentence]:
        """Yield what the reader sees of these pieces."""
        for piece in pieces:
            if not isinstance(piece, Text):
                yield piece
                continue
            if self._deltas:
                yield piece
            if self._segmenter is not None:
                yield from self._sentences(self._segmenter.feed(piece.text))

    def rest(self) -> Iterator[Sentence]:
        """Yield what is left when the text has ended."""
        if self._segmenter is not None:
            yield from self._sentences(self._segmenter.flush())

    def _sentences(self, texts: list[str]) -> Iterator[Sentence]:
        for text in texts:
            yield Sentence(text, self._offset)
            self._offset += size(Text(text))
