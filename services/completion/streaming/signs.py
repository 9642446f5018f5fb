"""What the reader of a stream is told besides the answer."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Beat:
    """Nothing has happened for a while."""


@dataclass(frozen=True, slots=True)
class Called:
    """A model was called: from now on, asking again may buy a second answer."""
