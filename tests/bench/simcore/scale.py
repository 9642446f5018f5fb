"""Groups, writers beside a searcher, memory, and growth."""

from __future__ import annotations

import importlib
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

from simcore import Index
from tests.bench.simcore import peers
from tests.bench.simcore.exact import Data, fill
from tests.bench.simcore.timing import Contender, race
from tests.bench.simcore.vectors import Vectors

WRITE_BATCH = 256
WRITES_PER_S = 20_000
WRITING_S = 6.0


def groups(data: Data, rounds: int) -> list[dict[str, Any]]:
    """One search among 100,000 groups of 10 rows beside an index of 10, and groups of a thousand and ten thousand."""
    many, dim = Index(data.rows.shape[1]), data.rows.shape[1]
    rng = np.random.default_rng(3)
    for start in range(0, 1_000_000, 20_000):
        ids = np.arange(start, start + 20_000, dtype=np.uint64)
        some = rng.standard_normal((20_000, dim), dtype=np.float32)
        many.upsert(ids, some, groups=(ids // 10).astype(np.uint32))
    few = fill(data.rows[:10])
    asked = data.queries[:500]
    numbers = rng.integers(0, 100_000, len(asked)).tolist()

    def search(index: Index, wanted: list[int]) -> None:
        for number, group in enumerate(wanted):
            index.search(asked[number : number + 1], 1, now=0.0, threshold=0.9, groups=group)

    pair = [
        Contender("100,000 groups of 10", lambda: search(many, numbers), len(asked)),
        Contender("an index of 10", lambda: search(few, [0] * len(asked)), len(asked)),
    ]
    race(pair, rounds, data.rows[:10_000].max)
    found = [{"case": "groups of 10", **{c.name: round(c.best * 1e3, 2) for c in pair}, "unit": "µs"}]
    print(f"\n100,000 groups of 10: {pair[0].best * 1e3:.2f} µs; an index of 10: {pair[1].best * 1e3:.2f} µs")
    for rows in (1_000, 10_000):
        for threshold in (0.9, -1.0):
            index, product = fill(data.rows[:rows]), peers.numpy_product(data.rows[:rows])

            def ours(index: Index = index, threshold: float = threshold) -> None:
                for number in range(len(asked)):
                    index.search(asked[number : number + 1], 1, now=0.0, threshold=threshold)

            def theirs(product: peers.Search = product) -> None:
                for number in range(len(asked)):
                    product(asked[number : number + 1], 1)

            two = [Contender("simcore", ours, len(asked)), Contender("numpy", theirs, len(asked))]
            race(two, rounds, data.rows[:10_000].max)
            figures = {c.name: round(c.best * 1e3, 2) for c in two}
            print(f"group of {rows:,}, threshold {threshold}: {figures} µs")
            found.append({"case": f"group of {rows}", "threshold": threshold, **figures, "unit": "µs"})
    return found


def writers(data: Data) -> dict[str, Any]:
    """The p95 of searches, idle and beside a writer of 20,000 rows/s in calls of 256."""
    index = fill(data.rows)
    stop = threading.Event()
    written = 0

    def searches(seconds: float) -> float:
        taken, end, number = [], time.perf_counter() + seconds, 0
        while (start := time.perf_counter()) < end:
            number = (number + 1) % len(data.queries)
            index.search(data.queries[number : number + 1], 1, now=0.0, threshold=0.9)
            taken.append(time.perf_counter() - start)
        return float(np.quantile(taken, 0.95) * 1e3)

    def write() -> None:
        nonlocal written
        rng = np.random.default_rng(4)
        began = time.perf_counter()
        while not stop.is_set():
            ids = rng.integers(0, len(data.rows), WRITE_BATCH).astype(np.uint64)
            index.upsert(ids, data.rows[ids])
            written += WRITE_BATCH
            stop.wait(max(began + written / WRITES_PER_S - time.perf_counter(), 0))

    idle = min(searches(WRITING_S / 2) for _ in range(2))
    writer = threading.Thread(target=write)
    writer.start()
    try:
        busy = min(searches(WRITING_S / 2) for _ in range(2))
    finally:
        stop.set()
        writer.join()
    rate = written / WRITING_S
    print(f"\nsearches' p95 on {data.name}: {idle:.3f} ms idle, {busy:.3f} ms beside {rate:,.0f} written rows/s")
    return {"data": data.name, "idle_p95_ms": round(idle, 3), "busy_p95_ms": round(busy, 3), "rows_per_s": round(rate)}


def memory() -> list[dict[str, Any]]:
    """Bytes per entry at 20,000 entries, and the limit: f32, codes, bytes and 64."""
    table = []
    print(f"\n{'dim':>6}{'bytes per entry':>18}{'f32 + dim + dim / 8 + 64':>28}")
    for dim in (256, 384, 1536):
        rows = np.random.default_rng(5).standard_normal((20_000, dim), dtype=np.float32)
        owned = fill(rows).stats()["bytes"] / len(rows)
        limit = dim * 4 + dim + dim / 8 + 64
        print(f"{dim:6}{owned:18.1f}{limit:28.1f}")
        table.append({"dim": dim, "bytes_per_entry": round(owned, 1), "limit": limit})
    return table


def growth(sizes: list[int], dim: int, rounds: int, seed: int) -> list[dict[str, Any]]:
    """Milliseconds and bytes by the number of entries.

    Ten million entries of 256 dimensions take about 16 GB: the index, and 2 GB of what the vectors are made from.
    """
    print(f"\n{'entries':>12}{'t .9, ms':>12}{'t .8, ms':>12}{'bytes/entry':>14}{'build, µs/entry':>18}")
    return [_point(size, dim, rounds, seed) for size in sizes]


def _point(size: int, dim: int, rounds: int, seed: int) -> dict[str, Any]:
    """One size; the rows are made in chunks and not kept, and of one size nothing is left for the next."""
    source, index, at, build = Vectors(size, dim, seed=seed), Index(dim), 0, 0.0
    for chunk in source.chunks():
        start = time.thread_time()
        index.upsert(np.arange(at, at + len(chunk), dtype=np.uint64), chunk)
        build += time.thread_time() - start
        at += len(chunk)
    queries, _ = source.queries(200)
    del source
    runs = []
    for threshold in (0.9, 0.8):

        def run(threshold: float = threshold) -> None:
            for number in range(len(queries)):
                index.search(queries[number : number + 1], 1, now=0.0, threshold=threshold)

        runs.append(Contender(str(threshold), run, len(queries)))
    race(runs, rounds, queries.max)
    owned = index.stats()["bytes"] / size
    micros = build / size * 1e6
    print(f"{size:12,}{runs[0].best:12.3f}{runs[1].best:12.3f}{owned:14.1f}{micros:18.2f}")
    return {
        "entries": size, "dim": dim, "ms_at_0.9": round(runs[0].best, 4), "ms_at_0.8": round(runs[1].best, 4),
        "bytes_per_entry": round(owned, 1), "build_us_per_entry": round(micros, 2),
    }  # fmt: skip


def plot(points: list[dict[str, Any]], path: Path) -> None:
    """Draws the growth; needs matplotlib."""
    # Only the bench's own environment has it.
    importlib.import_module("matplotlib").use("Agg")
    pyplot = importlib.import_module("matplotlib.pyplot")

    entries = [point["entries"] for point in points]
    figure, axes = pyplot.subplots(figsize=(6.5, 4))
    for threshold, marker in (("0.9", "o"), ("0.8", "s")):
        axes.plot(entries, [p[f"ms_at_{threshold}"] for p in points], marker=marker, label=f"threshold {threshold}")
    axes.set(xscale="log", yscale="log", xlabel="entries", ylabel="ms of CPU time per query, exact")
    axes.set_title(f"simcore, {points[0]['dim']} dimensions, k = 1, one core", fontsize=10)
    axes.grid(visible=True, which="major", alpha=0.3)
    axes.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=110, metadata={"Software": None})
