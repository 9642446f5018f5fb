from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.chassis.probe import Bench, connected, serving


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with serving(tmp_path) as running:
        yield running


@pytest.fixture
async def channel(bench: Bench) -> AsyncIterator[Any]:
    async with connected(bench.server.address) as connection:
        yield connection
