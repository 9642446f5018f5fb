"""What `Store` promises about collections, aliases and health."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from qdrant_client import AsyncQdrantClient

from services.chassis.errors import FailedPrecondition, Reason
from services.storage import AllOf, CollectionSpec, Distance, Index, IndexKind, Point, Store


async def test_ensure_creates_with_indexes_before_data(
    store: Store, spec: CollectionSpec, client: AsyncQdrantClient
) -> None:
    collection = await store.ensure(spec)
    assert await collection.count() == 0
    info = await client.get_collection(spec.name)
    assert set(info.payload_schema) == {index.key for index in spec.indexes}
    assert info.payload_schema["ns"].params.is_tenant is True
    assert info.config.params.vectors["query"].size == spec.dim


async def test_ensure_is_idempotent_and_safe_in_parallel(store: Store, spec: CollectionSpec) -> None:
    collections = await asyncio.gather(*(store.ensure(spec) for _ in range(8)))
    assert {collection.name for collection in collections} == {spec.name}


async def test_ensure_keeps_data(store: Store, spec: CollectionSpec, new_id) -> None:
    first = await store.ensure(spec)
    await first.upsert([Point(new_id(), None, {"ns": "a"})], durable=True)
    assert await (await store.ensure(spec)).count() == 1


@pytest.mark.parametrize(
    "change",
    [{"dim": 9}, {"dim": None}, {"distance": Distance.COSINE}],
    ids=["dimension", "no vectors", "distance"],
)
@pytest.mark.fault(47)
async def test_a_different_collection_is_refused_and_never_dropped(
    store: Store, spec: CollectionSpec, new_id, change: dict[str, object]
) -> None:
    collection = await store.ensure(spec)
    await collection.upsert([Point(new_id(), None, {"ns": "a"})], durable=True)
    with pytest.raises(FailedPrecondition) as refused:
        await store.ensure(replace(spec, **change))
    assert refused.value.reason is Reason.STORE_MISMATCH
    assert await collection.count(AllOf()) == 1


async def test_an_index_of_another_type_is_refused(store: Store, spec: CollectionSpec) -> None:
    await store.ensure(spec)
    with pytest.raises(FailedPrecondition) as refused:
        await store.ensure(replace(spec, indexes=(Index("ns", IndexKind.INTEGER),)))
    assert refused.value.reason is Reason.STORE_MISMATCH
    assert "ns" in refused.value.message


async def test_a_collection_that_vanished_is_refused(
    store: Store, spec: CollectionSpec, client: AsyncQdrantClient, new_id
) -> None:
    collection = await store.ensure(spec)
    await client.delete_collection(spec.name)
    for call in (collection.count(), collection.upsert([Point(new_id(), None, {})], durable=True)):
        with pytest.raises(FailedPrecondition) as refused:
            await call
        assert refused.value.reason is Reason.STORE_MISMATCH
    assert not await client.collection_exists(spec.name)


async def test_a_collection_without_vectors(store: Store, spec: CollectionSpec, new_id) -> None:
    collection = await store.ensure(replace(spec, dim=None))
    point = Point(new_id(), None, {"ns": "a", "epoch": 3})
    await collection.upsert([point], durable=True)
    [record] = await collection.get([point.id], vectors=True)
    assert record.vector is None
    assert record.payload == point.payload


async def test_an_alias_names_one_collection_and_moves_in_one_step(
    store: Store, spec: CollectionSpec, client: AsyncQdrantClient
) -> None:
    alias = f"{spec.name}_alias"
    other = replace(spec, name=f"{spec.name}_other")
    assert await store.resolve(alias) is None
    await store.ensure(replace(spec, alias=alias))
    assert await store.resolve(alias) == spec.name
    try:
        with pytest.raises(FailedPrecondition) as refused:
            await store.ensure(replace(other, alias=alias))
        assert refused.value.reason is Reason.STORE_MISMATCH
        assert await store.resolve(alias) == spec.name
        await store.move_alias(alias, other.name)
        await store.move_alias(alias, other.name)
        assert await store.resolve(alias) == other.name
    finally:
        await client.delete_collection(other.name)
    assert await store.resolve(alias) is None


async def test_a_collection_is_dropped_with_what_is_in_it_and_its_alias(
    store: Store, spec: CollectionSpec, new_id
) -> None:
    alias = f"{spec.name}_alias"
    collection = await store.ensure(replace(spec, alias=alias))
    await collection.upsert([Point(new_id(), None, {"ns": "a", "ver": 1})], durable=True)
    await store.drop(spec.name)
    assert await store.resolve(alias) is None
    with pytest.raises(FailedPrecondition):
        await collection.count()
    await store.drop(spec.name)  # once more does no harm
    assert await (await store.ensure(spec)).count() == 0


async def test_the_store_says_that_it_is_up(store: Store) -> None:
    assert await store.ping() is True
