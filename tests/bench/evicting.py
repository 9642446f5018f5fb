"""`make bench-eviction`: ten times as many questions as there is room for, and what is saved all the same; JSON last.

Then a cache over the embedded store is filled ten times, to see whether memory and disk stay as small.

The same stream is asked of a cache without limits, of the cache's own memory (`Entries`), and of plain LRU. Questions
are Zipf-distributed, every fifth is asked once and never again; what answers cost is log-normal and has nothing to do
with how often they are asked.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import hashlib
import json
import random
import time
from collections import Counter, OrderedDict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from typing import Protocol

import numpy as np
import psutil

from services.cache.entries import Entries
from services.cache.entry import Entry, Source
from services.cache.room import Capacity, Eviction, Room
from services.cache.values import Vector
from services.llm.values import Answer, Cost, FinishReason
from tests.bench import churning

DISTINCT = 10
"""Times as many questions as there is room for."""

EXPONENT = 1.0
ONCE = 0.2
"""Of the questions that are asked once and never again."""

SPREAD = 1.5
"""Standard deviation of the logarithm of what an answer costs: a tenth costs seven times the median or more."""

MEDIAN_NANO_USD = 200_000
FAR_US = 1 << 52
TOP = 0.01
DIM = 8
"""Of the vectors; how many numbers they have does not matter here."""


@dataclass(frozen=True, slots=True)
class Question:
    """`rank`: 0 is asked most; None: one that is asked once."""

    text: str
    rank: int | None
    nano_usd: int


def stream(capacity: int, length: int, seed: int) -> Iterator[Question]:
    """Yield questions; equal arguments yield equal streams."""
    rng = np.random.default_rng(seed)
    distinct = capacity * DISTINCT
    weights = 1.0 / np.arange(1, distinct + 1) ** EXPONENT
    costs = (MEDIAN_NANO_USD * rng.lognormal(0.0, SPREAD, distinct)).astype(int) + 1
    ranks = rng.choice(distinct, length, p=weights / weights.sum())
    once = rng.random(length) < ONCE
    others = (MEDIAN_NANO_USD * rng.lognormal(0.0, SPREAD, length)).astype(int) + 1
    for number in range(length):
        if once[number]:
            yield Question(f"once {number}", None, int(others[number]))
        else:
            rank = int(ranks[number])
            yield Question(f"question {rank}", rank, int(costs[rank]))


class Memory(Protocol):
    """What is asked."""

    def ask(self, question: Question) -> bool:
        """Whether the answer was there; it is afterwards."""
        ...

    def __len__(self) -> int:
        """Count the entries."""
        ...


class Lru:
    """The one that was not used for longest goes."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._kept: OrderedDict[str, None] = OrderedDict()

    def __len__(self) -> int:
        """Count the entries."""
        return len(self._kept)

    def ask(self, question: Question) -> bool:
        """See `Memory`."""
        if question.text in self._kept:
            self._kept.move_to_end(question.text)
            return True
        self._kept[question.text] = None
        if len(self._kept) > self._capacity:
            self._kept.popitem(last=False)
        return False


class Ours:
    """The cache's own."""

    def __init__(self, capacity: int, executor: ThreadPoolExecutor, seed: int, *, dim: int = DIM) -> None:
        room = Room(Capacity(capacity), dim=dim, chance=random.Random(seed).random)
        self.entries = Entries(dim, room=room, threads=1, executor=executor)
        self.evicted: Counter[Eviction] = Counter()
        self.stored = 0
        self._vectors = np.random.default_rng(seed)
        self._dim = dim

    def __len__(self) -> int:
        """Count the entries."""
        return len(self.entries)

    def ask(self, question: Question) -> bool:
        """See `Memory`."""
        name = hashlib.sha256(question.text.encode()).hexdigest()
        entry = self.entries.find("tenant", "default", name)
        if entry is not None:
            self.entries.hit(entry)
            return True
        self.stored += 1
        self.entries.put(_entry(question, name, self.entries.next_ver(1)), self._vector())
        for victim in self.entries.pop_surplus(1):
            self.evicted[victim.reason] += 1
        return False

    def _vector(self) -> Vector:
        vector = self._vectors.standard_normal(self._dim).astype(np.float32)
        return vector / np.linalg.norm(vector)


def _entry(question: Question, name: str, ver: int) -> Entry:
    answer = Answer("an answer", FinishReason.STOP, "small", cost=Cost(question.nano_usd, "p1"))
    return Entry(
        id=name,
        tenant="tenant",
        namespace="default",
        scope="scope",
        key=name,
        question=question.text,
        answer=answer,
        created_us=1,
        updated_us=1,
        expires_us=FAR_US,
        ver=ver,
        epoch=0,
        source=Source.FILL,
    )


@dataclass
class Result:
    """What a memory made of the stream, after as many questions as there is room for."""

    asked: int = 0
    hits: int = 0
    saved: int = 0
    top_asked: int = 0
    top_hits: int = 0
    most: int = 0
    rss: list[int] = field(default_factory=list)
    """Bytes of the process, at each tenth of the stream."""

    @property
    def top_share(self) -> float:
        """Hits of the questions that are asked most, of the times that they were asked."""
        return self.top_hits / self.top_asked


def run(memory: Memory, capacity: int, length: int, seed: int) -> Result:
    """Ask the whole stream."""
    result, top = Result(), capacity * DISTINCT * TOP
    for number, question in enumerate(stream(capacity, length, seed)):
        hit = memory.ask(question)
        result.most = max(result.most, len(memory))
        if number % (length // 10) == 0:
            gc.collect()
            result.rss.append(psutil.Process().memory_info().rss)
        if number < capacity:
            continue
        result.asked += 1
        result.hits += hit
        result.saved += hit * question.nano_usd
        if question.rank is not None and question.rank < top:
            result.top_asked += 1
            result.top_hits += hit
    return result


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--capacity", type=int, default=5_000)
    parser.add_argument("--length", type=int, default=400_000)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    figures: dict[str, dict[str, float]] = {}
    with ThreadPoolExecutor(1) as executor:
        ours = Ours(args.capacity, executor, args.seed)
        memories: dict[str, Memory] = {"without limits": Lru(1 << 62), "LRU": Lru(args.capacity), "ours": ours}
        print(f"{'':16}{'entries':>10}{'hits':>8}{'USD saved':>11}{'of top 1 %':>12}{'µs each':>9}")
        for name, memory in memories.items():
            begun = time.process_time()
            result = run(memory, args.capacity, args.length, args.seed)
            each = (time.process_time() - begun) / args.length * 1e6
            share, saved = result.hits / result.asked, result.saved / 1e9
            print(f"{name:16}{result.most:10,}{share:8.1%}{saved:11,.2f}{result.top_share:12.2%}{each:9.1f}")
            figures[name] = {
                "entries": result.most,
                "hits": round(share, 4),
                "USD saved": round(saved, 2),
                "top 1 %": round(result.top_share, 4),
            }
            if memory is ours:
                print("  MB of the process at each tenth:", *(f"{rss / 1e6:,.0f}" for rss in result.rss))
                figures[name]["evicted"] = ours.evicted.total()
                print("  evicted:", ", ".join(f"{reason.value} {count:,}" for reason, count in ours.evicted.items()))
    sizes = asyncio.run(churning.churned())
    churning.show(sizes)
    print(json.dumps({**figures, "churned": [asdict(size) for size in sizes]}))


if __name__ == "__main__":
    main()
