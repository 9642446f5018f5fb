"""Histograms as bars of text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.text import Text

from antiphon.cache.v1 import cache_pb2

HITS = (cache_pb2.OUTCOME_EXACT, cache_pb2.OUTCOME_SEMANTIC, cache_pb2.OUTCOME_STALE)

HIT_CELL, OTHER_CELL = "█", "░"
"""Told apart without colours, too."""

LEAST_BAR = 4
"""Cells of the longest bar at least."""


@dataclass(frozen=True, slots=True)
class Bucket:
    """Lookups with a value of at least `low` and less than `high`; an empty string is no bound."""

    low: str
    high: str
    hits: int
    others: int

    @property
    def total(self) -> int:
        """All lookups of it."""
        return self.hits + self.others

    @property
    def label(self) -> str:
        """Its bounds."""
        if not self.low:
            return f"< {self.high}" if self.high else "all"
        if not self.high:
            return f"≥ {self.low}"
        low, _, unit = self.low.partition(" ")
        return f"{low}–{self.high}" if self.high.endswith(unit) else f"{self.low} – {self.high}"

    def joined(self, other: Bucket) -> Bucket:
        """Return this and the next one together."""
        return Bucket(self.low, other.high, self.hits + other.hits, self.others + other.others)


def similarities(stats: cache_pb2.GetStatsResponse) -> list[Bucket]:
    """Return the cosines of nearest questions; others are misses."""
    found = stats.similarity_histogram
    return _buckets([f"{bound:.2f}" for bound in found.bounds], found.hits, found.misses)


def latencies(stats: cache_pb2.GetStatsResponse) -> list[Bucket]:
    """Return how long lookups took; others are misses and bypasses."""
    found = stats.latency_histogram
    hits, others = [0] * (len(found.bounds) + 1), [0] * (len(found.bounds) + 1)
    for outcome in found.outcomes:
        into = hits if outcome.outcome in HITS else others
        for index, count in enumerate(outcome.counts[: len(into)]):
            into[index] += count
    return _buckets([_duration(bound.ToMicroseconds()) for bound in found.bounds], hits, others)


def draw(title: str, buckets: Sequence[Bucket], *, width: int, most: int | None = None) -> list[Text]:
    """Return a title and at most `most` lines of `width` cells; neighbours are joined until they fit."""
    shown = _fitting(buckets, most)
    lines = [Text(title, style="bold")]
    if not shown:
        return [*lines, Text("nothing yet", style="dim")]
    labels = max(len(bucket.label) for bucket in shown)
    counts = max(len(f"{bucket.total:,}") for bucket in shown)
    room = max(width - labels - counts - 2, LEAST_BAR)
    longest = max(bucket.total for bucket in shown)
    for bucket in shown:
        cells = _cells(bucket.total, longest, room)
        # A kind that occurs is seen, if there are cells for both.
        hits = min(max(round(cells * bucket.hits / bucket.total), 1), cells) if bucket.hits else 0
        if bucket.others and hits == cells > 1:
            hits -= 1
        line = Text(f"{bucket.label:>{labels}} ")
        line.append(HIT_CELL * hits, style="green")
        line.append(OTHER_CELL * (cells - hits), style="yellow")
        line.append(" " * (room - cells) + f" {bucket.total:>{counts},}")
        lines.append(line)
    return lines


def _cells(count: int, longest: int, room: int) -> int:
    return max(round(room * count / longest), 1) if count else 0


def _buckets(bounds: Sequence[str], hits: Sequence[int], others: Sequence[int]) -> list[Bucket]:
    edges = ["", *bounds, ""]
    return [
        Bucket(low, high, hit, other) for low, high, hit, other in zip(edges, edges[1:], hits, others, strict=False)
    ]


def _fitting(buckets: Sequence[Bucket], most: int | None) -> list[Bucket]:
    filled = [index for index, bucket in enumerate(buckets) if bucket.total]
    shown = list(buckets[filled[0] : filled[-1] + 1]) if filled else []
    while most is not None and len(shown) > max(most, 1):
        pairs = [shown[index : index + 2] for index in range(0, len(shown), 2)]
        shown = [pair[0].joined(pair[1]) if len(pair) > 1 else pair[0] for pair in pairs]
    return shown


def _duration(microseconds: int) -> str:
    if microseconds >= 1_000_000:
        return f"{microseconds / 1e6:g} s"
    return f"{microseconds / 1e3:g} ms"
