"""Our histograms tell Prometheus what its own would."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.exposition import generate_latest

from services.chassis.histograms import Histograms

BOUNDS = (0.001, 0.1, 1.0, 2.5)
VALUES = st.sampled_from([*BOUNDS, 0.0, 0.0005, 0.5, 3.0, 1e9])


@given(st.lists(st.tuples(st.sampled_from(["a", 'b "and" \\n']), VALUES), max_size=30))
def test_they_are_exposed_as_prometheus_would(observed: list[tuple[str, float]]) -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    mine = Histograms(ours, "seconds", "How long.", "of", bounds=BOUNDS)
    plain = Histogram("seconds", "How long.", ["of"], buckets=BOUNDS, registry=theirs)
    for label, value in observed:
        mine.labels(label).observe(value)
        plain.labels(label).observe(value)
    # When a series was made is not told.
    expected = [line for line in generate_latest(theirs).decode().splitlines() if "_created" not in line]
    assert generate_latest(ours).decode().splitlines() == expected


def test_a_name_is_taken_once() -> None:
    registry = CollectorRegistry()
    Histograms(registry, "seconds", "How long.", "of", bounds=BOUNDS)
    with pytest.raises(ValueError, match="Duplicated"):
        Histogram("seconds", "Another.", registry=registry)
