"""How often pairs of each rung are wrong in one namespace, given verdicts that err themselves.

Three levels. A share φ = `FLOOR` of pairs is wrong at any rung; the rest has the pool's log-odds with another
intercept and slope (Cox 1958): m = φ + (1 − φ) σ(c + u + s (l_r − c)), l_r the log-odds of the pool's share beyond φ,
c their mean over the rungs, u ~ N(0, `SPREAD`²), s ~ N(1, `TILT`²). So what is learned at rungs that are not served,
where verdicts are many, says how steeply the share falls towards those that are. The share of wrong at rung r is
Beta(κ m, κ (1 − m)) with κ = `FIRMNESS`; a verdict says "different" with probability e + (1 − e − f) p, e its false
alarms and f what it overlooks (Rogan & Gladen 1978; as a posterior Joseph, Gyorkos & Coupal 1995). e of the comparer
is uncertain: its controls give a prior, and all labels together speak about it too. Everything is summed over fixed
grids of u, s, e and p, so the result does not depend on the order of the labels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from services.cache.learning.labels import RELIABILITY, ComparerError, Source

Floats = NDArray[np.float64]

SPREAD = 0.8
"""Standard deviation of a namespace's log-odds of wrong pairs round the pool's: a factor of about two either way.
Chosen, not fitted."""
TILT = 0.25
"""Standard deviation of a namespace's slope. Chosen on streams that the online evaluation also reports: with twice as
much it followed the loosest rungs, and took question pairs for better than they were further up."""
FLOOR = 0.01
"""φ: about what is wrong at the strictest rung over all sets; verdicts can hardly tell it from the comparer's error.
Chosen on streams that the online evaluation also reports: without it question pairs at 2 % were 4.5 % wrong."""
LEAST_ABOVE = 0.002
"""Least share of the pool beyond φ, so that its log-odds are finite."""
FIRMNESS = 60.0
"""Pairs that what is known of other rungs counts for at each rung. A rung that is served gets few verdicts more, so a
chance run of wrong ones can shut it; with 200 hundreds of verdicts that a rung was worse were not believed. Chosen on
streams that the online evaluation also reports (question pairs, 2 and 5 %, in twenty orders)."""

_SHIFTS, _SLOPES = (
    axis.reshape(-1) for axis in np.meshgrid(np.linspace(-2.0, 2.0, 9) * SPREAD, 1 + np.linspace(-2.0, 2.0, 5) * TILT)
)
"""The points of the grid of u and s."""
_POINT_LOG = -0.5 * ((_SHIFTS / SPREAD) ** 2 + ((_SLOPES - 1) / TILT) ** 2)
_ERRORS = np.array([-1.6, -0.8, 0.0, 0.8, 1.6])
_ERROR_LOG = -0.5 * _ERRORS**2
_STEPS = 64
_P = 1 / (1 + np.exp(-np.linspace(-8.0, 5.0, _STEPS)))
"""Shares of wrong from 0.03 % to 99 %, even in log-odds."""
_POWERS = np.stack([np.ones(_STEPS), _P, _P**2])
_TINY = 1e-300
NEGLIGIBLE = 1e-3
"""Points that weigh less than this share of the heaviest are dropped: thousands of beliefs are kept in memory."""

_MODELS = 64
"""Models that are kept for namespaces that start from the same pool: some 400 kB each, and 1 ms to lay out."""


@dataclass(frozen=True, slots=True)
class Belief:
    """The posterior of a namespace: share of wrong by rung, and what is needed for the share over several rungs."""

    wrong: tuple[float, ...]
    """Mean by rung, 0 … 1."""
    weights: Floats
    """(n) of the points of the grid of u, s and e that count."""
    means: Floats
    """(n, rungs) share of wrong at each point."""
    variances: Floats
    """(n, rungs)."""
    false_alarm: float
    """Posterior mean of the comparer's."""

    def over(self, shares: Sequence[float]) -> tuple[float, float]:
        """Mean and standard deviation of the share of wrong over rungs that are met in these proportions."""
        part = np.asarray(shares, np.float64)
        if part.shape != (len(self.wrong),) or not np.all(part >= 0) or not 0 < (total := float(part.sum())) < np.inf:
            raise ValueError("one share that is not negative for each rung, and not all of them 0")
        part = part / total
        at = self.means @ part
        mean = float(self.weights @ at)
        variance = float(self.weights @ (self.variances @ part**2 + (at - mean) ** 2))
        return min(max(mean, 0.0), 1.0), max(variance, 0.0) ** 0.5


class Model:
    """The prior over one ladder, laid out on the grids; `pool` is the share of wrong by rung over all namespaces."""

    def __init__(self, pool: Sequence[float]) -> None:
        """ValueError for a pool that is empty or not between 0 and 1."""
        share = np.asarray(pool, np.float64)
        if not share.size or not np.all((share > 0) & (share < 1)):
            raise ValueError("the pool's shares of wrong lie between 0 and 1")
        above = np.maximum((share - FLOOR) / (1 - FLOOR), LEAST_ABOVE)
        odds = np.log(above / (1 - above))[:, None]
        middle = FLOOR + (1 - FLOOR) / (1 + np.exp(-(odds.mean() + _SHIFTS + _SLOPES * (odds - odds.mean()))))
        a, b = (FIRMNESS * middle)[..., None], (FIRMNESS * (1 - middle))[..., None]
        # The grid is even in the log-odds, whose density is p (1 - p) times that of p.
        log = a * np.log(_P) + b * np.log1p(-_P)
        density = np.exp(log - log.max(axis=-1, keepdims=True))
        self._prior: Floats = density / density.sum(axis=-1, keepdims=True)
        """(rungs, points, steps)."""
        self._cold: dict[ComparerError, Belief] = {}

    @property
    def rungs(self) -> int:
        """How many there are."""
        return int(self._prior.shape[0])

    def cold(self, error: ComparerError) -> Belief:
        """The posterior without any verdict; the same object each time."""
        if error not in self._cold:
            self._cold[error] = self.belief({}, error)
        return self._cold[error]

    def belief(self, counts: Mapping[Source, Sequence[tuple[int, int]]], error: ComparerError) -> Belief:
        """The posterior. `counts`: by source and rung, how many verdicts said (same, different)."""
        mean, deviation = error.false_alarm()
        overlooked = error.overlooked()
        alarms = np.clip(mean + deviation * _ERRORS, 1e-3, 0.45)
        log = np.zeros((len(alarms), self.rungs, _STEPS))
        for source, verdicts in counts.items():
            said = np.asarray(verdicts, np.float64)
            if said.shape != (self.rungs, 2) or not np.all(said >= 0):
                raise ValueError("counts of verdicts are not negative, one pair for each rung")
            alarm, missed = (alarms, overlooked)
            if source in RELIABILITY:
                fixed, missed = RELIABILITY[source]
                alarm = np.full_like(alarms, fixed)
            different = alarm[:, None] + (1 - alarm[:, None] - missed) * _P
            log += said[None, :, :1] * np.log1p(-different)[:, None] + said[None, :, 1:] * np.log(different)[:, None]
        top = log.max(axis=-1)
        likelihood = np.exp(log - top[..., None])
        # (rungs, steps, errors × powers): sums over p of prior × likelihood × 1, p, p² for all points at once.
        moments = (likelihood[:, None] * _POWERS[None, :, None]).transpose(2, 3, 0, 1).reshape(self.rungs, _STEPS, -1)
        summed = (self._prior @ moments).reshape(self.rungs, len(_SHIFTS), len(alarms), len(_POWERS))
        mass = summed[..., 0] + _TINY
        means, squares = summed[..., 1] / mass, summed[..., 2] / mass
        variances = np.maximum(squares - means**2, 0.0)
        evidence = (np.log(mass) + top.T[:, None, :]).sum(axis=0) + _POINT_LOG[:, None] + _ERROR_LOG
        weights = np.exp(evidence - evidence.max())
        weights /= weights.sum()
        false_alarm = float(weights.sum(axis=0) @ alarms)
        counts_for = weights.reshape(-1) > NEGLIGIBLE * weights.max()
        flat = weights.reshape(-1)[counts_for]
        flat /= flat.sum()
        rows, spreads = (moment.reshape(self.rungs, -1)[:, counts_for].T for moment in (means, variances))
        wrong = tuple(float(min(max(p, 0.0), 1.0)) for p in flat @ rows)
        return Belief(wrong, flat, rows, spreads, false_alarm)


@lru_cache(maxsize=_MODELS)
def model_of(pool: tuple[float, ...]) -> Model:
    """The model over a pool: most namespaces start from the same one."""
    return Model(pool)
