"""The semantic tier: what is most similar in a question's scope, judged, and the choice among it."""

from __future__ import annotations

from collections.abc import Callable
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
    choose,
    in_scope,
    shortlist,
)
from services.cache.entries import Entries
from services.cache.judges import verdicts
from services.cache.scope import Address
from services.cache.values import Vector


class Searching:
    """Searches the memory and asks the judge; grants and counts nothing."""

    def __init__(self, *, entries: Entries, judge: Judge, executor: Executor, now: Callable[[], float]) -> None:
        """`executor`: where long texts are compared; `now`: Unix seconds."""
        self._entries = entries
        self._judge = judge
        self._executor = executor
        self._now = now

    async def choose(self, address: Address, vector: Vector, rule: Rule, bar: Bar) -> Choice:
        """The entry to serve to a question, if any; `bar` is the rule's. Raises simcore.IndexPoisoned."""
        wanted = JUDGED
        while True:
            now = self._now()
            found = await self._entries.nearest(address, vector, wanted, now)
            listed = shortlist(found, address, rule, bar, now)
            if listed.whole or wanted >= self._entries.rows(address):
                break
            wanted *= 4  # those that were found are close enough but too old
        judged = await self._judged(address, listed)
        # What was deleted or replaced while long texts were compared is not there any more.
        still = [self._entries.current(candidate.entry) for candidate in listed.candidates]
        listed = replace(listed, candidates=tuple(compress(listed.candidates, still)))
        return choose(listed, list(compress(judged, still)), address, rule, bar=bar, now=now)

    async def look_at(self, address: Address, vector: Vector, most: int) -> list[tuple[Candidate, Verdict]]:
        """The most similar entries of a question's scope with a verdict on each, however far they are."""
        found = await self._entries.nearest(address, vector, most, self._now())
        found = [candidate for candidate in found if in_scope(candidate.entry, address)]
        judged = await self._judged(address, Shortlist(tuple(found), None, whole=True))
        return list(zip(found, judged, strict=True))

    async def _judged(self, address: Address, listed: Shortlist) -> list[Verdict]:
        return await verdicts(self._judge, address.question.text, listed, self._executor)
