"""Long texts become windows that miss nothing and read the end in full."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.embedding.windows import EDGE_PIECES, body_windows, combine, spans


@pytest.mark.fault(84)
@given(st.integers(0, 5_000), st.integers(1, 600))
def test_every_piece_is_in_the_body_and_no_window_is_too_long(pieces: int, capacity: int) -> None:
    found = spans(pieces, capacity)
    body = found[: body_windows(pieces, capacity)]
    covered = {piece for start, end in body for piece in range(start, end)}
    assert covered == set(range(pieces))
    assert all(0 <= end - start <= capacity for start, end in found)


@pytest.mark.fault(84)
@given(st.integers(1, 5_000), st.integers(1, 600))
def test_a_long_text_has_full_windows_up_to_its_end_and_both_edges(pieces: int, capacity: int) -> None:
    found = spans(pieces, capacity)
    if pieces <= capacity:
        assert found == [(0, pieces)]
        return
    *body, first, last = found
    assert all(end - start == capacity for start, end in body)
    assert body[0][0] == 0
    assert body[-1][1] == pieces
    edge = min(EDGE_PIECES, capacity)
    assert (first, last) == ((0, edge), (pieces - edge, pieces))


def test_the_body_is_as_few_windows_as_possible() -> None:
    assert [body_windows(pieces, 254) for pieces in (0, 1, 254, 255, 508, 509)] == [1, 1, 1, 2, 2, 3]
    assert spans(600, 254)[:3] == [(0, 254), (173, 427), (346, 600)]


def test_one_window_is_the_texts_vector() -> None:
    row = np.array([[0.6, 0.8]], np.float32)
    np.testing.assert_array_equal(combine(row), row[0])


def test_body_and_edges_weigh_the_same_however_many_windows_the_body_has() -> None:
    body, first, last = np.eye(3, dtype=np.float32)
    expected = np.full(3, 1 / np.sqrt(3))
    for count in (2, 9):
        np.testing.assert_allclose(combine(np.stack([*[body] * count, first, last])), expected, atol=1e-7)


def test_vectors_that_cancel_out_make_no_nan() -> None:
    rows = np.array([[1, 0], [-1, 0], [0, 1], [0, -1]], np.float32)
    assert np.all(np.isfinite(combine(rows)))


@pytest.mark.parametrize("changed", ["first", "last"])
def test_a_change_at_an_edge_moves_the_vector_more_than_the_mean_of_the_body_would(changed: str) -> None:
    rng = np.random.default_rng(7)
    rows = rng.standard_normal((8, 384)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    other = rows.copy()
    other[-2 if changed == "first" else -1] = rows[0]
    assert float(combine(rows) @ combine(other)) < 0.8
