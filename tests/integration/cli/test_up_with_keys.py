"""`antiphon up` with credentials: callers need keys, the services have theirs, and keys come and go meanwhile."""

from __future__ import annotations

import asyncio
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from antiphon.cache.v1 import cache_pb2
from antiphon.completion.v1 import completion_pb2
from antiphon_client import AntiphonError, AsyncCacheClient, AsyncCompletionClient
from services.chassis.auth.api_key import key_id_of
from tests.suite_process import ANTIPHON, GUARD, SuiteProcess, environment

MISS, EXACT = cache_pb2.OUTCOME_MISS, cache_pb2.OUTCOME_EXACT


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    return environment(tmp_path / "state")


@pytest.fixture
def suite(environ: dict[str, str]) -> Iterator[SuiteProcess]:
    running = SuiteProcess({**environ, "ANTIPHON_API_KEY": make_key(environ)}, "--demo")
    yield running
    running.close()


def antiphon(environ: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(ANTIPHON), *arguments], env=environ, capture_output=True, text=True, timeout=GUARD, check=False
    )


def make_key(environ: dict[str, str], *options: str, tenant: str = "acme", role: str = "client") -> str:
    made = antiphon(environ, "key", "create", "--tenant", tenant, "--role", role, *options)
    assert made.returncode == 0, made.stderr
    return made.stdout.strip()


def asked(suite: SuiteProcess, api_key: str | None, prompt: str) -> completion_pb2.CompletionInfo:
    async def ask() -> completion_pb2.CompletionInfo:
        async with AsyncCompletionClient(suite.address("completion"), api_key=api_key) as client:
            response = await client.complete(completion_pb2.CompleteRequest(prompt=prompt), timeout=GUARD)
            return response.info

    return asyncio.run(ask())


def refusal(call: Callable[[], object]) -> AntiphonError:
    with pytest.raises(AntiphonError) as raised:
        call()
    return raised.value


def until_known(call: Callable[[], Any]) -> Any:
    """Wait until every process has seen a new key; each looks at the file by itself."""
    deadline = time.monotonic() + GUARD
    while True:
        try:
            return call()
        except AntiphonError as error:
            if error.reason != "INVALID_CREDENTIAL":
                raise
            assert time.monotonic() < deadline, "the key was never known"
            time.sleep(0.02)


def test_callers_need_keys_which_come_and_go_while_the_suite_runs(suite: SuiteProcess, environ: dict[str, str]) -> None:
    suite.wait_for("SERVING")
    assert not any("no credentials" in line for line in suite.lines)
    suite.wait_for("offline-large")  # the demo's last answer
    assert refusal(lambda: asked(suite, None, "How do I bake bread?")).reason == "MISSING_CREDENTIAL"

    key = make_key(environ, "--tokens-per-minute", "1")
    first = until_known(lambda: asked(suite, key, "How do I bake bread?"))
    # The cache took it, so completion has a key of its own and speaks for the caller's tenant.
    assert (first.cache.outcome, list(first.degraded)) == (MISS, [])
    limited = refusal(lambda: asked(suite, key, "How do I bake bread?"))
    assert limited.reason == "RATE_LIMITED"
    assert limited.retry_after is not None
    assert limited.retry_after > 60  # more than a minute's worth was bought
    colleague = make_key(environ)
    assert until_known(lambda: asked(suite, colleague, "How do I bake bread?")).cache.outcome == EXACT
    assert refusal(lambda: until_known(lambda: asked_cache(suite, colleague))).reason == "METHOD_NOT_ALLOWED"

    revoked = antiphon(environ, "key", "revoke", key_id_of(colleague) or "")
    assert revoked.returncode == 0, revoked.stderr
    deadline = time.monotonic() + GUARD
    while True:
        try:
            asked(suite, colleague, "How do I bake bread?")
        except AntiphonError as error:
            assert error.reason == "INVALID_CREDENTIAL"
            break
        assert time.monotonic() < deadline, "the key was never refused"
    for secret in (key, colleague, (suite.state_dir / "service.key").read_text().strip()):
        assert secret[16:] not in suite.errors + "".join(suite.lines)


def asked_cache(suite: SuiteProcess, api_key: str) -> object:
    async def clear() -> object:
        async with AsyncCacheClient(suite.address("cache"), api_key=api_key) as client:
            return await client.clear(cache_pb2.ClearRequest(dry_run=True), timeout=GUARD)

    return asyncio.run(clear())


def test_the_demo_says_at_once_that_it_needs_a_key(environ: dict[str, str]) -> None:
    make_key(environ)
    started = antiphon(environ, "up", "--demo")
    assert started.returncode == 78
    assert "ANTIPHON_API_KEY: is needed for the demo" in started.stderr
