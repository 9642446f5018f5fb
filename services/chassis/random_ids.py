"""Ids that nobody can guess, at less than a system call each."""

from __future__ import annotations

import os

DRAWN = 4_096
"""Bytes that are drawn from the system at once."""


class RandomIds:
    """Hex digits from the system's random source, each part of it used once. For one thread of one process."""

    def __init__(self, size: int) -> None:
        """`size`: bytes of an id."""
        self._size = size
        self._drawn = ""
        self._place = 0

    def next(self) -> str:
        """Another id, of two digits for each byte."""
        place, end = self._place, self._place + 2 * self._size
        if end > len(self._drawn):
            self._drawn = os.urandom(max(DRAWN, self._size)).hex()
            place, end = 0, 2 * self._size
        self._place = end
        return self._drawn[place:end]
