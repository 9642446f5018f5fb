"""The semantic tier: what is most similar in a question's scope, judged, and the choice among it."""

from __future__ import annotations

from collections.abc import Callable, Sequence, Set
from concurrent.futures import Executor
from dataclasses import replace
from itertools import compress

from services.cache.decision import (
    JUDGED,
    NOTHING,
    Bar,
    Candidate,
    Choice,
    Judge,
    Rule,
    Shortlist,
    Verdict,
    Veto,
    choose,
    contested,
    decide_fit,
    in_scope,
    rivals,
    shortlist,
    unfit,
)
from services.cache.entries import Entries, Sought
from services.cache.scope import Address
from services.cache.values import Decision, Vector
from services.cache.verdicts import RecentVerdicts
from services.chassis.value import value

NOTED_SIMILARITY = 0.7
"""What is less similar is not looked for, unless the rule would serve it: it is far from every threshold that keeps
wrong answers out, and the index could leave out hardly any row, which doubles the time of a search."""

FEW = 64
"""Rivals of one entry that are looked up before a search is made for them, in about a tenth of its time."""

ANY = -1.0
"""No cosine is less."""


@value
class Search:
    """One question on its way through the semantic tier. `bar` is its rule's."""

    address: Address
    vector: Vector
    rule: Rule
    bar: Bar

    def sought(self, most: int, least: float) -> Sought:
        """What the memory has to find for it: by its bar, or what is similar by `least` if that is less."""
        return Sought(self.address, self.vector, most, min(self.bar.cosine, least))


class Searching:
    """Searches the memory and asks the judge; grants and counts nothing."""

    def __init__(self, *, entries: Entries, judge: Judge, executor: Executor, now: Callable[[], float]) -> None:
        """`executor`: where long texts are compared; `now`: Unix seconds."""
        self._entries = entries
        self._verdicts = RecentVerdicts(judge, executor)
        self._now = now

    def at_once(self, one: Search) -> Choice | None:
        """The most similar entry if it is to be served, else `NOTHING`; None if it takes a thread to tell.

        Raises simcore.IndexPoisoned.
        """
        now = self._now()
        found = self._entries.nearest_at_once(one.sought(1, one.bar.cosine), now)
        return None if found is None else self._most_similar(one, found, now)

    async def choose(
        self, searches: Sequence[Search], *, until: float | None = None, looked: bool = False
    ) -> list[Choice]:
        """The entry to serve to each question, if any, mostly with one search of the index.

        Where it waits for a thread it is given up at `until`, the event loop's time. `looked`: `at_once` has found
        nothing to serve. Raises TimeoutError, simcore.IndexPoisoned.
        """
        choices = [NOTHING] * len(searches)
        if not looked:
            # Mostly the most similar one is served. To find it alone takes half of what four take, and one is judged.
            now = self._now()
            found = await self._entries.nearest([one.sought(1, one.bar.cosine) for one in searches], now, until=until)
            for place, (one, near) in enumerate(zip(searches, found, strict=True)):
                choice = self._most_similar(one, near, now)
                if choice is None:
                    (verdict,) = await self._judged(one.address, Shortlist((near[0],), None, whole=True), until)
                    there = self._entries.current(near[0].entry)
                    choice = self._unless_doubtful(one, near[0], verdict, now) if there else NOTHING
                choices[place] = choice
        left = [place for place, choice in enumerate(choices) if choice.entry is None]
        if left:
            among = await self._among([searches[place] for place in left], until)
            for place, choice in zip(left, among, strict=True):
                choices[place] = choice
        # What was deleted or replaced while long texts of another question, or of rivals, were judged is not served.
        return [
            choice
            if choice.entry is None or self._entries.current(choice.entry)
            else Choice(None, Decision(threshold=one.bar.cosine, score_threshold=one.bar.score))
            for one, choice in zip(searches, choices, strict=True)
        ]

    def _most_similar(self, one: Search, found: Sequence[Candidate], now: float) -> Choice | None:
        """The first of what was found if it is to be served, whatever else is near; None if a thread has to judge."""
        if not found:
            return NOTHING
        candidate, address = found[0], one.address
        entry = candidate.entry
        if not in_scope(entry, address) or unfit(entry, address, one.rule, now) is not None:
            return NOTHING
        verdict = self._verdicts.at_once(address.question.text, candidate)
        return None if verdict is None else self._unless_doubtful(one, candidate, verdict, now)

    def _unless_doubtful(self, one: Search, candidate: Candidate, verdict: Verdict, now: float) -> Choice:
        """A judged candidate that is fit, if it passes and has no rival."""
        decision = decide_fit(candidate, verdict, one.address, one.rule, bar=one.bar, now=now)
        if decision.vetoes:
            return NOTHING
        choice = Choice(candidate.entry, decision, best=(candidate, verdict))
        return NOTHING if self._doubtful(one, choice) else choice  # then it matters what else is near

    async def _among(self, searches: Sequence[Search], until: float | None) -> list[Choice]:
        """As `choose`, among all that are similar; a miss tells what was."""
        listed: dict[int, tuple[Shortlist, float]] = {}
        near: dict[int, list[Candidate]] = {}
        left, most = list(range(len(searches))), JUDGED
        while left:
            now = self._now()
            sought = [searches[place].sought(most, NOTED_SIMILARITY) for place in left]
            found = await self._entries.nearest(sought, now, until=until)
            for place, candidates in zip(left, found, strict=True):
                one = searches[place]
                listed[place] = shortlist(candidates, one.address, one.rule, one.bar, now), now
                near.setdefault(place, candidates)
            full = [place for place, candidates in zip(left, found, strict=True) if len(candidates) == most]
            left = [place for place in full if not listed[place][0].whole]
            most *= 4  # those that were found are close enough but not to be served
        choices: list[Choice] = []
        for place, one in enumerate(searches):
            choice = await self._chosen(one, *listed[place], until)
            if names := self._doubtful(one, choice):
                # What is judged may begin where the nearest, which may not be served, end.
                beside = (*near[place], *listed[place][0].candidates)
                choice = await self._unless_contested(one, choice, beside, names, until)
            choices.append(choice if choice.entry is not None else replace(choice, near=tuple(near[place])))
        return choices

    async def _unless_contested(
        self, one: Search, choice: Choice, near: Sequence[Candidate], names: Set[str], until: float | None
    ) -> Choice:
        """The choice, unless a rival of the chosen entry, of these `names`, is near enough; then neither is served."""
        there = [other for other in near if other.entry.id in names and in_scope(other.entry, one.address)]
        beside = tuple({other.entry.id: other for other in there}.values())
        judged = await self._judged(one.address, Shortlist(beside, None, whole=True), until)
        still = [pair for pair in zip(beside, judged, strict=True) if self._entries.current(pair[0].entry)]
        if choice.best is None or not contested(choice.best, still, one.rule):
            return choice
        return Choice(None, replace(choice.decision, vetoes=(Veto.CONTESTED,)))

    def _doubtful(self, one: Search, choice: Choice) -> Set[str]:
        """The rivals of the chosen entry if one is still there, or if they are so many that to look costs as much."""
        if choice.entry is None:
            return frozenset()
        tenant, namespace = one.address.tenant, one.address.namespace
        names = rivals(choice.entry, one.address, one.rule)
        if not names:  # as mostly
            return names
        there = len(names) > FEW or any(self._entries.find(tenant, namespace, name) is not None for name in names)
        return names if there else frozenset()

    async def _chosen(self, one: Search, listed: Shortlist, now: float, until: float | None) -> Choice:
        if not listed.candidates and listed.nearest is None and self._entries.rows(one.address):
            vetoes = (Veto.NOTHING_SIMILAR,)
            return Choice(None, Decision(threshold=one.bar.cosine, score_threshold=one.bar.score, vetoes=vetoes))
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
        return await self._verdicts.of(address.question.text, listed, until=until)
