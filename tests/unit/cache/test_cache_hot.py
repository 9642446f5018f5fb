"""Which bodies stay in memory: those that were served last, within their bytes, and what the store does not have."""

from __future__ import annotations

import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from services.cache.entries import Entries
from services.cache.entry import Entry, Source, text_bytes
from services.cache.outline import INLINE_BYTES, Outline, body_memory, outline, same, same_body
from services.cache.pool import Slot
from services.cache.room import Capacity, Room
from services.llm.values import Answer, FinishReason, ToolCall
from tests.unit.cache.cache_parts import answer

DIM = 8
BODY = "x" * 1_000
SIZE = body_memory(answer(BODY))
NAMESPACES = ("one", "two")


class Memory:
    """Entries with room for the bodies of `bodies` answers."""

    def __init__(self, executor: ThreadPoolExecutor, bodies: float) -> None:
        self.cap = int(bodies * SIZE)
        self.ver = 0
        self.entries = Entries(
            DIM,
            room=Room(Capacity(), dim=DIM, chance=random.Random(1).random),
            threads=1,
            executor=executor,
            hot_bytes=self.cap,
        )

    def made(self, name: str, text: str = BODY, *, namespace: str = "one", epoch: int = 0) -> Entry:
        self.ver += 1
        return Entry(
            id=name,
            tenant="t",
            namespace=namespace,
            scope="s",
            key=name,
            question=name,
            answer=answer(text),
            created_us=1,
            updated_us=1,
            expires_us=1 << 50,
            ver=self.ver,
            epoch=epoch,
            source=Source.PUT,
        )

    def put(self, name: str, text: str = BODY, *, saved: bool = True) -> Entry:
        entry = self.made(name, text)
        assert self.entries.put(entry, None)
        if saved:
            self.entries.hot.saved(entry)
        return entry

    def hot(self) -> list[str]:
        return sorted(
            entry.id for bucket in self.entries.all_buckets() for entry in bucket.entries.values() if entry.whole
        )

    def listed(self) -> Iterator[Slot]:
        """The list, from the coldest on."""
        hot = self.entries.hot
        slot = hot._cold.warmer
        while slot is not None and slot is not hot._warm:
            yield slot
            assert slot.warmer is not None
            assert slot.warmer.colder is slot
            slot = slot.warmer

    def check(self) -> None:
        """What is counted is what is there."""
        memory = [body_memory(slot.entry.whole_answer) for slot in self.listed() if slot.entry is not None]
        assert sum(memory) == self.entries.hot.bytes <= self.cap
        pools = [bucket.pool for bucket in self.entries.all_buckets()]
        visible = sum(body_memory(s.entry.whole_answer) for s in self.listed() if s.entry and not s.home.cleared)
        assert sum(pool.hot for pool in pools) == visible
        for tenant in {id(pool.tenant): pool.tenant for pool in pools}.values():
            assert tenant is not None
            assert tenant.hot == sum(pool.hot for pool in pools if pool.tenant is tenant)
        for bucket in self.entries.all_buckets():
            for name, entry in bucket.entries.items():
                assert bucket.slots[name].entry is entry


def test_who_was_served_longest_ago_goes_first(executor: ThreadPoolExecutor) -> None:
    memory = Memory(executor, 3)
    a, *_ = [memory.put(name) for name in "abc"]
    memory.entries.hit(a)
    memory.put("d")
    assert memory.hot() == ["a", "c", "d"]
    memory.put("e")
    assert memory.hot() == ["a", "d", "e"]
    memory.check()


def test_an_outline_tells_everything_but_the_words(executor: ThreadPoolExecutor) -> None:
    memory = Memory(executor, 0)
    entry = memory.put("a")
    kept = memory.entries.find("t", "one", "a")
    assert kept is not None
    assert isinstance(kept.answer, Outline)
    assert memory.entries.current(entry)
    assert memory.entries.current(kept)
    assert (kept.answer.model, kept.answer.cost, kept.answer.usage) == (
        "small",
        *(entry.answer.cost, entry.answer.usage),
    )
    assert text_bytes(kept.question, kept.answer) == text_bytes(entry.question, entry.answer) == 1_001
    assert same(kept.answer, entry.answer)
    assert not same(kept.answer, replace(entry.whole_answer, created_at=5.0))
    assert same_body(kept.answer, replace(entry.whole_answer, created_at=5.0))
    assert memory.entries.hot.warm(kept, entry.whole_answer) == entry


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Answer("ab", FinishReason.STOP, "m"), Answer("ba", FinishReason.STOP, "m")),
        (Answer("ab", FinishReason.STOP, "m"), Answer("a", FinishReason.STOP, "m", refusal="b")),
        (
            Answer("", FinishReason.STOP, "m", tool_calls=(ToolCall("1", "f", "{}"),)),
            Answer("", FinishReason.STOP, "m", tool_calls=(ToolCall("1f", "", "{}"),)),
        ),
        (
            Answer("", FinishReason.STOP, "m", tool_calls=(ToolCall("1", "f", "{}"), ToolCall("2", "f", "{}"))),
            Answer("", FinishReason.STOP, "m", tool_calls=(ToolCall("2", "f", "{}"), ToolCall("1", "f", "{}"))),
        ),
    ],
)
def test_different_bodies_have_different_outlines(one: Answer, other: Answer) -> None:
    assert not same_body(one, other)
    assert not same(outline(one), other)
    assert same(outline(one), replace(one))


def test_what_the_store_does_not_have_and_what_is_short_stays(executor: ThreadPoolExecutor) -> None:
    memory = Memory(executor, 1)
    for name in "abc":
        memory.put(name, saved=False)
    for name in "def":
        memory.put(name, "short")
    assert body_memory(answer("short")) <= INLINE_BYTES
    memory.put("g")
    assert memory.hot() == list("abcdefg")
    assert memory.entries.hot.bytes == SIZE
    memory.put("h")
    assert memory.hot() == list("abcdefh")
    memory.check()


def test_an_older_version_that_was_saved_frees_no_newer_one(executor: ThreadPoolExecutor) -> None:
    memory = Memory(executor, 0)
    first = memory.put("a", saved=False)
    second = memory.put("a", BODY + "newer", saved=False)
    memory.entries.hot.saved(first)
    assert memory.entries.find("t", "one", "a") is second
    memory.entries.hot.saved(second)
    assert memory.hot() == []
    assert memory.entries.hot.warm(first, first.whole_answer) is None, "a body of another version is not taken"


def test_what_is_read_from_the_store_unasked_drives_nothing_out(executor: ThreadPoolExecutor) -> None:
    memory = Memory(executor, 2.5)
    memory.put("a")
    for name in "bcd":
        entry = memory.made(name)
        memory.entries.put_many([(entry, None)])
        memory.entries.hot.offer(entry)
    assert memory.hot() == ["a", "b"]
    memory.put("e")
    assert memory.hot() == ["a", "e"], "nobody had asked for b"
    memory.check()


def test_a_review_leaves_the_body_where_it_is(executor: ThreadPoolExecutor) -> None:
    memory = Memory(executor, 1)
    cold, hot = memory.put("a"), memory.put("b")
    for before in (cold, hot):
        memory.ver += 1
        assert memory.entries.amend(replace(before, ver=memory.ver))
    assert memory.hot() == ["b"]
    memory.check()


@pytest.mark.parametrize("seed", range(6))
async def test_whatever_is_done_the_bytes_are_right_and_within_the_cap(executor: ThreadPoolExecutor, seed: int) -> None:
    memory, draw = Memory(executor, 4.5), random.Random(seed)
    saved: set[int] = set()
    epochs = dict.fromkeys(NAMESPACES, 0)
    for _ in range(600):
        name, namespace = draw.choice("abcdefghij"), draw.choice(NAMESPACES)
        entry = memory.entries.find("t", namespace, name)
        what = draw.randrange(10)
        if what < 4 or entry is None:
            text = draw.choice((BODY, BODY * 3, "short", "ü" * 700))
            entry = memory.made(name, text, namespace=namespace, epoch=epochs[namespace])
            stored = draw.random() < 0.5
            memory.entries.put_many([(entry, None)])
            if stored:
                saved.add(entry.ver)
                draw.choice((memory.entries.hot.saved, memory.entries.hot.offer))(entry)
        elif what == 4:
            memory.entries.remove(entry)
        elif what == 5 and draw.random() < 0.2:
            epochs[namespace] += 1
            before = memory.entries.raise_epoch("t", namespace, epochs[namespace])
            memory.check()
            if before is not None:
                await memory.entries.dismantle(before, 0.0)
        elif what < 8:
            memory.entries.hit(entry)
        elif not entry.whole:
            memory.entries.hot.warm(entry, answer(BODY))
        else:
            saved.add(entry.ver)
            memory.entries.hot.saved(entry)
        memory.check()
        for bucket in memory.entries.all_buckets():
            assert all(one.whole or one.ver in saved for one in bucket.entries.values())
