"""`make bench-simcore`: exact search beside its peers on one core; tables, then JSON on the last line."""

from __future__ import annotations

import argparse
import json
import platform
import sys
from pathlib import Path
from typing import Any

from tests.bench.simcore import approximate, exact, quantiles, scale, text

PARTS = (
    "text", "exact", "skewed", "large", "wide", "approximate", "approximate-large",
    "groups", "writers", "memory", "growth",
)  # fmt: skip
PLOT = Path(__file__).parents[3] / "simcore" / "docs" / "growth.png"
SEED = 2
SKEWED = 1
"""With this seed almost half of 100,000 vectors belong to one intent: the hardest case for a threshold."""
BUILD_LIMIT_S = 600.0
"""CPU seconds that a peer's build may take among a million rows."""


def _exact(data: exact.Data, cases: list[tuple[int, float, int]], rounds: int, asked: int) -> dict[str, Any]:
    rows, dim = data.rows.shape
    print(f"\n{data.name}" + (f": most frequent intent {data.largest_intent:,} rows" if data.largest_intent else ""))
    found = quantiles.best_cosines(data.rows, data.queries, data.kind, data.kinds)
    reference = quantiles.beside_reference(found, rows, dim)
    indexes = {name: exact.fill(data.rows, name) for name in exact.available()}
    wrong = {name: exact.mismatches(data, index, 0.8) for name, index in indexes.items()}
    print(f"  queries of {len(data.queries)} whose best row at threshold 0.8 differs from FAISS': {wrong}")
    tables = [
        exact.compare(data, k=k, threshold=t, batch=b, rounds=rounds, asked=asked, index_of=indexes)
        for k, t, b in cases
    ]
    return {
        "data": data.name, "largest_intent": data.largest_intent, "best_cosine": found, "reference": reference,
        "mismatches": wrong, "tables": tables,
    }  # fmt: skip


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--asked", type=int, default=200, help="queries per round of ours; fewer of slow peers")
    parser.add_argument("--largest", type=int, default=10_000_000, help="entries of the last point of the growth")
    parser.add_argument("--only", choices=PARTS, nargs="+", default=list(PARTS))
    parser.add_argument("--texts", type=Path, help="of the part text: one a line, or JSON lines; else docstrings")
    parser.add_argument(
        "--embedding-python", type=Path, default=sys.executable, help="has services.embedding's packages"
    )
    args = parser.parse_args()
    usual = [(1, 0.9, 1), (1, 0.8, 1), (10, -1.0, 1), (1, 0.9, 16)]
    result: dict[str, Any] = {"unit": "milliseconds of CPU time per query, minimum of rounds", "rounds": args.rounds}
    result["machine"] = platform.processor() or platform.machine()
    # First, because it may lack the model; then nothing was measured in vain.
    if "text" in args.only:
        cases = [*usual[:2], (1, 0.7, 1), *usual[2:]]
        result["text"] = _exact(text.load(args.texts, args.embedding_python), cases, args.rounds, args.asked)
    if "exact" in args.only:
        result["exact"] = _exact(exact.make(100_000, 384, SEED), usual, args.rounds, args.asked)
    if "skewed" in args.only:
        result["skewed"] = _exact(exact.make(100_000, 384, SKEWED), usual[:2], args.rounds, args.asked)
    if "large" in args.only:
        result["large"] = _exact(exact.make(1_000_000, 384, SEED), usual, args.rounds, args.asked // 2)
    if "wide" in args.only:
        result["wide"] = _exact(exact.make(200_000, 1536, SEED), [(1, 0.9, 1)], args.rounds, args.asked // 2)
    if "approximate" in args.only:
        result["approximate"] = approximate.table(exact.make(100_000, 384, SEED), args.rounds, args.asked)
    if "approximate-large" in args.only:
        result["approximate-large"] = approximate.table(
            exact.make(1_000_000, 384, SEED), args.rounds, args.asked // 2, BUILD_LIMIT_S
        )
    if "groups" in args.only:
        result["groups"] = scale.groups(exact.make(20_000, 384, SEED), args.rounds)
    if "writers" in args.only:
        result["writers"] = scale.writers(exact.make(100_000, 384, SEED))
    if "memory" in args.only:
        result["memory"] = scale.memory()
    if "growth" in args.only:
        sizes = [size for size in (10**3, 10**4, 10**5, 10**6, 3 * 10**6, 10**7) if size <= args.largest]
        points = scale.growth(sizes, 256, args.rounds, SEED)
        PLOT.parent.mkdir(exist_ok=True)
        scale.plot(points, PLOT)
        result["growth"] = points
    print(json.dumps(result))


if __name__ == "__main__":
    main()
