"""What was said about a stored answer, and what followed, as it is kept with the entry. Times are Unix microseconds."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

VOICES = 32
"""That an entry keeps, some 100 bytes each: far more than any rule asks for."""


class FeedbackSource(StrEnum):
    """Who says whether an answer was right."""

    USER = "user"
    """Someone who read it."""
    JUDGE = "judge"
    """A model that was asked to compare or to grade."""
    AUDIT = "audit"
    """The same question was answered again, and the two answers were compared."""
    OPERATOR = "operator"
    """A person who looks after the cache."""


@dataclass(frozen=True, slots=True)
class Said:
    """One voice. `by` and `id` are keyed hashes of who speaks and of the feedback itself: nobody's name is stored."""

    source: FeedbackSource
    by: str
    id: str
    right: bool
    semantic: bool
    """About the answer to another question than its own: it may be right for that one all the same."""
    at_us: int


@dataclass(frozen=True, slots=True)
class Quarantine:
    """Why and since when an entry is not served: to reworded questions, and if `whole` not to its own either."""

    rule: str
    """Of `services.cache.quarantine`."""
    whole: bool
    at_us: int


@dataclass(frozen=True, slots=True)
class Review:
    """Everything that was said, in that order; of one person the latest about each of the two uses."""

    said: tuple[Said, ...] = ()
    quarantine: Quarantine | None = None

    def knows(self, said: Said, *, named: bool) -> bool:
        """Whether the very same was said before; `named`: whether whoever says it has given it an id.

        Without one an operator who repeats a word after others were said means it once more.
        """
        anew = said.source is FeedbackSource.OPERATOR and not named
        known = self.said[-1:] if anew else self.said
        return any((one.id, one.right, one.semantic) == (said.id, said.right, said.semantic) for one in known)

    def heard(self, said: Said) -> tuple[Said, ...]:
        """All voices with one more. The oldest make room, but never the operator's last word."""
        voice = (said.source, said.by, said.semantic)
        voices = [one for one in self.said if (one.source, one.by, one.semantic) != voice]
        voices.append(said)
        word = next((one for one in reversed(voices) if one.source is FeedbackSource.OPERATOR), None)
        while len(voices) > VOICES:
            voices.remove(next(one for one in voices if one is not word))
        return tuple(voices)


UNREVIEWED = Review()
