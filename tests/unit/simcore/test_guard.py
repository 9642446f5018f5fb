"""`simcore.compare` and `simcore.Guard`: what Python sees of the guard."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import simcore

PIECES = [
    *("not", "from", "to", "17", "1,000", "$5", "5pm", "Java", "New", "York", "by", "was", "`x == 1`"),
    *("שלום", "مرحبا", "漢字", "👩‍👧", "é", "?", "."),
]
TEXTS = st.text(st.characters(exclude_categories=("Cs",)), max_size=80) | st.lists(
    st.sampled_from(PIECES),
    max_size=12,
).map(" ".join)


def test_a_report_names_what_differs():
    report = simcore.compare("fly from New York to Boston on Monday", "fly from Boston to New York on Friday")
    assert report.version == simcore.GUARD_VERSION
    assert set(report.features) == set(simcore.FEATURES)
    assert {"swapped_roles", "class_member"} <= set(report.reasons)
    assert isinstance(report.reasons, tuple)
    assert "swapped_roles" in repr(report)


def test_numbers_in_other_forms_are_equal():
    for a, b in [
        ("buy 2,000 bricks", "buy two thousand bricks"),
        ("at 5 pm", "at 17:00"),
        ("50% off", "50 percent off"),
        ("for $500", "for 500 dollars"),
    ]:
        report = simcore.compare(a, b)
        assert report.features["exact"] == 1.0, (a, b)
        assert report.reasons == ()


def test_a_language_that_is_not_known_is_said():
    assert "unknown_language" in simcore.compare("Miten avaan tilin?", "Miten suljen tilin?").reasons


@settings(max_examples=300, deadline=None)
@given(TEXTS, TEXTS)
def test_any_two_texts_give_the_same_finite_features_each_time(a: str, b: str):
    guard = simcore.Guard(a)
    rows = guard.measure([b, b, a])
    assert rows.shape == (3, len(simcore.FEATURES))
    assert rows.dtype == np.float32
    assert np.isfinite(rows).all()
    assert (rows[0] == rows[1]).all()
    named = guard.compare(b).features
    assert [named[name] for name in simcore.FEATURES] == rows[0].tolist()
    assert rows[2][simcore.FEATURES.index("exact")] == 1.0


def test_what_is_no_text_is_refused():
    with pytest.raises(TypeError):
        simcore.compare("a", 1)
    with pytest.raises(ValueError, match="surrogates"):
        simcore.compare("a", "\ud800")
    with pytest.raises(TypeError):
        simcore.Guard("a").measure("not a list")


def test_directions_are_given_for_every_feature():
    assert len(simcore.DIRECTIONS) == len(simcore.FEATURES) == len(set(simcore.FEATURES))
    assert set(simcore.DIRECTIONS) == {"up", "down", "free"}
