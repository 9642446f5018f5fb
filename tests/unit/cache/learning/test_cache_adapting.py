"""How the cache learns a namespace's rule: from misses, within bounds, and never on behalf of another."""

from __future__ import annotations

from dataclasses import replace

import pytest
from prometheus_client import CollectorRegistry

from antiphon.cache.v1 import cache_pb2 as pb
from services.cache import adapting
from services.cache.fill_values import Granted
from services.cache.learning.labels import Label, Source
from services.cache.metrics import CacheMetrics
from services.cache.values import Outcome
from services.llm.values import FinishReason, ToolCall
from tests.unit.cache.cache_parts import ASKED, ONLY, TENANT, answer, benched, told
from tests.unit.cache.learning.learning_parts import OTHER, Literal, Scored, anew, learning, missed, near, until

# --- free labels ------------------------------------------------------------------------------------------------------


async def test_the_answer_to_a_near_miss_is_compared_with_the_nearest_entrys() -> None:
    comparer = Literal()
    async with learning(comparer=comparer) as bench:
        await bench.put(ASKED, "the stored one")
        await missed(bench, 0.85, "a fresh one")
        assert comparer.asked == [("a fresh one", "the stored one")]
        bench.embedder.alike("a third", ASKED, 0.85)
        await missed(bench, 0.84, "the stored one")
        shown = (await told(bench)).learning
        assert (shown.free_agreed, shown.free_differed, shown.namespaces) == (1, 1, 1)


async def test_far_away_exact_and_unfinished_answers_teach_nothing() -> None:
    comparer = Literal()
    async with learning(comparer=comparer) as bench:
        await bench.put(ASKED, "the stored one")
        for cosine, made in (
            (0.5, answer("far away")),
            (0.85, answer("cut", finish_reason=FinishReason.LENGTH)),
            (0.85, answer("refused", refusal="no")),
            (0.85, answer("", tool_calls=(ToolCall("1", "f", "{}"),), finish_reason=FinishReason.TOOL_CALLS)),
        ):
            found = await near(bench, cosine)
            assert isinstance(found.fill, Granted)
            await bench.cache.commit(TENANT, found.fill.lease_id, made, durable=False)
        await missed(bench, 0.85, "the only one")
        assert [fresh for fresh, _ in comparer.asked] == ["the only one"]


async def test_a_repeated_commit_teaches_once() -> None:
    comparer = Literal()
    async with learning(comparer=comparer) as bench:
        await bench.put(ASKED)
        found = await near(bench, 0.85)
        assert isinstance(found.fill, Granted)
        for _ in range(3):
            await bench.cache.commit(TENANT, found.fill.lease_id, answer("once"), durable=False)
        await missed(bench, 0.85, "twice")
        assert [fresh for fresh, _ in comparer.asked] == ["once", "twice"]


async def test_what_cannot_be_compared_in_time_is_dropped_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    comparer = Literal()
    comparer.gate.clear()
    monkeypatch.setattr(adapting, "WAITING", 2)
    async with learning(comparer=comparer) as bench:
        await bench.put(ASKED)
        for number in range(6):
            found = await near(bench, 0.72)
            assert isinstance(found.fill, Granted)
            await bench.cache.commit(TENANT, found.fill.lease_id, answer(str(number)), durable=False)
            if number == 0:
                await until(lambda: len(comparer.asked) == 1)
        assert bench.cache.adapting.waiting == 2
        assert bench.cache.adapting.happened()["dropped"] == 3
        comparer.gate.set()
        await until(lambda: bench.cache.adapting.happened()["free_differed"] == 3)


async def test_a_comparer_that_is_down_is_counted_and_nothing_is_learned() -> None:
    comparer = Literal()
    comparer.down = True
    async with learning(comparer=comparer) as bench:
        await bench.put(ASKED)
        found = await near(bench, 0.85)
        assert isinstance(found.fill, Granted)
        await bench.cache.commit(TENANT, found.fill.lease_id, answer("fresh"), durable=False)
        await until(lambda: bench.cache.adapting.happened()["failed"] == 1)
        assert bench.cache.adapting.learners()[0].verdicts == 0
        comparer.down = False
        await missed(bench, 0.85, "fresh")


# --- within the operator's rule and the caller's ----------------------------------------------------------------------


async def test_by_default_no_evidence_loosens_the_preset() -> None:
    await _agreed(loosens=False, outcome=Outcome.MISS)


async def test_where_it_may_loosen_it_does_and_a_caller_can_still_ask_for_more() -> None:
    await _agreed(loosens=True, outcome=Outcome.SEMANTIC)


async def _agreed(*, loosens: bool, outcome: Outcome) -> None:
    judge = Scored()
    async with learning(judge=judge, loosens=loosens) as bench:
        await bench.put(ASKED, "the stored one")
        judge.score = 0.75
        await missed(bench, 0.83, "the stored one")
        (learner,) = bench.cache.adapting.learners()
        rung = learner.ladder.of(0.75, 0.83)
        for number in range(1_500):
            learner.learn(Label(Source.FREE, str(number), number % (rung + 1), same=True))
        assert (await near(bench, 0.83, ONLY)).outcome is outcome
        strict = await near(bench, 0.83, replace(ONLY, max_error_rate=0.02))
        assert strict.outcome is Outcome.MISS
        assert (await near(bench, 0.83, replace(ONLY, min_similarity=0.84))).outcome is Outcome.MISS


async def test_a_question_in_the_same_words_is_decided_by_what_was_learned_meanwhile() -> None:
    judge, again = Scored(), "the same words again"
    judge.score = 0.75
    async with learning(judge=judge, loosens=True) as bench:
        await bench.put(ASKED, "the stored one")
        bench.embedder.alike(again, ASKED, 0.83)
        for _ in range(2):
            assert (await bench.look(again, ONLY)).outcome is Outcome.MISS
        (learner,) = bench.cache.adapting.learners()
        rung = learner.ladder.of(0.75, 0.83)
        for number in range(1_500):
            learner.learn(Label(Source.FREE, str(number), number % (rung + 1), same=True))
        assert (await bench.look(again, ONLY)).outcome is Outcome.SEMANTIC
        while not learner.learn(Label(Source.FREE, "wrong", rung, same=False)).alarm:
            pass
        assert (await bench.look(again, ONLY)).outcome is Outcome.MISS


async def test_what_left_memory_is_read_again_for_a_question_in_the_same_words() -> None:
    again = "the same words again"
    async with learning(most=1) as bench:
        entry = await bench.put(ASKED, "the stored one")
        bench.embedder.alike(again, ASKED, 0.9)
        learners = bench.cache.adapting.learners
        for _ in range(2):
            assert (await bench.look(again, ONLY)).outcome is Outcome.SEMANTIC
        (before,) = learners(TENANT, "default")
        await near(bench, 0.9, ONLY, namespace="another")
        assert learners(TENANT, "default") == []
        for _ in range(2):
            assert (await bench.look(again, ONLY)).outcome is Outcome.SEMANTIC
        await near(bench, 0.9, ONLY, namespace="another")
        await near(bench, 0.9, ONLY)
        (after,) = learners(TENANT, "default")
        assert after is not before
        assert sum(after.hits) == pytest.approx(5, abs=0.1)
        bench.cache.adapting.judged(TENANT, "default", entry.id, Source.OPERATOR, right=False)
        assert (await bench.look(again, ONLY)).outcome is Outcome.MISS


async def test_a_verdict_of_a_person_is_heard_by_source() -> None:
    async with learning() as bench:
        entry = await bench.put(ASKED)
        await near(bench, 0.9, ONLY)
        (learner,) = bench.cache.adapting.learners()
        judged = bench.cache.adapting.judged
        judged(TENANT, "never seen", entry.id, Source.OPERATOR, right=False)
        judged(TENANT, "default", entry.id, Source.OPERATOR, right=True)
        assert learner.level_for(entry.id) == learner.level
        judged(TENANT, "default", entry.id, Source.OPERATOR, right=False)
        assert learner.level_for(entry.id) < learner.level


async def test_switched_off_nothing_is_compared_asked_or_learned() -> None:
    async with benched(judge=Scored()) as bench:
        await bench.cache.adapting.run()
        await bench.put(ASKED)
        assert (await near(bench, 0.9, ONLY)).audit_id == ""
        found = await near(bench, 0.85)
        assert isinstance(found.fill, Granted)
        await bench.cache.commit(TENANT, found.fill.lease_id, answer("fresh"), durable=False)
        shown = await told(bench)
        assert not shown.HasField("error_budget")
        assert shown.learning == pb.LearningStats()


# --- what is seen -----------------------------------------------------------------------------------------------------


async def test_near_misses_and_p_wrong_are_told_beside_what_was_told_before() -> None:
    judge = Scored()
    async with learning(judge=judge) as bench:
        metrics = CacheMetrics(registry := CollectorRegistry())
        metrics.watch(bench.sides(), lambda: None)
        await bench.put(ASKED)
        metrics.looked_up(await near(bench, 0.9, ONLY), 0.001)
        judge.score = 0.6
        metrics.looked_up(await near(bench, 0.9, ONLY), 0.001)
        metrics.looked_up(await near(bench, 0.8, ONLY), 0.001)
        shown = await told(bench)
        assert shown.near_misses == 1
        bounds = list(shown.p_wrong_histogram.bounds)
        assert len(shown.p_wrong_histogram.hits) == len(bounds) + 1
        assert [count for count in shown.p_wrong_histogram.hits if count] == [1]
        assert shown.p_wrong_histogram.hits[bounds.index(0.05) + 1] == 1, "0.06"
        assert shown.p_wrong_histogram.misses[bounds.index(0.2) + 1] == 1, "0.4"
        assert dict(shown.vetoes) == {"unsure": 1, "below_threshold": 1}
        assert registry.get_sample_value("antiphon_cache_near_misses_total") == 1
        assert registry.get_sample_value("antiphon_cache_p_wrong_count", {"result": "miss"}) == 1
        assert registry.get_sample_value("antiphon_cache_learners") == 1
        assert registry.get_sample_value("antiphon_cache_error_budget_spent") > 0


async def test_what_one_tenant_teaches_is_nothing_to_another() -> None:
    async with learning(audit_share=1.0) as bench:
        for tenant in (TENANT, OTHER):
            await bench.put(ASKED, "the stored one", tenant=tenant)
        await near(bench, 0.9, ONLY, tenant=OTHER)
        untouched = await told(bench, OTHER)
        while (found := await anew(bench, 0.9)).outcome is Outcome.SEMANTIC:
            await bench.cache.audited(TENANT, found.audit_id, answer("another"))
        assert (await near(bench, 0.9, ONLY)).outcome is Outcome.MISS
        assert await told(bench, OTHER) == untouched
        assert (await near(bench, 0.9, ONLY, tenant=OTHER)).outcome is Outcome.SEMANTIC
