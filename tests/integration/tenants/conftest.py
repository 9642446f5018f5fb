"""One suite with credentials for all tests of this folder that do not need one of their own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.fakes.openai_server import FakeOpenAI
from tests.integration.tenants.tenancy import Tenancy
from tests.suite_process import SuiteProcess, environment, two_models


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def upstream() -> AsyncIterator[FakeOpenAI]:
    """The paid server, which counts what it is asked."""
    async with FakeOpenAI.start() as server:
        yield server


@pytest.fixture(scope="module")
def tenancy() -> Tenancy:
    """Two tenants with keys for every role."""
    return Tenancy(("acme", "globex"))


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory, upstream: FakeOpenAI, tenancy: Tenancy) -> Iterator[SuiteProcess]:
    """Everything, as `antiphon up` starts it, for callers with keys only."""
    folder = Path(tmp_path_factory.mktemp("tenants"))
    catalogue = two_models(folder, upstream.base_url)
    keys = tenancy.write(folder / "keys")
    started = SuiteProcess(environment(folder / "state", ANTIPHON_CATALOGUE=str(catalogue), **keys))
    started.wait_for("SERVING")
    yield started
    started.close()
