from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from tests.fakes.openai_server import FakeOpenAI
from tests.integration.completion.processes import ServiceProcess
from tests.suite_process import environment

NOWHERE = "127.0.0.1:1"

CATALOGUE = """
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
"""

Start = Callable[..., ServiceProcess]


@pytest.fixture
async def upstream() -> AsyncIterator[FakeOpenAI]:
    """The paid server, which counts what it is asked."""
    async with FakeOpenAI.start() as server:
        yield server


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts processes of one state folder; a completion service finds neither cache nor router unless told where."""
    started: list[ServiceProcess] = []
    environ = environment(
        tmp_path / "state", ANTIPHON_CACHE_TARGET=NOWHERE, ANTIPHON_ROUTER_TARGET=NOWHERE, ANTIPHON_LOG_SAMPLE="0"
    )

    def starter(name: str, **variables: str) -> ServiceProcess:
        started.append(ServiceProcess(name, {**environ, **variables}))
        return started[-1]

    yield starter
    for process in reversed(started):
        process.close()


@pytest.fixture
def catalogue(tmp_path: Path, upstream: FakeOpenAI) -> str:
    """A file with the model `small` on `upstream`, besides the stand-ins."""
    path = tmp_path / "catalogue.toml"
    path.write_text(CATALOGUE.format(base_url=upstream.base_url))
    return str(path)
