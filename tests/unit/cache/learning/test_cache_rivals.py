"""Two answers that differ, stored for questions that are near: who asks something near to both is served neither."""

from __future__ import annotations

import json
import random
from dataclasses import replace

import pytest

from services.cache.decision import Veto
from services.cache.learning import rivals
from services.cache.learning.labels import ComparerError
from services.cache.learning.ladder import of_presets
from services.cache.learning.learner import Learner
from services.cache.learning.rivals import Rivals
from services.cache.learning.state import dumped, restore
from services.cache.review import FeedbackSource, Quarantine, Review, Said
from services.cache.values import Outcome
from tests.unit.cache.cache_parts import ASKED, ONLY, TENANT, ask
from tests.unit.cache.learning.learning_parts import PRESETS, RATES, Shelf, learning
from tests.unit.cache.learning.rivals_parts import RIVAL, Erring, between, filled, sure, text_like

LADDER = of_presets(PRESETS, RATES)


async def test_what_has_a_rival_beside_it_is_not_served_to_another_question() -> None:
    async with learning(comparer=Erring(), judge=sure()) as bench:
        await bench.put(ASKED, "by mail")
        assert (await between(bench)).outcome is Outcome.SEMANTIC
        await filled(bench, RIVAL, "at the counter", 0.85, compared=1)
        found = await between(bench)
        assert (found.outcome, found.decision.vetoes) == (Outcome.MISS, (Veto.CONTESTED,))
        assert found.near_miss
        for own in (ASKED, RIVAL):
            assert (await bench.look(ask(own), ONLY)).outcome is Outcome.EXACT
        explained = await bench.cache.explain(TENANT, ask(text_like(bench)), ONLY, limit=1, deadline=bench.deadline())
        assert explained.outcome is Outcome.MISS
        assert explained.decision.vetoes == explained.candidates[0].decision.vetoes == (Veto.CONTESTED,)


async def test_who_says_the_same_is_no_rival() -> None:
    async with learning(comparer=Erring(), judge=sure()) as bench:
        await bench.put(ASKED, "by mail")
        await filled(bench, RIVAL, "by mail", 0.85, compared=1)
        assert (await between(bench)).outcome is Outcome.SEMANTIC


async def test_a_rival_that_is_far_from_the_question_says_nothing() -> None:
    async with learning(comparer=Erring(), judge=sure()) as bench:
        await bench.put(ASKED, "by mail")
        await filled(bench, RIVAL, "at the counter", 0.77, compared=1)
        far = "a question on the other side"
        bench.embedder._alike[far] = (ASKED, 0.9)
        # Its cosine to the rival is about 0.9 * 0.77, at which no rival counts.
        assert (await bench.look(ask(far), ONLY)).outcome is Outcome.SEMANTIC


async def test_a_rival_that_was_said_to_be_wrong_or_is_gone_says_nothing() -> None:
    for quarantined in (True, False):
        async with learning(comparer=Erring(), judge=sure()) as bench:
            await bench.put(ASKED, "by mail")
            await filled(bench, RIVAL, "at the counter", 0.85, compared=1)
            assert (await between(bench)).outcome is Outcome.MISS
            rival = bench.cache.entries.get(bench.cache.addresses.of(TENANT, ask(RIVAL)))
            assert rival is not None
            if quarantined:
                review = Review(quarantine=Quarantine(rule="operator", at_us=1, whole=True))
                assert bench.cache.entries.amend(replace(rival, ver=rival.ver + 1, review=review))
            else:
                assert bench.cache.entries.remove(rival)
            assert (await between(bench)).outcome is Outcome.SEMANTIC


async def test_what_an_operator_calls_right_is_served_beside_its_rival() -> None:
    async with learning(comparer=Erring(), judge=sure()) as bench:
        await bench.put(ASKED, "by mail")
        await filled(bench, RIVAL, "at the counter", 0.85, compared=1)
        for source, outcome in ((FeedbackSource.USER, Outcome.MISS), (FeedbackSource.OPERATOR, Outcome.SEMANTIC)):
            entry = bench.cache.entries.get(bench.cache.addresses.of(TENANT, ask(ASKED)))
            assert entry is not None
            review = Review(said=(Said(source, "by", "id", right=True, semantic=True, at_us=1),))
            assert bench.cache.entries.amend(replace(entry, ver=entry.ver + 1, review=review))
            assert (await between(bench)).outcome is outcome


async def test_an_answer_that_was_put_right_has_no_rivals() -> None:
    async with learning(comparer=Erring(), judge=sure()) as bench:
        await bench.put(ASKED, "by mail")
        await filled(bench, RIVAL, "at the counter", 0.85, compared=1)
        assert (await between(bench)).outcome is Outcome.MISS
        await bench.put(ASKED, "at the counter")
        assert (await between(bench)).outcome is Outcome.SEMANTIC


async def test_a_fresh_answer_is_compared_with_all_that_is_near_and_learned_from_once() -> None:
    async with learning(comparer=Erring(), judge=sure()) as bench:
        await bench.put(ASKED, "by mail")
        await filled(bench, RIVAL, "at the counter", 0.85, compared=1)
        shown = bench.cache.adapting.happened()
        # Near to both; the pair is contested, so it says nothing of what is served.
        await filled(bench, "How do I get a new password?", "by mail", 0.97, compared=2)
        (learner,) = bench.cache.adapting.learners(TENANT)
        assert sum(map(sum, learner.counts["free"])) == 1  # type: ignore[index]
        assert bench.cache.adapting.happened()["free_agreed"] == shown["free_agreed"] + 1
        assert len(learner.rivals) == 2, "the new one and the rival; the new one and the stored one agree"


async def test_rivals_are_remembered_when_the_namespace_comes_back() -> None:
    shelf = Shelf()
    async with learning(shelf, Erring(), sure()) as bench:
        await bench.put(ASKED, "by mail")
        await filled(bench, RIVAL, "at the counter", 0.85, compared=1)
        await bench.cache.adapting.save()
    (state,) = [json.loads(state) for state in shelf.states.values()]
    assert len(state["rivals"]) == 1


def learner() -> Learner:
    return Learner(LADDER, LADDER.priors(), 0.05, ComparerError(400, 20, 400, 20), start=LADDER.of(*PRESETS["loose"]))


def test_a_rival_counts_up_to_a_rung_or_as_far_as_the_entry_itself() -> None:
    one = learner()
    a, b, c = ("a", "1"), ("b", "1"), ("c", "1")
    one.rivals.note(a, b, same=False)
    near = LADDER.rivalry
    assert one.contested(a, 0, [(b, near)])
    assert one.contested(b, 0, [(c, 0), (a, near)])
    assert not one.contested(a, 0, [(b, near + 1), (c, 0)])
    assert one.contested(a, near + 1, [(b, near + 1)])


def test_another_answer_of_either_is_no_rival() -> None:
    one = learner()
    one.rivals.note(("a", "1"), ("b", "1"), same=False)
    assert not one.contested(("a", "2"), 0, [(("b", "1"), 0)])
    assert not one.contested(("a", "1"), 0, [(("b", "2"), 0)])
    one.rivals.note(("b", "2"), ("c", "1"), same=False)
    assert not one.contested(("a", "1"), 0, [(("b", "1"), 0)]), "b has another answer now"
    assert one.contested(("c", "1"), 0, [(("b", "2"), 0)])


@pytest.mark.parametrize(
    "pairs",
    [
        [["a"]],
        [["a", "b"]],
        [["a", "1", "b", 1]],
        [["a", "1", 1, "b"]],
        "abcd",
        [[f"{n}", "1", "b", "1"] for n in range(rivals.KEPT + 1)],
    ],
)
def test_a_state_with_wrong_rivals_is_refused(pairs: object) -> None:
    with pytest.raises(ValueError, match=r"id|length|many"):
        restore({**dumped(learner(), "c"), "rivals": pairs}, learner(), "c")


def test_a_state_from_before_rivals_were_noted_is_as_good_as_ever() -> None:
    state = dumped(learner(), "c")
    del state["rivals"]
    one = learner()
    restore(state, one, "c")
    assert len(one.rivals) == 0
    one.rivals.note(("a", "1"), ("b", "2"), same=False)
    two = learner()
    restore(json.loads(json.dumps(dumped(one, "c"))), two, "c")
    assert list(two.rivals) == [(("a", "1"), ("b", "2"))]


def test_pairs_are_kept_like_in_a_plain_list_and_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rivals, "KEPT", 12)
    dice = random.Random(3)
    known = Rivals()
    plain: list[tuple[str, ...]] = []
    answers = dict.fromkeys((f"e{number}" for number in range(8)), 0)

    def now(name: str) -> tuple[str, str]:
        return name, str(answers[name])

    for _ in range(5_000):
        one, other = (f"e{dice.randrange(8)}" for _ in range(2))
        if one == other:
            continue
        if anew := dice.randrange(10) == 0:
            answers[one] += 1
            assert not known.of(now(one))
            plain = [pair for pair in plain if one not in pair]
        same = dice.randrange(10) < 3
        known.note(now(one), now(other), same=same)
        pair = tuple(sorted((one, other)))
        plain = [each for each in plain if each != pair] + ([] if same else [pair])
        plain = plain[-12:]
        assert list(known) == [tuple(map(now, pair)) for pair in plain], anew
        assert len(known) == len(plain)
        for entry in (one, other):
            assert known.of(now(entry)) == {each for pair in plain for each in pair if entry in pair and each != entry}
            assert (entry in known) == any(entry in pair for pair in plain)
