"""How statistics look in a terminal."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from antiphon.cache.v1 import cache_pb2
from antiphon_client.cli.show import table
from antiphon_client.cli.stats.histogram import HIT_CELL, OTHER_CELL, draw, latencies, similarities
from antiphon_client.cli.stats.rows import Growth, rows

SIMILARITY = "likeness to the nearest question"
LATENCY = "time that lookups took"
LEGEND = f"{HIT_CELL} hits {OTHER_CELL} others"

WIDE = 72
"""Cells from which on the two histograms stand side by side."""

MOST_WIDTH = 160
"""Cells of both together: longer bars say no more."""

GAP = 3
"""Cells between the two."""

LEAST_BARS = 4
"""Lines of a histogram, however low the terminal is."""


def view(
    stats: cache_pb2.GetStatsResponse,
    *,
    width: int,
    height: int | None = None,
    grown: Growth | None = None,
    status: str = "",
) -> RenderableType:
    """Lay statistics out for `width` cells, and for `height` lines if the histograms have to fit."""
    beside = grown.by_row() if grown else {}
    said = [(name, value, beside.get(name, "")) for name, value in rows(stats)]
    parts: list[RenderableType] = [table(said if grown else [(name, value) for name, value, _ in said])]
    if stats.HasField("similarity_histogram") or stats.HasField("latency_histogram"):
        left = None if height is None else max(height - len(said) - 4 - bool(status), LEAST_BARS)
        parts += [Text(), _histograms(stats, min(width, MOST_WIDTH), left), Text(LEGEND, style="dim")]
    if status:
        parts.append(Text(status, style="yellow"))
    return Group(*parts)


def _histograms(stats: cache_pb2.GetStatsResponse, width: int, most: int | None) -> RenderableType:
    if width < WIDE:
        most = None if most is None else max(most // 2 - 1, LEAST_BARS)
        return Group(
            *draw(SIMILARITY, similarities(stats), width=width, most=most),
            *draw(LATENCY, latencies(stats), width=width, most=most),
        )
    half = (width - GAP) // 2
    grid = Table.grid(padding=(0, GAP, 0, 0))
    grid.add_column(width=half, no_wrap=True)
    grid.add_column(width=half, no_wrap=True)
    grid.add_row(
        Group(*draw(SIMILARITY, similarities(stats), width=half, most=most)),
        Group(*draw(LATENCY, latencies(stats), width=half, most=most)),
    )
    return grid
