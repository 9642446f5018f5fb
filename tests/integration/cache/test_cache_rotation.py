"""A change of the embedder: what is stored, deleted and cleared before and during it is so afterwards, and no question
is ever compared with what another embedder made; also when it is killed in the middle."""

from __future__ import annotations

import asyncio
import random
import secrets
from collections.abc import Callable
from dataclasses import replace

import pytest

from services.cache import hot
from services.cache.adapters.entry_store import CURRENT_ALIAS, collection_name
from services.cache.cache import Cache
from services.cache.entry import Entry
from services.cache.feedback import Feedback
from services.cache.review import FeedbackSource
from services.cache.rotation import filling, moving, rotating
from services.cache.rotation import plan as plans
from services.cache.rotation.plan import Choice, End, Phase, Plan
from services.cache.values import Action, ByIds, ByTags, Chosen, Outcome, Policy
from services.chassis.errors import FailedPrecondition, InvalidRequest, Reason, Unavailable
from tests.integration.cache.rotating_cache import ONE, TWO, RotatingCache, changed, embedded, questions
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


@pytest.mark.fault(50)
async def test_a_change_that_is_killed_at_any_moment_goes_on(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    seed = secrets.randbelow(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    cache = await make().ready()
    expected: dict[str, str | None] = {}
    for question in questions(120):
        await cache.put(question, "old")
        expected[question] = "old"
    await cache.rotating.orders.start(TWO, 1.0)
    kills = 0
    while kills < 12 and (await cache.plan()).phase is Phase.EMBEDDING:
        for _ in range(3):
            question = chance.choice(list(expected))
            if chance.random() < 0.5 and (found := (await cache.look(question)).entry) is not None:
                await cache.delete(found.id)
                expected[question] = None
            else:
                expected[question] = f"{kills} {question}"
                await cache.put(question, f"{kills} {question}")
        await asyncio.sleep(chance.uniform(0, 0.04))
        await cache.die()
        kills += 1
        cache = await make().ready(cache.sides.current.end.choice)
    await changed(cache)
    assert kills >= 2, f"seed {seed}: it was killed in the middle"
    assert {question: await cache.text(question) for question in expected} == expected, f"seed {seed}"


@pytest.mark.fault(50)
async def test_what_was_embedded_before_a_kill_is_not_embedded_again(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    carried: list[Entry] = []
    monkeypatch.setattr(Cache, "carry", lambda _, entry: carried.append(entry))
    cache = await make().ready()
    for question in questions(64):
        await cache.put(question, "an answer")
    new = cache.workshop.embedders["two"]
    await cache.rotating.orders.start(TWO, 1.0)
    await cache.until(lambda: len(embedded(cache)) >= 32)
    new.gate.clear()
    await cache.die()
    stored = len(await _stored(cache, "two"))
    again = await make().ready()
    await changed(again)
    assert len(embedded(again)) == 64 - stored
    assert stored > 0
    assert carried == [], "all was embedded before the change"


async def _stored(cache: RotatingCache, name: str) -> list[object]:
    reader = RotatingCache(cache._store)
    heads = reader.workshop.store(reader.workshop.end(Choice(name))).heads(since_us=None)
    found = [head async for page in heads for head in page]
    await reader.connection.aclose()
    return found  # type: ignore[return-value]


async def test_of_two_replicas_one_does_the_work_and_both_change_over(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filling, "LEASE_SECONDS", 60.0)  # not lost on a slow machine
    one, other = await make().ready(), await make().ready()
    for question in questions(50):
        await one.put(question, "an answer")
    await one.rotating.orders.start(TWO, 1.0)
    await changed(one)
    await changed(other)
    calls = [len(embedded(cache)) for cache in (one, other)]
    assert sorted(calls) == [0, 50]
    await one.put("by one", "seen")
    await other.until(lambda: len(other.sides.cache.entries) == 51)
    assert await other.text("by one") == "seen"


@pytest.mark.fault(69)
async def test_what_a_replica_that_changes_late_stores_is_brought_over(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plans, "SETTLE_SECONDS", 60.0)
    one, late = await make().ready(), await make().ready()
    await one.put("before", "an answer")
    late.workshop.absent.add("two")
    await one.rotating.orders.start(TWO, 1.0)
    await changed(one)
    stored = await late.put("late", "under the old one")
    assert late.serving == "one"
    await one.until(lambda: len(one.sides.cache.entries) == 2)
    assert await one.text("late") == "under the old one"
    await late.delete(stored.id)
    await one.until(lambda: len(one.sides.cache.entries) == 1)
    assert any(isinstance(error, FailedPrecondition) for error in late.reported)


async def test_a_change_that_is_begun_again_between_two_looks_is_done(make: Make) -> None:
    cache = await make().ready()
    for question in questions(20):
        await cache.put(question, "an answer")
    begun = await cache.rotating.orders.start(TWO, 1.0)
    new = cache.workshop.embedders["two"]
    new.gate.clear()
    await cache.until(lambda: len(embedded(cache)) > 0)
    # What the store says after a cancel and a start that nobody has looked between.
    again = replace(await cache.plan(), started_us=begun.started_us + 1, done=0, total=0)
    while not await cache.plans.save_plan(again):
        again = replace(again, ver=(await cache.plan()).ver)
    new.gate.set()
    await changed(cache)
    plan = await cache.plan()
    assert (plan.started_us, plan.done, plan.total) == (begun.started_us + 1, 20, 20)


async def test_the_alias_never_names_what_a_cancelled_change_has_filled(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = await make().ready()
    await cache.put("before", "an answer")
    named: list[str] = []
    filled = asyncio.Event()
    fill = moving.Moving.fill

    async def cancelled_at_the_end(self: moving.Moving) -> None:
        await fill(self)
        await cache.rotating.orders.cancel()
        filled.set()

    async def name_current(end: End) -> None:
        named.append(end.slug)

    monkeypatch.setattr(moving.Moving, "fill", cancelled_at_the_end)
    monkeypatch.setattr(cache.plans, "name_current", name_current)
    monkeypatch.setattr(rotating, "PAUSE_SECONDS", 60.0)
    await cache.rotating.orders.start(TWO, 1.0)
    async with asyncio.timeout(30):
        await filled.wait()
    await cache.until(lambda: cache.rotating.filling.task is not None and cache.rotating.filling.task.done())
    assert named == []


@pytest.mark.fault(69)
async def test_one_that_cannot_be_embedded_holds_nothing_up(make: Make) -> None:
    cache = await make().ready()
    asked = questions(20)
    for question in asked:
        await cache.put(question, "an answer")
    new = cache.workshop.embedders["two"]
    embed = new.embed_one

    async def poisoned(text: str) -> object:
        if text in {asked[3], asked[17]}:
            raise Unavailable("answered with HTTP 500", reason=Reason.EMBEDDER_UNAVAILABLE)
        return await embed(text)

    new.embed_one = poisoned  # type: ignore[method-assign,assignment]
    await cache.rotating.orders.start(TWO, 1.0)
    await changed(cache)
    plan = await cache.plan()
    assert (plan.done, plan.total, plan.unembedded) == (20, 20, 2)
    assert [await cache.text(question) for question in asked] == ["an answer"] * 20
    assert all(embedded(cache).count(question) == 1 for question in asked if question not in {asked[3], asked[17]})


async def test_nothing_moves_without_an_embedding_while_the_embedder_is_down(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(moving, "AGAIN_SECONDS", 0.0)
    cache = await make().ready()
    await cache.put("before", "an answer")
    new = cache.workshop.embedders["two"]
    await cache.rotating.orders.start(TWO, 1.0)
    new.error = Unavailable("it is down", reason=Reason.EMBEDDER_UNAVAILABLE)
    await cache.until(lambda: new.calls.count("before") > 3 * moving.TRIES)
    new.error = None
    await changed(cache)
    assert (await cache.plan()).unembedded == 0


@pytest.mark.fault(69)
async def test_a_replica_that_stays_behind_promises_nothing(make: Make) -> None:
    one, late = await make().ready(), await make().ready()
    await one.put("before", "an answer")
    late.workshop.absent.add("two")
    await one.rotating.orders.start(TWO, 1.0)
    await changed(one)
    await late.until(lambda: late.sides.behind)
    with pytest.raises(Unavailable) as refused:
        await late.put("late", "under the old one")
    assert refused.value.reason is Reason.EMBEDDER_UNAVAILABLE
    found = (await late.look("before")).entry
    assert found is not None
    with pytest.raises(Unavailable):
        await late.delete(found.id)
    late.workshop.absent.clear()
    await changed(late)
    await late.put("late", "under the new one")
    await one.until(lambda: len(one.sides.cache.entries) == 2)


async def test_an_embedder_that_fails_is_told_and_asked_again(make: Make) -> None:
    cache = await make().ready()
    await cache.put("before", "an answer")
    new = cache.workshop.embedders["two"]
    new.error = Unavailable("it is down", reason=Reason.EMBEDDER_UNAVAILABLE)
    with pytest.raises(Unavailable):
        await cache.rotating.orders.start(TWO, 1.0)
    new.error = None
    await cache.rotating.orders.start(TWO, 1.0)
    new.error = Unavailable("it is down", reason=Reason.EMBEDDER_UNAVAILABLE)
    async with asyncio.timeout(30):
        while not (await cache.plan()).failing:  # noqa: ASYNC110 -- each turn reads the plan
            await asyncio.sleep(0.01)
    assert (await cache.plan()).phase is Phase.EMBEDDING
    new.error = None
    await changed(cache)
    assert (await cache.plan()).failing == ""


async def test_what_a_cancelled_change_has_filled_can_be_dropped(make: Make) -> None:
    cache = await make().ready()
    await cache.put("before", "an answer")
    await cache.plans.drop(cache.workshop.end(TWO))
    three = replace(cache.workshop.end(TWO), choice=Choice("three"), slug="known_three")
    begun = await cache.rotating.orders.start(TWO, 1.0)
    # As if the change before had gone from a third one to the first.
    assert await cache.plans.save_plan(
        replace(begun, phase=Phase.CANCELLED, old=(three,), ver=(await cache.plan()).ver)
    )
    assert (await cache.plan()).old == (three,)
    for one in (begun.target, three):  # there, as it is read
        assert await cache.workshop.store(one).is_empty()
    assert (await cache.rotating.orders.drop_old()).phase is Phase.DROPPING
    plan = await cache.until_phase(Phase.DROPPED)
    assert plan.served.slug == begun.source.slug
    assert await _collections(cache) == {_name(begun.source)}
    assert await cache.text("before") == "an answer"
    assert (await cache.rotating.orders.start(TWO, 1.0)).old == ()
    await changed(cache)
    assert await cache.text("before") == "an answer"


async def test_a_new_change_remembers_collections_of_before(make: Make) -> None:
    cache = await make().ready()
    three = replace(cache.workshop.end(TWO), choice=Choice("three"), slug="known_three")
    here = cache.sides.current.end
    assert await cache.plans.save_plan(Plan(three, here, Phase.SWITCHED, 1.0, 1, 1))
    begun = await cache.rotating.orders.start(TWO, 1.0)
    assert begun.old == (three,)
    await cache.rotating.orders.cancel()
    assert {end.slug for end in (await cache.plan()).unserved} == {"known_two", "known_three"}


def _name(end: End) -> str:
    return collection_name(end.slug, end.dim)


async def _collections(cache: RotatingCache) -> set[str]:
    async with cache.connection.collection(cache.plans._spec) as collection:
        listed = await collection._client.get_collections()
    return {one.name for one in listed.collections if one.name.startswith(CURRENT_ALIAS)}


async def test_the_old_collection_stays_until_it_is_dropped(make: Make) -> None:
    cache = await make().ready()
    await cache.put("before", "an answer")
    with pytest.raises(FailedPrecondition):
        await cache.rotating.orders.drop_old()
    await cache.rotating.orders.start(TWO, 1.0)
    await changed(cache)
    with pytest.raises(FailedPrecondition):
        await cache.rotating.orders.drop_old()  # somebody may still use it
    await asyncio.sleep(plans.SETTLE_SECONDS)
    assert len(await _stored(cache, "one")) == 1
    await cache.rotating.orders.drop_old()
    await cache.until_phase(Phase.DROPPED)
    async with cache.connection.collection(cache.workshop.store(cache.workshop.end(TWO))._spec):
        store = cache.connection._store
    assert store is not None
    assert await store.resolve("antiphon_entries") == "antiphon_entries_known_two_32_v1"
    assert await store.resolve("antiphon_entries_known_one_64") is None
    assert await cache.text("before") == "an answer"


async def test_a_change_can_be_given_up_and_taken_up_and_undone(make: Make) -> None:
    cache = await make().ready()
    for question in questions(40):
        await cache.put(question, "an answer")
    new = cache.workshop.embedders["two"]
    await cache.rotating.orders.start(TWO, 1.0)
    await cache.until(lambda: len(embedded(cache)) >= 16)
    new.gate.clear()
    await cache.rotating.orders.cancel()
    new.gate.set()
    assert (await cache.rotating.orders.cancel()).phase is Phase.CANCELLED, "once more does no harm"
    assert cache.serving == "one"
    await cache.rotating.orders.start(TWO, 1.0)
    await changed(cache)
    await cache.put("by two", "kept")
    await asyncio.sleep(plans.SETTLE_SECONDS)
    calls = len(embedded(cache, "one"))
    await cache.rotating.orders.start(ONE, 1.0)
    await cache.until(lambda: cache.serving == "one")
    assert len(embedded(cache, "one")) == calls + 1, "the old collection is taken up"
    assert await cache.text("by two") == "kept"
    assert await cache.text(questions(1)[0]) == "an answer"


async def test_what_makes_no_sense_is_refused(make: Make) -> None:
    cache = await make().ready()
    with pytest.raises(InvalidRequest):
        await cache.rotating.orders.start(ONE, 1.0)
    with pytest.raises(FailedPrecondition):
        await cache.rotating.orders.start(Choice("three"), 1.0)
    for question in questions(60):
        await cache.put(question, "an answer")
    first = await cache.rotating.orders.start(TWO, 0.05)
    again = await cache.rotating.orders.start(TWO, 0.05)
    assert (again.started_us, again.phase) == (first.started_us, Phase.EMBEDDING), "the one that is under way"
