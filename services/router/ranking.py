"""The order of the models that can take a request: best first, the rest as fallbacks."""

from __future__ import annotations

from collections.abc import Iterable

from services.catalogue.values import Tier
from services.router.values import Candidate, Objective


def rank(candidates: Iterable[Candidate], complexity: Tier, objective: Objective) -> list[Candidate]:
    """Return the candidates, best first.

    Models whose context surely suffices come before those where it is tight. Under COST and LATENCY, a model is good
    enough if its tier is at least the question's class: of these the cheapest (the fastest) is first; the others
    follow, the most able first. Under QUALITY the most able is first. Ties go to the cheaper, then by name: the same
    request always gets the same order.
    """

    def key(candidate: Candidate) -> tuple[bool, bool, float, float, int, str]:
        model, cost = candidate.model, candidate.expected_cost.nano_usd
        if objective is Objective.QUALITY:
            return candidate.tight, False, -candidate.p_correct, 0.0, cost, model.name
        if model.quality.tier < complexity:
            return candidate.tight, True, -float(model.quality.tier), -candidate.p_correct, cost, model.name
        first = candidate.expected_latency if objective is Objective.LATENCY else float(cost)
        return candidate.tight, False, first, -candidate.p_correct, cost, model.name

    return sorted(candidates, key=key)
