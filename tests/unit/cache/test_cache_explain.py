"""What `Explain` tells is what `Lookup` does, and leaves no trace."""

from __future__ import annotations

import dataclasses

import pytest

from services.cache.decision import Judge
from services.cache.explaining import Explanation
from services.cache.judges import GuardedJudge
from services.cache.proto import write_report
from services.cache.recovery import Phase
from services.cache.values import Mode, Outcome, Policy, Query
from services.chassis.errors import Reason, Unavailable
from tests.unit.cache.cache_parts import TENANT, Bench, ask, benched, user
from tests.unit.cache.judge_parts import Scripted

ASKED = "How do I reset my password?"
ONLY = Policy(mode=Mode.ONLY_IF_CACHED)


async def explained(
    bench: Bench, what: Query | str, policy: Policy = ONLY, *, limit: int = 4, tenant: str = TENANT
) -> Explanation:
    query = ask(what) if isinstance(what, str) else what
    return await bench.cache.explain(tenant, query, policy, limit=limit, deadline=bench.deadline())


async def filled(judge: Judge) -> Bench:
    bench = Bench(judge=judge)
    for text, cosine in (("old one", 0.99), ("good one", 0.95), ("bad one", 0.97), ("far one", 0.4)):
        bench.embedder.alike(text, ASKED, cosine)
        await bench.put(text, text)
        if text == "old one":
            bench.clock.advance(100)
    return bench


POLICIES = [
    ONLY,
    Policy(),
    dataclasses.replace(ONLY, max_age=50.0),
    dataclasses.replace(ONLY, max_age=50.0, stale=100.0),
    dataclasses.replace(ONLY, min_similarity=0.96),
    dataclasses.replace(ONLY, min_similarity=1.0),
    dataclasses.replace(ONLY, max_error_rate=0.02),
    dataclasses.replace(ONLY, max_error_rate=0.0),
    Policy(mode=Mode.REFRESH),
    Policy(mode=Mode.BYPASS),
]


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize(
    "judge", [Scripted(good=0.9, old=0.9), Scripted(), GuardedJudge(0.9)], ids=["one", "no", "guard"]
)
async def test_it_tells_what_a_lookup_does(judge: Judge, policy: Policy) -> None:
    bench = await filled(judge)
    for text in (ASKED, "good one", "something else entirely", "yes"):
        said = await explained(bench, text, policy)
        done = await bench.look(text, policy)
        assert (said.outcome, said.entry, said.bypass_reason) == (done.outcome, done.entry, done.bypass_reason), text
        assert said.decision == done.decision, text
    await bench.cache.aclose()


async def test_rules_have_names() -> None:
    bench = await filled(Scripted(good=0.9))
    assert (await explained(bench, ASKED)).ruling == "verifier"
    assert (await explained(bench, "good one")).ruling == "exact"
    assert (await explained(bench, ASKED, dataclasses.replace(ONLY, max_error_rate=0.0))).ruling == "max_error_rate"
    assert (await explained(bench, ASKED, dataclasses.replace(ONLY, min_similarity=1.0))).ruling == "exact_only"
    assert (await explained(bench, ask(ASKED, namespace="empty"))).ruling == "empty"
    assert (await explained(bench, ask("yes", user("Shall I?")))).ruling == "exact_only"
    assert (await explained(bench, ASKED, Policy(mode=Mode.BYPASS))).ruling == "policy"
    bench.embedder.error = Unavailable("down", reason=Reason.EMBEDDER_UNAVAILABLE)
    down = await explained(bench, "nobody asked this before")
    assert (down.ruling, down.outcome, down.bypass_reason) == ("bypass", Outcome.BYPASS, "embedder_unavailable")
    assert (await explained(bench, "good one")).outcome is Outcome.EXACT
    bench.cache.recovery.phase = Phase.HYDRATING
    assert (await explained(bench, ASKED)).bypass_reason == "hydrating"
    await bench.cache.aclose()


async def test_candidates_have_scores_and_reasons_each() -> None:
    bench = await filled(Scripted(good=0.9, old=0.2))
    said = await explained(bench, ASKED, dataclasses.replace(ONLY, max_age=50.0), limit=10)
    shown = {judged.entry.answer.text: judged.decision for judged in said.candidates}
    assert list(shown) == ["old one", "bad one", "good one", "far one"]
    assert {text: decision.vetoes for text, decision in shown.items()} == {
        "old one": ("too_old",),
        "bad one": ("unsure", "number"),
        "good one": (),
        "far one": ("below_threshold",),
    }
    assert [decision.score for decision in shown.values()] == [0.2, 0.0, 0.9, 0.0]
    assert (said.entry.answer.text, said.comparable, said.bar.score) == ("good one", 4, 0.5)
    assert len((await explained(bench, ASKED, limit=1)).candidates) == 1
    await bench.cache.aclose()


async def test_features_are_those_that_differ() -> None:
    async with benched(judge=GuardedJudge(0.9)) as bench:
        await bench.put(ASKED)
        bench.embedder.alike("How do I not reset my password?", ASKED, 0.99)
        (judged,) = (await explained(bench, "How do I not reset my password?")).candidates
        assert judged.features["neg"] == 1.0
        assert "negation" in judged.decision.vetoes


async def test_it_leaves_no_trace() -> None:
    bench = await filled(Scripted(good=0.9))
    before = write_report(await bench.cache.report(TENANT, None))
    await explained(bench, ASKED, Policy())
    await explained(bench, "something else entirely", Policy())
    assert bench.cache.fills.active == 0
    assert write_report(await bench.cache.report(TENANT, None)) == before
    await bench.cache.aclose()


async def test_nothing_of_another_tenant_is_shown() -> None:
    bench = await filled(Scripted(good=0.9))
    said = await explained(bench, ASKED, tenant="other", limit=50)
    assert (said.outcome, said.candidates, said.comparable) == (Outcome.MISS, (), 0)
    await bench.cache.aclose()
