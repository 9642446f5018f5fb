"""States on their way to the store and back: none is lost, few large ones go at once, and no lookup waits for them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence

import pytest

from services.cache.learning import namespaces, rivals
from services.cache.ports import LearnedState
from services.cache.states import RIVALS_TOGETHER, TOGETHER
from services.cache.values import Outcome
from tests.unit.cache.cache_parts import ASKED, ONLY, TENANT, Bench, answer, ask, told
from tests.unit.cache.learning.learning_parts import GUARD, PRESETS, Shelf, anew, learning, near, until


class Counting(Shelf):
    """Remembers what came together, and how many are being written."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[list[int]] = []
        self.writing = 0
        self.slow = asyncio.Event()
        self.slow.set()

    async def save_learned(self, states: Sequence[LearnedState]) -> None:
        self.batches.append([len(json.loads(json.dumps(one.state))["rivals"]) for one in states])
        self.writing += 1
        await self.slow.wait()
        await super().save_learned(states)
        self.writing -= 1


async def opened(bench: Bench, namespace: str, pairs: int) -> None:
    adapting = bench.cache.adapting
    await adapting.prepare(TENANT, namespace)
    (learner,) = adapting.learners(TENANT, namespace)
    for number in range(pairs):
        learner.rivals.note(("one", "1"), (f"other {number}", "1"), same=False)
    adapting._changed(TENANT, namespace)


async def test_a_few_states_with_many_rivals_go_at_once_or_many_with_few() -> None:
    shelf = Counting()
    async with learning(shelf) as bench:
        for number in range(5):
            await opened(bench, f"large {number}", rivals.KEPT)
        for number in range(2 * TOGETHER):
            await opened(bench, f"small {number}", 1)
        await bench.cache.adapting.save()
        assert len(shelf.states) == 5 + 2 * TOGETHER
        assert all(sum(batch) < RIVALS_TOGETHER + rivals.KEPT for batch in shelf.batches)
        assert TOGETHER in map(len, shelf.batches)


async def test_what_is_being_written_is_known_to_a_namespace_that_comes_back() -> None:
    shelf = Counting()
    async with learning(shelf, most=1) as bench:
        adapting = bench.cache.adapting
        await opened(bench, "default", 3)
        await adapting.prepare(TENANT, "another")
        shelf.slow.clear()
        saving = asyncio.create_task(adapting.save())
        await until(lambda: shelf.writing == 1)
        await adapting.prepare(TENANT, "default")
        (learner,) = adapting.learners(TENANT, "default")
        assert len(learner.rivals) == 3
        shelf.slow.set()
        await saving


async def test_namespaces_with_rivals_leave_memory_while_all_together_have_too_many(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(namespaces, "MOST_RIVALS", 25)
    shelf = Shelf()
    async with learning(shelf) as bench:
        adapting = bench.cache.adapting
        for name, pairs in (("first", 10), ("none", 0), ("second", 10), ("third", 10)):
            await opened(bench, name, pairs)
        await adapting.save()
        assert [bool(adapting.learners(TENANT, name)) for name in ("first", "none", "second", "third")] == [
            False,
            True,
            True,
            True,
        ]
        await adapting.prepare(TENANT, "first")
        (back,) = adapting.learners(TENANT, "first")
        assert len(back.rivals) == 10, "it was written before it went"


async def test_a_namespace_that_left_memory_comes_back_with_what_it_knew() -> None:
    store = Shelf()
    async with learning(store, audit_share=1.0, most=2) as bench:
        for name in "abcd":
            await bench.put(ask(ASKED, namespace=name), "the stored one")
        while (found := await anew(bench, 0.9, namespace="a")).outcome is Outcome.SEMANTIC:
            await bench.cache.audited(TENANT, found.audit_id, answer("another"))
        assert (await near(bench, 0.9, ONLY, namespace="a")).outcome is Outcome.MISS
        for name in "bcd":
            assert (await near(bench, 0.9, ONLY, namespace=name)).outcome is Outcome.SEMANTIC
        assert len(bench.cache.adapting.learners()) == 2
        assert (await near(bench, 0.9, ONLY, namespace="a")).outcome is Outcome.MISS, (
            "not written yet, but not forgotten"
        )
        await bench.cache.adapting.save()
        for name in "bcd":
            await near(bench, 0.9, ONLY, namespace=name)
        assert (await near(bench, 0.9, ONLY, namespace="a")).outcome is Outcome.MISS, "from the store"


async def test_a_store_that_hangs_holds_up_one_lookup_and_the_preset_decides() -> None:
    store = Shelf()
    store.gate.clear()
    async with learning(store, audit_share=1.0) as bench:
        await bench.put(ASKED)
        loop = asyncio.get_running_loop()
        begun = loop.time()
        found = await near(bench, 0.9, ONLY)
        assert (found.outcome, found.audit_id) == (Outcome.SEMANTIC, "")
        assert loop.time() - begun < GUARD / 2
        store.gate.set()
        await until(lambda: len(bench.cache.adapting.learners()) == 1)
        assert (await near(bench, 0.9, ONLY)).audit_id
        assert store.loads == 1


async def test_while_the_store_is_down_the_preset_decides_and_nobody_waits() -> None:
    store = Shelf(down=True)
    async with learning(store, audit_share=1.0) as bench:
        await bench.put(ASKED)
        for _ in range(5):
            found = await near(bench, 0.9, ONLY)
            assert (found.outcome, found.audit_id) == (Outcome.SEMANTIC, "")
        assert store.loads == 1, "it is asked again after a while only"
        store.down = False
        bench.clock.advance(2)
        assert (await near(bench, 0.9, ONLY)).audit_id
        store.down = True
        await bench.cache.adapting.save()
        store.down = False
        await bench.cache.adapting.save()
        assert list(store.states) == [(TENANT, "default")], "what was not taken is written the next time"
        assert [part for part, _ in bench.reported] == ["learning"]
        bench.reported.clear()


async def test_hits_alone_are_written_less_often_than_verdicts_but_never_forgotten() -> None:
    store = Shelf()
    async with learning(store, audit_share=1.0) as bench:
        states = bench.cache.adapting._states
        assert states is not None
        await bench.put(ASKED, "the stored one")
        found = await near(bench, 0.9, ONLY)
        await states.save(hits=False)
        assert not store.states
        await states.save()
        assert json.loads(store.states[TENANT, "default"])["hits"] != [0.0] * len(PRESETS)
        store.states.clear()
        await bench.cache.audited(TENANT, found.audit_id, answer("the stored one"))
        await states.save(hits=False)
        assert store.states, "a verdict does not wait"
        store.states.clear()
        await states.save()
        assert not store.states, "nothing was counted since"


async def test_a_state_of_another_verifier_is_counted_and_the_preset_decides() -> None:
    store = Shelf(states={(TENANT, "default"): '{"format": "something else"}'})
    async with learning(store) as bench:
        await bench.put(ASKED)
        assert (await near(bench, 0.9, ONLY)).outcome is Outcome.SEMANTIC
        assert bench.cache.adapting.happened()["refused"] == 1
        score, cosine = PRESETS["default"]
        shown = (await told(bench, namespace="default")).learning
        assert (shown.threshold, shown.score_threshold) == (cosine, score)
