from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.fakes.openai_server import FakeOpenAI
from tests.suite_process import SuiteProcess, environment

CATALOGUE = """
include_default = false

[upstreams.fake]
kind = "openai"
base_url = "{base_url}"

[models.small]
upstream = "fake"
context_tokens = 100_000
max_output_tokens = 4_096
capabilities = ["streaming", "tools"]
prices = {{ input = "1", output = "10", date = 2026-01-01 }}
latency = {{ first_token_seconds = 0.1, tokens_per_second = 50 }}
quality = {{ tier = "moderate" }}

[models.large]
upstream = "fake"
context_tokens = 100_000
max_output_tokens = 4_096
capabilities = ["streaming", "tools"]
prices = {{ input = "100", output = "1000", date = 2026-01-01 }}
latency = {{ first_token_seconds = 0.1, tokens_per_second = 50 }}
quality = {{ tier = "complex" }}
"""


@pytest.fixture
async def upstream() -> AsyncIterator[FakeOpenAI]:
    """The paid server, which counts what it is asked."""
    async with FakeOpenAI.start() as server:
        yield server


@pytest.fixture
def environ(tmp_path: Path, upstream: FakeOpenAI) -> dict[str, str]:
    """Variables of a suite whose models are on `upstream`."""
    catalogue = tmp_path / "catalogue.toml"
    catalogue.write_text(CATALOGUE.format(base_url=upstream.base_url))
    return environment(tmp_path / "state", ANTIPHON_CATALOGUE=str(catalogue))


@pytest.fixture
def suite(environ: dict[str, str]) -> Iterator[SuiteProcess]:
    """Everything, as `antiphon up` starts it."""
    started = SuiteProcess(environ)
    started.wait_for("SERVING")
    yield started
    started.close()
