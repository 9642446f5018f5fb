"""One namespace: takes verdicts and says which rung of the ladder may be served."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from services.cache.learning.budget import MEMORY, Budget
from services.cache.learning.drift import Drift
from services.cache.learning.entry_evidence import EntryEvidence
from services.cache.learning.labels import RELIABILITY, ComparerError, Label, Source
from services.cache.learning.ladder import Ladder
from services.cache.learning.posterior import Belief, Model

AUDITED = 0.02
"""Of the hits. Each costs an upstream call, so this is the share of what hits save that is spent on knowing."""

CAUTION = 0.25
"""Standard deviations of the belief that are added before a rung counts as good enough. Chosen on a stream that the
online evaluation also reports (mixed, 2 %): 17.6 % hits there, 15.9 % at twice this."""

RENEWED = 16
"""Verdicts after which the belief is computed anew, which takes about a millisecond."""

TRAFFIC = 2.0
"""Hits that each rung counts for before any was seen."""

HELD = 60
"""Verdicts after an alarm during which nothing but the strictest rung is served: the new belief must come from
them."""


@dataclass(frozen=True, slots=True)
class Learned:
    """What a verdict led to."""

    quarantine: bool = False
    """The entry must not be served any more."""
    alarm: bool = False
    """The verdicts got worse; everything that was believed is forgotten, and the strictest rung is in force."""


class Learner:
    """Not safe for several threads. Costs nothing per lookup but a few comparisons; see `RENEWED` for verdicts."""

    def __init__(self, ladder: Ladder, pool: Sequence[float], target: float, error: ComparerError) -> None:
        """`pool`: the share of wrong by rung elsewhere, `target`: the promised share of wrong hits."""
        if len(pool) != len(ladder):
            raise ValueError("the pool has one share for each rung")
        self.ladder, self.target, self.error = ladder, target, error
        self._model = Model(pool)
        self.counts: dict[Source, list[list[int]]] = {source: [[0, 0] for _ in range(len(ladder))] for source in Source}
        self.met = [0.0] * len(ladder)
        """Lookups by the rung of their best candidate."""
        self.hits = [0.0] * len(ladder)
        """Served of late, by rung; see `MEMORY`."""
        self.entries, self.drift = EntryEvidence(), Drift()
        self.held = 0
        self._fresh = 0
        self.renew()

    def rung(self, score: float, cosine: float, entry: str) -> int:
        """Where a candidate stands, its entry's record included; to be served iff it is at most `level`."""
        plain = self.ladder.of(score, cosine)
        factor = self.entries.factor(entry)
        if plain == len(self.ladder) or factor == 1.0:
            return plain
        wrong = min(self._edges[plain] * factor, 1.0)
        if factor < 1.0:
            return min(bisect_left(self._edges, wrong), plain)
        return max(bisect_left(self._edges, wrong), plain)

    def served(self, rung: int, draw: float) -> bool:
        """Count a hit; True: it is to be audited. `draw`: a random number in [0, 1)."""
        self.met[rung] += 1
        self.hits = [one * (1 - 1 / MEMORY) for one in self.hits]
        self.hits[rung] += 1
        return draw < AUDITED

    def missed(self, rung: int) -> None:
        """Count a lookup whose best candidate was not good enough."""
        if rung < len(self.ladder):
            self.met[rung] += 1

    def learn(self, label: Label) -> Learned:
        """Take a verdict. One on a rung that the ladder does not have says nothing."""
        if not 0 <= label.rung < len(self.ladder):
            return Learned()
        wrong = self.belief.wrong[label.rung]
        alarm, missed = RELIABILITY.get(label.source, (self.belief.false_alarm, self.error.overlooked()))
        different = alarm + (1 - alarm - missed) * wrong
        likely = (1 - missed) * wrong / different if not label.same else missed * wrong / (1 - different)
        self.entries.add(label.entry, wrong=likely, expected=wrong)
        self.counts[label.source][label.rung][0 if label.same else 1] += 1
        self.held = max(self.held - 1, 0)
        quarantine = not label.same and label.source in {Source.AUDIT, Source.OPERATOR}
        # People speak up when something is wrong: only what is compared by rule tells how often that is.
        watched = label.source in {Source.FREE, Source.AUDIT}
        if watched and self.drift.watch(expected=different, different=not label.same):
            self._forget()
            return Learned(quarantine, alarm=True)
        self._fresh += 1
        if self._fresh >= RENEWED:
            self.renew()
        return Learned(quarantine)

    @property
    def budget(self) -> Budget:
        """What was promised for the hits of late, and what they are believed to have cost."""
        hits = sum(self.hits)
        wrong = sum(count * share for count, share in zip(self.hits, self.belief.wrong, strict=True))
        return Budget(self.target, hits, min(wrong, hits))

    def audited(self) -> tuple[int, int]:
        """Audits and how many of them said "different"."""
        verdicts = self.counts[Source.AUDIT]
        return sum(map(sum, verdicts)), sum(different for _, different in verdicts)

    def renew(self) -> None:
        """Compute the belief and the level from all verdicts."""
        self.belief: Belief = self._model.belief(
            {source: [(same, different) for same, different in rows] for source, rows in self.counts.items()},
            self.error,
        )
        self._edges = list(accumulate(self.belief.wrong, max))
        self._fresh = 0
        self.level = self._allowed()

    def _allowed(self) -> int:
        if self.held:
            return 0
        allowed = self.budget.allowed()
        traffic = [TRAFFIC + count for count in self.met]
        for level in reversed(range(len(self.ladder))):
            shares = [count if rung <= level else 0.0 for rung, count in enumerate(traffic)]
            mean, deviation = self.belief.over(shares)
            if mean + CAUTION * deviation <= allowed:
                return level
        return -1

    def _forget(self) -> None:
        for rows in self.counts.values():
            for row in rows:
                row[:] = (0, 0)
        self.entries.clear()
        self.held = HELD
        self.renew()
