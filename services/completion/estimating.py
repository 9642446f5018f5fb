"""What a call took when the model's server did not say: upper estimates, flagged, so that no cost is silently zero."""

from __future__ import annotations

import asyncio
from concurrent.futures import Executor
from dataclasses import dataclass

from services.catalogue.tokens import TokenCounter, soon_counted
from services.catalogue.values import Model
from services.completion.request import Question
from services.llm.values import Usage


@dataclass(frozen=True, slots=True)
class Estimator:
    """Counts with the catalogue's tokenizers or length ratios; long texts in `executor`."""

    counter: TokenCounter
    executor: Executor

    async def usage(self, question: Question, written: str, model: Model) -> Usage:
        """Return the most that asking `question` and writing `written` can have taken."""
        if soon_counted(question.messages, question.tools, question.options, beside=len(written)):
            return self._count(question, written, model)
        return await asyncio.get_running_loop().run_in_executor(self.executor, self._count, question, written, model)

    def _count(self, question: Question, written: str, model: Model) -> Usage:
        asked = self.counter.request(question.messages, question.tools, question.options).input(model)
        return Usage(input=asked.upper, output=self.counter.text(written, model).upper, estimated=True)
