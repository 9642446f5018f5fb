"""Sentences of a text that arrives in pieces, for readers that want whole ones: speech, translation, moderation.

    segmenter = SentenceSegmenter()
    for text in pieces:
        for sentence in segmenter.feed(text):
            speak(sentence)
    for sentence in segmenter.flush():
        speak(sentence)

For an answer while it is written there is `sentence_stream` of `CompletionStream` and `AsyncCompletionStream`. The
service can do the same: see `sentences` of `StreamCompleteRequest`.
"""

from __future__ import annotations

import re

from antiphon_client._sentence_blocks import FENCE, LINE_CHARS, Block, begun, closes
from antiphon_client._sentence_ends import (
    CLOSING_AFTER_SPACE,
    HARD,
    STOPPED,
    WORD_CHARS,
    UndecidedError,
    ends,
    hard_stop_ends,
    only_closing,
)

LIMIT = 16_384
"""Characters of a sentence, unless it is said otherwise."""

LEAST_LIMIT = 16

_SPACE = re.compile(r"\s+")
_NOTABLE = re.compile(rf"[\s`!?{HARD}]")
_IN_CODE = re.compile(r"[`\n\u2029]")
_TICKS = re.compile("`{1,64}")
_STOPS = re.compile(rf"[!?.…{HARD}]{{1,64}}")
_CLOSING = re.compile(rf"[{CLOSING_AFTER_SPACE})\]}}]{{0,8}}")
_GLUE = frozenset("\u00a0\u202f")
_CODE = "code"
"""What stands for code in the word that it is in: nothing in it is a stop or an abbreviation."""


class SentenceSegmenter:
    """Cuts one text at a time into sentences.

    The same text gives the same sentences however it is cut into pieces, and all sentences of a text in a row are the
    text: white space belongs to the sentence before it. A sentence comes as soon as what follows it leaves no doubt,
    mostly with the next word's first letter.

    A sentence ends at a stop, unless it belongs to a number, an abbreviation, an initial, an address or a file's name,
    or what follows goes on with a small letter; at an empty line; and before a heading, an item of a list or a row of
    a table. Headings, rows and fenced code are one unit each. A single new line is a space. Of several ends the first
    counts, also within quotes and brackets. No end is within `code` of one line.

    What is longer than `limit` characters is cut: in fenced code after the last line that fits, elsewhere after the
    last white space that fits, but not in the first half of what fits; if there is none, after `limit` characters. So
    it keeps at most `limit` characters, and about a hundred that are not decided. Its work is linear in the text. Not
    for use by several threads at once.
    """

    def __init__(self, limit: int = LIMIT) -> None:
        if limit < LEAST_LIMIT:
            raise ValueError(f"limit must be at least {LEAST_LIMIT}")
        self._limit = limit
        self._begin()

    def feed(self, text: str) -> list[str]:
        """Take more of the text, and return the sentences that are complete now."""
        self._rest += text
        self._read(final=False)
        return self._taken()

    def flush(self) -> list[str]:
        """End the text, and return what is left of it; what is fed next is another text."""
        self._read(final=True)
        self._emit()
        taken = self._taken()
        self._begin()
        return taken

    def _begin(self) -> None:
        self._ready: list[str] = []
        self._held: list[str] = []
        self._length = 0
        """Of what is held, in characters."""
        self._rest = ""
        """What was fed and is not decided yet."""
        self._word = ""
        """The end of the word that is read, or was read last."""
        self._words = 0
        """Of the sentence so far."""
        self._in_gap = True
        self._lines = 1
        """Line ends in the gap; a text begins with a line."""
        self._glued = False
        self._over = False
        """The sentence ends at the gap, whatever follows."""
        self._block = Block.TEXT
        self._marks_item = False
        """The word that is read is the mark of an item: its stop is no end."""
        self._ticks = 0
        """Those that opened the code that is read."""
        self._fence = ""
        """What opened the fenced code that is read."""
        self._fence_line = ""
        self._fence_lines = 0

    def _taken(self) -> list[str]:
        taken, self._ready = self._ready, []
        return taken

    def _read(self, *, final: bool) -> None:
        text, at = self._rest, 0
        try:
            while at < len(text):
                if self._fence:
                    at = self._read_fence(text, at)
                elif self._ticks:
                    at = self._read_code(text, at, final=final)
                elif not self._in_gap:
                    at = self._read_word(text, at, final=final)
                elif space := _SPACE.match(text, at):
                    self._read_space(space[0])
                    at = space.end()
                else:
                    self._begin_word(text, at, final=final)
        except UndecidedError:
            pass  # every step begins again where it began, with more of the text
        self._rest = text[at:]

    def _read_space(self, space: str) -> None:
        lines = space.count("\n") + 2 * space.count("\u2029")
        if lines and self._block is Block.WHOLE_LINE:
            self._over = True
        self._lines += lines
        self._glued = self._glued and _GLUE.issuperset(space)
        self._keep(space)

    def _begin_word(self, text: str, at: int, *, final: bool) -> None:
        """Decide whether a sentence ends between the gap and the word that begins at `at`."""
        if self._words and (self._over or self._lines > 1):
            self._emit()
        block = begun(text, at, final=final) if self._lines else None
        carries = (
            self._words > 0
            and block in {None, Block.TEXT}
            and STOPPED.search(self._word) is not None
            and only_closing(text, at, final=final)
        )
        if self._words and not carries and self._ended(block, text, at, final=final):
            self._emit()
        self._in_gap = False
        if block is not None:
            self._block = block
        self._marks_item = block is Block.ITEM
        if not carries:
            self._word = ""
            self._words += 1
        if block is Block.FENCE and (fence := FENCE.match(text, at)):
            self._fence, self._fence_line, self._fence_lines = fence[0], "", 0

    def _ended(self, block: Block | None, text: str, at: int, *, final: bool) -> bool:
        if block in {Block.ITEM, Block.WHOLE_LINE, Block.FENCE}:
            return True
        if block is Block.QUOTE and self._block is not Block.QUOTE:
            return True
        if self._block is Block.WHOLE_LINE:
            return False
        return ends(self._word, text, at, first=self._words == 1, glued=self._glued, final=final)

    def _begin_gap(self, *, over: bool = False) -> None:
        self._in_gap, self._lines, self._glued, self._over = True, 0, True, over

    def _read_word(self, text: str, at: int, *, final: bool) -> int:
        found = _NOTABLE.search(text, at)
        end = len(text) if found is None else found.start()
        if end > at:
            self._add(text[at:end])
            return end
        if text[at].isspace():
            self._begin_gap()
            return at
        if text[at] == "`":
            end = _end(_TICKS, text, at, final=final)
            self._add(text[at:end])
            self._ticks = end - at
            return end
        end_of_stops = _end(_STOPS, text, at, final=final)
        end = _end(_CLOSING, text, end_of_stops, final=final)
        stops, closing = text[at:end_of_stops], text[end_of_stops:end]
        self._add(text[at:end])
        if self._block is not Block.WHOLE_LINE and hard_stop_ends(stops, closing, text[end : end + 1]):
            self._begin_gap(over=True)
        return end

    def _read_code(self, text: str, at: int, *, final: bool) -> int:
        found = _IN_CODE.search(text, at)
        end = len(text) if found is None else found.start()
        if end > at:
            self._keep(text[at:end])
            return end
        if text[at] != "`":
            self._ticks = 0  # it was none
            return at
        end = _end(_TICKS, text, at, final=final)
        self._keep(text[at:end])
        if end - at == self._ticks:
            self._ticks = 0
            self._word = _CODE
        return end

    def _read_fence(self, text: str, at: int) -> int:
        line_end = text.find("\n", at)
        end = len(text) if line_end < 0 else line_end
        self._fence_line += text[at : min(end, at + LINE_CHARS - len(self._fence_line))]
        self._keep(text[at:end])
        if line_end < 0:
            return end
        if self._fence_lines and len(self._fence_line) < LINE_CHARS and closes(self._fence_line, self._fence):
            self._fence = ""
            self._begin_gap(over=True)
            return end
        self._fence_line, self._fence_lines = "", self._fence_lines + 1
        self._keep("\n")
        return end + 1

    def _add(self, part: str) -> None:
        """Take a part of a word."""
        if not self._marks_item:
            self._word = (self._word + part[-WORD_CHARS:])[-WORD_CHARS:]
        self._keep(part)

    def _keep(self, part: str) -> None:
        self._held.append(part)
        self._length += len(part)
        if self._length <= self._limit:
            return
        text, at = "".join(self._held), 0
        while len(text) - at > self._limit:
            end = self._cut(text, at)
            self._ready.append(text[at:end])
            at = end
        self._held, self._length = [text[at:]], len(text) - at

    def _cut(self, text: str, start: int) -> int:
        """Return where a sentence that begins at `start` and is too long is cut."""
        end, half = start + self._limit, start + self._limit // 2
        if self._fence and (line_end := text.rfind("\n", half, end)) >= 0:
            return line_end + 1
        for at in range(end - 1, half - 1, -1):
            if text[at].isspace():
                return at + 1
        return end

    def _emit(self) -> None:
        if self._length:
            self._ready.append("".join(self._held))
        self._held, self._length, self._words = [], 0, 0


def _end(pattern: re.Pattern[str], text: str, at: int, *, final: bool) -> int:
    """Return where what begins at `at` ends; `UndecidedError` if it may go on behind the end of the text."""
    found = pattern.match(text, at)
    end = at if found is None else found.end()
    if end == len(text) and not final:
        raise UndecidedError
    return end
