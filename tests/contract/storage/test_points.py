"""What `Collection` promises about writing points and reading them back."""

from __future__ import annotations

import asyncio
import random

import numpy as np
import pytest

from services.storage import Collection, CollectionSpec, HasId, Point, Store
from tests.contract.storage.conftest import DIM

UNIT = (np.arange(1, DIM + 1, dtype=np.float32) / np.float32(np.linalg.norm(np.arange(1, DIM + 1)))).astype(np.float32)

EVERY_KIND = {
    "text": "naïve 日本語 \U0001f600 \n",
    "empty": "",
    "int": 2**53 - 1,
    "negative": -7,
    "float": 0.1,
    "whole float": 2.0,
    "true": True,
    "false": False,
    "null": None,
    "list": [1, "a", [2.5, None], {"b": False}],
    "map": {"inner": {"deep": ["x"]}, "none": {}},
}


@pytest.fixture
async def collection(store: Store, spec: CollectionSpec) -> Collection:
    return await store.ensure(spec)


async def test_a_point_comes_back_bit_for_bit(collection: Collection, new_id) -> None:
    point = Point(new_id(), UNIT, EVERY_KIND)
    await collection.upsert([point], durable=True)
    [record] = await collection.get([point.id], vectors=True)
    assert record.id == point.id
    assert record.vector is not None
    assert record.vector.dtype == np.float32
    assert record.vector.tobytes() == UNIT.tobytes()
    assert record.payload == EVERY_KIND
    assert {key: type(value) for key, value in record.payload.items()} == {k: type(v) for k, v in EVERY_KIND.items()}


async def test_vectors_only_when_asked_and_only_where_there_is_one(collection: Collection, new_id) -> None:
    with_vector, without = Point(new_id(), UNIT, {}), Point(new_id(), None, {"a": 1})
    await collection.upsert([with_vector, without], durable=True)
    assert [record.vector for record in await collection.get([with_vector.id, without.id])] == [None, None]
    first, second = await collection.get([with_vector.id, without.id], vectors=True)
    assert first.vector is not None
    assert second.vector is None


async def test_get_keeps_the_order_and_leaves_out_the_absent(collection: Collection, new_id) -> None:
    ids = [new_id() for _ in range(1_200)]
    await collection.upsert([Point(id_, None, {"n": n}) for n, id_ in enumerate(ids)], durable=True)
    random.Random(3).shuffle(ids)
    asked = [*ids[:700], new_id(), *ids[700:]]
    assert [record.id for record in await collection.get(asked)] == ids
    assert await collection.get([]) == []


async def test_upsert_replaces_the_whole_point(collection: Collection, new_id) -> None:
    id_ = new_id()
    await collection.upsert([Point(id_, UNIT, {"a": 1, "b": 2})], durable=True)
    await collection.upsert([Point(id_, None, {"a": 3})], durable=False)
    [record] = await collection.get([id_], vectors=True)
    assert (record.payload, record.vector) == ({"a": 3}, None)


@pytest.mark.parametrize(
    "point",
    [
        Point("00000000-0000-0000-0000-000000000001", UNIT[:-1], {}),
        Point("00000000-0000-0000-0000-000000000001", UNIT.astype(np.float64), {}),
        Point("00000000-0000-0000-0000-000000000001", np.full(DIM, np.nan, np.float32), {}),
        Point("00000000-0000-0000-0000-000000000001", None, {"a": float("inf")}),
        Point("00000000-0000-0000-0000-000000000001", None, {"a": object()}),
        Point("not-a-uuid", None, {}),
        Point("00000000000000000000000000000001", None, {}),
    ],
    ids=["dimension", "dtype", "nan", "infinite payload", "object", "id", "id not canonical"],
)
async def test_what_no_store_could_hold_is_refused_before_it_is_sent(collection: Collection, point: Point) -> None:
    with pytest.raises(ValueError):
        await collection.upsert([point], durable=True)
    assert await collection.count() == 0


async def test_upsert_newer_keeps_the_newest_whatever_the_order(collection: Collection, new_id) -> None:
    id_ = new_id()
    versions = list(range(40))
    random.Random(7).shuffle(versions)
    kept = -1
    for version in versions:
        [stored] = await collection.upsert_newer([Point(id_, UNIT, {"ver": version})], durable=True)
        kept = max(kept, version)
        assert stored is (kept == version)
    [record] = await collection.get([id_])
    assert record.payload == {"ver": 39}


async def test_upsert_newer_under_concurrency_ends_with_the_newest(collection: Collection, new_id) -> None:
    id_ = new_id()
    writes = [Point(id_, None, {"ver": version, "by": f"w{version}"}) for version in range(30)]
    random.Random(1).shuffle(writes)
    await asyncio.gather(*(collection.upsert_newer([point], durable=True) for point in writes))
    [record] = await collection.get([id_])
    assert record.payload == {"ver": 29, "by": "w29"}


async def test_upsert_newer_decides_per_point_of_a_batch(collection: Collection, new_id) -> None:
    ids = [new_id() for _ in range(1_003)]
    await collection.upsert([Point(id_, None, {"ver": 10}) for id_ in ids[:600]], durable=True)
    batch = [Point(id_, None, {"ver": 5 + n % 10}) for n, id_ in enumerate(ids)]
    outcome = await collection.upsert_newer(batch, durable=True)
    # ver 10 over ver 10 is the same payload: what is stored is this point's.
    assert outcome == [n >= 600 or n % 10 >= 5 for n in range(1_003)]
    stored = [record.payload["ver"] for record in await collection.get(ids)]
    assert stored == [max(10, 5 + n % 10) if n < 600 else 5 + n % 10 for n in range(1_003)]


async def test_upsert_newer_repeated_says_the_same(collection: Collection, new_id) -> None:
    point = Point(new_id(), UNIT, {"ver": 4, "answer": "a"})
    assert await collection.upsert_newer([point], durable=True) == [True]
    assert await collection.upsert_newer([point], durable=True) == [True]


async def test_of_equal_versions_the_first_wins(collection: Collection, new_id) -> None:
    id_ = new_id()
    assert await collection.upsert_newer([Point(id_, None, {"ver": 4, "by": "a"})], durable=True) == [True]
    assert await collection.upsert_newer([Point(id_, None, {"ver": 4, "by": "b"})], durable=True) == [False]
    assert (await collection.get([id_]))[0].payload["by"] == "a"


async def test_of_equal_ids_in_a_batch_the_largest_version_counts(collection: Collection, new_id) -> None:
    id_ = new_id()
    batch = [Point(id_, None, {"ver": version}) for version in (2, 9, 5)]
    assert await collection.upsert_newer(batch, durable=True) == [False, True, False]


@pytest.mark.parametrize("version", [None, -1, 2**53, 1.0, True, "3"])
async def test_a_version_is_a_whole_number_that_a_double_holds(collection: Collection, new_id, version: object) -> None:
    with pytest.raises(ValueError):
        await collection.upsert_newer([Point(new_id(), None, {"ver": version})], durable=True)


async def test_the_largest_version_compares_exactly(collection: Collection, new_id) -> None:
    id_ = new_id()
    for version, expected in ((2**53 - 2, True), (2**53 - 1, True), (2**53 - 2, False)):
        assert await collection.upsert_newer([Point(id_, None, {"ver": version})], durable=True) == [expected]


async def test_insert_writes_what_is_not_there_and_leaves_the_rest(collection: Collection, new_id) -> None:
    there, new, twice = new_id(), new_id(), new_id()
    await collection.insert([Point(there, None, {"ver": 1, "by": "first"})])
    batch = [
        Point(there, None, {"ver": 2, "by": "second"}),
        Point(new, None, {"ver": 1, "by": "second"}),
        Point(twice, None, {"ver": 1, "by": "second"}),
        Point(twice, None, {"ver": 2, "by": "third"}),
    ]
    for _ in range(2):
        await collection.insert(batch)
        found = {record.id: record.payload["by"] for record in await collection.get([there, new, twice])}
        assert found == {there: "first", new: "second", twice: "second"}


async def test_insert_absent_has_one_winner(collection: Collection, new_id) -> None:
    id_ = new_id()
    rivals = [Point(id_, None, {"owner": n}) for n in range(20)]
    outcome = await asyncio.gather(*(collection.insert_absent(point) for point in rivals))
    assert outcome.count(True) == 1
    winner = outcome.index(True)
    assert (await collection.get([id_]))[0].payload == {"owner": winner}
    assert await collection.insert_absent(rivals[winner]) is True


async def test_replace_has_one_winner_per_version_and_brings_nothing_back(collection: Collection, new_id) -> None:
    id_ = new_id()
    assert await collection.replace(Point(id_, None, {"ver": 2}), ver=1) is False
    assert await collection.get([id_]) == [], "what is absent stays absent"
    await collection.insert_absent(Point(id_, None, {"ver": 1}))
    rivals = [Point(id_, None, {"ver": 2 + n, "owner": n}) for n in range(20)]
    outcome = await asyncio.gather(*(collection.replace(point, ver=1) for point in rivals))
    assert outcome.count(True) == 1
    winner = rivals[outcome.index(True)]
    assert (await collection.get([id_]))[0].payload == winner.payload
    assert await collection.replace(winner, ver=1) is True, "a repeated call has the same end"
    assert await collection.replace(Point(id_, None, {"ver": 99}), ver=1) is False
    version = int(str(winner.payload["ver"]))
    assert await collection.replace(Point(id_, None, {"ver": 0}), ver=version) is True, "it need not become larger"


async def test_delete_by_id_and_by_filter(collection: Collection, new_id) -> None:
    ids = [new_id() for _ in range(6)]
    await collection.upsert([Point(id_, None, {"ns": "ab"[n % 2]}) for n, id_ in enumerate(ids)], durable=True)
    await collection.delete_ids([ids[0], new_id()])
    await collection.delete_ids([ids[0]])
    assert await collection.count() == 5
    await collection.delete_where(HasId(ids[1:3]))
    assert [record.id for record in await collection.get(ids)] == ids[3:]


async def test_set_payload_merges_and_skips_the_absent(collection: Collection, new_id) -> None:
    ids = [new_id(), new_id()]
    await collection.upsert([Point(id_, UNIT, {"a": 1, "b": 2}) for id_ in ids], durable=True)
    await collection.set_payload([ids[0], new_id()], {"b": 3, "c": [4]})
    first, second = await collection.get(ids, vectors=True)
    assert first.payload == {"a": 1, "b": 3, "c": [4]}
    assert first.vector is not None
    assert second.payload == {"a": 1, "b": 2}
    assert await collection.count() == 2
