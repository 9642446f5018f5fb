"""The running error budget: what the promised share of wrong hits allows, and what was spent of it."""

from __future__ import annotations

from dataclasses import dataclass

HORIZON = 300.0
"""Hits over which an overdraft is paid back; audits and free labels need about as many to say that it was one."""

MEMORY = 2_000.0
"""Hits after which one counts for 1/e: a promise about a share is about hits of late."""


@dataclass(frozen=True, slots=True)
class Budget:
    """Over the hits of late: how many, and how many of them are believed to be wrong."""

    target: float
    """The promised share of wrong hits."""
    hits: float
    wrong: float

    def __post_init__(self) -> None:
        """Refuse what is no budget."""
        if not (0 < self.target < 1 and 0 <= self.wrong <= self.hits):
            raise ValueError("a target lies between 0 and 1, and no more hits are wrong than there are")

    @property
    def left(self) -> float:
        """Wrong hits that may still happen; negative when overdrawn."""
        return self.target * self.hits - self.wrong

    @property
    def spent(self) -> float:
        """The share of what was allowed; above 1 when overdrawn, 0 before the first hit."""
        return self.wrong / (self.target * self.hits) if self.hits else 0.0

    @property
    def overdrawn(self) -> bool:
        """Whether more was spent than allowed."""
        return self.left < 0

    def allowed(self) -> float:
        """The share of wrong hits that the next ones may have: the target, less what pays an overdraft back.

        What was saved is not spent on worse hits later: whoever asks next was promised the same.
        """
        return min(max(self.target + self.left / HORIZON, 0.0), self.target)
