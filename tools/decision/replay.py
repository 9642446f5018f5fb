"""What a cache would have served: streams in their order, and pairs one by one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tools.decision.examples import Examples, Floats
from tools.decision.sets import Stream

LOOKED_AT = 4
"""Candidates that the cache looks at."""


@dataclass(frozen=True)
class Rule:
    """Serve the same text, or the best candidate with V of at least `v` and a cosine of at least `cosine`."""

    v: float
    cosine: float


@dataclass(frozen=True)
class Result:
    """Per cent. Streams: hits of lookups, wrong of hits. Pairs: recall, traps served."""

    good: float
    bad: float


def percent(part: float, whole: float) -> float:
    return 100.0 * part / whole if whole else 0.0


def stream(stream_: Stream, examples: Examples, near: list[list[tuple[int, int]]], v: Floats, rule: Rule) -> Result:
    """Look up, and insert on a miss only."""
    count = len(stream_.text)
    there = np.zeros(count, bool)
    exact: dict[str, str] = {}
    hits = wrong = 0
    for at in range(count):
        text, cls = stream_.text[at].strip(), stream_.cls[at]
        if text in exact:
            hits += 1
            wrong += exact[text] != cls
            continue
        served = None
        candidates = ((row, other) for row, other in near[at] if there[other])
        for _, (row, other) in zip(range(LOOKED_AT), candidates, strict=False):
            if examples.cosine[row] < rule.cosine:
                break
            if v[row] >= rule.v:
                served = other
                break
        if served is None:
            there[at] = True
            exact[text] = cls
        else:
            hits += 1
            wrong += stream_.cls[served] != cls
    return Result(percent(hits, count), percent(wrong, hits))


def pairs(examples: Examples, v: Floats, rule: Rule) -> Result:
    """Serve or not, pair by pair."""
    served = (examples.cosine >= rule.cosine) & (v >= rule.v)
    right, trap = examples.label, ~examples.label
    return Result(percent(served[right].sum(), right.sum()), percent(served[trap].sum(), trap.sum()))
