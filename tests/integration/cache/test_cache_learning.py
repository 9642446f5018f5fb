"""What was learned outlives the process, over the real embedded store; an entry that an audit calls wrong does not."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from dataclasses import replace

import pytest

from services.cache.decision import Veto
from services.cache.feedback import Feedback
from services.cache.learning.learner import LEAST
from services.cache.review import FeedbackSource
from services.cache.values import Outcome
from tests.integration.cache.stored_cache import GUARD_S, StoredCache, until
from tests.integration.edgestore.store_process import StoreProcess
from tests.unit.cache.cache_parts import TENANT, answer
from tests.unit.cache.learning.learning_parts import Scored, setup

Caches = Callable[..., StoredCache]
MOST = 10 * LEAST


def learning(caches: Caches) -> StoredCache:
    return caches(judge=Scored(), learning=lambda store: setup(store, audit_share=1.0))


async def worsen(cache: StoredCache) -> None:
    """Every hit turns out to be wrong, until none is served any more."""
    for number in range(MOST):
        stored, text = f"stored question number {number}", f"reworded question number {number}"
        await cache.put(stored, "the stored one", durable=False)
        cache.embedder.alike(text, stored, 0.9)
        found = await cache.look(text)
        if found.outcome is Outcome.MISS:
            return
        if found.audit_id:  # the first may come before the namespace's state was read
            assert (await cache.cache.audited(TENANT, found.audit_id, answer("another"))).counted
    raise AssertionError("nothing but wrong hits, and nothing happened")


async def hits(cache: StoredCache, *, durable: bool = True) -> Outcome:
    """How a question ends that the preset answers from the cache."""
    await cache.put("a question of its own", durable=durable)
    cache.embedder.alike("the same in other words", "a question of its own", 0.9)
    return (await cache.look("the same in other words")).outcome


async def test_what_was_learned_is_there_after_a_stop_and_after_a_crash(caches: Caches) -> None:
    first = await learning(caches).ready()
    assert await hits(first) is Outcome.SEMANTIC
    await worsen(first)
    assert await hits(first) is Outcome.MISS
    await first.stop()

    second = await learning(caches).ready()
    assert await hits(second) is Outcome.MISS
    (learner,) = second.cache.adapting.learners()
    assert learner.audited()[1] == learner.audited()[0] > LEAST / 2
    await second.cache.adapting.save()
    await second.die()

    third = await learning(caches).ready()
    assert await hits(third) is Outcome.MISS


async def test_it_is_written_while_the_cache_runs(caches: Caches) -> None:
    cache = await learning(caches).ready()
    await worsen(cache)
    async with asyncio.timeout(GUARD_S):
        while (state := await cache.control.load_learned(TENANT, "default")) is None:  # noqa: ASYNC110 -- the store sets no event
            await asyncio.sleep(0.05)
    assert isinstance(state, dict)
    assert state["comparer"] == "literal-1"
    assert await cache.control.load_learned(TENANT, "another") is None
    assert await cache.control.load_learned("other", "default") is None


async def test_a_store_that_stands_still_holds_up_no_lookup_and_loses_nothing(
    caches: Caches, store: StoreProcess
) -> None:
    cache = await learning(caches).ready()
    await worsen(cache)
    os.kill(store.pid, signal.SIGSTOP)
    try:
        assert await hits(cache, durable=False) is Outcome.MISS, "in memory"
    finally:
        os.kill(store.pid, signal.SIGCONT)
    await cache.stop()
    assert await hits(await learning(caches).ready()) is Outcome.MISS


async def test_what_an_audit_calls_wrong_is_served_to_its_own_question_only(caches: Caches) -> None:
    cache = await learning(caches).ready()
    await cache.cache.adapting.prepare(TENANT, "default")
    await until(lambda: len(cache.cache.adapting.learners()) == 1, "the state is not read")
    entry = await cache.put("a question of its own", "the stored one")
    cache.embedder.alike("the same in other words", "a question of its own", 0.9)
    found = await cache.look("the same in other words")
    assert found.entry == entry
    await cache.cache.audited(TENANT, found.audit_id, answer("another"))
    await until(lambda: cache.cache.entries.quarantined == 1, "it is still served")
    await cache.stop()
    again = await learning(caches).ready()
    again.embedder.alike("the same in other words", "a question of its own", 0.9)
    assert (await again.look("the same in other words")).decision.vetoes == (Veto.QUARANTINED,)
    assert await again.text("a question of its own") == "the stored one"


async def test_feedback_on_reworded_questions_is_learned_from_and_counted_once(caches: Caches) -> None:
    cache = await learning(caches).ready()
    await cache.cache.adapting.prepare(TENANT, "default")
    await until(lambda: len(cache.cache.adapting.learners()) == 1, "the state is not read")
    entry = await cache.put("a question of its own", "the stored one")
    cache.embedder.alike("the same in other words", "a question of its own", 0.9)
    await cache.look("the same in other words")
    (learner,) = cache.cache.adapting.learners()
    # What an audit finds is learned before it is said; a wrong answer to its own question says nothing of others.
    for source, semantic in [(FeedbackSource.AUDIT, True), (FeedbackSource.OPERATOR, False)]:
        await cache.cache.feedback(TENANT, Feedback(entry.id, source, right=False, semantic=semantic))
        assert learner.level_for(entry.id) == learner.level
    said = Feedback(entry.id, FeedbackSource.OPERATOR, right=False, semantic=True, id="once")
    await cache.cache.feedback(TENANT, said)
    level = learner.level_for(entry.id)
    assert level < learner.level
    assert not (await cache.cache.feedback(TENANT, said)).recorded
    assert learner.level_for(entry.id) == level


@pytest.mark.parametrize("semantic", [False, True])
async def test_an_operators_right_settles_what_spoke_against_an_entry(caches: Caches, semantic: bool) -> None:
    cache = await caches(judge=Scored(), learning=setup).ready()
    entry = await cache.put("the stored question")
    cache.embedder.alike("the reworded question", "the stored question", 0.9)
    await cache.cache.adapting.prepare(TENANT, "default")
    assert (await cache.look("the reworded question")).outcome is Outcome.SEMANTIC
    wrong = Feedback(entry.id, FeedbackSource.OPERATOR, right=False, semantic=True)
    right = replace(wrong, right=True, semantic=semantic)
    for _ in range(2):
        assert (await cache.cache.feedback(TENANT, wrong)).recorded
        assert await cache.text("the stored question") is None
        assert (await cache.cache.feedback(TENANT, right)).recorded
        assert (await cache.look("the reworded question")).outcome is Outcome.SEMANTIC
        assert await cache.text("the stored question") == "an answer"
