"""From V to the probability that a hit is wrong: isotonic regression on verdicts out of fold."""

from __future__ import annotations

import numpy as np

from tools.decision.examples import Floats

LEAST = 150.0
"""Weight of a step at least: a step of fewer verdicts would state a rate that it cannot know."""

Step = list[float]
"""Weight, sum of V, sum of wrong."""


def isotonic(v: Floats, wrong: Floats, weight: Floats) -> tuple[list[float], list[float]]:
    """Points (V rising, p_wrong never rising): adjacent violators are pooled, then steps of too little weight.

    Ayer et al. (1955). Each step is put at the mean V of its verdicts; between steps the reader goes linearly.
    """
    steps: list[Step] = []
    for at in np.argsort(v, kind="stable"):
        steps.append([weight[at], weight[at] * v[at], weight[at] * wrong[at]])
        while len(steps) > 1 and steps[-2][2] * steps[-1][0] <= steps[-1][2] * steps[-2][0]:
            last = steps.pop()
            steps[-1] = _joined(steps[-1], last)
    steps = _heavy(steps)
    place = [round(total / mass, 5) for mass, total, _ in steps]
    # Half a wrong hit that was not seen is added to each step, as in the rule of succession.
    rate = np.minimum.accumulate([(bad + 0.5) / (mass + 1.0) for mass, _, bad in steps])
    return place, [round(float(p), 5) for p in rate]


def _heavy(steps: list[Step]) -> list[Step]:
    """Join steps, from the lowest V on, until each weighs enough; what is left over at the end joins the last."""
    heavy: list[Step] = []
    for step in steps:
        if heavy and heavy[-1][0] < LEAST:
            heavy[-1] = _joined(heavy[-1], step)
        else:
            heavy.append(step)
    if len(heavy) > 1 and heavy[-1][0] < LEAST:
        last = heavy.pop()
        heavy[-1] = _joined(heavy[-1], last)
    return heavy


def _joined(one: Step, other: Step) -> Step:
    return [a + b for a, b in zip(one, other, strict=True)]
