"""Many entries embedded anew under load, killed twice: no hit of the wrong embedder, no error, nothing lost.

`make campaign-reembed ENTRIES=50000 SEED=1` takes more of them; a failure prints its seed.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import resource
import secrets
import time
from dataclasses import dataclass, field

import pytest

from services.cache import tailing
from services.cache.rotation import filling, rotating
from services.cache.rotation.plan import Phase
from services.cache.values import Outcome
from services.chassis.errors import AntiphonError
from tests.integration.cache.rotating_cache import TWO, RotatingCache
from tests.integration.edgestore.store_process import StoreProcess

ENTRIES = int(os.environ.get("REEMBED_ENTRIES") or 600)
SEED = os.environ.get("REEMBED_SEED")
KILLS = 2
TOGETHER = 100
"""Entries that are stored at once before it begins."""

SLOWEST = 0.05
"""Seconds for one entry that the timeout allows for; a guard, not a promise."""


@dataclass
class Load:
    """What the callers saw."""

    lookups: int = 0
    hits: int = 0
    semantic: dict[str, int] = field(default_factory=lambda: {"one": 0, "two": 0})
    wrong: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    slowest: float = 0.0


def question(place: int) -> str:
    return f"What is the meaning of number {place}?"


def reworded(place: int, name: str) -> str:
    """Words that only the embedder `name` takes for those of the question."""
    return f"number {place}, as {name} knows it"


async def ask(cache: RotatingCache, load: Load, chance: random.Random, count: int) -> None:
    """Ask questions in their own words, and in words that only one of the embedders understands."""
    while True:
        place = chance.randrange(count)
        name = chance.choice(("one", "two"))
        own = chance.random() < 0.5
        begun = time.monotonic()
        serving = cache.serving
        try:
            found = await cache.look(question(place) if own else reworded(place, name))
        except AntiphonError as error:
            load.errors.append(repr(error))
            continue
        load.slowest = max(load.slowest, time.monotonic() - begun)
        load.lookups += 1
        expected = {f"answer {place}", f"newer {place}"}
        text = found.entry.answer.text if found.entry else None
        load.hits += text is not None
        if found.outcome is Outcome.BYPASS:
            load.errors.append(f"bypass: {found.bypass_reason}")
        elif own and text not in expected:
            load.wrong.append(f"{question(place)}: {text}")
        elif not own and text is not None:
            load.semantic[name] += 1
            if text not in expected or name not in {serving, cache.serving}:
                load.wrong.append(f"{reworded(place, name)} under {serving}: {text}")
        await asyncio.sleep(0.002)


@pytest.mark.timeout(120 + ENTRIES * SLOWEST)
async def test_entries_are_embedded_anew_under_load(store: StoreProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    seed = int(SEED) if SEED else secrets.randbelow(2**32)
    print(f"REEMBED_SEED={seed}")
    chance, load = random.Random(seed), Load()
    monkeypatch.setattr(filling, "LEASE_SECONDS", 1.0)
    monkeypatch.setattr(rotating, "PAUSE_SECONDS", 0.1)
    monkeypatch.setattr(tailing, "PAUSE_SECONDS", 0.2)
    asked = min(ENTRIES, 2_000)

    async def made() -> RotatingCache:
        cache = RotatingCache(store)
        for name, embedder in cache.workshop.embedders.items():
            for place in range(asked):
                embedder.alike(reworded(place, name), question(place), 0.95)
        return await cache.ready()

    cache = await made()
    for start in range(0, ENTRIES, TOGETHER):
        places = range(start, min(start + TOGETHER, ENTRIES))
        await asyncio.gather(*(cache.put(question(place), f"answer {place}") for place in places))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    begun, seconds, kills = time.monotonic(), 0.0, 0
    await cache.rotating.orders.start(TWO, 1.0)
    marks = [ENTRIES * (kill + 1) // (KILLS + 2) for kill in range(KILLS)]
    while True:
        load_task = asyncio.create_task(ask(cache, load, chance, asked))
        while cache.serving == "one" and not (kills < KILLS and (await cache.plan()).done >= marks[kills]):
            place = chance.randrange(ENTRIES)
            await cache.put(question(place), f"newer {place}")
            await asyncio.sleep(0.02)
        if cache.serving == "two":
            seconds = time.monotonic() - begun
            await asyncio.sleep(0.5)  # asked under the new one, too
        load_task.cancel()
        await asyncio.wait([load_task])
        if not load_task.cancelled() and (defect := load_task.exception()) is not None:
            raise defect
        if cache.serving == "two":
            break
        kills += 1
        await cache.die()
        cache = await made()
    plan = await cache.plan()
    figures = {
        "entries": ENTRIES,
        "kills": kills,
        "seconds": round(seconds, 1),
        "done": plan.done,
        "lookups": load.lookups,
        "hits": load.hits,
        "semantic hits": load.semantic,
        "wrong": len(load.wrong),
        "errors": len(load.errors),
        "slowest lookup, seconds": round(load.slowest, 3),
        "peak memory more, MB": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024,
    }
    print(json.dumps(figures))
    assert not load.wrong, f"seed {seed}: {load.wrong[:5]}"
    assert not load.errors, f"seed {seed}: {load.errors[:5]}"
    assert (plan.phase, plan.done) == (Phase.SWITCHED, ENTRIES)
    assert min(load.semantic.values()) > 0
    assert kills == KILLS
    for place in range(ENTRIES):
        assert await cache.text(question(place)) in {f"answer {place}", f"newer {place}"}, f"seed {seed}: {place}"
    await cache.die()
