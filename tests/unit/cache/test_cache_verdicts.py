"""A pair is judged once for those who ask the same again, and anew whenever anything about it differs."""

from __future__ import annotations

import pytest

from services.cache import verdicts as verdicts_module
from services.cache.values import Mode, Outcome, Policy
from services.cache.verdicts import MOST_CHARACTERS
from tests.unit.cache.cache_parts import Bench, ask, benched
from tests.unit.cache.learning.learning_parts import Scored

ONLY = Policy(mode=Mode.ONLY_IF_CACHED)
ASKED = "How far away is Saturn?"
REWORDED = "What is the distance to Saturn?"


class Counted(Scored):
    def __init__(self) -> None:
        super().__init__()
        self.asked: list[tuple[str, tuple[str, ...]]] = []

    def judge(self, question, cached, cosines):  # type: ignore[no-untyped-def]
        self.asked.append((question, tuple(cached)))
        return super().judge(question, cached, cosines)


async def look(bench: Bench, text: str = REWORDED, namespace: str = "default") -> Outcome:
    return (await bench.look(ask(text, namespace=namespace), ONLY)).outcome


async def test_a_pair_is_judged_once() -> None:
    judge = Counted()
    async with benched(judge=judge) as bench:
        bench.embedder.alike(REWORDED, ASKED, 0.95)
        await bench.put(ASKED)
        assert [await look(bench) for _ in range(3)] == [Outcome.SEMANTIC] * 3
        assert judge.asked == [(REWORDED, (ASKED,))]


async def test_another_entry_or_cosine_is_judged_anew() -> None:
    judge = Counted()
    async with benched(judge=judge) as bench:
        bench.embedder.alike(REWORDED, ASKED, 0.95)
        for namespace in ("a", "b"):
            await bench.put(ask(ASKED, namespace=namespace))
            assert await look(bench, namespace=namespace) is Outcome.SEMANTIC
        assert len(judge.asked) == 2
        await bench.put(ask(ASKED, namespace="a"), "another answer")
        assert await look(bench, namespace="a") is Outcome.SEMANTIC
        assert len(judge.asked) == 2, "the texts are what they were"


async def test_they_are_bounded_and_long_ones_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verdicts_module, "KEPT", 2)
    judge = Counted()
    async with benched(judge=judge) as bench:
        long = "Saturn? " * (MOST_CHARACTERS // 8)
        for text in ("one", "two", "three", long):
            bench.embedder.alike(text, ASKED, 0.95)
        await bench.put(ASKED)
        for text in ("one", "two", "three", "three", "two", "one", long, long):
            assert await look(bench, text) is Outcome.SEMANTIC
        assert [question for question, _ in judge.asked] == ["one", "two", "three", "one", long, long]
