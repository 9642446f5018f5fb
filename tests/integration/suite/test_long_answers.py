"""An answer that takes longer than its lease is bought once: the lease is renewed while it is made."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from antiphon.cache.v1 import cache_pb2
from antiphon.llm.v1 import llm_pb2
from antiphon_client import AsyncCacheClient, AsyncCompletionClient
from tests.fakes.behaviours import Behaviour, Gate
from tests.fakes.openai_server import FakeOpenAI
from tests.suite_process import SuiteProcess, environment, two_models

LEASE_SECONDS = 1.0


@pytest.mark.fault(83)
async def test_nobody_else_fills_while_an_answer_is_made(tmp_path: Path, upstream: FakeOpenAI) -> None:
    catalogue = str(two_models(tmp_path, upstream.base_url))
    environ = environment(tmp_path / "state", ANTIPHON_CATALOGUE=catalogue, ANTIPHON_CACHE_LEASE=str(LEASE_SECONDS))
    suite = SuiteProcess(environ)
    gate = Gate()
    upstream.enqueue(Behaviour(gate=gate))
    try:
        await asyncio.to_thread(suite.wait_for, "SERVING")
        async with (
            AsyncCompletionClient(suite.address("completion")) as completion,
            AsyncCacheClient(suite.address("cache")) as cache,
        ):
            answer = asyncio.create_task(completion.complete("What takes so long?", timeout=60))
            await gate.reached.wait()
            message = llm_pb2.Message(role=llm_pb2.ROLE_USER, parts=[llm_pb2.ContentPart(text="What takes so long?")])
            looked = cache_pb2.LookupRequest(query=cache_pb2.Query(messages=[message]), fill_token="another process")
            found = await cache.lookup(looked)
            assert found.fill.in_progress_lease_id, "the very same question"
            waited = cache_pb2.WaitFillRequest(lease_id=found.fill.in_progress_lease_id, fill_token="another process")
            waiting = asyncio.create_task(cache.wait_fill(waited, timeout=60))
            # Time has to pass: several leases, each of which would have ended.
            done, _ = await asyncio.wait({waiting}, timeout=4 * LEASE_SECONDS)
            assert not done, waiting.result()
            gate.open.set()
            text = (await answer).answer.text
            assert (await waiting).filled.answer.text == text
            assert len(upstream.chat_calls) == 1
    finally:
        gate.open.set()
        await asyncio.to_thread(suite.close)
