"""Every search of `simcore.Index` equals brute force under the defined score, to the last bit."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import hypothesis.strategies as st
import numpy as np
from hypothesis import given, settings
from hypothesis.extra.numpy import arrays
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

import simcore

from .oracle import BruteForce, dots, unit

IDS = st.integers(0, 150) | st.integers(0, 2**64 - 2)
GROUPS = st.integers(0, 3) | st.just(2**32 - 1)
TIMES = st.integers(0, 4).map(float) | st.just(np.inf)
# Few distinct values make ties; any finite ones, denormals among them, make everything else.
COMPONENTS = st.sampled_from([0.0, 1.0, -1.0, 0.5]) | st.floats(width=32, allow_nan=False, allow_infinity=False)


def vectors(dim: int, *, most: int) -> st.SearchStrategy[np.ndarray]:
    def directed(rows: np.ndarray) -> np.ndarray:
        rows[~rows.any(axis=1), 0] = 1.0
        return rows

    return st.integers(0, most).flatmap(
        lambda count: arrays(np.float32, (count, dim), elements=COMPONENTS, fill=st.nothing()).map(directed)
    )


class Changes(RuleBasedStateMachine):
    """An index and the oracle go through the same changes; every search is compared."""

    @initialize(dim=st.sampled_from([1, 7, 8, 9, 19]), threads=st.sampled_from([1, 3]))
    def start(self, dim: int, threads: int) -> None:
        self.index = simcore.Index(dim, threads=threads)
        self.oracle = BruteForce(dim)

    @rule(data=st.data())
    def upsert(self, data: st.DataObject) -> None:
        rows = data.draw(vectors(self.oracle.dim, most=8))
        ids = data.draw(st.lists(IDS, min_size=len(rows), max_size=len(rows)))
        groups = data.draw(st.lists(GROUPS, min_size=len(rows), max_size=len(rows)))
        times = data.draw(st.lists(TIMES, min_size=len(rows), max_size=len(rows)))
        self.index.upsert(
            np.array(ids, np.uint64),
            rows,
            groups=np.array(groups, np.uint32),
            expires_at=np.array(times, np.float64),
        )
        for entry_id, row, group, time in zip(ids, rows, groups, times, strict=True):
            self.oracle.upsert(entry_id, row, group, time)

    @rule(first=st.integers(0, 150), count=st.integers(60, 140), group=GROUPS, seed=st.integers(0, 9))
    def upsert_many(self, first: int, count: int, group: int, seed: int) -> None:
        rows = np.random.default_rng(seed).standard_normal((count, self.oracle.dim)).astype(np.float32)
        self.index.upsert(np.arange(first, first + count, dtype=np.uint64), rows, groups=group)
        for entry_id, row in enumerate(rows, first):
            self.oracle.upsert(entry_id, row, group, np.inf)

    @rule(ids=st.lists(IDS, max_size=30))
    def remove(self, ids: list[int]) -> None:
        assert self.index.remove(np.array(ids, np.uint64)) == self.oracle.remove(ids)

    @rule(group=GROUPS)
    def remove_group(self, group: int) -> None:
        assert self.index.remove_group(group) == self.oracle.remove_group(group)

    @rule()
    def save_and_load(self) -> None:
        with TemporaryDirectory() as folder:
            path = Path(folder) / "index"
            self.index.save(path)
            self.index = simcore.Index.load(path)

    @rule(data=st.data(), k=st.integers(0, 12), now=TIMES, threshold=st.floats(-1.1, 1.1))
    def search(self, data: st.DataObject, k: int, now: float, threshold: float) -> None:
        queries = data.draw(vectors(self.oracle.dim, most=3))
        groups = data.draw(st.lists(GROUPS, min_size=len(queries), max_size=len(queries)))
        ids, scores = self.index.search(queries, k, now=now, threshold=threshold, groups=np.array(groups, np.uint32))
        assert ids.shape == scores.shape == (len(queries), k)
        assert ids.dtype == np.dtype(np.uint64)
        assert scores.dtype == np.dtype(np.float32)
        for query, group, found, score in zip(queries, groups, ids, scores, strict=True):
            expected = self.oracle.search(query, k, now=now, threshold=threshold, group=group)
            assert (found.tolist(), score.tolist()) == expected

    @invariant()
    def size(self) -> None:
        if hasattr(self, "index"):
            assert len(self.index) == len(self.oracle.entries) == self.index.stats()["entries"]
            assert self.index.stats()["groups"] == len({entry.group for entry in self.oracle.entries.values()})


Changes.TestCase.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
TestChanges = Changes.TestCase


@settings(max_examples=60, deadline=None)
@given(dim=st.sampled_from([8, 100, 384, 4096]), seed=st.integers(0, 2**32 - 1))
def test_a_row_is_found_at_its_score_and_not_one_ulp_above(dim: int, seed: int) -> None:
    row, query = np.random.default_rng(seed).standard_normal((2, dim)).astype(np.float32)
    index = simcore.Index(dim)
    index.upsert(np.array([5], np.uint64), row[None, :])
    score = dots(unit(row)[None, :], unit(query)).astype(np.float32)[0]

    def found(threshold: float) -> bool:
        return index.search(query[None, :], 1, now=0.0, threshold=threshold)[0].item() == 5

    assert found(float(score))
    assert found(float(np.nextafter(score, np.float32(-2))))
    assert not found(float(np.nextafter(score, np.float32(2))))
    assert not found(float(np.nextafter(np.float64(score), 2.0))), "the threshold is not rounded to f32"


def test_equal_scores_are_ordered_by_id() -> None:
    index = simcore.Index(8)
    ids = np.random.default_rng(1).permutation(500).astype(np.uint64)
    index.upsert(ids, np.ones((500, 8), np.float32))
    found, scores = index.search(np.ones((1, 8), np.float32), 7, now=0.0)
    assert found.tolist() == [[0, 1, 2, 3, 4, 5, 6]]
    assert len(set(scores[0].tolist())) == 1
