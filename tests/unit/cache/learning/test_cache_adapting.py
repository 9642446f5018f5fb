"""How the cache learns a namespace's rule: from misses and audits, within bounds, and never on behalf of another."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

import pytest
from prometheus_client import CollectorRegistry

from antiphon.cache.v1 import cache_pb2 as pb
from services.cache import adapting
from services.cache.decision import Veto
from services.cache.explaining import Explanation
from services.cache.fill_values import Granted
from services.cache.learning.labels import Label, Source
from services.cache.learning.learner import LEAST
from services.cache.metrics import CacheMetrics
from services.cache.proto import write_report
from services.cache.values import LookupResult, Mode, Outcome, Policy
from services.llm.values import FinishReason, ToolCall
from tests.unit.cache.cache_parts import TENANT, Bench, answer, ask, benched
from tests.unit.cache.learning.learning_parts import GUARD, PRESETS, Literal, Scored, Shelf, setup

ASKED = "How do I reset my password?"
ONLY = Policy(mode=Mode.ONLY_IF_CACHED)
OTHER = "other"
NUMBERS = itertools.count()


@contextlib.asynccontextmanager
async def learning(
    store: Shelf | None = None, comparer: Literal | None = None, judge: Scored | None = None, **how: object
) -> AsyncIterator[Bench]:
    """A bench that learns."""
    made = setup(store or Shelf(), comparer, **how)
    async with benched(judge=judge or Scored(), learning=made) as bench:
        work = asyncio.create_task(bench.cache.adapting.run())
        yield bench
        work.cancel()
        await asyncio.wait([work])
        assert work.cancelled()


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(GUARD):
        while not true():  # noqa: ASYNC110 -- a state of the tested parts, which set no event for tests
            await asyncio.sleep(0.001)


async def near(
    bench: Bench, cosine: float, policy: Policy | None = None, *, namespace: str = "default", tenant: str = TENANT
) -> LookupResult:
    """Look up a question of this cosine to the stored one."""
    text = f"a question with the number {next(NUMBERS)}"
    bench.embedder.alike(text, ASKED, cosine)
    return await bench.look(ask(text, namespace=namespace), policy, tenant=tenant)


async def anew(bench: Bench, cosine: float, *, namespace: str = "default", tenant: str = TENANT) -> LookupResult:
    """As `near`, but to an entry of its own: what is known of single entries says nothing about it."""
    stored = f"stored question number {next(NUMBERS)}"
    text = f"reworded question number {next(NUMBERS)}"
    await bench.put(ask(stored, namespace=namespace), "the stored one", tenant=tenant)
    bench.embedder.alike(text, stored, cosine)
    return await bench.look(ask(text, namespace=namespace), ONLY, tenant=tenant)


async def missed(bench: Bench, cosine: float, text: str, **where: str) -> None:
    """A miss near to the stored question, and its fresh answer, as far as it is compared."""
    found = await near(bench, cosine, **where)
    assert isinstance(found.fill, Granted), found
    heard = bench.cache.adapting.happened
    before = heard()["free_agreed"] + heard()["free_differed"]
    tenant = where.get("tenant", TENANT)
    await bench.cache.commit(tenant, found.fill.lease_id, answer(text), durable=False)
    await until(lambda: heard()["free_agreed"] + heard()["free_differed"] == before + 1)


async def told(bench: Bench, tenant: str = TENANT, namespace: str | None = None) -> pb.GetStatsResponse:
    return write_report(await bench.cache.report(tenant, namespace))


async def explained(bench: Bench) -> Explanation:
    text = f"a question with the number {next(NUMBERS)}"
    bench.embedder.alike(text, ASKED, 0.9)
    return await bench.cache.explain(TENANT, ask(text), ONLY, limit=4, deadline=bench.deadline())


# --- free labels -----------------------------------------------------------------------------------------------------


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


# --- audits ----------------------------------------------------------------------------------------------------------


async def test_of_the_semantic_hits_the_share_that_was_set_is_audited() -> None:
    async with learning(audit_share=0.25) as bench:
        await bench.put(ASKED)
        await bench.look(ASKED)
        asked = 0
        for number in range(100):
            bench.chance = number / 100
            found = await near(bench, 0.9, ONLY)
            assert found.outcome is Outcome.SEMANTIC
            asked += bool(found.audit_id)
        assert asked == 25
        assert (await told(bench)).audits.asked == 25
        assert not (await bench.look(ASKED)).audit_id, "an exact hit needs none"


async def test_an_audit_counts_once_and_only_for_whose_hit_it_is() -> None:
    async with learning(audit_share=1.0) as bench:
        await bench.put(ASKED, "the stored one")
        found = await near(bench, 0.9, ONLY)
        audited = bench.cache.audited
        assert not (await audited(OTHER, found.audit_id, answer("the stored one"))).counted
        assert not (await audited(TENANT, "no such audit", answer("the stored one"))).counted
        heard = await audited(TENANT, found.audit_id, answer("the stored one"))
        assert (heard.counted, heard.agrees) == (True, True)
        assert not (await audited(TENANT, found.audit_id, answer("another"))).counted
        shown = (await told(bench)).audits
        assert (shown.asked, shown.agreed, shown.differed) == (1, 1, 0)
        assert shown.wrong_share == 0.0
        assert shown.wrong_share_high > 0.5, "one audit says hardly anything"
        assert not (await told(bench, OTHER)).audits.HasField("wrong_share")


async def test_an_audit_that_comes_too_late_or_without_words_is_void() -> None:
    async with learning(audit_share=1.0) as bench:
        await bench.put(ASKED)
        late, cut = await near(bench, 0.9, ONLY), await near(bench, 0.9, ONLY)
        assert not (
            await bench.cache.audited(TENANT, cut.audit_id, answer("x", finish_reason=FinishReason.LENGTH))
        ).counted
        bench.clock.advance(700)
        assert not (await bench.cache.audited(TENANT, late.audit_id, answer("an answer"))).counted


async def test_wrong_hits_spend_the_budget_and_make_the_rule_stricter() -> None:
    async with learning(audit_share=1.0) as bench:
        await bench.put(ASKED, "the stored one")
        before = await explained(bench)
        assert (before.bar.cosine, before.bar.score) == (0.86, 0.94)
        assert before.outcome is Outcome.SEMANTIC
        for number in range(10 * LEAST):
            found = await anew(bench, 0.9)
            if found.outcome is Outcome.MISS:
                break
            right = number % 4 > 0
            await bench.cache.audited(TENANT, found.audit_id, answer("the stored one" if right else "another"))
        else:
            raise AssertionError("a quarter of all hits is wrong, and nothing happened")
        shown = await told(bench, namespace="default")
        assert shown.error_budget.spent > 1
        assert shown.error_budget.max_error_rate == 0.02
        assert shown.audits.wrong_share_low < 0.25 < shown.audits.wrong_share_high
        assert shown.learning.score_threshold > 0.94
        after = await explained(bench)
        assert after.bar.score == shown.learning.score_threshold
        assert after.outcome is Outcome.MISS
        assert after.decision.vetoes[0] in {Veto.UNSURE, Veto.BELOW_THRESHOLD}
        assert (await near(bench, 0.9, ONLY, namespace="another")).outcome is Outcome.MISS  # nothing is stored there
        await bench.put(ask(ASKED, namespace="another"))
        assert (await near(bench, 0.9, ONLY, namespace="another")).outcome is Outcome.SEMANTIC


async def test_with_hardly_any_right_ones_only_exact_hits_are_left() -> None:
    async with learning(audit_share=1.0) as bench:
        await bench.put(ASKED, "the stored one")
        bench.judge.score = 0.999
        for _ in range(10 * LEAST):
            found = await anew(bench, 0.99)
            if found.outcome is Outcome.MISS:
                break
            await bench.cache.audited(TENANT, found.audit_id, answer("another"))
        assert found.decision.vetoes == (Veto.ERROR_BUDGET,)
        assert (await bench.look(ASKED, ONLY)).outcome is Outcome.EXACT


# --- within the operator's rule and the caller's ---------------------------------------------------------------------


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


# --- what is seen ----------------------------------------------------------------------------------------------------


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


# --- the store -------------------------------------------------------------------------------------------------------


async def test_a_namespace_that_left_memory_comes_back_with_what_it_knew() -> None:
    store = Shelf()
    async with learning(store, audit_share=1.0, most=2) as bench:
        for name in "abcd":
            await bench.put(ask(ASKED, namespace=name), "the stored one")
        while (found := await anew(bench, 0.9, namespace="a")).outcome is Outcome.SEMANTIC:
            await bench.cache.audited(TENANT, found.audit_id, answer("another"))
        assert (await near(bench, 0.9, ONLY, namespace="a")).outcome is Outcome.MISS
        for name in "bcd":
            assert (await near(bench, 0.9, ONLY, namespace=name)).outcome is Outcome.SEMANTIC
        assert len(bench.cache.adapting.learners()) == 2
        assert (await near(bench, 0.9, ONLY, namespace="a")).outcome is Outcome.MISS, (
            "not written yet, but not forgotten"
        )
        await bench.cache.adapting.save()
        for name in "bcd":
            await near(bench, 0.9, ONLY, namespace=name)
        assert (await near(bench, 0.9, ONLY, namespace="a")).outcome is Outcome.MISS, "from the store"


async def test_a_store_that_hangs_holds_up_one_lookup_and_the_preset_decides() -> None:
    store = Shelf()
    store.gate.clear()
    async with learning(store, audit_share=1.0) as bench:
        await bench.put(ASKED)
        loop = asyncio.get_running_loop()
        begun = loop.time()
        found = await near(bench, 0.9, ONLY)
        assert (found.outcome, found.audit_id) == (Outcome.SEMANTIC, "")
        assert loop.time() - begun < GUARD / 2
        store.gate.set()
        await until(lambda: len(bench.cache.adapting.learners()) == 1)
        assert (await near(bench, 0.9, ONLY)).audit_id
        assert store.loads == 1


async def test_while_the_store_is_down_the_preset_decides_and_nobody_waits() -> None:
    store = Shelf(down=True)
    async with learning(store, audit_share=1.0) as bench:
        await bench.put(ASKED)
        for _ in range(5):
            found = await near(bench, 0.9, ONLY)
            assert (found.outcome, found.audit_id) == (Outcome.SEMANTIC, "")
        assert store.loads == 1, "it is asked again after a while only"
        store.down = False
        bench.clock.advance(2)
        assert (await near(bench, 0.9, ONLY)).audit_id
        store.down = True
        await bench.cache.adapting.save()
        store.down = False
        await bench.cache.adapting.save()
        assert list(store.states) == [(TENANT, "default")], "what was not taken is written the next time"
        assert [part for part, _ in bench.reported] == ["learning"]
        bench.reported.clear()


async def test_hits_alone_are_written_less_often_than_verdicts_but_never_forgotten() -> None:
    store = Shelf()
    async with learning(store, audit_share=1.0) as bench:
        states = bench.cache.adapting._states
        assert states is not None
        await bench.put(ASKED, "the stored one")
        found = await near(bench, 0.9, ONLY)
        await states.save(hits=False)
        assert not store.states
        await states.save()
        assert json.loads(store.states[TENANT, "default"])["hits"] != [0.0] * len(PRESETS)
        store.states.clear()
        await bench.cache.audited(TENANT, found.audit_id, answer("the stored one"))
        await states.save(hits=False)
        assert store.states, "a verdict does not wait"
        store.states.clear()
        await states.save()
        assert not store.states, "nothing was counted since"


async def test_a_state_of_another_verifier_is_counted_and_the_preset_decides() -> None:
    store = Shelf(states={(TENANT, "default"): '{"format": "something else"}'})
    async with learning(store) as bench:
        await bench.put(ASKED)
        assert (await near(bench, 0.9, ONLY)).outcome is Outcome.SEMANTIC
        assert bench.cache.adapting.happened()["refused"] == 1
        score, cosine = PRESETS["default"]
        shown = (await told(bench, namespace="default")).learning
        assert (shown.threshold, shown.score_threshold) == (cosine, score)
