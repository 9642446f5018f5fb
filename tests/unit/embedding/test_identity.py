"""An identity names the vectors that may be compared; the gate lets nothing else in."""

from __future__ import annotations

import re

import numpy as np
import pytest

from services.chassis.errors import Reason, Unavailable
from services.embedding import EmbedderIdentity
from services.embedding.vectors import unit_rows

BASE = EmbedderIdentity("minilm", 384, "r1")


@pytest.mark.parametrize("name", ["minilm", "BAAI/bge-m3", "text-embedding-3-small", "ünï códe", "///", "x" * 500])
def test_a_slug_is_fit_for_a_collections_name(name: str) -> None:
    slug = EmbedderIdentity(name, 384, "r1").slug
    assert re.fullmatch(r"[a-z0-9_]{1,64}", slug)


@pytest.mark.parametrize(
    "other",
    [
        EmbedderIdentity("minilm", 384, "r2"),
        EmbedderIdentity("minilm", 383, "r1"),
        EmbedderIdentity("MiniLM", 384, "r1"),
        EmbedderIdentity("mini-lm", 384, "r1"),
        EmbedderIdentity("minilm\0384", 384, "r1"),
    ],
)
def test_different_identities_have_different_slugs(other: EmbedderIdentity) -> None:
    assert other.slug != BASE.slug
    assert EmbedderIdentity("minilm", 384, "r1").slug == BASE.slug


def test_rows_leave_the_gate_with_length_one() -> None:
    rows = unit_rows(np.array([[3.0, 4.0], [1e30, 0.0]]), count=2, dim=2)
    assert rows.dtype == np.float32
    np.testing.assert_allclose(rows, np.array([[0.6, 0.8], [1, 0]]), atol=1e-7)


@pytest.mark.parametrize(
    "rows",
    [
        np.zeros((1, 2)),
        np.array([[np.nan, 1.0]]),
        np.array([[np.inf, 1.0]]),
        np.array([[1e300, 1e300]]),
        np.ones((2, 2)),
        np.ones(2),
        np.ones((0, 2)),
    ],
    ids=["zero", "nan", "inf", "overflow", "count", "flat", "none"],
)
def test_what_is_no_vector_is_refused(rows: np.ndarray) -> None:
    with np.errstate(over="ignore", invalid="ignore"), pytest.raises(Unavailable) as caught:
        unit_rows(rows, count=1, dim=2)
    assert caught.value.reason is Reason.EMBEDDER_UNAVAILABLE


def test_vectors_of_another_length_are_told_as_such() -> None:
    with pytest.raises(Unavailable, match="3 numbers instead of 2") as caught:
        unit_rows(np.ones((1, 3)), count=1, dim=2)
    assert caught.value.reason is Reason.EMBEDDER_DIMENSION
