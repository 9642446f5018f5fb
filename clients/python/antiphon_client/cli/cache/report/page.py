"""What stands in the report: statistics in words, plots, and the questions that were answered most."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape
from itertools import pairwise

from antiphon.cache.v1 import cache_pb2
from antiphon_client.cli.cache.report.svg import Column, Mark, bars, columns
from antiphon_client.cli.show import money, seconds
from antiphon_client.cli.stats.histogram import Bucket, latencies, similarities
from antiphon_client.cli.stats.rows import hits_of, rows

HOUR = 3_600

MOST_PROMPT = 300
"""Characters of a question in the table."""

STYLE = """
:root { color-scheme: light dark; --ink: #1c2330; --quiet: #667085; --paper: #fff; --line: #e3e6eb;
  --hit: #2563eb; --other: #cbd5e1; --mark: #c2410c; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ef; --quiet: #98a2b3; --paper: #12161e; --line: #2a313d;
  --hit: #6ea0ff; --other: #465266; --mark: #ff9c66; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); margin: 0 auto;
  max-width: 960px; padding: 24px; }
h1 { font-size: 24px; margin: 0; } h2 { font-size: 17px; margin: 36px 0 6px; }
p, .quiet { color: var(--quiet); margin: 2px 0 10px; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 12px; margin: 20px 0; }
.tile { border: 1px solid var(--line); border-radius: 8px; padding: 10px 14px; }
.tile b { display: block; font-size: 22px; font-weight: 600; } .tile span { color: var(--quiet); font-size: 13px; }
svg { width: 100%; height: auto; font: 11px system-ui, sans-serif; } svg text { fill: var(--quiet); }
.part0 { fill: var(--hit); } .part1 { fill: var(--other); } .touch { fill: transparent; }
.grid { stroke: var(--line); } .mark { stroke: var(--mark); stroke-dasharray: 4 3; stroke-width: 1.5; }
table { border-collapse: collapse; width: 100%; } th { text-align: left; color: var(--quiet); font-weight: 500; }
td, th { border-bottom: 1px solid var(--line); padding: 5px 8px 5px 0; vertical-align: top; }
td.number { text-align: right; white-space: nowrap; } td.text { overflow-wrap: anywhere; }
"""


@dataclass(frozen=True, slots=True)
class Facts:
    """What the server said. `thresholds`: cosines by name; `served`: entries by how often they were, most first."""

    namespace: str
    address: str
    at: float
    """Unix seconds."""
    stats: cache_pb2.GetStatsResponse
    thresholds: tuple[tuple[str, float], ...]
    served: Sequence[cache_pb2.Entry]


def page(facts: Facts) -> str:
    """The whole file. It loads nothing and runs nothing; every text of the server or of a user is escaped."""
    stats = facts.stats
    where = f"namespace {facts.namespace}" if facts.namespace else "all namespaces of the tenant"
    since = stats.start_time.ToMicroseconds() / 1e6
    head = f"{where} · {facts.address} · counted for {seconds(max(facts.at - since, 0.0))}, until {_moment(facts.at)}"
    body = [
        f"<h1>Semantic cache</h1><p>{escape(head)}</p>",
        _tiles(stats),
        _over_time(stats),
        _histogram(
            "How alike new questions were",
            "Cosine to the nearest stored question: hits in blue, misses above them. Below 0.7 nothing is looked for.",
            similarities(stats),
            _marks(list(stats.similarity_histogram.bounds), facts.thresholds),
        ),
        _histogram(
            "How probably the nearest answer was wrong",
            "As the verifier saw it before it decided.",
            _p_wrong(stats),
            (),
        ),
        _histogram("How long lookups took", "Hits in blue, misses and bypasses above them.", latencies(stats), ()),
        _counts("Why the nearest answer was not served", stats.vetoes),
        _counts("Why the cache was not asked", stats.bypasses),
        _questions(facts.served, facts.at),
        _everything(stats),
    ]
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f"<title>Semantic cache: {escape(where)}</title><style>{STYLE}</style></head>\n"
        f"<body>{''.join(body)}</body></html>\n"
    )


def _tiles(stats: cache_pb2.GetStatsResponse) -> str:
    lookups = stats.lookups
    hits = hits_of(lookups)
    asked = hits + lookups.miss
    found = [
        ("hits", f"{hits / asked:.1%}" if asked else "–"),
        ("lookups", f"{asked + lookups.bypass:,}"),
        ("saved", money(stats.cost_saved.nano_usd)),
        ("output tokens saved", f"{stats.usage_saved.output_tokens:,}"),
        ("entries", f"{stats.entries_valid:,}"),
        ("size", f"{stats.bytes / 1e6:,.1f} MB"),
    ]
    if stats.audits.HasField("wrong_share"):
        audits = stats.audits
        found.append(("audited hits wrong", f"{audits.wrong_share:.1%}"))
        found.append(("95 % interval", f"{audits.wrong_share_low:.1%} – {audits.wrong_share_high:.1%}"))
    tiles = (f'<div class="tile"><b>{escape(value)}</b><span>{escape(name)}</span></div>' for name, value in found)
    return f'<div class="tiles">{"".join(tiles)}</div>'


def _over_time(stats: cache_pb2.GetStatsResponse) -> str:
    if not stats.hours:
        return ""
    known: dict[int, cache_pb2.HourStats] = {hour.start_time.seconds: hour for hour in stats.hours}
    shares, saved = [], []
    for start in range(min(known), max(known) + HOUR, HOUR):
        hour = known.get(start) or cache_pb2.HourStats()
        asked = hour.hits + hour.misses
        name, when = datetime.fromtimestamp(start, UTC).strftime("%d %H:%M"), _moment(start)
        share = hour.hits / asked if asked else 0.0
        shares.append(Column(name, (share,), f"{when}: {share:.1%} of {asked:,}, {hour.bypasses:,} bypassed"))
        saved.append(Column(name, (hour.cost_saved_nano_usd / 1e9,), f"{when}: {money(hour.cost_saved_nano_usd)}"))
    return _section("Share of hits, by hour", "Of hits and misses, in UTC.", columns(shares, most=1.0)) + _section(
        "Saved, by hour", "In USD: what the answers had cost that hits did not buy again.", columns(saved)
    )


def _histogram(title: str, about: str, buckets: Sequence[Bucket], marks: Sequence[Mark]) -> str:
    if not any(bucket.total for bucket in buckets):
        return ""
    given = [
        Column(
            bucket.low or f"< {bucket.high}",
            (bucket.hits, bucket.others),
            f"{bucket.label}: {bucket.hits:,} hits, {bucket.others:,} others",
        )
        for bucket in buckets
    ]
    return _section(title, about, columns(given, marks=marks))


def _p_wrong(stats: cache_pb2.GetStatsResponse) -> list[Bucket]:
    found = stats.p_wrong_histogram
    names = ["", *(f"{bound:g}" for bound in found.bounds), ""]
    return [
        Bucket(low, high, hits, misses)
        for (low, high), hits, misses in zip(pairwise(names), found.hits, found.misses, strict=False)
    ]


def _marks(bounds: Sequence[float], thresholds: Sequence[tuple[str, float]]) -> list[Mark]:
    """Where thresholds lie among the buckets, whose widths differ."""
    marks = []
    for name, value in thresholds:
        edges = [bounds[0] - 1.0, *bounds, 1.0] if bounds else []
        for number, (low, high) in enumerate(pairwise(edges)):
            if low <= value < high:
                marks.append(Mark(number + (value - low) / (high - low), f"{name} {value:.3f}"))
    return marks


def _counts(title: str, counts: Mapping[str, int]) -> str:
    found = sorted(counts.items(), key=lambda one: (-one[1], one[0]))
    if not found:
        return ""
    return _section(title, "", bars([(name.replace("_", " "), count, f"{count:,}") for name, count in found]))


def _questions(served: Sequence[cache_pb2.Entry], at: float) -> str:
    if not served:
        return ""
    lines = []
    for entry in served:
        age = seconds(max(at - entry.create_time.ToMicroseconds() / 1e6, 0.0))
        cells = (("number", f"{entry.hits:,}"), ("text", entry.prompt[:MOST_PROMPT]), ("", entry.namespace))
        more = (("", entry.model), ("number", age))
        lines.append("".join(f'<td class="{kind}">{escape(text)}</td>' for kind, text in (*cells, *more)))
    rows_ = "".join(f"<tr>{line}</tr>" for line in lines)
    names = "".join(f"<th>{name}</th>" for name in ("hits", "question", "namespace", "model", "age"))
    about = "How often they were served at least, to the same and to reworded questions."
    return _section("Questions that were answered most", about, f"<table><tr>{names}</tr>{rows_}</table>")


def _everything(stats: cache_pb2.GetStatsResponse) -> str:
    lines = (f'<tr><td>{escape(name)}</td><td class="text">{escape(value)}</td></tr>' for name, value in rows(stats))
    return _section("All counts", "", f"<table>{''.join(lines)}</table>")


def _section(title: str, about: str, content: str) -> str:
    said = f"<p>{escape(about)}</p>" if about else ""
    return f"<section><h2>{escape(title)}</h2>{said}{content}</section>"


def _moment(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M UTC")
