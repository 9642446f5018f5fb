"""What operators see and do, through the command line and a real cache process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from antiphon.cache.v1 import cache_pb2 as pb
from antiphon_client import AsyncCacheClient
from antiphon_client.errors import InvalidArgumentError
from tests.integration.cache.cache_process import CacheProcess
from tests.integration.tenants.methods import answer, query

ASKED = "How do I reset my password?"
REWORDED = "How can I reset my password?"
REVERSED = "How do I avoid to reset my password?"


def antiphon(cache: CacheProcess, *words: str) -> str:
    """Run the command line; return what it prints."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ANTIPHON_")}
    done = subprocess.run(
        [str(Path(sys.executable).with_name("antiphon")), *words],
        env={**kept, "ANTIPHON_CACHE_TARGET": cache.address},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


async def test_a_decision_is_explained(start: Callable[..., CacheProcess]) -> None:
    cache = start().serving()
    async with AsyncCacheClient(cache.address) as client:
        entry = await client.put(pb.PutRequest(query=query(ASKED), answer=answer("Click on 'Forgot password'.")))
        said = await client.explain(pb.ExplainRequest(query=query(REWORDED)))
        assert (said.outcome, said.entry_id, said.rule) == (pb.OUTCOME_SEMANTIC, entry.entry_id, "verifier")
        assert said.decision.score >= said.score_threshold
        assert said.decision.matched_prompt == ASKED
        assert said.scope.comparable_entries == 1
        assert said.scope.embedder.startswith("minilm")
        same = await client.explain(pb.ExplainRequest(query=query(ASKED)))
        assert (same.scope.hash, same.scope.entry_id) == (said.scope.hash, entry.entry_id)
        for limit in (-1, 51):
            with pytest.raises(InvalidArgumentError) as caught:
                await client.explain(pb.ExplainRequest(query=query(ASKED), limit=limit))
            assert list(caught.value.fields) == ["limit"]
        stats = await client.get_stats(pb.GetStatsRequest())
        assert (stats.lookups.semantic, stats.lookups.miss, stats.lookups.fills_granted) == (0, 0, 0)

    shown = antiphon(cache, "explain", REVERSED)
    assert "would be" in shown
    assert "MISS" in shown
    assert "negation" in shown
    assert ASKED in shown
    told = json.loads(antiphon(cache, "explain", REVERSED, "--json", "--limit", "1"))
    assert told["outcome"] == "OUTCOME_MISS"
    assert told["candidates"][0]["features"]["neg"] == 1.0
