"""Verdicts that were given of late, so that who asks the same again has the same pair judged once.

A verdict depends on the two texts and their cosine alone.
"""

from __future__ import annotations

from concurrent.futures import Executor

from services.cache.decision import Judge, Shortlist, Verdict
from services.cache.judges import verdicts
from services.cache.kept import Kept

KEPT = 4_096
"""Some 2 kB each with the texts."""

MOST_CHARACTERS = 2_000
"""Of both texts of a pair whose verdict is kept."""

_Key = tuple[str, str, str, float]


class RecentVerdicts:
    """For one event loop. By entry: how fast a question is answered tells nobody what was asked elsewhere."""

    def __init__(self, judge: Judge, executor: Executor) -> None:
        """`executor`: where long texts are compared."""
        self._judge = judge
        self._executor = executor
        self._kept: Kept[_Key, Verdict] = Kept(KEPT)

    async def of(self, question: str, listed: Shortlist, *, until: float | None = None) -> list[Verdict]:
        """As `judges.verdicts`."""
        if len(listed.candidates) != 1:
            return await verdicts(self._judge, question, listed, self._executor, until=until)
        (candidate,) = listed.candidates
        key = candidate.entry.id, candidate.entry.question, question, candidate.similarity
        verdict = self._kept.take(key)
        if verdict is None:
            (verdict,) = await verdicts(self._judge, question, listed, self._executor, until=until)
        if len(key[1]) + len(key[2]) <= MOST_CHARACTERS:
            self._kept.keep(key, verdict)
        return [verdict]
