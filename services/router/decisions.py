"""The last decisions, remembered so that a report about one can be joined with what was decided."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from services.router.values import Decision


@dataclass(frozen=True, slots=True)
class DecisionSummary:
    """What is kept of a decision; nothing of the prompt."""

    policy_version: str
    complexity: str
    """`simple`, `moderate`, `complex`, or empty for an explicit model."""
    model: str
    """The first candidate."""
    confidence: float


class DecisionLog:
    """Bounded; the oldest decision is forgotten first. For one event loop."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._decisions: OrderedDict[str, DecisionSummary] = OrderedDict()

    def add(self, decision: Decision) -> DecisionSummary:
        """Remember a decision."""
        summary = DecisionSummary(
            decision.policy_version,
            "" if decision.complexity is None else decision.complexity.name.lower(),
            decision.candidates[0].model.name,
            decision.confidence,
        )
        self._remember(decision.id, summary)
        return summary

    def learn(self, decision_id: str, policy_version: str, model: str) -> DecisionSummary | None:
        """Remember a decision for an explicit model that was made elsewhere; None if it is known."""
        if decision_id in self._decisions:
            return None
        summary = DecisionSummary(policy_version, "", model, 1.0)
        self._remember(decision_id, summary)
        return summary

    def find(self, decision_id: str) -> DecisionSummary | None:
        """Return the decision if it is still remembered."""
        return self._decisions.get(decision_id)

    def __len__(self) -> int:
        return len(self._decisions)

    def _remember(self, decision_id: str, summary: DecisionSummary) -> None:
        self._decisions[decision_id] = summary
        while len(self._decisions) > self._capacity:
            self._decisions.popitem(last=False)
