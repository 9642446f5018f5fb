"""`make eval-cache DATA=…`: hits and errors of every preset on every set, beside the cosine alone; writes into OUT=."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from tests.quality.eval_cache import asking, cosine, material, plots, report
from tests.quality.eval_cache.asking import Clients, Counts, PairCounts, Stated
from tests.quality.eval_cache.fleet import fleet
from tests.quality.eval_cache.material import Material
from tools.decision.sets import Pairs, Stream
from tools.decision.vectors import Vectors, embedded


@dataclass
class Found:
    """Counts by set and preset, and what was stated about the semantic hits of streams, by preset."""

    pairs: dict[str, dict[str, PairCounts]] = field(default_factory=dict)
    streams: dict[str, dict[str, Counts]] = field(default_factory=dict)
    stated: dict[str, list[Stated]] = field(default_factory=dict)


def say(text: str) -> None:
    """Tell how far it is, beside the report."""
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {text}\n")


async def ask_all(clients: Clients, what: Material, presets: list[str]) -> Found:
    """Streams side by side, each once for every preset; then pairs."""
    rates = what.rates()
    found = Found(stated={name: [] for name in presets})

    async def one_stream(name: str, one: Stream, preset: str) -> None:
        counts, stated = await asking.stream(clients, what, one, f"{one.name}-{preset}", rates[preset])
        found.streams.setdefault(name, {})[preset] = counts
        found.stated[preset] += stated
        say(f"{name}, {preset}")

    streams = {name: one for name, one in what.sets.items() if isinstance(one, Stream)}
    async with asyncio.TaskGroup() as group:
        for preset in presets:
            for name, one in streams.items():
                group.create_task(one_stream(name, one, preset))
    for name, rows in what.sets.items():
        if isinstance(rows, Pairs):
            found.pairs[name] = await asking.pairs(clients, what, rows, presets)
            say(name)
    return found


async def evaluate(what: Material, presets: list[str], scratch: Path) -> Found:
    """Start the services, ask, and stop them."""
    loosest = what.loosest(what.rates())
    with tempfile.TemporaryDirectory(prefix="antiphon-eval-") as work:
        async with fleet(what.verifiers, preset=loosest, scratch=scratch, work=Path(work)) as clients:
            say(f"{len(clients)} services are ready")
            return await ask_all(clients, what, presets)


def cosines(what: Material, vectors: Vectors) -> dict[str, report.CosineCounts]:
    """Every set under every threshold."""
    return {
        name: cosine.stream(one, vectors) if isinstance(one, Stream) else cosine.pairs(one, vectors)
        for name, one in what.sets.items()
    }


def main() -> None:
    """Parse, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--scratch", type=Path, required=True, help="folder for embeddings")
    parser.add_argument("--folds", type=Path, help="what `make fit-decision FOLDS=` wrote; none: the packaged verifier")
    parser.add_argument("--out", type=Path, required=True, help="folder for eval.json and pictures")
    parser.add_argument("--sets", nargs="*", default=[], help="only these, as `mixed` or `mixed stream`")
    parser.add_argument("--presets", nargs="*", default=[], help="only these")
    arguments = parser.parse_args()
    begun = time.monotonic()
    what = material.read(arguments.data, arguments.folds, chosen=set(arguments.sets))
    presets = [name for name in what.rates() if name in arguments.presets or not arguments.presets]
    vectors = embedded(arguments.scratch, what.texts())
    say(f"{len(what.sets)} sets are embedded")
    found = asyncio.run(evaluate(what, presets, arguments.scratch))
    beside = cosines(what, vectors)
    by_set = {name: {**found.pairs, **found.streams}[name] for name in what.sets}
    for name, row in by_set.items():
        by_set[name] = {preset: row[preset] for preset in presets}
    figures = report.figures(by_set, beside)
    goals = report.goals(figures)
    stated = {name: report.stated(hits) for name, hits in found.stated.items() if hits}
    arguments.out.mkdir(parents=True, exist_ok=True)
    content = {"judged": what.judged, "figures": figures, "goals": goals, "stated": stated}
    (arguments.out / "eval.json").write_text(json.dumps(content, indent=1) + "\n", "utf-8")
    plots.write(arguments.out, figures, beside, found.stated[what.loosest(presets)])
    print(report.table(figures, what.judged))
    for name, row in stated.items():
        print(f"{name}: {row['semantic_hits']:.0f} semantic hits of streams, {row['wrong']:.1f} % wrong", end=" ")
        print(f"where {row['stated']:.1f} % were stated")
    print(report.goal_lines(goals))
    print(f"{time.monotonic() - begun:.0f} s, {len(what.verifiers)} verifiers; {arguments.out}/eval.json and pictures")


if __name__ == "__main__":
    main()
