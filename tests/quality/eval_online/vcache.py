"""vCache's published rule, written from the formulas of its paper (Schroeder et al., arXiv 2502.03771), for comparison.

Each stored entry has a logistic curve of its own, P(right | s) = 1 / (1 + exp(−γ (s − t))), fitted by maximum
likelihood to the observations (similarity, whether the answers agreed) that questions nearest to it left. For a
confidence 1 − ε let t' be the upper bound of t; then a hit is right with at least α = (1 − ε) P(right | s; t', γ). So
that a share of at most δ is wrong the model is asked with probability τ = min over ε of 1 − δ / (1 − α), at least 0.
Whether a question that was answered anew is stored although its answer agrees with its neighbour's is a choice made
here: it is not, so that an entry gathers observations.
"""

from __future__ import annotations

import math
import random
from statistics import NormalDist

CONFIDENCES = [step / 40 for step in range(1, 20)]
_QUANTILES = [(eps, NormalDist().inv_cdf(1 - eps)) for eps in CONFIDENCES]
ANCHORS = [(0.0, 0.0), (1.0, 1.0)]
"""Without a disagreement at 0 and an agreement at 1 the likelihood of few observations has no maximum."""
ROUNDS, RIDGE = 15, 1e-3


class Vcache:
    """Decides by an entry's own observations; the randomness is passed in."""

    def __init__(self, delta: float, dice: random.Random) -> None:
        self._delta, self._dice = delta, dice
        self._seen: dict[int, list[tuple[float, float]]] = {}
        self._fitted: dict[int, tuple[float, float, float]] = {}

    def observe(self, entry: int, similarity: float, agreed: bool) -> None:
        """Add an observation of an entry."""
        self._seen.setdefault(entry, list(ANCHORS)).append((similarity, float(agreed)))
        self._fitted.pop(entry, None)

    def serves(self, entry: int, similarity: float) -> bool:
        """Whether this lookup is answered from the entry."""
        if entry not in self._seen:
            return False
        return self._dice.random() >= self.explores(entry, similarity)

    def explores(self, entry: int, similarity: float) -> float:
        """τ."""
        if entry not in self._fitted:
            self._fitted[entry] = _fit(self._seen[entry])
        gamma, middle, deviation = self._fitted[entry]
        best = 1.0
        for eps, quantile in _QUANTILES:
            alpha = (1 - eps) * _logistic(gamma * (similarity - middle - quantile * deviation))
            best = min(best, 1 - self._delta / (1 - alpha) if alpha < 1 else 0.0)
        return max(best, 0.0)


def _logistic(x: float) -> float:
    return 1 / (1 + math.exp(-min(max(x, -40.0), 40.0)))


def _fit(seen: list[tuple[float, float]]) -> tuple[float, float, float]:
    """γ, t and the standard deviation of t (delta method on the Fisher information), by Newton's method."""
    a, b = -4.0, 5.0
    for _ in range(ROUNDS):
        ga, gb, haa, hab, hbb = -RIDGE * a, -RIDGE * b, RIDGE, 0.0, RIDGE
        for s, agreed in seen:
            p = _logistic(a + b * s)
            weight = p * (1 - p)
            ga, gb = ga + agreed - p, gb + (agreed - p) * s
            haa, hab, hbb = haa + weight, hab + weight * s, hbb + weight * s * s
        det = haa * hbb - hab * hab
        step_a, step_b = (hbb * ga - hab * gb) / det, (haa * gb - hab * ga) / det
        scale = min(1.0, 10.0 / max(abs(step_a), abs(step_b), 1e-9))
        a, b = a + scale * step_a, b + scale * step_b
    b = max(b, 1e-3)
    middle = -a / b
    variance = (hbb + 2 * middle * (-hab) + middle * middle * haa) / det / (b * b)
    return b, middle, math.sqrt(max(variance, 0.0))
