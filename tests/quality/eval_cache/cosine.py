"""What thresholds of the cosine alone would have served, computed from the same vectors beside the services."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tests.quality.eval_cache.asking import Counts, PairCounts
from tools.decision.sets import Pairs, Stream
from tools.decision.vectors import Vectors

THRESHOLDS = tuple(round(0.70 + 0.01 * step, 2) for step in range(30))
SHOWN = (0.95, 0.92, 0.80)

MOST_WRONG = 2.0
"""Per cent of hits that may be wrong, and of traps that may be served, for a threshold to be the best one."""

Floats = NDArray[np.float32]


def stream(one: Stream, vectors: Vectors) -> dict[float, Counts]:
    """Each threshold with a cache of its own: the same text, else the nearest that is near enough; stored on a miss."""
    rows = vectors.of(one.text)
    there = np.zeros((len(THRESHOLDS), len(rows)), bool)
    exact: list[dict[str, int]] = [{} for _ in THRESHOLDS]
    classes: list[set[str]] = [set() for _ in THRESHOLDS]
    counts = {threshold: Counts() for threshold in THRESHOLDS}
    for at, (text, cls) in enumerate(zip(one.text, one.cls, strict=True)):
        scores = rows[:at] @ rows[at]
        for of, threshold in enumerate(THRESHOLDS):
            served = exact[of].get(text.strip())
            if served is None and at:
                near = np.flatnonzero((scores >= threshold) & there[of, :at])
                served = int(near[scores[near].argmax()]) if len(near) else None
            hit = served is not None
            right = served is not None and one.cls[served] == cls
            counts[threshold].add(available=cls in classes[of], hit=hit, right=right)
            if not hit:
                there[of, at] = True
                exact[of][text.strip()] = at
                classes[of].add(cls)
    return counts


def pairs(one: Pairs, vectors: Vectors) -> dict[float, PairCounts]:
    """Pair by pair."""
    cosines = np.einsum("ij,ij->i", vectors.of(one.a), vectors.of(one.b))
    counts = {threshold: PairCounts() for threshold in THRESHOLDS}
    for cosine, label in zip(cosines, one.label, strict=True):
        for threshold, found in counts.items():
            found.add(label=label, served=bool(cosine >= threshold))
    return counts


def best(counts: dict[float, Counts] | dict[float, PairCounts]) -> float:
    """The threshold with the most right hits among those with at most `MOST_WRONG`, or the one with the least wrong."""
    shares = {threshold: found.shares() for threshold, found in counts.items()}
    bad = "wrong" if "wrong" in next(iter(shares.values())) else "trap"
    kept = [threshold for threshold, share in shares.items() if share[bad] <= MOST_WRONG]
    if kept:
        return max(kept, key=lambda threshold: (shares[threshold]["recall"], -shares[threshold][bad], threshold))
    return min(shares, key=lambda threshold: (shares[threshold][bad], -shares[threshold]["recall"]))
