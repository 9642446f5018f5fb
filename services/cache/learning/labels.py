"""What is learned from: comparisons of two answers, each from a source with an error of its own."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol


class Source(StrEnum):
    """Where a verdict comes from."""

    FREE = "free"
    """A miss: the fresh answer beside that of the entry which was nearest."""
    AUDIT = "audit"
    """A hit that was answered again."""
    CLIENT = "client"
    JUDGE = "judge"
    """A model that grades answers."""
    OPERATOR = "operator"


RELIABILITY: dict[Source, tuple[float, float]] = {
    Source.CLIENT: (0.15, 0.30),
    Source.JUDGE: (0.10, 0.15),
    Source.OPERATOR: (0.01, 0.01),
}
"""(said to be wrong though right, said to be right though wrong) of verdicts without a comparison.

Chosen, not measured. Clients see an answer, not a comparison: they take dislike for an error and overlook errors that
read well, so one client's word moves little.
"""


@dataclass(frozen=True, slots=True)
class Label:
    """A verdict about one served or nearly served pair."""

    source: Source
    entry: str
    rung: int
    """Of the pair's score and cosine alone (`Ladder.of`)."""
    same: bool
    """Whether the answers agree."""


class Comparer(Protocol):
    """Says whether two answers to two questions mean the same; it may err, and its error is measured."""

    @property
    def version(self) -> str:
        """Changes whenever the same two answers might be judged otherwise; its error is measured anew then."""
        ...

    @property
    def error(self) -> ComparerError:
        """How it did where the truth is known."""
        ...

    async def same(self, fresh: str, stored: str, *, tenant: str) -> bool:
        """Whether one may stand for the other; both are this tenant's. Raises AntiphonError if it cannot tell now."""
        ...


@dataclass(frozen=True, slots=True)
class ComparerError:
    """How a comparer did on controls: pairs that are known to agree (one question answered twice) and not to agree
    (answers to unrelated questions).
    """

    agreeing: int = 0
    agreeing_missed: int = 0
    differing: int = 0
    differing_missed: int = 0

    def __post_init__(self) -> None:
        """Refuse counts that cannot be."""
        if not (0 <= self.agreeing_missed <= self.agreeing and 0 <= self.differing_missed <= self.differing):
            raise ValueError("a comparer cannot have missed more controls than there were")

    def counted(self, *, agree: bool, said_same: bool) -> ComparerError:
        """One more control."""
        if agree:
            return ComparerError(
                self.agreeing + 1, self.agreeing_missed + (not said_same), self.differing, self.differing_missed
            )
        return ComparerError(self.agreeing, self.agreeing_missed, self.differing + 1, self.differing_missed + said_same)

    def false_alarm(self) -> tuple[float, float]:
        """Mean and standard deviation of the share of agreeing pairs that it calls different."""
        return _beta(self.agreeing_missed + PRIOR_MISSED, self.agreeing - self.agreeing_missed + PRIOR_SEEN)

    def overlooked(self) -> float:
        """Mean share of differing pairs that it calls the same."""
        return _beta(self.differing_missed + PRIOR_MISSED, self.differing - self.differing_missed + PRIOR_SEEN)[0]


PRIOR_MISSED, PRIOR_SEEN = 1.0, 9.0
"""A comparer that nobody measured errs on about a tenth, and hardly anything is concluded from it."""


def _beta(a: float, b: float) -> tuple[float, float]:
    mean = a / (a + b)
    return mean, math.sqrt(mean * (1 - mean) / (a + b + 1))
