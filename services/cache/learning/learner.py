"""One namespace: takes verdicts and says which rung of the ladder may be served."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate

from services.cache.learning.budget import MEMORY, Budget
from services.cache.learning.drift import Drift
from services.cache.learning.entry_evidence import EntryEvidence
from services.cache.learning.labels import RELIABILITY, ComparerError, Label, Source
from services.cache.learning.ladder import Ladder
from services.cache.learning.posterior import Belief, model_of
from services.cache.learning.rivals import Answered, Rivals

CAUTION = 0.7
"""Standard deviations of the belief that are added before a rung counts as good enough. Chosen on streams that the
online evaluation also reports: with less question pairs at 2 % were loosened too far, with more fewer were hit at 5 %.
"""

DOUBT = 1.645
"""Standard deviations that speak for what the preset serves. It was fitted, so it is only taken back where the 95 %
lower bound of the share of wrong is above the promise: with one, the noise of the comparer took hits from streams that
kept it. Chosen on streams that the online evaluation also reports (mixed, 2 %, and question pairs, 5 %)."""

RENEWED = 16
"""Verdicts after which the belief is computed anew, which takes about a millisecond."""

TRAFFIC = 2.0
"""Hits that each rung counts for before any was seen."""

WITHDRAWING = frozenset({Source.AUDIT, Source.JUDGE, Source.OPERATOR})
"""Whose word that an answer is wrong takes its entry away; a client's is one voice of many."""

HEAVIEST = 1e9
"""Weight of a hit after which all are divided by it, so that none loses digits."""

LEAST = 40
"""Verdicts before the level moves: until then a namespace has said nothing, and the preset it starts at was fitted."""

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

    def __init__(
        self,
        ladder: Ladder,
        pool: Sequence[float],
        target: float,
        error: ComparerError,
        *,
        start: int,
        loosens: bool = True,
    ) -> None:
        """`pool`: the share of wrong by rung elsewhere, `target`: the promised share of wrong hits.

        `start`: the rung that the operator's preset serves; without `loosens` it is never served beyond.
        """
        if len(pool) != len(ladder):
            raise ValueError("the pool has one share for each rung")
        if not 0 <= start < len(ladder):
            raise ValueError("it starts at a rung of the ladder")
        self.ladder, self.target, self.error = ladder, target, error
        self.start, self._loosens = start, loosens
        self._model = model_of(tuple(pool))
        self.counts: dict[Source, list[list[int]]] = {source: [[0, 0] for _ in range(len(ladder))] for source in Source}
        self.met = [0.0] * len(ladder)
        """Lookups by the rung of their best candidate."""
        self._weighed, self._weight = [0.0] * len(ladder), 1.0
        """Hits by rung, each with the weight that it had, and that of the last one."""
        self.entries, self.drift, self.rivals = EntryEvidence(), Drift(), Rivals()
        self.held = 0
        self._fresh = 0
        self.renew()

    @property
    def hits(self) -> list[float]:
        """Served of late, by rung; see `MEMORY`."""
        return [one / self._weight for one in self._weighed]

    @hits.setter
    def hits(self, hits: list[float]) -> None:
        self._weighed, self._weight = hits, 1.0

    def level_for(self, entry: str) -> int:
        """The loosest rung at which this entry may be served: `level`, or less if its record is bad; -1: none.

        A good record does not loosen: for that the candidates of every lookup would have to be judged first.
        """
        factor = self.entries.factor(entry)
        if factor <= 1.0:
            return self.level
        for rung in range(self.level, -1, -1):
            if bisect_left(self._edges, min(self._edges[rung] * factor, 1.0)) <= self.level:
                return rung
        return -1

    def contested(self, entry: Answered, rung: int, beside: Iterable[tuple[Answered, int]]) -> bool:
        """Whether a question whose candidate at `rung` is this entry has a rival of it among its other candidates.

        `beside`: they and their rungs. A rival that is much further away than the entry says nothing.
        """
        far = max(self.ladder.rivalry, rung)
        return any(at <= far and self.rivals.apart(entry, other) for other, at in beside)

    def served(self, rung: int) -> None:
        """Count a hit."""
        self.met[rung] += 1
        self._weight *= MEMORY / (MEMORY - 1)
        self._weighed[rung] += self._weight
        if self._weight > HEAVIEST:
            self.hits = self.hits

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
        quarantine = not label.same and label.source in WITHDRAWING
        # People speak up when something is wrong: only what is compared by rule tells how often that is.
        watched = label.source in {Source.FREE, Source.AUDIT}
        if watched and self.drift.watch(expected=different, different=not label.same):
            self._forget()
            return Learned(quarantine, alarm=True)
        self._fresh += 1
        if self._fresh >= RENEWED:
            self.renew()
        return Learned(quarantine)

    def tell(self, source: Source, entry: str, *, same: bool) -> None:
        """Take a person's verdict about an entry, of which no pair is known: it says nothing about a rung."""
        alarm, missed = RELIABILITY[source]
        budget = self.budget
        wrong = budget.wrong / budget.hits if budget.hits else self.target
        different = alarm + (1 - alarm - missed) * wrong
        likely = missed * wrong / (1 - different) if same else (1 - missed) * wrong / different
        self.entries.add(entry, wrong=likely, expected=wrong)

    @property
    def verdicts(self) -> int:
        """How many were taken since the start or the last alarm."""
        return sum(same + different for rows in self.counts.values() for same, different in rows)

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
        counts = {source: [(same, different) for same, different in rows] for source, rows in self.counts.items()}
        heard = self.verdicts > 0
        self.belief: Belief = self._model.belief(counts, self.error) if heard else self._model.cold(self.error)
        self._edges = list(accumulate(self.belief.wrong, max))
        self._fresh = 0
        level = self.start if not self.held and self.verdicts < LEAST else self._allowed()
        self.level = level if self._loosens else min(level, self.start)

    def _allowed(self) -> int:
        if self.held:
            return 0
        beyond = self.budget.allowed()
        traffic = [TRAFFIC + count for count in self.met]
        # The last rung is never served: from what lies just beyond come the labels that tell when times change.
        for level in reversed(range(max(len(self.ladder) - 1, self.start + 1))):
            shares = [count if rung <= level else 0.0 for rung, count in enumerate(traffic)]
            mean, deviation = self.belief.over(shares)
            kept = mean - DOUBT * deviation <= self.target
            if kept if level <= self.start else mean + CAUTION * deviation <= beyond:
                return level
        return -1

    def _forget(self) -> None:
        for rows in self.counts.values():
            for row in rows:
                row[:] = (0, 0)
        self.entries.clear()
        self.held = HELD
        self.renew()
