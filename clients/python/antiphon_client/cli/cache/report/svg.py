"""Plots as inline SVG. Every text is escaped here, wherever it comes from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from math import ceil

WIDTH, HEIGHT = 720, 220
"""Of a plot, in units that the page scales."""

LEFT, RIGHT, BOTTOM, TOP = 56, 20, 44, 18
"""Room for the values, for half of the last name, for the names, and for the names of marks."""

GAP = 0.15
"""Of a column's width that stays empty."""

CHARACTER = 7
"""Width of one, at most: of names that would run into each other only every second, third … is written."""

ROW = 26
"""Height of a horizontal bar with its name."""

NAMES, LONGEST = 0.36, 0.5
"""Shares of the width: for the names of horizontal bars, and for the longest of them."""


@dataclass(frozen=True, slots=True)
class Column:
    """Parts are stacked, the first one below; `title` is shown when one points at it."""

    name: str
    parts: tuple[float, ...]
    title: str


@dataclass(frozen=True, slots=True)
class Mark:
    """A line across the columns at a place: 0 is the left edge of the first column, 1 its right edge."""

    place: float
    name: str


def columns(given: Sequence[Column], *, most: float | None = None, marks: Sequence[Mark] = ()) -> str:
    """Columns with their parts in the classes `part0`, `part1` …; `most`: the value at the top, if not the largest."""
    top = most or max((sum(column.parts) for column in given), default=0.0) or 1.0
    step = (WIDTH - LEFT - RIGHT) / max(len(given), 1)
    width, room = step * (1 - GAP), HEIGHT - BOTTOM - TOP
    longest = max((len(column.name) for column in given), default=0)
    every = ceil((longest + 1) * CHARACTER / step)
    parts = [_axis(top)]
    for number, column in enumerate(given):
        x, foot = LEFT + (number + GAP / 2) * step, float(HEIGHT - BOTTOM)
        drawn = []
        for place, value in enumerate(column.parts):
            height = room * value / top
            foot -= height
            drawn.append(_rectangle(f"part{place}", x, foot, width, height))
        # The whole height can be pointed at, however low the column is.
        drawn.append(_rectangle("touch", x, TOP, width, room))
        parts.append(f"<g><title>{escape(column.title)}</title>{''.join(drawn)}</g>")
        if number % every == 0:
            parts.append(_text(x + width / 2, HEIGHT - BOTTOM + 16, column.name, "middle"))
    for mark in marks:
        x = LEFT + mark.place * step
        parts.append(f'<line class="mark" x1="{x:.2f}" x2="{x:.2f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>')
        parts.append(_text(x, TOP - 6, mark.name, "end" if mark.place > len(given) / 2 else "start"))
    return _svg(HEIGHT, parts)


def bars(given: Sequence[tuple[str, float, str]]) -> str:
    """Horizontal bars: a name, a value, and the value in words."""
    top = max((value for _, value, _ in given), default=0.0) or 1.0
    parts = []
    for number, (name, value, words) in enumerate(given):
        y = number * ROW
        width = WIDTH * LONGEST * value / top
        parts.append(_text(0, y + 17, name, "start"))
        parts.append(_rectangle("part0", WIDTH * NAMES, y + 4, width, ROW - 8))
        parts.append(_text(WIDTH * NAMES + width + 6, y + 17, words, "start"))
    return _svg(max(len(given), 1) * ROW, parts)


def _axis(top: float) -> str:
    lines = []
    for share in (0.0, 0.5, 1.0):
        y = HEIGHT - BOTTOM - share * (HEIGHT - BOTTOM - TOP)
        lines.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.2f}" y2="{y:.2f}"/>')
        lines.append(_text(LEFT - 6, y + 4, f"{share * top:,.4g}", "end"))
    return "".join(lines)


def _rectangle(kind: str, x: float, y: float, width: float, height: float) -> str:
    return f'<rect class="{kind}" x="{x:.2f}" y="{y:.2f}" width="{width:.2f}" height="{height:.2f}"/>'


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.2f}" y="{y:.2f}" text-anchor="{anchor}">{escape(text)}</text>'


def _svg(height: int, parts: Sequence[str]) -> str:
    return f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img">{"".join(parts)}</svg>'
