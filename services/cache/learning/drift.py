"""Notices that verdicts got worse than what was learned, and soon: a cumulative sum of likelihood ratios.

Page (1954): S ← max(0, S + ln P(verdict | odds × `WORSE`) − ln P(verdict | odds as learned)); an alarm at S > `LIMIT`.
Without a change the mean number of verdicts to a false alarm is at least e^`LIMIT` (Lorden 1971).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

WORSE = 3.0
"""The change that is found soonest, as a factor of the odds of `different`. The posterior follows smaller ones."""

LIMIT = 9.0
"""At most one false alarm in about 8,000 verdicts, if what is expected is true."""

SHOWS = 0.5
"""Where more verdicts than this say `different` in any case they are not watched: a change hardly shows there, and the
few that agree would hide one that shows elsewhere."""

SETTLED = 200
"""Verdicts before it watches: until then they differ from what is believed because that is still the pool's."""


@dataclass(slots=True)
class Drift:
    """The sum, and how many verdicts the present belief has."""

    total: float = 0.0
    seen: int = 0
    alarms: int = 0

    def __post_init__(self) -> None:
        """Refuse what no run leaves behind."""
        if not (0 <= self.total <= LIMIT and self.seen >= 0 and self.alarms >= 0):
            raise ValueError(f"a sum is 0 … {LIMIT:g}, counts are not negative")

    def watch(self, *, expected: float, different: bool) -> bool:
        """Take a verdict that was expected to say `different` this often. True: an alarm, and a new start."""
        if not 0 < expected < 1:
            raise ValueError("an expectation lies between 0 and 1")
        if expected >= SHOWS:
            return False
        self.seen += 1
        if self.seen <= SETTLED:
            return False
        worse = WORSE * expected / (1 - expected + WORSE * expected)
        ratio = worse / expected if different else (1 - worse) / (1 - expected)
        self.total = max(0.0, self.total + math.log(ratio))
        if self.total <= LIMIT:
            return False
        self.total, self.seen = 0.0, 0
        self.alarms += 1
        return True
