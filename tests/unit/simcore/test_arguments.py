"""What `simcore.Index` refuses, and that a refusal changes nothing."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from simcore import MISSING_ID, Index

IDS = np.array([2, 3], np.uint64)
ROWS = np.eye(2, 4, dtype=np.float32)


def unaligned(dtype: str, shape: tuple[int, ...]) -> np.ndarray:
    count = int(np.prod(shape))
    space = np.zeros(count * np.dtype(dtype).itemsize + 1, np.uint8)
    array = space[1:].view(dtype).reshape(shape)
    array[...] = 1
    return array


def with_value(value: float) -> np.ndarray:
    rows = ROWS.copy()
    rows[1, 2] = value
    return rows


# `Any`: most of these calls are wrong on purpose in a way that a type checker sees.
Call = Callable[[Any], object]

WRONG_VALUES: list[tuple[str, Call]] = [
    ("dim of a row", lambda index: index.upsert(IDS, np.ones((2, 5), np.float32))),
    ("one-dimensional vectors", lambda index: index.upsert(IDS, np.ones(8, np.float32))),
    ("three-dimensional vectors", lambda index: index.upsert(IDS, np.ones((2, 4, 1), np.float32))),
    ("vectors of no rows and a wrong dim", lambda index: index.upsert(IDS[:0], np.ones((0, 5), np.float32))),
    ("more rows than ids", lambda index: index.upsert(IDS[:1], ROWS)),
    ("fewer rows than ids", lambda index: index.upsert(IDS, ROWS[:1])),
    ("f64 vectors", lambda index: index.upsert(IDS, ROWS.astype(np.float64))),
    ("f16 vectors", lambda index: index.upsert(IDS, ROWS.astype(np.float16))),
    ("big-endian vectors", lambda index: index.upsert(IDS, ROWS.astype(">f4"))),
    ("object vectors", lambda index: index.upsert(IDS, ROWS.astype(object))),
    ("vectors in Fortran order", lambda index: index.upsert(IDS, np.asfortranarray(ROWS))),
    ("every second row", lambda index: index.upsert(IDS, np.ones((4, 4), np.float32)[::2])),
    ("reversed rows", lambda index: index.upsert(IDS, ROWS[::-1])),
    ("unaligned vectors", lambda index: index.upsert(IDS, unaligned("f4", (2, 4)))),
    ("unaligned ids", lambda index: index.upsert(unaligned("u8", (2,)), ROWS)),
    ("signed ids", lambda index: index.upsert(IDS.astype(np.int64), ROWS)),
    ("two-dimensional ids", lambda index: index.upsert(IDS[None, :], ROWS)),
    ("every second id", lambda index: index.upsert(np.arange(4, dtype=np.uint64)[::2], ROWS)),
    ("the reserved id", lambda index: index.upsert(np.array([2, MISSING_ID], np.uint64), ROWS)),
    ("NaN", lambda index: index.upsert(IDS, with_value(np.nan))),
    ("infinity", lambda index: index.upsert(IDS, with_value(-np.inf))),
    ("a zero vector", lambda index: index.upsert(IDS, np.array([[1, 0, 0, 0], [0, -0.0, 0, 0]], np.float32))),
    ("a negative group", lambda index: index.upsert(IDS, ROWS, groups=-1)),
    ("a group of 33 bits", lambda index: index.upsert(IDS, ROWS, groups=2**32)),
    ("u64 groups", lambda index: index.upsert(IDS, ROWS, groups=IDS)),
    ("too few groups", lambda index: index.upsert(IDS, ROWS, groups=np.zeros(1, np.uint32))),
    ("NaN expiry", lambda index: index.upsert(IDS, ROWS, expires_at=np.nan)),
    ("NaN among expiries", lambda index: index.upsert(IDS, ROWS, expires_at=np.array([1.0, np.nan]))),
    ("f32 expiries", lambda index: index.upsert(IDS, ROWS, expires_at=np.ones(2, np.float32))),
    ("too many expiries", lambda index: index.upsert(IDS, ROWS, expires_at=np.ones(3))),
    ("dim of a query", lambda index: index.search(np.ones((1, 3), np.float32), 1, now=0.0)),
    ("a one-dimensional query", lambda index: index.search(np.ones(4, np.float32), 1, now=0.0)),
    ("a zero query", lambda index: index.search(np.zeros((1, 4), np.float32), 1, now=0.0)),
    ("a NaN query", lambda index: index.search(with_value(np.nan), 1, now=0.0)),
    ("NaN now", lambda index: index.search(ROWS, 1, now=np.nan)),
    ("now beyond f64", lambda index: index.search(ROWS, 1, now=10**400)),
    ("NaN threshold", lambda index: index.search(ROWS, 1, now=0.0, threshold=np.nan)),
    ("negative k", lambda index: index.search(ROWS, -1, now=0.0)),
    ("k beyond memory", lambda index: index.search(ROWS, 2**63, now=0.0)),
    ("k beyond 64 bits", lambda index: index.search(ROWS, 2**64, now=0.0)),
    ("k that only the number of queries makes too large", lambda index: index.search(ROWS, 2**26, now=0.0)),
    ("groups of other queries", lambda index: index.search(ROWS, 1, now=0.0, groups=np.zeros(3, np.uint32))),
    ("signed ids to remove", lambda index: index.remove(IDS.astype(np.int64))),
    ("a negative group to remove", lambda index: index.remove_group(-1)),
    ("dim 0", lambda _: Index(0)),
    ("negative dim", lambda _: Index(-4)),
    ("dim beyond memory", lambda _: Index(2**63)),
    ("no threads", lambda _: Index(4, threads=0)),
    ("a thousand threads", lambda _: Index(4, threads=1000)),
]

WRONG_KINDS: list[tuple[str, Call]] = [
    ("a list of vectors", lambda index: index.upsert(IDS, ROWS.tolist())),
    ("a list of ids", lambda index: index.upsert([2, 3], ROWS)),
    ("a group in words", lambda index: index.upsert(IDS, ROWS, groups="two")),
    ("half a k", lambda index: index.search(ROWS, 0.5, now=0.0)),
    ("now in words", lambda index: index.search(ROWS, 1, now="now")),
    ("no now", lambda index: index.search(ROWS, 1)),
]


@pytest.fixture
def index() -> Index:
    index = Index(4)
    index.upsert(np.array([1], np.uint64), np.array([[0, 0, 0, 2]], np.float32))
    return index


@pytest.mark.parametrize("error", [ValueError, TypeError])
def test_wrong_arguments_are_refused_and_change_nothing(index: Index, error: type[Exception]) -> None:
    for name, call in WRONG_VALUES if error is ValueError else WRONG_KINDS:
        with pytest.raises(error) as raised:
            call(index)
        assert type(raised.value) is error, name
        assert len(index) == 1, name
    found, scores = index.search(ROWS + np.array([0, 0, 0, 1], np.float32), 2, now=0.0, threshold=0.5)
    assert found.tolist() == [[1, MISSING_ID]] * 2
    assert scores[:, 1].tolist() == [-np.inf] * 2


def test_k_of_zero_and_no_queries_give_empty_arrays(index: Index) -> None:
    for queries, k in [(ROWS, 0), (ROWS[:0], 3), (ROWS[:0], 0)]:
        ids, scores = index.search(queries, k, now=0.0)
        assert ids.shape == scores.shape == (len(queries), k)


def test_a_k_above_the_number_of_rows_is_padded(index: Index) -> None:
    ids, scores = index.search(ROWS[:1], 100_000, now=0.0)
    assert ids.tolist() == [[1] + [MISSING_ID] * 99_999]
    assert np.isneginf(scores[0, 1:]).all()


def test_a_row_is_dead_at_the_moment_it_expires(index: Index) -> None:
    index.upsert(np.array([1], np.uint64), ROWS[:1], expires_at=100.0)
    before = float(np.nextafter(100.0, 0.0))
    assert index.search(ROWS[:1], 1, now=before)[0].item() == 1
    assert index.search(ROWS[:1], 1, now=100.0)[0].item() == MISSING_ID
    assert len(index) == 1


def test_an_upsert_replaces_by_id_and_moves_between_groups(index: Index) -> None:
    index.upsert(np.array([1], np.uint64), ROWS[:1], groups=9)
    assert index.search(ROWS[:1], 1, now=0.0)[0].item() == MISSING_ID
    ids, scores = index.search(ROWS[:1], 1, now=0.0, groups=9)
    assert (ids.item(), scores.item(), len(index)) == (1, 1.0, 1)


def test_the_last_of_several_rows_with_one_id_wins() -> None:
    index = Index(4)
    groups = np.array([1, 2, 3], np.uint32)
    index.upsert(np.array([7, 7, 7], np.uint64), np.eye(3, 4, dtype=np.float32), groups=groups)
    query = np.array([[0, 0, 1, 0]], np.float32)
    answers = [index.search(query, 1, now=0.0, groups=group)[0].item() for group in (1, 2, 3)]
    assert answers == [MISSING_ID, MISSING_ID, 7]
    assert (len(index), index.stats()["groups"]) == (1, 1)


def test_arrays_are_copied(index: Index) -> None:
    rows = np.array([[1, 0, 0, 0]], np.float32)
    index.upsert(np.array([1], np.uint64), rows)
    rows[:] = [0, 1, 0, 0]
    assert index.search(np.array([[1, 0, 0, 0]], np.float32), 1, now=0.0)[1].item() == 1.0
    rows.flags.writeable = False
    index.upsert(np.array([1], np.uint64), rows)


def test_wrong_files_are_value_errors_and_absent_ones_os_errors(index: Index, tmp_path: Path) -> None:
    path = tmp_path / "index"
    index.save(str(path))
    whole = path.read_bytes()
    assert len(Index.load(path)) == 1
    for damaged in [b"", whole[:-1], whole + b"\0", whole[:40] + b"\1" + whole[41:], b"\x80\4" + whole]:
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match="simcore index"):
            Index.load(path)
    with pytest.raises(FileNotFoundError):
        Index.load(tmp_path / "absent")
    with pytest.raises(FileNotFoundError):
        index.save(tmp_path / "absent" / "index")


def test_signatures_show_their_defaults() -> None:
    assert str(inspect.signature(Index.search)) == "(self, /, queries, k, *, now, threshold=-1.0, groups=0)"
    assert str(inspect.signature(Index.upsert)) == "(self, /, ids, vectors, *, groups=0, expires_at=Ellipsis)"
