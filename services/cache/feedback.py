"""Feedback on stored answers: what callers say, and what others may make of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from services.cache.entry import Entry
from services.cache.review import FeedbackSource


@dataclass(frozen=True, slots=True)
class Feedback:
    """What a caller says about an entry of its tenant. An empty `namespace` is whichever has it."""

    entry_id: str
    source: FeedbackSource
    right: bool
    semantic: bool
    """It was served to another question than its own."""
    namespace: str = ""
    key_id: str = ""
    """Of the API key that speaks."""
    user: str = ""
    """Who speaks, where several people share a key."""
    id: str = ""
    """Names this feedback: said again, it counts once."""
    lookup_id: str = ""
    """The lookup that served the answer, if the caller knows it."""
    answered_us: int = 0
    """When the answer that is meant was made, Unix microseconds; 0: whichever is stored."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """One feedback that was new, and the entry with it: what everything that learns from feedback is told."""

    feedback: Feedback
    entry: Entry


class Heed(Protocol):
    """Is told of every verdict, once, after it is stored. Must return at once and not raise."""

    def __call__(self, verdict: Verdict) -> None:
        """Take a verdict."""
        ...


@dataclass(frozen=True, slots=True)
class Reviewed:
    """The entry after a feedback; `recorded`: it was new."""

    entry: Entry
    recorded: bool
