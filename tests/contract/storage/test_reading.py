"""What `Collection` promises about filters, counts and scrolls."""

from __future__ import annotations

from contextlib import aclosing
from uuid import UUID

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.storage import (
    AllOf,
    AnyOf,
    Between,
    Collection,
    CollectionSpec,
    Equals,
    Filter,
    HasId,
    Not,
    OneOf,
    Point,
    Record,
    Store,
)

N = 60
IDS = [str(UUID(int=n * 7919 + 1)) for n in range(N)]
ROWS = {
    id_: {
        "ns": "abc"[n % 3],
        "kind": f"k{n % 5}",
        "ver": n,
        "updated_us": n // 4,
        **({"score": n / 8} if n % 2 else {}),
    }
    for n, id_ in enumerate(IDS)
}


@pytest.fixture
async def collection(store: Store, spec: CollectionSpec) -> Collection:
    collection = await store.ensure(spec)
    await collection.upsert([Point(id_, None, row) for id_, row in ROWS.items()], durable=True)
    return collection


def oracle(condition: Filter, id_: str, row: dict[str, object]) -> bool:
    """What each filter means, in plain Python."""
    match condition:
        case Equals(key, value):
            return row.get(key) == value
        case OneOf(key, values):
            return row.get(key) in values
        case HasId(ids):
            return id_ in ids
        case AllOf(parts):
            return all(oracle(part, id_, row) for part in parts)
        case AnyOf(parts):
            return any(oracle(part, id_, row) for part in parts)
        case Not(part):
            return not oracle(part, id_, row)
        case Between(key, gte, gt, lt, lte):
            found = row.get(key)
            return isinstance(found, int | float) and not (
                (gte is not None and found < gte)
                or (gt is not None and found <= gt)
                or (lt is not None and found >= lt)
                or (lte is not None and found > lte)
            )
    raise AssertionError(condition)


BOUND = st.none() | st.integers(-1, N) | st.floats(0, 8, allow_nan=False)
LEAVES = st.one_of(
    st.builds(Equals, st.just("ns"), st.sampled_from("abcd")),
    st.builds(Equals, st.just("ver"), st.integers(-1, N)),
    st.builds(OneOf, st.just("kind"), st.lists(st.sampled_from(["k0", "k3", "k9"]), max_size=3)),
    st.builds(OneOf, st.just("updated_us"), st.lists(st.integers(0, 16), max_size=3)),
    st.builds(HasId, st.lists(st.sampled_from(IDS), max_size=20)),
    st.tuples(st.sampled_from(["ver", "updated_us", "score"]), BOUND, BOUND, BOUND, BOUND)
    .filter(lambda t: any(bound is not None for bound in t[1:]))
    .map(lambda t: Between(t[0], *t[1:])),
)
FILTERS = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda parts: AllOf(*parts)),
        st.lists(inner, max_size=3).map(lambda parts: AnyOf(*parts)),
        inner.map(Not),
    ),
    max_leaves=6,
)


async def test_filters_mean_what_they_say(collection: Collection) -> None:
    seen: list[Filter] = []

    @settings(max_examples=150, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
    @given(FILTERS)
    def collect(condition: Filter) -> None:
        seen.append(condition)

    collect()
    for condition in seen:
        expected = {id_ for id_, row in ROWS.items() if oracle(condition, id_, row)}
        assert await collection.count(condition) == len(expected), condition
        found = [record.id async for page in collection.scroll(condition, order_by=None) for record in page]
        assert sorted(found) == sorted(expected), condition


@pytest.mark.parametrize(
    "make",
    [
        lambda: Equals("ns", True),
        lambda: OneOf("ns", [1, "a"]),
        lambda: OneOf("ns", [True]),
        lambda: Between("ver"),
        lambda: Between("ver", lt=2**53 + 1),
    ],
)
def test_filters_that_could_mislead_are_refused(make) -> None:
    with pytest.raises(ValueError):
        make()


async def read(collection: Collection, **how: object) -> list[Record]:
    return [record async for page in collection.scroll(None, **how) for record in page]


@pytest.mark.parametrize("page", [1, 7, 59, 60, 61, 1_000])
async def test_a_scroll_gives_every_record_once_in_the_order_of_ids(collection: Collection, page: int) -> None:
    found = await read(collection, order_by=None, page=page)
    assert [record.id for record in found] == sorted(IDS)
    assert {record.id: record.payload for record in found} == ROWS


@pytest.mark.parametrize("page", [1, 3, 4, 5, 1_000])
async def test_an_ordered_scroll_passes_ties_and_leaves_out_who_lacks_the_field(
    collection: Collection, page: int
) -> None:
    found = await read(collection, order_by="updated_us", page=page)
    assert sorted(record.id for record in found) == sorted(IDS)
    values = [record.payload["updated_us"] for record in found]
    assert values == sorted(values)
    scores = [record.payload["score"] for record in await read(collection, order_by="score", page=page)]
    assert scores == [n / 8 for n in range(N) if n % 2]


async def test_an_ordered_scroll_starts_at_a_cursor(collection: Collection) -> None:
    pages = collection.scroll(AllOf(Between("updated_us", gte=12), Equals("ns", "a")), order_by="updated_us", page=2)
    found = [record.payload["ver"] async for page in pages for record in page]
    assert sorted(found) == [n for n in range(N) if n // 4 >= 12 and n % 3 == 0]


async def test_an_empty_scroll_has_no_pages(collection: Collection) -> None:
    assert [page async for page in collection.scroll(Equals("ns", "z"), order_by=None)] == []
    assert [page async for page in collection.scroll(Equals("ns", "z"), order_by="ver")] == []


async def test_leaving_a_scroll_early_leaves_the_store_usable(collection: Collection) -> None:
    async with aclosing(collection.scroll(None, order_by=None, page=3)) as pages:
        async for _ in pages:
            break
    assert await collection.count() == N


@pytest.mark.parametrize("page", [0, 1_001])
async def test_a_page_has_limits(collection: Collection, page: int) -> None:
    with pytest.raises(ValueError):
        await read(collection, order_by=None, page=page)


async def test_large_records_are_read_whole(collection: Collection, new_id) -> None:
    large = "x" * 300_000
    points = [Point(new_id(), None, {"ns": "large", "text": large}) for _ in range(40)]
    for point in points:
        await collection.upsert([point], durable=True)
    found = [record async for page in collection.scroll(Equals("ns", "large"), order_by=None) for record in page]
    assert sorted(record.id for record in found) == sorted(point.id for point in points)
    assert all(record.payload["text"] == large for record in found)


async def test_vectors_come_with_a_scroll(store: Store, spec: CollectionSpec, new_id) -> None:
    collection = await store.ensure(spec)
    rows = np.random.default_rng(11).standard_normal((2_300, 8)).astype(np.float32)
    ids = [new_id() for _ in rows]
    points = [Point(id_, row, {"n": n}) for n, (id_, row) in enumerate(zip(ids, rows, strict=True))]
    await collection.upsert(points, durable=True)
    found = {
        record.id: record async for page in collection.scroll(None, order_by=None, vectors=True) for record in page
    }
    assert len(found) == len(ids)
    for id_, row in zip(ids, rows, strict=True):
        vector = found[id_].vector
        assert vector is not None
        assert vector.tobytes() == row.tobytes()
