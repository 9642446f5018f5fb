"""Limits of namespaces, tenants and the whole memory, and who has to go."""

from __future__ import annotations

import gc
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.cache.entries import Entries
from services.cache.entry import VECTOR_ELEMENT_BYTES, Entry, Source, text_bytes
from services.cache.pool import Slot
from services.cache.review import FeedbackSource, Quarantine, Review, Said
from services.cache.room import Capacity, Eviction, Room, Victim
from services.cache.values import Vector
from services.cache.worth import INPUT_NANO_USD, OUTPUT_NANO_USD, p_right, reuse, saving
from services.llm.values import Answer, Cost, FinishReason, Usage
from tests.bench.evicting import Lru, Ours, run

DIM = 4
VECTOR_BYTES = DIM * VECTOR_ELEMENT_BYTES
FAR_US = 1 << 52


@pytest.fixture(scope="module")
def executor() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as made:
        yield made


class Memory:
    """Entries with short names; what was evicted is remembered."""

    def __init__(self, executor: ThreadPoolExecutor, capacity: Capacity, seed: int = 1) -> None:
        self.doubts: dict[str, float] = {}
        chance = random.Random(seed).random
        room = Room(capacity, dim=DIM, chance=chance, p_wrong=lambda entry: self.doubts.get(entry.id, 0.0))
        self.entries = Entries(DIM, room=room, threads=1, executor=executor)
        self.gone: list[Victim] = []

    def put(self, name: str, *, tenant: str = "a", namespace: str = "n", now_us: int = 1, **fields: object) -> Entry:
        text = str(fields.pop("text", "answer"))
        nano_usd = int(str(fields.pop("nano_usd", 1_000)))
        entry = Entry(
            id=name,
            tenant=tenant,
            namespace=namespace,
            scope="scope",
            key=name,
            question="question",
            answer=Answer(text, FinishReason.STOP, "small", cost=Cost(nano_usd, "p1")),
            created_us=1,
            updated_us=1,
            expires_us=FAR_US,
            ver=self.entries.next_ver(1),
            epoch=self.entries.epoch(tenant, namespace),
            source=Source.PUT,
        )
        entry = replace(entry, **fields)  # type: ignore[arg-type]
        assert self.entries.put(entry, _vector())
        self.gone += self.entries.pop_surplus(now_us)
        return entry

    def hit(self, name: str, times: int = 1, *, tenant: str = "a", namespace: str = "n") -> None:
        entry = self.entries.find(tenant, namespace, name)
        assert entry is not None
        for _ in range(times):
            self.entries.hit(entry)

    def names(self, tenant: str = "a", namespace: str = "n") -> set[str]:
        bucket = self.entries.bucket(tenant, namespace)
        return set(bucket.entries) if bucket else set()

    @property
    def lost(self) -> list[str]:
        return [victim.entry.id for victim in self.gone]


def _vector() -> Vector:
    return np.full(DIM, 0.5, np.float32)


# --- limits ----------------------------------------------------------------------------------------------------------


def test_a_tenants_limit_costs_its_own_entries_only(executor: ThreadPoolExecutor) -> None:
    memory = Memory(executor, Capacity(tenant_entries=3))
    for number in range(3):
        memory.put(f"b{number}", tenant="b", nano_usd=1)
    for number in range(50):
        memory.put(f"a{number}", namespace=f"n{number % 5}", nano_usd=10**9)
    assert memory.names("b") == {"b0", "b1", "b2"}
    assert sum(len(bucket.entries) for bucket in memory.entries.buckets("a")) == 3
    assert {victim.reason for victim in memory.gone} == {Eviction.TENANT_ENTRIES}


def test_a_namespaces_limit_costs_its_own_entries_only(executor: ThreadPoolExecutor) -> None:
    memory = Memory(executor, Capacity(namespace_entries=2))
    memory.put("other", namespace="m", nano_usd=1)
    for number in range(20):
        memory.put(f"a{number}", nano_usd=10**9)
    assert memory.names(namespace="m") == {"other"}
    assert len(memory.names()) == 2
    assert {victim.reason for victim in memory.gone} == {Eviction.NAMESPACE_ENTRIES}


@pytest.mark.parametrize("whose", ["tenant", "namespace"])
def test_bytes_are_limited_and_the_large_one_that_saves_no_more_goes(executor: ThreadPoolExecutor, whose: str) -> None:
    small = len("question") + len("answer") + VECTOR_BYTES
    memory = Memory(executor, Capacity(**{f"{whose}_bytes": 10 * small}))  # type: ignore[arg-type]
    for number in range(6):
        if number == 3:
            memory.put("large", text="x" * (4 * small))
        memory.put(f"small {number}")
    assert memory.lost == ["large"]  # others have been there for longer
    assert memory.gone[0].reason == f"{whose}_bytes"


@pytest.mark.parametrize("whose", ["tenant", "namespace"])
def test_nothing_goes_for_what_is_too_large_by_itself(executor: ThreadPoolExecutor, whose: str) -> None:
    memory = Memory(executor, Capacity(**{f"{whose}_bytes": 1_000}))  # type: ignore[arg-type]
    for number in range(20):
        memory.put(f"{number}", text="x")
    memory.put("too large", text="x" * 1_000)
    assert memory.lost == ["too large"]
    assert memory.gone[0].reason == f"{whose}_bytes"


def test_the_whole_limit_costs_the_tenant_that_has_most(executor: ThreadPoolExecutor) -> None:
    memory = Memory(executor, Capacity(100))
    for number in range(40):
        memory.put(f"b{number}", tenant="b", nano_usd=1)
    for number in range(500):
        memory.put(f"a{number}", nano_usd=10**9)
    assert len(memory.names("b")) == 40
    assert len(memory.entries) == 100
    assert {victim.reason for victim in memory.gone} == {Eviction.ENTRIES}


@pytest.mark.parametrize("tenants", [2, 7])
def test_nobody_with_less_than_an_equal_share_loses_to_the_whole_limit(
    executor: ThreadPoolExecutor, tenants: int
) -> None:
    memory, rng = Memory(executor, Capacity(100)), random.Random(tenants)
    held = dict.fromkeys(range(tenants), 0)
    for number in range(2_000):
        tenant = min(rng.randrange(tenants), rng.randrange(tenants))
        memory.put(f"{number}", tenant=str(tenant))
        held[tenant] += 1
        for victim in memory.gone:
            loser = int(victim.entry.tenant)
            assert held[loser] * sum(one > 0 for one in held.values()) >= 100, (number, held)
            held[loser] -= 1
        memory.gone.clear()
        if number % 300 == 299:  # the largest may go at once
            largest = max(held, key=lambda one: held[one])
            memory.entries.raise_epoch(str(largest), "n", memory.entries.epoch(str(largest), "n") + 1)
            held[largest] = 0
    assert sum(held.values()) == len(memory.entries)


# --- who goes --------------------------------------------------------------------------------------------------------


def test_what_has_expired_goes_first_and_from_the_tenant_that_is_full(executor: ThreadPoolExecutor) -> None:
    memory = Memory(executor, Capacity(tenant_entries=40))
    memory.put("theirs", tenant="b", expires_us=50)
    memory.put("over", expires_us=100, nano_usd=10**9)
    memory.hit("over", 100)
    for number in range(40):
        memory.put(f"{number}", now_us=99 if number < 39 else 100)
    assert [(victim.entry.id, victim.reason) for victim in memory.gone] == [("over", Eviction.EXPIRED)]
    assert memory.names("b") == {"theirs"}


def test_what_was_said_later_moves_the_end(executor: ThreadPoolExecutor) -> None:
    memory = Memory(executor, Capacity(2))
    before = memory.put("first", expires_us=100)
    assert memory.entries.amend(replace(before, expires_us=FAR_US, ver=memory.entries.next_ver(1)))
    memory.put("second", expires_us=200)
    memory.put("third", now_us=300)
    assert memory.lost == ["second"]


def test_what_was_never_hit_goes_before_what_was(executor: ThreadPoolExecutor) -> None:
    memory = Memory(executor, Capacity(10))
    for number in range(10):
        memory.put(f"{number}")
    for number in range(9):
        memory.hit(f"{number}")
    memory.put("new")
    assert memory.lost == ["9"]


def test_hits_fade(executor: ThreadPoolExecutor) -> None:
    memory = Memory(executor, Capacity(3))
    for name in ("past", "present", "third"):
        memory.put(name)
    memory.hit("past", 200)
    memory.hit("third", 5_000)
    memory.hit("present", 50)
    memory.put("new")
    assert memory.lost == ["past"]


def test_what_was_cheap_goes_before_what_was_dear(executor: ThreadPoolExecutor) -> None:
    memory = Memory(executor, Capacity(5))
    for number, nano_usd in enumerate([500, 200, 900, 100, 700]):
        memory.put(f"{number}", nano_usd=nano_usd)
        memory.hit(f"{number}")
    memory.put("new")
    memory.hit("new")
    memory.put("newer")
    assert memory.lost == ["3", "1"]


def test_what_may_be_wrong_goes_before_what_is_as_dear(executor: ThreadPoolExecutor) -> None:
    memory = Memory(executor, Capacity(5))
    for number in range(5):
        memory.put(f"{number}")
        memory.hit(f"{number}", 2)
    memory.doubts["1"] = 0.6
    memory.put("new")
    assert memory.lost == ["1"]


@pytest.mark.parametrize("whole", [True, False])
def test_what_was_called_wrong_goes_first(executor: ThreadPoolExecutor, whole: bool) -> None:
    memory = Memory(executor, Capacity(5))
    said = (Said(FeedbackSource.JUDGE, "by", "id", right=False, semantic=not whole, at_us=1),)
    wrong = Review(said, Quarantine("judge", whole=whole, at_us=1))
    for number in range(5):
        fields = {"review": wrong, "nano_usd": 10**12 if whole else 1_000} if number == 2 else {}
        memory.put(f"{number}", **fields)
        memory.hit(f"{number}", 3)
    memory.put("new", nano_usd=1)
    assert memory.lost == ["2"]


def test_a_newcomer_is_not_its_own_victim_and_stays_if_it_is_asked_for(executor: ThreadPoolExecutor) -> None:
    memory = Memory(executor, Capacity(200))
    for number in range(200):
        memory.put(f"old {number}", nano_usd=10**7)
        memory.hit(f"old {number}", 3)
    memory.put("asked for", nano_usd=10**7)
    memory.put("never asked for", nano_usd=10**7)
    assert {"asked for", "never asked for"} <= memory.names()
    for number in range(300):
        memory.hit("asked for")
        memory.put(f"new {number}", nano_usd=10**7)
    assert "asked for" in memory.names()
    assert "never asked for" not in memory.names()


def test_another_answer_to_a_question_keeps_its_hits(executor: ThreadPoolExecutor) -> None:
    memory = Memory(executor, Capacity(3))
    for number in range(3):
        memory.put(f"{number}")
    memory.hit("0", 5)
    memory.put("0", text="another answer")
    memory.hit("2")
    memory.hit("1")
    memory.put("3")
    assert {"0", "3"} < memory.names()


# --- accounts --------------------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 30), st.integers(2, 12), st.integers(1, 8))
def test_accounts_are_right_whatever_happens(
    executor: ThreadPoolExecutor, seed: int, whole: int, of_tenant: int, of_namespace: int
) -> None:
    capacity = Capacity(whole, of_tenant, 400, of_namespace, 300)
    memory, rng = Memory(executor, capacity, seed), random.Random(seed)
    for step in range(150):
        tenant, namespace = rng.choice("abc"), rng.choice("nm")
        name = f"{tenant}{namespace}{rng.randrange(20)}"
        match rng.randrange(12):
            case 0:
                memory.entries.raise_epoch(tenant, namespace, memory.entries.epoch(tenant, namespace) + 1)
            case 1:
                memory.entries.renew_index()
            case 2 if (entry := memory.entries.find(tenant, namespace, name)) is not None:
                memory.entries.remove(entry)
            case 3 if (entry := memory.entries.find(tenant, namespace, name)) is not None:
                memory.entries.hit(entry)
            case 4:
                memory.entries.pop_expired(step, 2)
            case _:
                expires_us = step + rng.randrange(1, 200)
                memory.put(
                    name,
                    tenant=tenant,
                    namespace=namespace,
                    now_us=step,
                    text="x" * rng.randrange(60),
                    expires_us=expires_us,
                )
        _check(memory, capacity)


def _check(memory: Memory, capacity: Capacity) -> None:
    total = 0
    for tenant in "abc":
        size = count = 0
        for bucket in memory.entries.buckets(tenant):
            texts = sum(text_bytes(one.question, one.answer) for one in bucket.entries.values())
            bytes_ = memory.entries.room.bytes(bucket.pool)
            rows = sum(group.rows for group in bucket.groups.values())
            assert bytes_ == texts + rows * VECTOR_BYTES
            assert bucket.pool.entries == len(bucket.entries) == len(bucket.slots) <= capacity.namespace_entries
            assert bytes_ <= capacity.namespace_bytes
            size, count = size + bytes_, count + len(bucket.entries)
        assert (size <= capacity.tenant_bytes, count <= capacity.tenant_entries) == (True, True)
        total += count
    assert total == len(memory.entries) <= capacity.entries


def test_what_has_gone_is_let_go(executor: ThreadPoolExecutor) -> None:
    memory = Memory(executor, Capacity(50))
    gc.collect()
    before = sum(isinstance(one, Entry) for one in gc.get_objects())
    for number in range(1_000):
        memory.put(f"{number}", namespace=f"n{number % 3}", expires_us=FAR_US - number)
        memory.gone.clear()
    gc.collect()
    assert sum(isinstance(one, Entry) for one in gc.get_objects()) - before == 50


async def test_what_has_gone_is_no_part_of_a_cycle(executor: ThreadPoolExecutor) -> None:
    """The collector of cycles does not see what a start has read."""
    memory = Memory(executor, Capacity())
    gc.collect()
    gc.disable()
    try:
        before = sum(isinstance(one, Slot) for one in gc.get_objects())
        for number in range(500):
            memory.put(f"{number}", tenant="ab"[number % 2], namespace=f"n{number % 5}")
        for bucket in memory.entries.buckets("b"):
            for entry in list(bucket.entries.values()):
                memory.entries.remove(entry)
        for bucket in memory.entries.buckets("a"):
            cleared = memory.entries.raise_epoch("a", bucket.namespace, 1)
            assert cleared is not None
            await memory.entries.dismantle(cleared, 0.0)
        del bucket, cleared, entry
        memory.put("another", namespace="other")
        assert sum(isinstance(one, Slot) for one in gc.get_objects()) - before == 1
    finally:
        gc.enable()


# --- worth -----------------------------------------------------------------------------------------------------------


def test_what_a_hit_saves_is_estimated_where_nobody_says() -> None:
    answer = Answer("x" * 400, FinishReason.STOP, "small")
    told = replace(answer, usage=Usage(input=30, output=100))
    assert saving("q" * 40, replace(told, cost=Cost(7, "p1"))) == 7
    assert saving("q" * 40, told) == 30 * INPUT_NANO_USD + 100 * OUTPUT_NANO_USD
    assert saving("q" * 40, answer) == 10 * INPUT_NANO_USD + 100 * OUTPUT_NANO_USD
    free = saving("q" * 40, replace(told, cost=Cost(0, "p1")))
    assert 0 < free < saving("q" * 40, told) / 100
    assert saving("", Answer("", FinishReason.STOP, "small")) > 0


def test_more_hits_and_fewer_events_promise_more() -> None:
    assert reuse(2, 100, 1_000) > reuse(1, 100, 1_000) > reuse(1, 1_000, 1_000) > reuse(0, 1_000, 1_000)
    assert reuse(0, 10, 1_000) > reuse(0, 100_000, 1_000) > 0


def test_whoever_speaks_moves_what_is_believed() -> None:
    def review(*voices: bool, whole: bool | None = None) -> Review:
        said = tuple(
            Said(FeedbackSource.USER, str(number), str(number), right=right, semantic=False, at_us=1)
            for number, right in enumerate(voices)
        )
        return Review(said, None if whole is None else Quarantine("users", whole=whole, at_us=1))

    assert p_right(Review(), 0.0) == 1.0
    assert p_right(Review(), 0.25) == 0.75
    assert p_right(review(True, True), 0.0) == 1.0
    assert 0 < p_right(review(False, False), 0.0) < p_right(review(False), 0.0) < p_right(review(True, False), 0.0) < 1
    assert p_right(review(False, False, False, whole=True), 0.0) == 0.0


# --- under churn -----------------------------------------------------------------------------------------------------


def test_ten_times_as_many_questions_as_there_is_room_for(executor: ThreadPoolExecutor) -> None:
    capacity, length, seed = 300, 20_000, 7
    ours = Ours(capacity, executor, seed)
    unbounded = run(Lru(length), capacity, length, seed)
    lru = run(Lru(capacity), capacity, length, seed)
    result = run(ours, capacity, length, seed)
    assert result.most == capacity
    assert ours.evicted == {Eviction.ENTRIES: ours.stored - capacity}
    assert result.top_share >= 0.95 * unbounded.top_share
    assert result.saved >= 1.1 * lru.saved
