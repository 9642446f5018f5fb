"""What the cache tells of what happened: each tenant its own, in buckets that are fixed, in memory that is bounded."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from antiphon.cache.v1 import cache_pb2 as pb
from services.cache import stats as stats_module
from services.cache.fill_values import Granted
from services.cache.histogram import LATENCY_BOUNDS, SIMILARITY_BOUNDS, Buckets
from services.cache.metrics import CacheMetrics
from services.cache.proto import write_report
from services.cache.room import Capacity
from services.cache.stats import Stats
from services.cache.values import BypassReason, LookupResult, Mode, Outcome, Policy, Vector
from services.llm.values import Cost, Usage
from tests.unit.cache.cache_parts import TENANT, answer, ask, benched, told

OTHER = "other"
ASKED = "What does the planet Saturn weigh?"
REWORDED = "How heavy is the planet Saturn?"
ONLY = Policy(mode=Mode.ONLY_IF_CACHED)
MISSED = LookupResult(Outcome.MISS)


# --- two tenants -----------------------------------------------------------------------------------------------------


async def test_a_tenant_sees_its_own_and_nothing_of_another() -> None:
    async with benched() as bench:
        bench.embedder.alike(REWORDED, ASKED, 0.953)
        untouched = await told(bench, OTHER)
        await bench.put(ASKED)
        await bench.look(ASKED)
        await bench.look(REWORDED)
        await bench.look("far away from everything, nothing like it")
        await bench.look(ASKED, Policy(mode=Mode.BYPASS))

        mine = await told(bench)
        assert (mine.entries_total, mine.entries_valid, mine.writes_not_stored) == (1, 1, 1)
        assert (mine.lookups.exact, mine.lookups.semantic, mine.lookups.miss, mine.lookups.bypass) == (1, 1, 1, 1)
        assert mine.lookups.fills_granted == 1
        assert dict(mine.bypasses) == {"policy": 1}
        assert dict(mine.vetoes) == {"nothing_similar": 1}
        assert (mine.usage_saved.input_tokens, mine.usage_saved.output_tokens) == (20, 40)
        assert (mine.cost_saved.nano_usd, mine.cost_saved.price_version) == (600, "p1")
        assert (sum(mine.similarity_histogram.hits), sum(mine.similarity_histogram.misses)) == (1, 0)
        assert await told(bench, OTHER) == untouched

        await bench.put(ASKED, tenant=OTHER)
        await bench.look(ASKED, tenant=OTHER)
        theirs = await told(bench, OTHER)
        assert (theirs.entries_total, theirs.lookups.exact, theirs.cost_saved.nano_usd) == (1, 1, 300)
        assert theirs.writes_not_stored == 1
        assert await told(bench) == mine


async def test_what_the_store_did_not_take_is_its_owners() -> None:
    async with benched(max_unsaved=2) as bench:
        for number in range(5):
            await bench.put(ask(f"the question number {number}", namespace="mine"))
        await bench.put(ask("what is the question?", namespace="theirs"), tenant=OTHER)
        assert (await told(bench)).writes_not_stored == 5  # given up or waiting
        assert (await told(bench, namespace="mine")).writes_not_stored == 5
        assert (await told(bench, namespace="default")).writes_not_stored == 0
        assert (await told(bench, OTHER)).writes_not_stored == 1


async def test_evictions_are_counted_for_whose_entry_went() -> None:
    async with benched(capacity=Capacity(2)) as bench:
        await bench.put(ASKED)
        for number in range(2):
            await bench.put(f"the question number {number}", tenant=OTHER)
        assert ((await told(bench)).evictions, (await told(bench, OTHER)).evictions) == (0, 1)
        assert (await told(bench, OTHER)).evictions_by_reason == {"entries": 1}
        assert (await told(bench)).entries_total == 1


async def test_a_namespace_leaves_with_its_last_entry() -> None:
    async with benched() as bench:
        await bench.put(ask(ASKED, namespace="short"), policy=Policy(ttl=1.0))
        bench.clock.advance(2)
        assert len(bench.cache.entries.pop_expired(int(bench.clock.now() * 1e6), 10)) == 1
        assert bench.cache.entries.buckets(TENANT) == []
        entry = await bench.put(ask(ASKED, namespace="short"))
        assert (await bench.look(ask(ASKED, namespace="short"))).entry is entry
        assert (await told(bench, namespace="short")).entries_valid == 1


# --- histograms ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bounds", [SIMILARITY_BOUNDS, LATENCY_BOUNDS])
def test_bounds_rise(bounds: tuple[float, ...]) -> None:
    assert list(bounds) == sorted(set(bounds))


@given(st.lists(st.floats(-1, 3, allow_nan=False), max_size=50))
def test_each_value_is_in_the_bucket_whose_bounds_hold_it(values: list[float]) -> None:
    buckets = Buckets(SIMILARITY_BOUNDS)
    numbers = Counter(map(buckets.key, values))
    edges = [float("-inf"), *SIMILARITY_BOUNDS, float("inf")]
    wanted = [sum(low <= value < high for value in values) for low, high in pairwise(edges)]
    assert buckets.counts(numbers) == wanted


async def test_similarities_of_hits_and_misses_stand_apart() -> None:
    async with benched(min_similarity=0.9) as bench:
        await bench.put(ASKED)
        for number, cosine in enumerate([0.955, 0.951, 0.905, 0.895, 0.335]):
            bench.embedder.alike(f"a question with the number {number}", ASKED, cosine)
            await bench.look(f"a question with the number {number}", ONLY)
        shown = (await told(bench)).similarity_histogram
        assert list(shown.bounds) == list(SIMILARITY_BOUNDS)
        assert len(shown.hits) == len(shown.misses) == len(shown.bounds) + 1
        assert _filled(shown.hits) == {_bucket(0.95): 2, _bucket(0.9): 1}
        assert _filled(shown.misses) == {_bucket(0.89): 1}, "0.335 is far away: nothing similar"


async def test_only_what_reached_the_semantic_tier_has_a_similarity() -> None:
    async with benched() as bench:
        await bench.look(ASKED)  # nothing to compare with
        await bench.put(ASKED, policy=Policy(ttl=1.0))
        await bench.look(ASKED)  # exact
        await bench.look("yes", ONLY)  # exact only
        bench.clock.advance(2)
        await bench.look(ASKED, ONLY)  # expired, which is no cosine of 1
        shown = (await told(bench)).similarity_histogram
        assert sum(shown.hits) == sum(shown.misses) == 0


async def test_latencies_are_told_by_outcome(monkeypatch: pytest.MonkeyPatch) -> None:
    async with benched() as bench:
        embed = bench.embedder.embed_one

        async def slow(text: str) -> tuple[Vector, int]:
            bench.clock.advance(0.03)
            return await embed(text)

        await bench.put(ASKED)
        monkeypatch.setattr(bench.embedder, "embed_one", slow)
        await bench.look(ASKED)
        await bench.look("far away from everything, nothing like it", ONLY)
        await bench.look("far away from everything else as well", ONLY)
        shown = (await told(bench)).latency_histogram
        assert [bound.ToMicroseconds() / 1e6 for bound in shown.bounds] == list(LATENCY_BOUNDS)
        by_outcome = {latency.outcome: latency for latency in shown.outcomes}
        assert set(by_outcome) == {pb.OUTCOME_EXACT, pb.OUTCOME_MISS}
        assert _filled(by_outcome[pb.OUTCOME_EXACT].counts) == {0: 1}
        assert _filled(by_outcome[pb.OUTCOME_MISS].counts) == {bisect_right(LATENCY_BOUNDS, 0.03): 2}
        assert by_outcome[pb.OUTCOME_MISS].total.ToMilliseconds() == 60


# --- bounded memory --------------------------------------------------------------------------------------------------


def test_many_namespaces_of_a_tenant_cost_no_more_than_so_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stats_module, "MAX_NAMESPACES", 10)
    stats = Stats(lambda: 7.0)
    for number in range(100):
        stats.count(TENANT, f"n{number}", MISSED, 0.001)
    assert len(stats) == 11
    assert stats.of(TENANT, None).outcomes[Outcome.MISS] == 100
    assert stats.of(TENANT, "n9").outcomes[Outcome.MISS] == 1
    assert stats.of(TENANT, "n10").outcomes[Outcome.MISS] == 0


def test_many_tenants_cost_no_more_than_so_many_and_the_quiet_begin_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stats_module, "MAX_TALLIES", 20)
    now = [7.0]
    stats = Stats(lambda: now[0])
    for number in range(100):
        now[0] += 1
        stats.count("busy", "n", MISSED, 0.001)
        stats.count(f"t{number}", "n", MISSED, 0.001)
        assert len(stats) <= 20
    assert stats.of("busy", None).outcomes[Outcome.MISS] == 100
    assert stats.of("busy", None).since == 7.0
    quiet = stats.of("t0", None)
    assert (quiet.outcomes[Outcome.MISS], quiet.since) == (0, now[0])
    stats.count("t0", "n", MISSED, 0.001)
    now[0] += 1
    assert (stats.of("t0", None).outcomes[Outcome.MISS], stats.of("t0", "n").since) == (1, now[0] - 1)


# --- Prometheus ------------------------------------------------------------------------------------------------------


async def test_metrics_show_the_same_of_all_tenants_and_name_none() -> None:
    async with benched() as bench:
        registry = CollectorRegistry()
        metrics = CacheMetrics(registry)
        metrics.watch(bench.sides(), lambda: None)
        bench.embedder.alike(REWORDED, ASKED, 0.955)
        bench.embedder.alike("How far away is the planet Saturn?", ASKED, 0.85)
        await bench.put(ask(ASKED, namespace="secret-namespace"), tenant="secret-tenant")
        for text in (ASKED, REWORDED, "How far away is the planet Saturn?", "far away from everything"):
            found = await bench.look(ask(text, namespace="secret-namespace"), tenant="secret-tenant")
            metrics.looked_up(found, 0.004)
        metrics.looked_up(LookupResult(Outcome.BYPASS, bypass_reason=BypassReason.POLICY), 0.0)

        def value(name: str, **labels: str) -> float | None:
            return registry.get_sample_value(f"antiphon_cache_{name}", labels)

        assert value("lookups_total", outcome="exact", reason="") == 1
        assert value("lookups_total", outcome="bypass", reason="policy") == 1
        assert value("nano_usd_saved_total") == 600
        assert value("tokens_saved_total", direction="output") == 40
        assert value("similarity_bucket", result="hit", le="0.95") == 0
        assert value("similarity_bucket", result="hit", le="0.96") == 1
        assert value("similarity_count", result="miss") == 1
        assert value("vetoes_total", reason="below_threshold") == value("vetoes_total", reason="nothing_similar") == 1
        assert value("lookup_duration_seconds_bucket", outcome="miss", le="0.005") == 2
        assert value("entries") == 1
        labels = [sample.labels for metric in registry.collect() for sample in metric.samples]
        assert {name for each in labels for name in each} == {
            *("outcome", "reason", "result", "le", "direction", "event", "value")
        }
        assert not any("secret" in label for each in labels for label in each.values())


async def test_an_answer_for_those_who_wait_is_no_lookup() -> None:
    async with benched() as bench:
        missed = await bench.look(ASKED)
        assert isinstance(missed.fill, Granted)
        await bench.cache.commit(TENANT, missed.fill.lease_id, answer(), durable=False)
        assert (await told(bench)).lookups == pb.LookupCounts(miss=1, fills_granted=1)


def _bucket(value: float) -> int:
    return bisect_right(SIMILARITY_BOUNDS, value)


def _filled(counts: object) -> dict[int, int]:
    return {number: count for number, count in enumerate(counts) if count}  # type: ignore[arg-type,var-annotated]


async def test_what_was_saved_is_told_however_much_it_is() -> None:
    dear = answer(usage=Usage(input=2**63 - 1, output=2**63 - 1), cost=Cost(2**63 - 1, "p1"))
    async with benched() as bench:
        await bench.cache.put(TENANT, ask("dear"), Policy(), dear, durable=False, deadline=bench.deadline())
        for _ in range(3):
            assert (await bench.look("dear")).outcome is Outcome.EXACT
        told = write_report(await bench.cache.report(TENANT, None))
        assert (told.usage_saved.input_tokens, told.cost_saved.nano_usd) == (2**63 - 1, 2**63 - 1)
