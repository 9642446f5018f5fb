"""The rules that a namespace chooses from: bars from strict to loose, each with the share of wrong pairs at its edge.

A candidate's *rung* is the first bar that it reaches. One number instead of two lets evidence about few pairs decide.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

TIGHTER = ((0.6, 0.35), (0.8, 0.6), (1.0, 0.8), (1.0, 1.0))
"""Rungs up to and with the strictest preset: its gaps to 1 (score, cosine) by these factors. Mostly the cosine: a
verifier's scores are crowded near 1, and what it does not know of a domain shows less in nearly equal texts."""

LOOSER = ((1.35, 1.15), (1.7, 1.3), (2.1, 1.5), (2.5, 1.7))
"""Rungs after the loosest preset, by the same kind of factors."""

SHARES = (0.007, 0.010, 0.010, 0.022, 0.022, 0.023, 0.023, 0.023, 0.030, 0.044, 0.075, 0.157, 0.258, 0.437)
"""Share of wrong pairs by rung, strictest first, of those without a rival: out of fold, the mean over question pairs,
two sets of intents and mixed questions, never falling (`make eval-online` prints them by set). Only where a namespace
starts to learn."""

FURTHER = 4
"""Rungs at the loose end at which a rival (`services.cache.learning.rivals`) is too far away to say anything. Chosen on
streams that the online evaluation also reports, in twenty orders: with 3 mixed questions at 5 % lost more than two of
their 27 % hits, with 5 question pairs at 2 % were wrong more often."""


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

    @property
    def rivalry(self) -> int:
        """The loosest rung at which a rival counts, unless the candidate itself is further away."""
        return max(len(self.rungs) - FURTHER, 0)

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
    bars = _scaled(known[0], TIGHTER)
    for (_, s0, c0), (_, s1, c1) in pairwise(known):
        bars += [((s0 + s1) / 2, (c0 + c1) / 2), (s1, c1)]
    bars += _scaled(known[-1], LOOSER)
    shares = [_between(SHARES, at * (len(SHARES) - 1) / (len(bars) - 1)) for at in range(len(bars))]
    return Ladder(tuple(Rung(v, c, wrong) for (v, c), wrong in zip(bars, shares, strict=True)))


def _scaled(preset: tuple[float, float, float], factors: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Bars whose gaps to 1 are those of a preset (rate, score, cosine) by these factors."""
    _, score, cosine = preset
    return [(max(1 - (1 - score) * v, 0.0), max(1 - (1 - cosine) * c, 0.0)) for v, c in factors]


def _between(values: Sequence[float], place: float) -> float:
    """The value at a place between two positions, linearly."""
    low = min(int(place), len(values) - 2)
    return values[low] + (place - low) * (values[low + 1] - values[low])
