"""A judge whose scores a test writes down."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from services.cache.decision import Bar, Verdict


class Scripted:
    """A calibrated judge whose scores the test writes down, by the cached question."""

    version = "scripted"
    calibrated = True
    bar = Bar(0.8, 0.5)

    def __init__(self, **scores: float) -> None:
        self.scores = scores
        self.asked: list[list[str]] = []
        self.threads: list[str] = []

    def bar_for(self, max_error_rate: float) -> Bar | None:
        if max_error_rate < 0.01:
            return None
        return Bar(0.9, 0.7) if max_error_rate < 0.05 else Bar(0.7, 0.2)

    def judge(self, question: str, cached: Sequence[str], cosines: Sequence[float]) -> list[Verdict]:
        self.asked.append(list(cached))
        self.threads.append(threading.current_thread().name)
        scores = [self.scores.get(text.split()[0], 0.0) for text in cached]
        return [Verdict(() if score else ("number",), score, 1 - score) for score in scores]
