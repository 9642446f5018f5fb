"""Input that must never reach a score: each kind of fault by itself."""

from __future__ import annotations

import numpy as np
import pytest

from simcore import MISSING_ID, Index

ID = np.array([1], np.uint64)
ROW = np.array([[0, 3, 4, 0]], np.float32)
DIM = 4


@pytest.fixture
def index() -> Index:
    index = Index(DIM)
    index.upsert(ID, ROW)
    return index


def still_whole(index: Index) -> bool:
    ids, scores = index.search(ROW, 2, now=0.0)
    return ids.tolist() == [[1, MISSING_ID]] and scores[0, 0] == 1.0 and len(index) == 1


@pytest.mark.fault(71)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", range(DIM))
def test_numbers_that_are_not_finite_are_refused(index: Index, value: float, place: int) -> None:
    row = ROW.copy()
    row[0, place] = value
    with pytest.raises(ValueError, match=r"vectors\[0\] has NaN or infinite components"):
        index.upsert(ID, row)
    with pytest.raises(ValueError, match=r"queries\[0\] has NaN or infinite components"):
        index.search(row, 1, now=0.0)
    assert still_whole(index)


@pytest.mark.fault(72)
@pytest.mark.parametrize("zero", [0.0, -0.0])
def test_zero_vectors_are_refused_and_the_smallest_others_are_not(index: Index, zero: float) -> None:
    nothing = np.full((1, DIM), zero, np.float32)
    with pytest.raises(ValueError, match="zero components only"):
        index.upsert(ID, nothing)
    with pytest.raises(ValueError, match="zero components only"):
        index.search(nothing, 1, now=0.0)
    assert still_whole(index)
    nothing[0, 1] = np.float32(1e-45)
    assert index.search(nothing, 1, now=0.0)[1].item() == np.float32(0.6)


@pytest.mark.fault(73)
@pytest.mark.parametrize("shape", [(2, 2), (1, 3), (1, 5), (4, 1), (1, 8), (1, 0)])
def test_rows_of_another_dim_are_refused_even_if_their_components_would_fit(
    index: Index, shape: tuple[int, int]
) -> None:
    wrong = np.ones(shape, np.float32)
    ids = np.arange(shape[0], dtype=np.uint64)
    with pytest.raises(ValueError, match="columns; the index has dim 4"):
        index.search(wrong, 1, now=0.0)
    with pytest.raises(ValueError, match="columns; the index has dim 4"):
        index.upsert(ids, wrong)
    assert still_whole(index)


@pytest.mark.fault(74)
def test_any_k_is_answered_or_refused_without_asking_for_its_memory(index: Index) -> None:
    assert index.search(ROW, 0, now=0.0)[0].shape == (1, 0)
    assert index.search(ROW, 1000, now=0.0)[0].tolist() == [[1] + [MISSING_ID] * 999]
    for k in (2**63 - 1, 2**63, 2**64 - 1):
        with pytest.raises(ValueError, match="k is too large"):
            index.search(ROW, k, now=0.0)
    assert still_whole(index)


@pytest.mark.fault(75)
def test_ids_and_sizes_at_their_limits_are_stored_or_refused(index: Index) -> None:
    with pytest.raises(ValueError, match="reserved"):
        index.upsert(np.array([MISSING_ID], np.uint64), ROW)
    assert still_whole(index)
    last = np.array([MISSING_ID - 1], np.uint64)
    index.upsert(last, ROW, groups=2**32 - 1)
    assert index.search(ROW, 1, now=0.0, groups=2**32 - 1)[0].item() == MISSING_ID - 1
    assert index.remove(last) == 1
    for dim in (0, 2**16 + 1, 2**63, 2**64 - 1):
        with pytest.raises(ValueError, match="dim must be from 1 to 65536"):
            Index(dim)
    assert still_whole(index)


def test_dead_rows_are_given_back_in_steps() -> None:
    index = Index(DIM)
    ids = np.arange(10, dtype=np.uint64)
    index.upsert(ids, np.repeat(ROW, 10, axis=0), expires_at=ids.astype(np.float64))
    assert [index.remove_expired(6.0, limit=4) for _ in range(3)] == [4, 3, 0]
    assert len(index) == 3
    with pytest.raises(ValueError, match="now must not be NaN"):
        index.remove_expired(float("nan"))
