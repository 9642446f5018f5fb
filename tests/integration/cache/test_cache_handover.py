"""While one embedder's cache takes over from the other: deletes and clears do not wait, and nothing comes back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from services.cache import hot
from services.cache.entry import Entry
from services.cache.feedback import Feedback
from services.cache.ports import Tombstone
from services.cache.review import FeedbackSource
from services.cache.rotation import handover, plan
from services.cache.rotation.sides import Side, Sides
from services.cache.values import Action, ByTags, Chosen, Policy
from tests.integration.cache.rotating_cache import TWO, RotatingCache, changed, questions
from tests.integration.cache.stored_cache import GUARD_S
from tests.unit.cache.cache_parts import TENANT, KnownEmbedder

Make = Callable[..., RotatingCache]

pytestmark = pytest.mark.usefixtures("quick")

COUNT = 30


class Held:
    """Holds the hand-over up after its first round."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.reached, self.go = asyncio.Event(), asyncio.Event()
        bury = handover._bury

        async def held(old: Side, new: Side, counterparts: set[str]) -> None:
            self.reached.set()
            await self.go.wait()
            await bury(old, new, counterparts)

        monkeypatch.setattr(handover, "_bury", held)


@pytest.fixture
async def held(quick: None, monkeypatch: pytest.MonkeyPatch) -> Held:
    monkeypatch.setattr(plan, "SETTLE_SECONDS", 60.0)  # this replica is not behind yet
    return Held(monkeypatch)


async def _held_up(make: Make, held: Held, **how: int) -> tuple[RotatingCache, dict[str, Entry]]:
    cache = await make(**how).ready()
    entries = {question: await cache.put(question, "old") for question in questions(COUNT)}
    entries["tagged"] = await cache.put("tagged", "old", Policy(tags=("t",)))
    await cache.rotating.orders.start(TWO, 1.0)
    async with asyncio.timeout(GUARD_S):
        await held.reached.wait()
    assert cache.serving == "one"
    return cache, entries


@pytest.mark.fault(69)
@pytest.mark.parametrize("hot_bytes", [hot.ALL_HOT, 0], ids=["in memory", "in the store"])
async def test_what_goes_while_a_cache_takes_over_does_not_wait_and_stays_away(
    make: Make, held: Held, monkeypatch: pytest.MonkeyPatch, hot_bytes: int
) -> None:
    monkeypatch.setattr(hot, "INLINE_BYTES", 0)
    cache, entries = await _held_up(make, held, hot_bytes=hot_bytes)
    asked = questions(COUNT)
    late = await cache.put("late", "not looked at yet")
    by_tag = Chosen(ByTags(frozenset({"t"})))
    async with asyncio.timeout(GUARD_S):  # the hand-over does not go on before
        assert await cache.delete(entries[asked[0]].id, late.id) == 2
        assert await cache.sides.remove(TENANT, by_tag, Action.DELETE, by="", dry_run=False) == 1
        await cache.put(asked[1], "new")
    held.go.set()
    await changed(cache)
    expected = {
        **dict.fromkeys(asked, "old"),
        asked[0]: None,
        asked[1]: "new",
        "late": None,
        "tagged": None,
    }
    assert {question: await cache.text(question) for question in expected} == expected
    # And what the store says, to another process.
    await cache.until(lambda: not cache.sides.cache.transfers.late.waiting(TENANT, None))
    await cache.sides.cache.writer.drain()
    await cache.die()
    cache = await make().ready(TWO)
    assert {question: await cache.text(question) for question in expected} == expected


@pytest.mark.fault(69)
async def test_what_is_said_while_a_cache_takes_over_is_heard_though_the_copy_was_just_embedded(
    make: Make, held: Held
) -> None:
    cache, entries = await _held_up(make, held)
    asked, incoming = questions(COUNT)[0], cache.sides.incoming
    assert incoming is not None
    (copy,) = (one for one in incoming.cache.entries.buckets(TENANT)[0].entries.values() if one.question == asked)
    assert copy.ver >= entries[asked].ver
    await incoming.cache._storing.give_vector(copy, KnownEmbedder(incoming.end.dim).vector(asked))
    wrong = Feedback(entries[asked].id, FeedbackSource.OPERATOR, right=False, semantic=False)
    await cache.sides.feedback(TENANT, wrong)
    held.go.set()
    await changed(cache)
    assert await cache.text(asked) is None


@pytest.mark.fault(69)
async def test_what_is_cleared_while_a_cache_takes_over_stays_so(make: Make, held: Held) -> None:
    cache, entries = await _held_up(make, held)
    async with asyncio.timeout(GUARD_S):
        assert (await cache.sides.clear(TENANT, "default", dry_run=False))[0] == len(entries)
        await cache.put("after", "kept")
    held.go.set()
    await changed(cache)
    assert [await cache.text(question) for question in entries] == [None] * len(entries)
    assert await cache.text("after") == "kept"


@pytest.mark.fault(69)
async def test_a_delete_whose_caller_has_gone_makes_the_cache_take_over_anew(
    make: Make, held: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, entries = await _held_up(make, held)
    asked = questions(COUNT)
    begun, go = asyncio.Event(), asyncio.Event()
    save = cache.sides.current.store.save

    async def slow(writes: list[Tombstone]) -> list[bool]:
        begun.set()
        await go.wait()
        return await save(writes)

    monkeypatch.setattr(type(cache.sides.current.store), "save", lambda _, writes: slow(writes))
    deleting = asyncio.create_task(cache.delete(entries[asked[0]].id))
    await begun.wait()
    deleting.cancel()
    await asyncio.wait([deleting])
    monkeypatch.undo()
    assert cache.sides.incoming is None
    go.set()
    held.go.set()
    await cache.until(lambda: any("broke off" in str(error) for error in cache.reported))
    await cache.until(lambda: cache.serving == "two")
    assert await cache.text(asked[0]) is None
    assert await cache.text(asked[1]) == "old"


async def test_what_cannot_be_told_to_the_next_cache_is_gone_all_the_same(
    make: Make, held: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, entries = await _held_up(make, held)
    asked = questions(COUNT)

    async def untold(_: Sides, side: Side, buried: object) -> None:
        raise handover.Unavailable("down", reason=handover.Reason.STORE_UNAVAILABLE)

    with monkeypatch.context() as patched:
        patched.setattr(Sides, "_bury", untold)
        assert await cache.delete(entries[asked[0]].id) == 1
    held.go.set()
    await cache.until(lambda: any("broke off" in str(error) for error in cache.reported))
    await cache.until(lambda: cache.serving == "two")
    assert await cache.text(asked[0]) is None


async def test_much_that_comes_meanwhile_is_looked_for_in_rounds(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = await make().ready()
    for question in questions(COUNT):
        await cache.put(question, "old")
    monkeypatch.setattr(handover, "STEP", 5)
    looked: list[int] = []
    every, again, last = handover._Taking.all, handover._Taking.catch_up, handover._Taking.rest

    async def counted_all(self: handover._Taking) -> None:
        await every(self)
        for question in questions(COUNT)[:20]:
            await cache.put(question, "new")

    async def counted(self: handover._Taking) -> None:
        looked.append(len(self.changed))
        await again(self)
        await cache.put("in between", "new")

    def counted_rest(self: handover._Taking) -> None:
        looked.append(len(self.changed))
        last(self)

    monkeypatch.setattr(handover._Taking, "all", counted_all)
    monkeypatch.setattr(handover._Taking, "catch_up", counted)
    monkeypatch.setattr(handover._Taking, "rest", counted_rest)
    await cache.rotating.orders.start(TWO, 1.0)
    await changed(cache)
    assert looked == [20, 1], "as long as more than a step comes"
    assert cache.sides.previous is not None
    assert cache.sides.previous.cache.entries.watch is None
    assert await cache.text("in between") == "new"
    assert [await cache.text(question) for question in questions(COUNT)] == ["new"] * 20 + ["old"] * (COUNT - 20)
