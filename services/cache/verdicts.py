"""Verdicts that were given of late, so that who asks the same again has the same pair judged once.

A verdict depends on the two texts and their cosine alone.
"""

from __future__ import annotations

from concurrent.futures import Executor

from services.cache.decision import Candidate, Judge, Shortlist, Verdict
from services.cache.judges import verdicts, verdicts_at_once
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
        if len(listed.candidates) == 1 and (known := self.at_once(question, listed.candidates[0])) is not None:
            return [known]
        return await verdicts(self._judge, question, listed, self._executor, until=until)

    def at_once(self, question: str, candidate: Candidate) -> Verdict | None:
        """The verdict on one candidate; None if the two texts are too long for the event loop."""
        text = candidate.entry.question
        key = candidate.entry.id, text, question, candidate.similarity
        verdict = self._kept.get(key)
        if verdict is None:
            judged = verdicts_at_once(self._judge, question, [candidate])
            if judged is None:
                return None
            (verdict,) = judged
            if len(text) + len(question) <= MOST_CHARACTERS:
                self._kept.keep(key, verdict)
        return verdict
