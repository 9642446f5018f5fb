"""Of the semantic hits some are audited: each counts once and for its tenant, and wrong ones make the rule stricter."""

from __future__ import annotations

from services.cache.decision import Veto
from services.cache.learning.learner import LEAST
from services.cache.values import Outcome
from services.llm.values import FinishReason
from tests.unit.cache.cache_parts import ASKED, ONLY, TENANT, answer, ask, told
from tests.unit.cache.learning.learning_parts import OTHER, anew, explained, learning, near


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
