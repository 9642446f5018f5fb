"""From V to the probability that a hit is wrong: isotonic regression on verdicts out of fold."""

from __future__ import annotations

import numpy as np

from tools.decision.examples import Floats

LEAST = 150.0
"""Weight of a step at least: a step of fewer verdicts would state a rate that it cannot know."""


def isotonic(v: Floats, wrong: Floats, weight: Floats) -> tuple[list[float], list[float]]:
    """Points (V rising, p_wrong never rising); pool adjacent violators, then steps of too little weight.

    Ayer et al. (1955). Each step is put at the mean V of its verdicts; between steps the reader goes linearly.
    """
    order = np.argsort(v, kind="stable")
    steps: list[list[float]] = []  # weight, sum of V, sum of wrong
    for at in order:
        steps.append([weight[at], weight[at] * v[at], weight[at] * wrong[at]])
        while len(steps) > 1 and (
            steps[-2][2] * steps[-1][0] <= steps[-1][2] * steps[-2][0] or min(steps[-2][0], steps[-1][0]) < LEAST
        ):
            last = steps.pop()
            steps[-1] = [a + b for a, b in zip(steps[-1], last, strict=True)]
    place = [round(total / mass, 5) for mass, total, _ in steps]
    # One wrong hit that was not seen is added to each step, as in the rule of succession.
    rate = np.minimum.accumulate([(bad + 0.5) / (mass + 1.0) for mass, _, bad in steps])
    return place, [round(float(p), 5) for p in rate]
