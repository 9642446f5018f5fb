"""CPU time of calls of one thread: interleaved rounds, the minimum of each."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

NOISE = 1.3
"""A run in which reading memory once took this many times its best is disturbed and is repeated."""


@dataclass
class Contender:
    """Something that answers a list of queries, and what it took."""

    name: str
    run: Callable[[], object]
    per: int
    """Queries per run."""
    rounds: list[float] = field(default_factory=list)
    """Milliseconds of CPU time per query, by round."""

    @property
    def best(self) -> float:
        return min(self.rounds)


def cpu_ms(run: Callable[[], object]) -> float:
    """Milliseconds of CPU time that this thread spends in `run`."""
    before = time.thread_time()
    run()
    return (time.thread_time() - before) * 1e3


def race(contenders: Sequence[Contender], rounds: int, probe: Callable[[], object], repeats: int = 3) -> float:
    """Run all in turn, `rounds` times; returns the least milliseconds that `probe`, which reads memory once, took.

    A round in which the probe took more than `NOISE` times its best is run again, at most `repeats` times as often as
    there are rounds.
    """
    for contender in contenders:
        contender.run()
    best = min(cpu_ms(probe) for _ in range(5))
    done = 0
    for _ in range(rounds * repeats):
        taken = cpu_ms(probe)
        figures = [cpu_ms(contender.run) / contender.per for contender in contenders]
        taken = max(taken, cpu_ms(probe))
        best = min(best, taken)
        # A disturbed round is kept too, because a minimum cannot be harmed by it; it only does not count.
        for contender, figure in zip(contenders, figures, strict=True):
            contender.rounds.append(figure)
        done += taken <= NOISE * best
        if done >= rounds:
            break
    return best
