"""Limits of namespaces, tenants and the whole memory hold, cost nobody else, and the accounts of them are right."""

from __future__ import annotations

import gc
import random
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.cache.entry import Entry, text_bytes
from services.cache.pool import Slot
from services.cache.room import Capacity, Eviction
from tests.unit.cache.room_parts import FAR_US, VECTOR_BYTES, Memory

# --- limits -----------------------------------------------------------------------------------------------------------


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


# --- accounts ---------------------------------------------------------------------------------------------------------


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
