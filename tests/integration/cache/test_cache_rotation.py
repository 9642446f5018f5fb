"""A change of the embedder: what is stored, deleted and cleared before and during it is so afterwards."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from services.cache import hot
from services.cache.feedback import Feedback
from services.cache.review import FeedbackSource
from services.cache.rotation import moving
from services.cache.rotation.plan import Phase
from services.cache.values import Action, ByIds, ByTags, Chosen, Outcome, Policy
from tests.integration.cache.rotating_cache import TWO, RotatingCache, changed, embedded, questions
from tests.unit.cache.cache_parts import TENANT, answer

Make = Callable[..., RotatingCache]

pytestmark = pytest.mark.usefixtures("quick")


@pytest.mark.fault(69)
async def test_every_entry_is_embedded_anew_and_served_by_the_new_embedder(make: Make) -> None:
    cache = await make().ready()
    before = {question: await cache.put(question, f"answer to {question}") for question in questions(40)}
    old, new = cache.workshop.embedders["one"], cache.workshop.embedders["two"]
    old.alike("by the old one", questions(1)[0], 0.95)
    new.alike("by the new one", questions(1)[0], 0.95)
    assert (await cache.look("by the old one")).outcome is Outcome.SEMANTIC
    assert (await cache.look("by the new one")).entry is None

    plan = await cache.rotating.orders.start(TWO, 1.0)
    assert (plan.source.dim, plan.target.dim) == (64, 32), "vectors of another length"
    await changed(cache)
    for question, entry in before.items():
        found = await cache.look(question)
        assert found.outcome is Outcome.EXACT
        assert found.entry is not None
        assert found.entry.answer == entry.answer
        assert (found.entry.expires_us, found.entry.created_us, found.entry.ver) == (
            entry.expires_us,
            entry.created_us,
            entry.ver,
        )
    assert (await cache.look("by the new one")).outcome is Outcome.SEMANTIC
    assert (await cache.look("by the old one")).entry is None
    assert len(old.calls) == len(before) + 2, "the old one has nothing to do with the change"
    plan = await cache.plan()
    assert (plan.done, plan.total, plan.skipped, plan.failing) == (40, 40, 0, "")


async def test_the_old_embedder_answers_until_all_is_embedded(make: Make) -> None:
    cache = await make().ready()
    for question in questions(30):
        await cache.put(question, "an answer")
    cache.workshop.embedders["one"].alike("reworded", questions(1)[0], 0.95)
    new = cache.workshop.embedders["two"]
    await cache.rotating.orders.start(TWO, 1.0)
    new.gate.clear()
    await cache.until(lambda: len(embedded(cache)) > 0)
    assert (await cache.look("reworded")).outcome is Outcome.SEMANTIC
    assert (await cache.plan()).phase is Phase.EMBEDDING
    new.gate.set()
    await changed(cache)


@pytest.mark.fault(69)
async def test_what_is_stored_said_deleted_and_cleared_meanwhile_is_so_afterwards(make: Make) -> None:
    cache = await make().ready()
    asked = questions(40)
    entries = {question: await cache.put(question, "old") for question in asked}
    tagged = [f"tagged {place}" for place in range(5)]
    for question in tagged:
        await cache.put(question, "tagged", Policy(tags=("t",)))
    new = cache.workshop.embedders["two"]
    # Some are moved before, some in the middle of being moved, some not yet.
    gated = asyncio.Event()
    embed = new.embed_one

    async def some(text: str) -> object:
        if len(embedded(cache)) >= 20:
            gated.set()
            new.gate.clear()
        return await embed(text)

    new.embed_one = some  # type: ignore[method-assign,assignment]
    await cache.rotating.orders.start(TWO, 1.0)
    async with asyncio.timeout(30):
        await gated.wait()
    gone, anew, wrong = asked[::4], asked[1::4], asked[2::4]
    assert await cache.delete(*(entries[question].id for question in gone)) == len(gone)
    for question in anew:
        await cache.put(question, "new")
    for question in wrong:
        said = Feedback(entries[question].id, FeedbackSource.OPERATOR, right=False, semantic=False, namespace="default")
        await cache.sides.feedback(TENANT, said)
    await cache.put("quite new", "meanwhile")
    chosen = Chosen(ByTags(frozenset({"t"})))
    assert await cache.sides.remove(TENANT, chosen, Action.DELETE, by="", dry_run=False) == len(tagged)
    new.embed_one = embed  # type: ignore[method-assign]
    new.gate.set()
    await changed(cache)

    async def served() -> dict[str, str | None]:
        return {question: await cache.text(question) for question in (*asked, *tagged, "quite new")}

    expected = {
        **dict.fromkeys(asked[3::4], "old"),
        **dict.fromkeys(gone),
        **dict.fromkeys(anew, "new"),
        **dict.fromkeys(wrong),
        **dict.fromkeys(tagged),
        "quite new": "meanwhile",
    }
    assert await served() == expected
    # And what the store says, to another process.
    await cache.until(lambda: not cache.sides.cache.transfers.late.waiting(TENANT, None))
    await cache.sides.cache.writer.drain()
    await cache.die()
    cache = await make().ready(TWO)
    assert await served() == expected


async def test_what_was_cleared_meanwhile_stays_so(make: Make) -> None:
    cache = await make().ready()
    for question in questions(40):
        await cache.put(question, "cleared")
    new = cache.workshop.embedders["two"]
    await cache.rotating.orders.start(TWO, 1.0)
    new.gate.clear()
    await cache.until(lambda: len(embedded(cache)) > 0)
    assert (await cache.sides.clear(TENANT, "default", dry_run=False))[0] == 40
    await cache.put("after", "kept")
    new.gate.set()
    await changed(cache)
    assert [await cache.text(question) for question in questions(40)] == [None] * 40
    assert await cache.text("after") == "kept"


@pytest.mark.fault(69)
async def test_who_stores_and_deletes_right_before_and_after_the_change_finds_it_so(make: Make) -> None:
    cache = await make().ready()
    for question in questions(60):
        await cache.put(question, "an answer")
    await cache.rotating.orders.start(TWO, 1.0)
    written, removed = [], []
    place = 0
    async with asyncio.timeout(30):
        while cache.serving == "one" or place % 20:
            question = f"written {place}"
            await cache.put(question, question)
            assert await cache.text(question) == question
            written.append(question)
            if place < 60:
                found = await cache.look(questions(60)[place])
                assert found.entry is not None
                assert await cache.delete(found.entry.id) == 1
                assert await cache.text(questions(60)[place]) is None
                removed.append(questions(60)[place])
            place += 1
    for question in written:
        assert await cache.text(question) == question
    for question in removed:
        assert await cache.text(question) is None


@pytest.mark.fault(69)
@pytest.mark.parametrize("hot_bytes", [hot.ALL_HOT, 0], ids=["in memory", "in the store"])
async def test_what_comes_after_the_last_look_is_handed_over(
    make: Make, monkeypatch: pytest.MonkeyPatch, hot_bytes: int
) -> None:
    async def blind(_: moving.Moving, since_us: int | None) -> int:
        return 0

    monkeypatch.setattr(moving.Moving, "_catch_up", blind)
    monkeypatch.setattr(hot, "INLINE_BYTES", 0)
    cache = await make(hot_bytes=hot_bytes).ready()
    entries = [await cache.put(question, "an answer") for question in questions(20)]
    new = cache.workshop.embedders["two"]
    await cache.rotating.orders.start(TWO, 1.0)
    new.gate.clear()
    await cache.until(lambda: len(embedded(cache)) > 0)
    async with cache.sides.changing:  # nothing changes over yet
        new.gate.set()
        await cache.until_phase(Phase.SWITCHED)
        await cache.put("at the last moment", "kept")
        await cache.put(questions(20)[0], "newer")
        removed = Chosen(ByIds((entries[1].id,)))
        await cache.sides.cache.remove(TENANT, removed)
    await cache.until(lambda: cache.serving == "two")
    assert await cache.text("at the last moment") == "kept"
    assert await cache.text(questions(20)[0]) == "newer"
    assert await cache.text(questions(20)[1]) is None
    assert await cache.text(questions(20)[2]) == "an answer"


async def test_a_lease_of_before_the_change_is_good_after_it(make: Make) -> None:
    cache = await make().ready()
    granted = (await cache.look("long", Policy())).fill
    await cache.rotating.orders.start(TWO, 1.0)
    await changed(cache)
    cache.sides.of_lease(granted.lease_id).renew(TENANT, granted.lease_id)  # type: ignore[union-attr]
    done = await cache.sides.commit(TENANT, granted.lease_id, answer("at last"), durable=True, writer="")  # type: ignore[union-attr]
    assert done.durable
    assert await cache.text("long") == "at last"
    assert await cache.delete(done.entry_id) == 1, "by the id that its writer knows"
    assert await cache.text("long") is None
