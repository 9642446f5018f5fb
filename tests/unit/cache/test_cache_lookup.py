"""What a lookup finds and counts, over the real index and without a store: the cache serves from memory then."""

from __future__ import annotations

import asyncio
import dataclasses

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.cache.freshness import time_to_live
from services.cache.values import Mode, Outcome, Policy, Query
from services.llm.values import FinishReason, GenerationOptions, Message, Role, TextPart, Tool, ToolCall
from tests.unit.cache.cache_parts import ASKED, ONLY, REWORDED, TENANT, Bench, answer, ask, benched, lease, user

# --- tiers ------------------------------------------------------------------------------------------------------------


async def test_an_equal_question_is_served_without_an_embedding(bench: Bench) -> None:
    await bench.put(ASKED)
    bench.embedder.calls.clear()
    found = await bench.look(f"  {ASKED.replace(' ', '   ')}\n")
    assert (found.outcome, found.entry.answer.text) == (Outcome.EXACT, "an answer")
    assert (found.decision.similarity, found.decision.threshold) == (1.0, None)
    assert bench.embedder.calls == []


async def test_a_reworded_question_is_served(bench: Bench) -> None:
    await bench.put(ASKED)
    found = await bench.look(REWORDED)
    assert found.outcome is Outcome.SEMANTIC
    assert found.decision.similarity == pytest.approx(0.95, abs=1e-5)
    assert found.decision.threshold == 0.9


async def test_another_question_is_a_miss_that_says_how_far_it_was(bench: Bench) -> None:
    await bench.put(ASKED)
    bench.embedder.alike("How do I delete my account?", ASKED, 0.89)
    missed = await bench.look("How do I delete my account?")
    assert missed.outcome is Outcome.MISS
    assert missed.decision.vetoes == ("below_threshold",)
    assert missed.decision.similarity == pytest.approx(0.89, abs=1e-5)
    assert missed.vector is not None


@pytest.mark.parametrize(("cosine", "veto"), [(0.705, "below_threshold"), (0.695, "nothing_similar")])
async def test_what_is_far_away_is_not_compared(bench: Bench, cosine: float, veto: str) -> None:
    await bench.put(ASKED)
    bench.embedder.alike("What is the weather like?", ASKED, cosine)
    missed = await bench.look("What is the weather like?")
    assert (missed.decision.vetoes, missed.decision.threshold) == ((veto,), 0.9)
    assert missed.nearest == missed.decision.similarity == (pytest.approx(cosine, abs=1e-5) if cosine > 0.7 else None)
    nowhere = await bench.look(ask("What is the weather like?", namespace="empty"))
    assert (nowhere.decision.vetoes, nowhere.nearest) == ((), None)


async def test_a_low_threshold_is_searched_down_to() -> None:
    async with benched(min_similarity=0.4) as bench:
        await bench.put(ASKED)
        bench.embedder.alike("far away", ASKED, 0.405)
        bench.embedder.alike("further away", ASKED, 0.395)
        assert (await bench.look("far away", ONLY)).outcome is Outcome.SEMANTIC
        assert (await bench.look("further away", ONLY)).decision.vetoes == ("nothing_similar",)


async def test_similarity_equal_to_the_threshold_is_enough(bench: Bench) -> None:
    await bench.put(ASKED)
    similarity = (await bench.look(REWORDED, ONLY)).decision.similarity
    found = await bench.look(REWORDED, dataclasses.replace(ONLY, min_similarity=similarity))
    assert found.outcome is Outcome.SEMANTIC


async def test_a_caller_can_only_tighten(bench: Bench) -> None:
    await bench.put(ASKED)
    bench.embedder.alike("far away", ASKED, 0.5)
    for least, outcome in ((0.0, Outcome.SEMANTIC), (0.96, Outcome.MISS), (1.0, Outcome.MISS)):
        found = await bench.look(REWORDED, dataclasses.replace(ONLY, min_similarity=least))
        assert found.outcome is outcome, least
    assert (await bench.look("far away", dataclasses.replace(ONLY, min_similarity=0.1))).outcome is Outcome.MISS


async def test_an_error_rate_gets_the_exact_tier_only(bench: Bench) -> None:
    await bench.put(ASKED)
    policy = dataclasses.replace(ONLY, max_error_rate=0.5)
    bench.embedder.calls.clear()
    missed = await bench.look(REWORDED, policy)
    assert (missed.outcome, missed.decision.vetoes) == (Outcome.MISS, ("uncalibrated",))
    assert (await bench.look(ASKED, policy)).outcome is Outcome.EXACT
    assert bench.embedder.calls == []


async def test_what_such_a_caller_stores_is_found_by_others(bench: Bench) -> None:
    missed = await bench.look(ASKED, Policy(max_error_rate=0.01))
    await bench.cache.commit(TENANT, lease(missed), answer(), durable=False)
    async with asyncio.timeout(10):
        while (await bench.look(REWORDED, ONLY)).outcome is not Outcome.SEMANTIC:  # noqa: ASYNC110 -- what is awaited has no event
            await asyncio.sleep(0)


async def test_the_best_live_match_wins(bench: Bench) -> None:
    """Better ones that are too old do not hide it, however many there are."""
    for number in range(40):
        bench.embedder.alike(f"old {number}", ASKED, 0.999 - number / 10_000)
        await bench.put(f"old {number}", f"old {number}")
    bench.clock.advance(100)
    bench.embedder.alike("young one", ASKED, 0.93)
    await bench.put("young one", "young")
    assert (await bench.look(ASKED, ONLY)).entry.answer.text == "old 0"
    found = await bench.look(ASKED, dataclasses.replace(ONLY, max_age=50.0))
    assert (found.outcome, found.entry.answer.text) == (Outcome.SEMANTIC, "young")
    bench.clock.advance(86_400 - 50)
    assert (await bench.look(ASKED, ONLY)).entry.answer.text == "young"


async def test_too_old_is_said(bench: Bench) -> None:
    await bench.put(ASKED)
    bench.clock.advance(10)
    missed = await bench.look(ASKED, dataclasses.replace(ONLY, max_age=9.0))
    assert (missed.outcome, missed.decision.vetoes, missed.decision.age) == (Outcome.MISS, ("too_old",), 10.0)


async def test_an_answer_that_calls_tools_is_for_the_same_question_only(bench: Bench) -> None:
    calling = answer("", finish_reason=FinishReason.TOOL_CALLS, tool_calls=(ToolCall("1", "weather", '{"in":"Bonn"}'),))
    missed = await bench.look(ASKED)
    assert (await bench.cache.commit(TENANT, lease(missed), calling, durable=False)).stored
    assert (await bench.look(ASKED)).entry.answer.tool_calls == calling.tool_calls
    assert (await bench.look(REWORDED, ONLY)).outcome is Outcome.MISS


async def test_a_tool_result_never_hits_semantically(bench: Bench) -> None:
    def asked(result: str) -> Query:
        call = Message(Role.ASSISTANT, tool_calls=(ToolCall("1", "t", "{}"),))
        return Query((user(ASKED), call, Message(Role.TOOL, (TextPart(result),), tool_call_id="1")))

    bench.embedder.alike("It is 21 degrees", "It is 20 degrees", 0.9999)
    await bench.put(asked("It is 20 degrees"))
    assert (await bench.look(asked("It is 20 degrees"))).outcome is Outcome.EXACT
    assert (await bench.look(asked("It is 21 degrees"))).outcome is Outcome.MISS
    assert bench.embedder.calls == []


# --- scope ------------------------------------------------------------------------------------------------------------

system = st.sampled_from([(), (Message(Role.SYSTEM, (TextPart("a"),)),), (Message(Role.SYSTEM, (TextPart("b"),)),)])
queries = st.builds(
    lambda before, **fields: ask(ASKED, *before, **fields),
    system,
    namespace=st.sampled_from(["n", "m"]),
    model=st.sampled_from(["auto", "small"]),
    tools=st.sampled_from([(), (Tool("t"),), (Tool("t"), Tool("u")), (Tool("u"), Tool("t"))]),
    options=st.sampled_from([GenerationOptions(), GenerationOptions(temperature=0.0), GenerationOptions(seed=1)]),
    objective=st.sampled_from(["", "cheapest"]),
)
asked_by = st.tuples(st.sampled_from(["t1", "t2"]), queries)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(stored=st.lists(asked_by, min_size=1, max_size=6), asked=st.lists(asked_by, min_size=1, max_size=6))
def test_no_hit_crosses_a_scope(stored: list[tuple[str, Query]], asked: list[tuple[str, Query]]) -> None:
    """Whatever is stored: who asks gets what was stored under the very same context, or nothing."""

    async def play() -> None:
        async with benched() as bench:
            bench.embedder.alike(REWORDED, ASKED, 0.95)
            expected: dict[tuple[str, str], str] = {}
            for number, (tenant, query) in enumerate(stored):
                await bench.put(query, f"answer {number}", tenant=tenant)
                expected[tenant, repr(query)] = f"answer {number}"
            for tenant, query in asked:
                reworded = dataclasses.replace(query, messages=(*query.messages[:-1], user(REWORDED)))
                for what, outcome in ((query, Outcome.EXACT), (reworded, Outcome.SEMANTIC)):
                    found = await bench.look(what, ONLY, tenant=tenant)
                    wanted = expected.get((tenant, repr(query)))
                    assert found.outcome is (outcome if wanted else Outcome.MISS)
                    assert (found.entry.answer.text if found.entry else None) == wanted

    asyncio.run(play())


async def test_a_row_of_another_scope_is_not_served_even_if_the_index_returns_it(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    await bench.put(ask(ASKED, namespace="secret"), "a secret")
    await bench.put(ask("unrelated words here", namespace="open"))
    entries = bench.cache.entries
    secret = entries.bucket(TENANT, "secret")
    monkeypatch.setattr(entries, "_buckets", {**entries._buckets})
    open_bucket = entries.bucket(TENANT, "open")
    number = next(iter(secret.groups.values())).number
    next(iter(open_bucket.groups.values())).number = number
    missed = await bench.look(ask(REWORDED, namespace="open"), ONLY)
    assert missed.outcome is Outcome.MISS
    assert missed.decision.similarity is None


# --- freshness --------------------------------------------------------------------------------------------------------


@given(st.none() | st.floats(0.001, 1e9), st.floats(1, 1e9), st.floats(0, 0.999999))
def test_jitter_only_ever_shortens(asked: float | None, limit: float, chance: float) -> None:
    lives = time_to_live(asked, limit=limit, chance=chance)
    most = min(asked or limit, limit)
    assert most * 0.95 <= lives <= most


async def test_an_expired_entry_is_never_served_and_reading_extends_nothing(bench: Bench) -> None:
    await bench.put(ASKED, policy=Policy(ttl=100.0))
    for _ in range(9):
        bench.clock.advance(11)
        assert (await bench.look(ASKED)).outcome is Outcome.EXACT
        assert (await bench.look(REWORDED, ONLY)).outcome is Outcome.SEMANTIC
    bench.clock.advance(1)
    missed = await bench.look(ASKED, ONLY)
    assert missed.outcome is Outcome.MISS
    assert "expired" in missed.decision.vetoes
    assert (await bench.look(REWORDED, ONLY)).outcome is Outcome.MISS


async def test_a_ttl_beyond_the_operators_is_clamped() -> None:
    async with benched(ttl=50.0) as bench:
        entry = await bench.put(ASKED, policy=Policy(ttl=1e9))
        assert entry.expires_at == bench.clock.wall + 50.0


async def test_age_counts_from_when_the_answer_was_made(bench: Bench) -> None:
    query, made = ask(ASKED), answer(created_at=bench.clock.wall - 70)
    await bench.cache.put(TENANT, query, Policy(), made, durable=False, deadline=bench.deadline())
    assert (await bench.look(query)).decision.age == 70.0
    assert (await bench.look(query, dataclasses.replace(ONLY, max_age=60.0))).outcome is Outcome.MISS


# --- statistics -------------------------------------------------------------------------------------------------------


async def test_statistics_tell_what_happened(bench: Bench) -> None:
    await bench.put(ASKED)
    await bench.put(ask("short lived, this one", namespace="other"), policy=Policy(ttl=1.0))
    await bench.look(ASKED)
    await bench.look(REWORDED)
    await bench.look("far away from everything")
    await bench.look("far away from everything")
    await bench.look(ASKED, Policy(mode=Mode.BYPASS))
    bench.clock.advance(2)
    one = await bench.cache.report(TENANT, "default")
    assert (one.entries_total, one.entries_valid) == (1, 1)
    assert one.tally.outcomes == {Outcome.EXACT: 1, Outcome.SEMANTIC: 1, Outcome.MISS: 2, Outcome.BYPASS: 1}
    assert (one.tally.fills_granted, one.tally.fills_in_progress) == (1, 1)
    assert one.tally.vetoes["nothing_similar"] == 1
    assert (one.tally.usage_saved.input, one.tally.usage_saved.output) == (20, 40)
    assert (one.tally.cost_saved.nano_usd, one.tally.cost_saved.price_version) == (600, "p1")
    both = await bench.cache.report(TENANT, None)
    assert (both.entries_total, both.entries_valid) == (2, 1)
    assert both.bytes > one.bytes > len(ASKED) + len("an answer")
    nobody = await bench.cache.report("other tenant", None)
    assert (nobody.entries_total, nobody.bytes, sum(nobody.tally.outcomes.values())) == (0, 0, 0)
