"""The rules that a namespace chooses from: bars from strict to loose, each with the share of wrong pairs at its edge.

A candidate's *rung* is the first bar that it reaches. One number instead of two lets evidence about few pairs decide.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

TIGHTER = ((0.6, 0.35), (0.8, 0.6), (1.0, 0.8), (1.0, 1.0))
"""Rungs up to and with the strictest preset: its gaps to 1 (score, cosine) by these factors. Mostly the cosine: a
verifier's scores are crowded near 1, and what it does not know of a domain shows less in nearly equal texts."""

LOOSER = ((1.35, 1.15), (1.7, 1.3), (2.1, 1.5), (2.5, 1.7))
"""Rungs after the loosest preset, by the same kind of factors. Chosen: out of fold mixed questions are about a sixth
wrong near the last, and intents under a tenth."""

EDGE = 2.5
"""Pairs at a bar's edge are taken to be wrong this many times as often as all above it. Between presets it was 1.4 to
3 on question pairs, intents and mixed questions, and 6 once; only the start of what a namespace learns."""

GROWTH = 1.45
"""How the odds of a wrong pair at the edge are taken to grow from rung to rung outside the presets. Chosen, not
fitted."""


@dataclass(frozen=True, slots=True)
class Rung:
    """A bar, and the share of wrong pairs that reach it but no stricter one, as it is believed at first."""

    score: float
    cosine: float
    wrong: float

    def __post_init__(self) -> None:
        """Refuse what is no bar."""
        if not (0 <= self.score <= 1 and -1 <= self.cosine <= 1 and 0 < self.wrong < 1):
            raise ValueError("a rung needs a score in 0 … 1, a cosine in -1 … 1 and a share of wrong between 0 and 1")


@dataclass(frozen=True)
class Ladder:
    """Rungs, strictest first; scores and cosines never rise, shares of wrong never fall."""

    rungs: tuple[Rung, ...]

    def __post_init__(self) -> None:
        """Refuse an empty ladder and one that is not in order."""
        if not self.rungs:
            raise ValueError("a ladder needs a rung")
        for above, below in pairwise(self.rungs):
            if below.score > above.score or below.cosine > above.cosine or below.wrong < above.wrong:
                raise ValueError("the rungs of a ladder go from strict to loose")

    def __len__(self) -> int:
        """Count the rungs."""
        return len(self.rungs)

    def of(self, score: float, cosine: float) -> int:
        """The rung of a candidate; the number of rungs if it reaches none."""
        scores, cosines = self._rising
        return max(bisect_left(scores, -score), bisect_left(cosines, -cosine))

    @cached_property
    def _rising(self) -> tuple[list[float], list[float]]:
        """Scores and cosines with the sign turned, for bisection."""
        return [-rung.score for rung in self.rungs], [-rung.cosine for rung in self.rungs]

    def priors(self) -> tuple[float, ...]:
        """The share of wrong by rung, as it is believed at first."""
        return tuple(rung.wrong for rung in self.rungs)

    def key(self) -> list[list[float]]:
        """What makes counts by rung comparable; a state of another ladder says nothing here."""
        return [[rung.score, rung.cosine] for rung in self.rungs]


def of_presets(presets: Mapping[str, tuple[float, float]], error_rates: Sequence[tuple[float, str]]) -> Ladder:
    """The ladder through a verifier's presets (least score and cosine by name).

    `error_rates`: (share of wrong hits, the preset that keeps it). ValueError if they are not in order or none.
    """
    known = [(rate, *presets[name]) for rate, name in sorted(error_rates)]
    if not known:
        raise ValueError("a verifier without presets gives no ladder")
    rungs: list[Rung] = []
    rate, score, cosine = known[0]
    wrong = rate
    for by_score, by_cosine in TIGHTER:
        rungs.append(_rung(score, cosine, by_score, by_cosine, wrong))
    for (_, s0, c0), (rate, s1, c1) in pairwise(known):
        edge = max(min(rate * EDGE, 0.5), wrong)
        rungs.append(Rung((s0 + s1) / 2, (c0 + c1) / 2, math.sqrt(wrong * edge)))
        rungs.append(Rung(s1, c1, edge))
        wrong = edge
    _, score, cosine = known[-1]
    for by_score, by_cosine in LOOSER:
        odds = wrong / (1 - wrong) * GROWTH
        wrong = odds / (1 + odds)
        rungs.append(_rung(score, cosine, by_score, by_cosine, wrong))
    return Ladder(tuple(rungs))


def _rung(score: float, cosine: float, by_score: float, by_cosine: float, wrong: float) -> Rung:
    return Rung(max(1 - (1 - score) * by_score, 0.0), max(1 - (1 - cosine) * by_cosine, 0.0), wrong)
