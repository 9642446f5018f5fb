from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.unit.cache.cache_parts import ASKED, REWORDED, Bench, benched


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    """A cache that takes the reworded question for the one that was asked."""
    async with benched() as made:
        made.embedder.alike(REWORDED, ASKED, 0.95)
        yield made


@pytest.fixture(scope="module")
def executor() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as made:
        yield made
