"""Finding listed words and phrases in a text: whole words only, never parts of words; linear in the text.

"list" is not found in "listen", nor "plan" in "plane".
"""

from __future__ import annotations

import re
from collections.abc import Sequence

_WORD = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*")


def words(text: str) -> list[str]:
    """Return the words of a text in order, case folded; an inner apostrophe or hyphen belongs to the word."""
    return _WORD.findall(text.casefold())


class Terms:
    """A set of words and phrases to look for, given as text with commas between them."""

    def __init__(self, terms: str) -> None:
        self._phrases: dict[str, list[tuple[str, ...]]] = {}
        """By first word; the longest phrase first, so that "at least once" is not also "at least"."""
        for term in terms.split(","):
            parts = tuple(words(term))
            if not parts:
                raise ValueError("a term must have a letter")
            self._phrases.setdefault(parts[0], []).append(parts)
        for phrases in self._phrases.values():
            phrases.sort(key=len, reverse=True)

    def find(self, of: Sequence[str]) -> list[str]:
        """Return the terms in `words(text)`, in order, each as often as it stands there without overlap."""
        found: list[str] = []
        free_from = 0
        for position, word in enumerate(of):
            if position < free_from or word not in self._phrases:
                continue
            phrase = self._at(of, position)
            if phrase is not None:
                found.append(" ".join(phrase))
                free_from = position + len(phrase)
        return found

    def starts(self, of: Sequence[str], position: int = 0) -> bool:
        """Return whether a term stands at this position."""
        return self._at(of, position) is not None

    def _at(self, of: Sequence[str], position: int) -> tuple[str, ...] | None:
        if position >= len(of):
            return None
        for phrase in self._phrases.get(of[position], ()):
            if tuple(of[position : position + len(phrase)]) == phrase:
                return phrase
        return None
