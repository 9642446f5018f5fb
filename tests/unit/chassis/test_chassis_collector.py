from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from services.chassis.collector import building


@pytest.fixture(autouse=True)
def seen_again() -> Iterator[None]:
    yield
    gc.unfreeze()


def test_nobody_looks_for_cycles_in_what_is_built() -> None:
    assert gc.isenabled()
    with building():
        assert not gc.isenabled()
        made = [[number] for number in range(100)]
    assert gc.isenabled()
    assert not any(one is made for one in gc.get_objects())


def test_cycles_are_looked_for_again_after_a_failure() -> None:
    with pytest.raises(ValueError, match="half"), building():
        raise ValueError("half")
    assert gc.isenabled()
