"""How `antiphon stats` draws what the cache counts."""

from __future__ import annotations

import io

import pytest
from google.protobuf import duration_pb2, timestamp_pb2
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from antiphon.cache.v1 import cache_pb2
from antiphon_client.cli.stats.histogram import (
    HIT_CELL,
    OTHER_CELL,
    Bucket,
    draw,
    latencies,
    similarities,
)
from antiphon_client.cli.stats.rows import growth, rows
from antiphon_client.cli.stats.view import view

EXACT, SEMANTIC, MISS, BYPASS = (
    cache_pb2.OUTCOME_EXACT,
    cache_pb2.OUTCOME_SEMANTIC,
    cache_pb2.OUTCOME_MISS,
    cache_pb2.OUTCOME_BYPASS,
)


def statistics(**lookups: int) -> cache_pb2.GetStatsResponse:
    return cache_pb2.GetStatsResponse(
        entries_valid=3,
        embedder="e[bold]",
        store_healthy=True,
        start_time=timestamp_pb2.Timestamp(seconds=1),
        lookups=cache_pb2.LookupCounts(**lookups),
        vetoes={"below_threshold": 5},
        bypasses={"embedding_timeout": 2},
        similarity_histogram=cache_pb2.SimilarityHistogram(
            bounds=[0, 0.5, 0.9], hits=[0, 0, 0, 7], misses=[0, 3, 4, 0]
        ),
        latency_histogram=cache_pb2.LatencyHistogram(
            bounds=[duration_pb2.Duration(nanos=500_000), duration_pb2.Duration(seconds=1)],
            outcomes=[
                cache_pb2.OutcomeLatency(outcome=EXACT, counts=[5, 0, 0]),
                cache_pb2.OutcomeLatency(outcome=SEMANTIC, counts=[0, 2, 0]),
                cache_pb2.OutcomeLatency(outcome=MISS, counts=[0, 6, 0]),
                cache_pb2.OutcomeLatency(outcome=BYPASS, counts=[0, 0, 1]),
            ],
        ),
    )


def shown(stats: cache_pb2.GetStatsResponse, *, width: int, height: int | None = None) -> list[str]:
    console = Console(file=io.StringIO(), width=width, height=height or 100, color_system=None)
    console.print(view(stats, width=width, height=height, grown=growth(None, stats, 1.0)))
    return console.file.getvalue().splitlines()


def test_the_histograms_are_those_of_the_service() -> None:
    stats = statistics()
    assert similarities(stats) == [
        Bucket("", "0.00", 0, 0),
        Bucket("0.00", "0.50", 0, 3),
        Bucket("0.50", "0.90", 0, 4),
        Bucket("0.90", "", 7, 0),
    ]
    assert latencies(stats) == [
        Bucket("", "0.5 ms", 5, 0),
        Bucket("0.5 ms", "1 s", 2, 6),
        Bucket("1 s", "", 0, 1),
    ]


def test_bounds_of_one_unit_name_it_once() -> None:
    labels = [
        Bucket(low, high, 1, 0).label for low, high in [("1 ms", "2 ms"), ("500 ms", "1 s"), ("", "1 s"), ("2 s", "")]
    ]
    assert labels == ["1–2 ms", "500 ms – 1 s", "< 1 s", "≥ 2 s"]


counts = st.integers(0, 10**7)


@given(st.lists(st.tuples(counts, counts), max_size=30), st.integers(30, 200), st.integers(1, 30) | st.none())
def test_every_lookup_is_in_a_bar_and_every_line_fits(
    pairs: list[tuple[int, int]], width: int, most: int | None
) -> None:
    edges = ["", *(f"{index}.00" for index in range(1, len(pairs))), ""]
    buckets = [Bucket(edges[i], edges[i + 1], *pair) for i, pair in enumerate(pairs)]
    title, *bars = [line.plain for line in draw("title", buckets, width=width, most=most)]
    assert title == "title"
    if not any(sum(pair) for pair in pairs):
        assert bars == ["nothing yet"]
        return
    assert len({len(bar) for bar in bars}) == 1
    assert len(bars[0]) <= width
    assert len(bars) <= (most or len(pairs))
    assert sum(int(bar.split()[-1].replace(",", "")) for bar in bars) == sum(map(sum, pairs))
    assert any(HIT_CELL in bar for bar in bars) == any(hits for hits, _ in pairs)
    for bar in bars:
        assert (HIT_CELL in bar or OTHER_CELL in bar) == (int(bar.split()[-1].replace(",", "")) > 0)


@pytest.mark.parametrize(("width", "height"), [(40, None), (80, 24), (80, None), (200, 50)])
def test_no_line_is_wider_than_the_terminal(width: int, height: int | None) -> None:
    lines = shown(statistics(exact=5, semantic=2, miss=6, bypass=1), width=width, height=height)
    assert max(map(len, lines)) <= width
    text = "\n".join(lines)
    assert "7 (53.8%)" in " ".join(text.split())
    assert "e[bold]" in text, "what the service says is no markup"
    if width >= 80:
        assert "1: 2 embedding_timeout" in text
        assert sum("likeness" in line and "time" in line for line in lines) == 1, "side by side"
    if height:
        assert len(lines) < height


def test_a_server_without_histograms_is_shown_all_the_same() -> None:
    assert any("entries" in line for line in shown(cache_pb2.GetStatsResponse(entries_valid=1), width=80))


def test_what_is_left_of_the_promise_is_told_where_something_is_known() -> None:
    stats = statistics()
    assert not {"error budget", "audited"} & {name for name, _ in rows(stats)}
    stats.error_budget.CopyFrom(cache_pb2.ErrorBudget(max_error_rate=0.02, hits=100, wrong=1, spent=0.5))
    stats.audits.CopyFrom(
        cache_pb2.AuditStats(agreed=9, differed=1, wrong_share=0.1, wrong_share_low=0.02, wrong_share_high=0.4)
    )
    told = dict(rows(stats))
    assert told["error budget"] == "50% of 2.0% spent, as believed of 100 semantic hits"
    assert told["audited"] == "10.0% wrong (2.0% to 40.0%) of 10"


def test_answers_that_were_fetched_are_told_where_there_are_any() -> None:
    stats = statistics()
    assert "from the store" not in dict(rows(stats))
    stats.fetches = 1_200
    assert dict(rows(stats))["from the store"] == "1,200 answers fetched"
    stats.fetch_failures = 3
    assert dict(rows(stats))["from the store"] == "1,200 answers fetched, 3 could not be"


def test_a_stale_answer_is_a_hit() -> None:
    told = dict(rows(statistics(exact=4, semantic=3, stale=2, miss=3)))
    assert told["hits"] == "9 (75.0%): 4 exact, 3 semantic, 2 stale"
    assert "stale" not in dict(rows(statistics(exact=4)))["hits"]
    grown = growth(statistics(exact=4, stale=2), statistics(exact=4, stale=6, miss=4), 2.0)
    assert grown is not None
    assert (grown.hits, grown.hit_share) == (2.0, 0.5)


def test_growth_is_counted_per_second_and_starts_anew_with_the_server() -> None:
    before = statistics(exact=10, semantic=10, miss=20, bypass=2)
    now = statistics(exact=16, semantic=14, miss=30, bypass=4)
    grown = growth(before, now, 2.0)
    assert grown is not None
    assert (grown.lookups, grown.hits, grown.misses, grown.hit_share) == (11.0, 5.0, 5.0, 0.5)
    assert grown.by_row() == {"hits": "5.0/s (50.0%)", "misses": "5.0/s"}
    quiet = growth(now, now, 2.0)
    assert quiet is not None
    assert (quiet.lookups, quiet.hit_share) == (0.0, None)
    restarted = statistics(exact=1)
    restarted.start_time.seconds = 9
    assert growth(now, restarted, 2.0) is None
