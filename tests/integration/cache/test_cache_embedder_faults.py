"""A cache process whose embedder is a server that fails: the exact tier goes on, everything else bypasses."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from antiphon.cache.v1 import cache_pb2 as pb
from antiphon_client import AsyncCacheClient
from tests.fakes import behaviours
from tests.fakes.behaviours import Behaviour
from tests.fakes.openai_server import FakeOpenAI
from tests.integration.cache.cache_process import CacheProcess
from tests.integration.tenants.methods import answer, query

ASKED = "How do I reset my password?"


async def exact_then_bypass(start: Callable[..., CacheProcess], fault: Behaviour) -> None:
    """What was stored before the fault is found by its own words; a new one bypasses until the embedder is well."""
    async with FakeOpenAI.start() as server:
        cache = start(
            ANTIPHON_EMBEDDING_EMBEDDER="openai",
            ANTIPHON_EMBEDDING_OPENAI_BASE_URL=server.base_url,
            OPENAI_API_KEY="none",
        ).serving()
        async with AsyncCacheClient(cache.address) as client:
            stored = await client.put(pb.PutRequest(query=query(ASKED), answer=answer("!")))
            server.default = fault
            exact = await client.lookup(pb.LookupRequest(query=query(ASKED)))
            assert (exact.outcome, exact.entry_id) == (pb.OUTCOME_EXACT, stored.entry_id)
            fresh = await client.lookup(pb.LookupRequest(query=query("Is this new?")))
            assert (fresh.outcome, fresh.bypass_reason) == (pb.OUTCOME_BYPASS, "embedder_unavailable")
            assert not fresh.HasField("fill")
            server.default = Behaviour()
            healed = await client.lookup(pb.LookupRequest(query=query("Is this new?")))
            assert healed.outcome == pb.OUTCOME_MISS
            assert healed.HasField("embedding")


@pytest.mark.fault(36)
@pytest.mark.parametrize("fault", ["nan", "inf", "zero"])
async def test_a_broken_vector_is_not_used(start: Callable[..., CacheProcess], fault: str) -> None:
    await exact_then_bypass(start, Behaviour(vector_fault=fault))


@pytest.mark.fault(36)
@pytest.mark.parametrize("fault", [Behaviour(vector_dim=8), Behaviour(model="another-model")], ids=["dim", "model"])
async def test_a_vector_of_another_model_is_not_used(start: Callable[..., CacheProcess], fault: Behaviour) -> None:
    await exact_then_bypass(start, fault)


@pytest.mark.fault(37)
async def test_an_embedder_that_is_down_costs_the_semantic_tier_only(start: Callable[..., CacheProcess]) -> None:
    await exact_then_bypass(start, behaviours.status(503))
