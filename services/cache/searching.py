"""The semantic tier: what is most similar in a question's scope, judged, and the choice among it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from itertools import compress

from services.cache.decision import (
    JUDGED,
    Bar,
    Candidate,
    Choice,
    Judge,
    Rule,
    Shortlist,
    Verdict,
    Veto,
    choose,
    in_scope,
    shortlist,
)
from services.cache.entries import Entries, Sought
from services.cache.judges import verdicts
from services.cache.scope import Address
from services.cache.values import Decision, Vector
from services.chassis.value import value

NOTED_SIMILARITY = 0.7
"""What is less similar is not looked for, unless the rule would serve it: it is far from every threshold that keeps
wrong answers out, and the index could leave out hardly any row, which doubles the time of a search."""

ANY = -1.0
"""No cosine is less."""


@value
class Search:
    """One question on its way through the semantic tier. `bar` is its rule's."""

    address: Address
    vector: Vector
    rule: Rule
    bar: Bar

    def sought(self, most: int) -> Sought:
        """What the memory has to find for it."""
        return Sought(self.address, self.vector, most, min(self.bar.cosine, NOTED_SIMILARITY))


class Searching:
    """Searches the memory and asks the judge; grants and counts nothing."""

    def __init__(self, *, entries: Entries, judge: Judge, executor: Executor, now: Callable[[], float]) -> None:
        """`executor`: where long texts are compared; `now`: Unix seconds."""
        self._entries = entries
        self._judge = judge
        self._executor = executor
        self._now = now

    async def choose(self, searches: Sequence[Search], *, until: float | None = None) -> list[Choice]:
        """The entry to serve to each question, if any, mostly with one search of the index.

        Where it waits for a thread it is given up at `until`, the event loop's time. Raises TimeoutError,
        simcore.IndexPoisoned.
        """
        listed: dict[int, tuple[Shortlist, float]] = {}
        near: dict[int, list[Candidate]] = {}
        left, most = list(range(len(searches))), JUDGED
        while left:
            now = self._now()
            sought = [searches[place].sought(most) for place in left]
            found = await self._entries.nearest(sought, now, until=until)
            for place, candidates in zip(left, found, strict=True):
                one = searches[place]
                listed[place] = shortlist(candidates, one.address, one.rule, one.bar, now), now
                near.setdefault(place, candidates)
            full = [place for place, candidates in zip(left, found, strict=True) if len(candidates) == most]
            left = [place for place in full if not listed[place][0].whole]
            most *= 4  # those that were found are close enough but not to be served
        return [await self._chosen(one, *listed[place], near[place], until) for place, one in enumerate(searches)]

    async def _chosen(
        self, one: Search, listed: Shortlist, now: float, near: Sequence[Candidate], until: float | None
    ) -> Choice:
        if not listed.candidates and listed.nearest is None and self._entries.rows(one.address):
            vetoes = (Veto.NOTHING_SIMILAR,)
            return Choice(None, Decision(threshold=one.bar.cosine, score_threshold=one.bar.score, vetoes=vetoes))
        # Mostly the most similar one is served; then the others need not be judged.
        first, others = listed.candidates[:1], listed.candidates[1:]
        choice = await self._decided(one, Shortlist(first, listed.nearest, whole=True), now, until)
        if choice.entry is None and others:
            nearest = choice.decision if choice.decision.similarity is not None else None
            choice = await self._decided(one, Shortlist(others, nearest, whole=True), now, until)
        return choice if choice.entry is not None else replace(choice, near=tuple(near))

    async def _decided(self, one: Search, listed: Shortlist, now: float, until: float | None) -> Choice:
        judged = await self._judged(one.address, listed, until)
        # What was deleted or replaced while long texts were compared is not there any more.
        still = [self._entries.current(candidate.entry) for candidate in listed.candidates]
        if not all(still):
            listed = replace(listed, candidates=tuple(compress(listed.candidates, still)))
            judged = list(compress(judged, still))
        return choose(listed, judged, one.address, one.rule, bar=one.bar, now=now)

    async def look_at(self, address: Address, vector: Vector, most: int) -> list[tuple[Candidate, Verdict]]:
        """The most similar entries of a question's scope with a verdict on each, however far they are."""
        (found,) = await self._entries.nearest([Sought(address, vector, most, ANY)], self._now())
        found = [candidate for candidate in found if in_scope(candidate.entry, address)]
        judged = await self._judged(address, Shortlist(tuple(found), None, whole=True))
        return list(zip(found, judged, strict=True))

    async def _judged(self, address: Address, listed: Shortlist, until: float | None = None) -> list[Verdict]:
        return await verdicts(self._judge, address.question.text, listed, self._executor, until=until)
