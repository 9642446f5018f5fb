"""What namespaces have in common: where a new one starts."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import accumulate

from services.cache.learning.ladder import Ladder
from services.cache.learning.learner import Learner

STRENGTH = 200.0
"""Verdicts that the verifier's own rates count for at each rung: as many as fit a step of its calibration."""

MOST_OF_ONE = 100.0
"""Verdicts that one namespace counts for at a rung, so that a busy one does not speak for all."""

HIGHEST = 0.95


def pooled(ladder: Ladder, learners: Iterable[Learner]) -> tuple[float, ...]:
    """The share of wrong by rung over all namespaces, never falling; the ladder's own where nothing is known."""
    known = [learner for learner in learners if learner.verdicts]
    shares = []
    for rung, prior in enumerate(ladder.priors()):
        weight, wrong = STRENGTH, STRENGTH * prior
        for learner in known:
            count = min(float(sum(sum(rows[rung]) for rows in learner.counts.values())), MOST_OF_ONE)
            weight += count
            wrong += count * learner.belief.wrong[rung]
        shares.append(min(wrong / weight, HIGHEST))
    return tuple(accumulate(shares, max))
