"""The figures of an evaluation as a table, and as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from tests.quality.eval_cache import cosine
from tests.quality.eval_cache.asking import Counts, PairCounts, Stated
from tests.quality.eval_cache.goals import GOALS, Figures

CosineCounts = dict[float, Counts] | dict[float, PairCounts]


def figures(
    served: Mapping[str, Mapping[str, Counts] | Mapping[str, PairCounts]], cosines: Mapping[str, CosineCounts]
) -> dict[str, dict[str, dict[str, float]]]:
    """Per set a column for each shown threshold, the best one and each preset."""
    table: dict[str, dict[str, dict[str, float]]] = {}
    for name, counts in cosines.items():
        best = cosine.best(counts)
        row = {f"cosine {threshold:.2f}": counts[threshold].shares() for threshold in cosine.SHOWN}
        row["best fixed"] = {"threshold": best, **counts[best].shares()}
        table[name] = row | {preset: found.shares() for preset, found in served[name].items()}
    return table


def stated(hits: Iterable[Stated]) -> dict[str, float]:
    """Mean of what the services said about semantic hits, and what is true, in per cent."""
    found = list(hits)
    count = max(len(found), 1)
    return {
        "semantic_hits": len(found),
        "stated": 100.0 * sum(hit.p_wrong for hit in found) / count,
        "wrong": 100.0 * sum(hit.wrong for hit in found) / count,
    }


def table(found: Figures, judged: Mapping[str, str]) -> str:
    """One line for each set: hit/wrong of streams, recall/trap of pairs."""
    lines: list[str] = []
    for name, row in found.items():
        if not lines:
            lines.append(f"{'per cent':18} {'judged':14}" + "".join(f"{column:>15}" for column in row))
        cells = "".join(f"{_cell(cell):>15}" for cell in row.values())
        lines.append(f"{name:18} {judged[name]:14}{cells}")
    lines.append("streams: hit/wrong (of hits), pairs: recall/trap; best fixed: the threshold chosen on the set itself")
    lines.append(f"for the most hits at ≤ {cosine.MOST_WRONG:g} % wrong or traps, so in sample; cosines are computed")
    lines.append("beside the services and see also texts that the cache finds by their exact words only")
    return "\n".join(lines)


def _cell(cell: Mapping[str, float]) -> str:
    pair = (cell["hit"], cell["wrong"]) if "hit" in cell else (cell["recall"], cell["trap"])
    text = f"{pair[0]:.1f}/{pair[1]:.1f}"
    return f".{round(100 * cell['threshold'])}: {text}" if "threshold" in cell else text


def goals(found: Figures) -> list[dict[str, Any]]:
    """Every goal with its two figures and whether it is met; those that were not measured are left out."""
    measured = [(goal, goal.found(found)) for goal in GOALS]
    return [
        {"goal": str(goal), goal.good: pair[0], goal.bad: pair[1], "met": goal.met(found)}
        for goal, pair in measured
        if pair is not None
    ]


def goal_lines(rows: Iterable[dict[str, Any]]) -> str:
    """The goals for people."""
    lines: list[str] = []
    for row in rows:
        shares = ", ".join(f"{key} {value:.2f}" for key, value in row.items() if key not in {"goal", "met"})
        lines.append(f"{'met    ' if row['met'] else 'NOT MET'}  {row['goal']:62} {shares}")
    return "\n".join(lines)
