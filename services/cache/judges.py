"""The two ways in which candidates are judged: by a fitted verifier, or by the guard alone."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Sequence
from concurrent.futures import Executor

from services.cache.decision import Bar, Candidate, Judge, Shortlist, Verdict
from simcore import GUARD_VERSION, Guard, Verifier

INLINE_CHARACTERS = 4_000
"""Of all texts together that are compared on the event loop, which takes about 0.2 ms. Longer ones go to a thread: the
guard lets others run meanwhile."""


class VerifiedJudge:
    """A verifier that was fitted to the embedder in use, with one of its presets as the operator's rule."""

    def __init__(self, fitted: str, preset: str) -> None:
        """`fitted`: the verifier as JSON. Raises ValueError for one that is wrong, KeyError for an unknown preset."""
        self._verifier = Verifier.load(fitted)
        self.preset = preset
        self.error_rates: list[tuple[float, str]] = [
            (row["max_error_rate"], row["preset"]) for row in json.loads(fitted)["error_rates"]
        ]
        """Shares of wrong hits, rising, with the preset that keeps each."""
        self._bars = {name: Bar(cosine, score) for name, (score, cosine) in self._verifier.presets.items()}
        self.bar = self._bars[preset]
        digest = hashlib.sha256(fitted.encode()).hexdigest()[:10]
        self.version = f"guard-{GUARD_VERSION}/verifier-{digest}"
        self.calibrated = True

    @property
    def presets(self) -> dict[str, tuple[float, float]]:
        """Least score and least cosine by preset."""
        return self._verifier.presets

    @property
    def embedder(self) -> str:
        """The slug of the embedder whose cosines it knows."""
        return self._verifier.embedder

    def bar_for(self, max_error_rate: float) -> Bar | None:
        """See `Judge`."""
        preset = self._verifier.preset_for(max_error_rate)
        return None if preset is None else self._bars[preset]

    def judge(self, question: str, cached: Sequence[str], cosines: Sequence[float]) -> list[Verdict]:
        """See `Judge`."""
        # Rounding may put the cosine of two equal vectors a little above 1.
        judged = self._verifier.judge(question, cached, [min(max(cosine, -1.0), 1.0) for cosine in cosines])
        return [Verdict(one.reasons, one.v, one.p_wrong, one) for one in judged]


class GuardedJudge:
    """A cosine that the operator chose, and the guard: whatever it finds is a veto. It can promise no error rate."""

    def __init__(self, min_similarity: float) -> None:
        self.bar = Bar(min_similarity)
        self.version = f"guard-{GUARD_VERSION}"
        self.calibrated = False

    def bar_for(self, max_error_rate: float) -> Bar | None:  # noqa: ARG002 -- none is as good as another
        """See `Judge`."""
        return None

    def judge(self, question: str, cached: Sequence[str], cosines: Sequence[float]) -> list[Verdict]:  # noqa: ARG002
        """See `Judge`."""
        guard = Guard(question)
        reports = [guard.compare(text) for text in cached]
        return [Verdict(report.reasons, report=report) for report in reports]


async def verdicts(
    judge: Judge, question: str, listed: Shortlist, executor: Executor, *, until: float | None = None
) -> list[Verdict]:
    """Judge what is on a shortlist; long texts on a thread, given up at `until` (the loop's time) with TimeoutError."""
    if not listed.candidates:
        return []
    found = verdicts_at_once(judge, question, listed.candidates)
    if found is not None:
        return found
    texts = [candidate.entry.question for candidate in listed.candidates]
    cosines = [candidate.similarity for candidate in listed.candidates]
    async with asyncio.timeout_at(until):
        return await asyncio.get_running_loop().run_in_executor(executor, judge.judge, question, texts, cosines)


def verdicts_at_once(judge: Judge, question: str, candidates: Sequence[Candidate]) -> list[Verdict] | None:
    """Judge these; None if the texts are too long for the event loop."""
    texts = [candidate.entry.question for candidate in candidates]
    if len(question) + sum(map(len, texts)) > INLINE_CHARACTERS:
        return None
    return judge.judge(question, texts, [candidate.similarity for candidate in candidates])
