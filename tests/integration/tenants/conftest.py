from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.fakes.openai_server import FakeOpenAI
from tests.integration.tenants.tenancy import Tenancy
from tests.suite_process import SuiteProcess, environment, two_models


@pytest.fixture
async def upstream() -> AsyncIterator[FakeOpenAI]:
    """The paid server, which counts what it is asked."""
    async with FakeOpenAI.start() as server:
        yield server


@pytest.fixture
def tenancy() -> Tenancy:
    """Two tenants with keys for every role."""
    return Tenancy(("acme", "globex"))


@pytest.fixture
def environ(tmp_path: Path, upstream: FakeOpenAI) -> dict[str, str]:
    """Variables of a suite whose models are on `upstream`, without credentials."""
    return environment(tmp_path / "state", ANTIPHON_CATALOGUE=str(two_models(tmp_path, upstream.base_url)))


@pytest.fixture
def suite(tmp_path: Path, environ: dict[str, str], tenancy: Tenancy) -> Iterator[SuiteProcess]:
    """Everything, as `antiphon up` starts it, for callers with keys only."""
    started = SuiteProcess({**environ, **tenancy.write(tmp_path / "keys")})
    started.wait_for("SERVING")
    yield started
    started.close()
