"""Exact search beside approximate indexes: what each takes, and what share of the true answers it finds."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simcore import MISSING_ID
from tests.bench.simcore import approximate_peers
from tests.bench.simcore.exact import Data, fill
from tests.bench.simcore.peers import Search
from tests.bench.simcore.timing import Contender, race
from tests.bench.simcore.vectors import Floats

OURS = "simcore (exact)"


@dataclass(frozen=True)
class Line:
    """One index of one table."""

    k: int
    threshold: float
    name: str
    ms: float
    recall: float
    build_s: float
    bytes: int


def table(data: Data, rounds: int, asked: int, limit_s: float = math.inf) -> dict[str, Any]:
    """Build and ask all; peers whose build would take more than `limit_s` are left out and named.

    `asked` queries are timed, recall is that of all queries: few of them have a row above a high threshold.
    """
    before = time.process_time()
    index = fill(data.rows)
    build_s = time.process_time() - before
    others, missing = approximate_peers.build(data.rows, limit_s)
    queries = data.queries[:asked]
    lines: list[Line] = []
    for k, threshold in ((1, 0.9), (10, -1.0)):
        ids, _ = index.search(data.queries, k, now=0.0, threshold=threshold)

        def ours(some: Floats, k: int, threshold: float = threshold) -> Any:
            return index.search(some, k, now=0.0, threshold=threshold)

        contenders = [Contender(OURS, _singly(ours, queries, k), len(queries))]
        contenders += [Contender(other.name, _singly(other.search, queries, k), len(queries)) for other in others]
        race(contenders, rounds, data.rows.max)
        about = [(1.0, build_s, index.stats()["bytes"] / len(data.rows))]
        about += [(_recall(other.search, data.queries, ids), other.build_s, other.bytes_per_row) for other in others]
        some = [
            Line(k, threshold, c.name, round(c.best, 4), round(recall, 4), round(build, 1), round(size))
            for c, (recall, build, size) in zip(contenders, about, strict=True)
        ]
        _show(data.name, some)
        lines += some
    print("" if missing else "\nno peer was left out")
    for name, reason in missing.items():
        print(f"left out: {name}: {reason}")
    return {"data": data.name, "lines": [asdict(line) for line in lines], "left_out": missing}


def _singly(search: Callable[[Floats, int], Any], queries: Floats, k: int) -> Callable[[], object]:
    return lambda: [search(queries[number : number + 1], k) for number in range(len(queries))]


def _recall(search: Search, queries: Floats, wanted: NDArray[np.uint64]) -> float:
    """The share of the wanted rows, `MISSING_ID` aside, that is found; each query is asked alone, as it is timed."""
    found = np.concatenate([search(queries[n : n + 1], wanted.shape[1]) for n in range(len(queries))])
    hit = (wanted.astype(np.int64)[:, :, None] == found[:, None, :]).any(axis=2)
    return float(hit[wanted != MISSING_ID].mean())


def _show(data: str, lines: list[Line]) -> None:
    ours, *others = lines
    print(f"\n{data}, k {ours.k}, threshold {ours.threshold}")
    print(f"  {'':54}{'ms':>9}{'recall':>9}{'build, s':>10}{'bytes':>8}")
    for line in lines:
        print(f"  {line.name:54}{line.ms:9.3f}{line.recall:9.3f}{line.build_s:10.1f}{line.bytes:8}")
    faster = sorted((other for other in others if other.ms < ours.ms), key=lambda other: other.ms)
    for other in faster:
        print(f"  faster than {OURS}: {other.name}, {ours.ms / other.ms:.1f} times at recall {other.recall:.3f}")
    if not faster:
        print(f"  none of {len(others)} is faster than {OURS}")
