"""Internal faults and concurrency, seen from Python."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from simcore import MISSING_ID, Index, IndexPoisoned, IndexQuarantined

ID = np.array([1], np.uint64)
ROW = np.array([[1, 0, 0, 0]], np.float32)

FAULTY: dict[str, Callable[[Index], object]] = {
    "search": lambda index: index.search(ROW, 1, now=0.0),
    "upsert": lambda index: index.upsert(ID, ROW),
    "remove": lambda index: index.remove(ID),
    "remove_group": lambda index: index.remove_group(0),
}


@pytest.mark.fault(76)
@pytest.mark.parametrize("operation", FAULTY)
def test_a_panic_is_one_error_and_quarantines_the_index(operation: str, tmp_path: Path) -> None:
    index = Index(4)
    index.upsert(ID, ROW)
    index.save(tmp_path / "before")
    index._inject_panic()
    with pytest.raises(Exception, match=f"internal fault in {operation}") as raised:
        FAULTY[operation](index)
    assert raised.type is IndexPoisoned
    assert issubclass(IndexPoisoned, RuntimeError)
    after: list[Callable[[Index], object]] = [
        *FAULTY.values(),
        len,
        Index.stats,
        lambda index: index.save(tmp_path / "after"),
    ]
    for call in after:
        with pytest.raises(IndexQuarantined, match="must be rebuilt"):
            call(index)
    assert not (tmp_path / "after").exists()
    rebuilt = Index.load(tmp_path / "before")
    assert rebuilt.search(ROW, 1, now=0.0)[0].item() == 1


@pytest.mark.fault(76)
def test_of_many_callers_exactly_one_learns_of_the_panic_first() -> None:
    index = Index(4)
    start = threading.Barrier(6)
    index._inject_panic()

    def call() -> type[BaseException] | None:
        start.wait()
        try:
            index.upsert(ID, ROW)
        except RuntimeError as error:
            return type(error)
        return None

    with ThreadPoolExecutor(6) as pool:
        seen = [future.result() for future in [pool.submit(call) for _ in range(6)]]
    assert seen.count(IndexPoisoned) == 1
    assert len(seen) == seen.count(None) + seen.count(IndexPoisoned) + seen.count(IndexQuarantined)
    with pytest.raises(IndexQuarantined):
        len(index)


@pytest.mark.fault(77)
def test_a_poisoned_lock_is_recovered() -> None:
    index = Index(4)
    index.upsert(ID, ROW)
    index._inject_poison()
    assert index.search(ROW, 1, now=0.0)[0].item() == 1
    index.upsert(ID + np.uint64(1), ROW)
    assert len(index) == 2


@pytest.mark.fault(78)
def test_searches_beside_a_writer_see_one_state() -> None:
    dim, rows = 16, 2000
    index = Index(dim)
    ids = np.arange(rows, dtype=np.uint64)
    vectors = np.random.default_rng(3).standard_normal((rows, dim)).astype(np.float32)
    index.upsert(ids, vectors, expires_at=1.0)
    done = threading.Event()

    def write() -> None:
        try:
            for generation in range(2, 60):
                index.upsert(ids, vectors, expires_at=float(generation))
        finally:
            done.set()

    writer = threading.Thread(target=write)
    writer.start()
    searches = 0
    while not done.is_set() or searches < 20:
        # A generation's rows expire together: a consistent state has all of them or none.
        found, _ = index.search(vectors[:1], rows, now=float(searches % 60), threshold=-2.0)
        assert np.count_nonzero(found != MISSING_ID) in {0, rows}
        searches += 1
    writer.join()


def test_the_gil_is_released_by_a_large_search() -> None:
    dim, rows = 256, 20_000
    index = Index(dim)
    index.upsert(np.arange(rows, dtype=np.uint64), np.random.default_rng(4).random((rows, dim), np.float32) - 0.5)
    queries = np.random.default_rng(5).random((200, dim), np.float32) - 0.5
    span: list[float] = []

    def search() -> None:
        span.append(time.monotonic())
        index.search(queries, 1, now=0.0)
        span.append(time.monotonic())

    searcher = threading.Thread(target=search)
    searcher.start()
    steps = []
    while searcher.is_alive():
        steps.append(time.monotonic())
    start, end = span
    quarter = (end - start) / 4
    assert any(start + quarter < step < end - quarter for step in steps), "no Python ran in the middle of the search"
