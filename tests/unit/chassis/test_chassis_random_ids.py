"""Ids from the system's random source, drawn many at once."""

from __future__ import annotations

import re

import pytest

from services.chassis.random_ids import DRAWN, RandomIds


@pytest.mark.parametrize("size", [1, 12, 16, 4_000, 5_000])
def test_each_has_its_length_and_no_part_is_used_twice(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[bytes] = []

    def draw(count: int) -> bytes:
        drawn.append(bytes((len(drawn) * 7 + place) % 256 for place in range(count)))
        return drawn[-1]

    monkeypatch.setattr("os.urandom", draw)
    ids = RandomIds(size)
    per_draw = max(DRAWN, size) // size
    made = [ids.next() for _ in range(2 * per_draw)]
    assert len(drawn) == 2
    assert made == [
        piece.hex()[2 * size * place : 2 * size * (place + 1)] for piece in drawn for place in range(per_draw)
    ]


def test_they_differ_between_sources() -> None:
    first, second = RandomIds(12), RandomIds(12)
    made = {one.next() for one in (first, second) for _ in range(1_000)}
    assert len(made) == 2_000
    assert all(re.fullmatch("[0-9a-f]{24}", one) for one in made)
