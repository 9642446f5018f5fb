"""With rivals, too, a lookup, a batch and an explanation say the same of a question; and what rivals cost a hit."""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import pytest

from services.cache.adapting import DIGITS, Adapting
from services.cache.decision import Decision, Verdict, Veto
from services.cache.entry import Entry
from services.cache.outline import digest_of
from services.cache.review import Quarantine, Review
from services.cache.values import Asked, Mode, Outcome, Policy
from tests.unit.cache.cache_parts import ASKED, TENANT, Bench, ask
from tests.unit.cache.learning.learning_parts import Scored, learning
from tests.unit.cache.learning.rivals_parts import RIVAL, Erring, between, filled, sure

SEEDS = 8
QUESTIONS = 30


class Hashed(Scored):
    """A score of each pair, always the same."""

    def judge(self, question: str, cached: Sequence[str], cosines: Sequence[float]) -> list[Verdict]:
        digests = [hashlib.sha256(f"{question}|{text}".encode()).digest() for text in cached]
        scores = [(0.999, 0.999, 0.95, 0.5)[digest[0] % 4] for digest in digests]
        return [Verdict((), score, 1 - score) for score in scores]


def rivals_of(adapting: Adapting, one: Entry, other: Entry) -> None:
    (learner,) = adapting.learners(TENANT)
    (a, b) = ((entry.id, digest_of(entry.answer).hex()[:DIGITS]) for entry in (one, other))
    learner.rivals.note(a, b, same=False)
    assert learner.rivals.apart(a, b)


async def stored(bench: Bench, dice: random.Random, root: str) -> list[Entry]:
    """Entries near to the root and to each other, of several ages; some withheld, some rivals."""
    entries = []
    for number in range(dice.choice([2, 4, 8, 30])):
        text = f"{root}, {number}"
        bench.embedder.alike(text, root, dice.uniform(0.88, 0.99))
        entries.append(await bench.put(text, f"answer {number}"))
        bench.clock.advance(1)
    for entry in entries:
        if dice.random() < 0.2:
            review = Review(quarantine=Quarantine(rule="audit", at_us=1, whole=dice.random() < 0.5))
            assert bench.cache.entries.amend(replace(entry, ver=bench.cache.entries.next_ver(0), review=review))
    await bench.cache.adapting.prepare(TENANT, "default")
    for _ in range(dice.choice([1, 5, 40])):
        rivals_of(bench.cache.adapting, *dice.sample(entries, 2))
    return entries


def shown(decision: Decision) -> tuple[object, ...]:
    similarity = None if decision.similarity is None else round(decision.similarity, 5)
    return decision.vetoes, similarity, decision.threshold, decision.score_threshold


async def test_a_lookup_a_batch_and_an_explanation_say_the_same() -> None:
    seen: Counter[object] = Counter()
    for seed in range(SEEDS):
        dice = random.Random(seed)
        async with learning(judge=Hashed()) as bench:
            root = f"root {seed}"
            entries = await stored(bench, dice, root)
            asked = []
            for number in range(QUESTIONS):
                text = f"question {number} of {seed}"
                bench.embedder.alike(text, dice.choice([root, dice.choice(entries).question]), dice.uniform(0.8, 0.995))
                policy = Policy(mode=Mode.ONLY_IF_CACHED, max_age=dice.choice([None, None, 3.0, 8.0]))
                asked.append(Asked(ask(text), policy, ""))
            single = [await bench.cache.lookup(TENANT, one, bench.deadline()) for one in asked]
            many = await bench.look_many(asked)
            for one, alone, together in zip(asked, single, many, strict=True):
                limit = dice.choice([1, 4, 9])
                told = await bench.cache.explain(TENANT, one.query, one.policy, limit=limit, deadline=bench.deadline())
                for other in (together, told):
                    assert (other.outcome, other.entry) == (alone.outcome, alone.entry)
                    assert shown(other.decision) == shown(alone.decision)
                passing = [each.entry.id for each in told.candidates if not each.decision.vetoes]
                if passing:
                    assert alone.entry is not None
                    assert passing[0] == alone.entry.id, "what passes is served"
                seen[alone.outcome, alone.decision.vetoes] += 1
    assert min(seen[Outcome.MISS, (Veto.CONTESTED,)], seen[Outcome.SEMANTIC, ()]) > QUESTIONS


@pytest.mark.parametrize("there", [True, False])
async def test_rivals_that_are_gone_cost_no_search(there: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    async with learning(comparer=Erring(), judge=sure()) as bench:
        await bench.put(ASKED, "by mail")
        await filled(bench, RIVAL, "at the counter", 0.85, compared=1)
        rival = bench.cache.entries.get(bench.cache.addresses.of(TENANT, ask(RIVAL)))
        assert rival is not None
        assert there or bench.cache.entries.remove(rival)
        searches = []
        search = bench.cache.entries.similarity._search

        def counted(*given: object) -> object:
            searches.append(given)
            return search(*given)  # type: ignore[arg-type]

        monkeypatch.setattr(bench.cache.entries.similarity, "_search", counted)
        assert (await between(bench)).outcome is (Outcome.MISS if there else Outcome.SEMANTIC)
        assert len(searches) == 1 + there


@pytest.mark.parametrize("limit", [1, 4, 9])
async def test_what_may_not_be_served_hides_no_rivals_behind_it(limit: int) -> None:
    async with learning(judge=sure()) as bench:
        for number in range(4):
            bench.embedder.alike(f"old {number}", ASKED, 0.985)
            await bench.put(f"old {number}", "long ago")
        bench.clock.advance(100)
        young = []
        for number in range(2):
            bench.embedder.alike(f"young {number}", ASKED, 0.95)
            young.append(await bench.put(f"young {number}", f"answer {number}"))
        policy = Policy(mode=Mode.ONLY_IF_CACHED, max_age=50)
        assert (await bench.look(ASKED, policy)).outcome is Outcome.SEMANTIC
        rivals_of(bench.cache.adapting, *young)
        assert (await bench.look(ASKED, policy)).decision.vetoes == (Veto.CONTESTED,)
        told = await bench.cache.explain(TENANT, ask(ASKED), policy, limit=limit, deadline=bench.deadline())
        assert told.decision.vetoes == (Veto.CONTESTED,)
        vetoes = [each.decision.vetoes for each in told.candidates]
        assert vetoes == [(Veto.TOO_OLD,)] * min(limit, 4) + [(Veto.CONTESTED,)] * min(max(limit - 4, 0), 2)
