"""Near misses against what somebody else stored in the same namespace, and in another tenant's.

`make campaign-attack` asks 5,000, from SEED= on.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from antiphon.cache.v1 import cache_pb2 as pb
from antiphon_client import AsyncCacheClient
from tests.fakes.credentials import bearer
from tests.integration.cache.cache_process import CacheProcess
from tests.integration.edgestore.store_process import StoreProcess
from tests.integration.tenants.methods import answer, query
from tests.integration.tenants.tenancy import Tenancy
from tests.quality.attack.attacks import assault
from tests.quality.patience import decided

COUNT = int(os.environ.get("ATTACK_QUERIES") or 200)
SEED = int(os.environ.get("ATTACK_SEED") or 1)
AT_ONCE = 8
SECONDS = 600.0
SLOWEST = 5
"""Questions per second that the timeout allows for; it is a guard, not a promise."""

MOST_WRONG = 0.02
"""Of the lookups; all that is served to a near miss is wrong."""

LEAST_SERVED = 0.1
"""Of the victim's own questions in other words: who serves nothing is safe, and useless."""

ONLY = pb.CachePolicy(mode=pb.CACHE_MODE_ONLY_IF_CACHED)
SERVED = {pb.OUTCOME_EXACT, pb.OUTCOME_SEMANTIC}


@pytest.mark.timeout(300 + COUNT // SLOWEST)
async def test_near_misses_get_few_answers_and_other_tenants_none(tmp_path: Path) -> None:
    what = assault(SEED, COUNT)
    tenancy = Tenancy(())
    store = StoreProcess(tmp_path / "state")
    store.start()
    keys = tenancy.write(tmp_path / "keys")
    cache = CacheProcess(store.state_dir, ANTIPHON_CACHE_DECISION_BUDGET="10", ANTIPHON_LOG_SAMPLE="0", **keys)
    try:
        cache.serving()
        async with AsyncCacheClient(cache.address) as client:
            await put(client, "victim", what.stored, tenancy)
            attacks = [attack.text for attack in what.attacks]
            wrong = await hits(client, "victim", attacks, tenancy)
            right = await hits(client, "victim", what.paraphrases[:COUNT], tenancy)
            abroad = await hits(client, "stranger", [*attacks, *what.stored], tenancy)
    finally:
        cache.end()
        store.close()
    asked = Counter(attack.kind for attack in what.attacks)
    kinds = Counter(attack.kind for attack in what.attacks if attack.text in wrong)
    told = ", ".join(f"{kind} {kinds[kind]} of {asked[kind]}" for kind in sorted(asked))
    served = len(right) / len(what.paraphrases[:COUNT])
    print(f"\nseed {SEED}: wrong answers to {len(wrong) / COUNT:.2%} of {COUNT} near misses ({told}),")
    print(f"{served:.1%} of {len(what.paraphrases[:COUNT])} paraphrases served, {len(abroad)} hits across tenants")
    assert abroad == []
    assert len(wrong) <= MOST_WRONG * COUNT, "\n".join(wrong)
    assert served >= LEAST_SERVED


async def put(client: AsyncCacheClient, tenant: str, texts: Sequence[str], tenancy: Tenancy) -> None:
    """Store an answer to each."""
    places = asyncio.Semaphore(AT_ONCE)

    async def one(text: str) -> None:
        async with places:
            request = pb.PutRequest(query=query(text), answer=answer("!"))
            await client.put(request, timeout=SECONDS, metadata=as_tenant(tenant, tenancy))

    await asyncio.gather(*(one(text) for text in texts))


async def hits(client: AsyncCacheClient, tenant: str, texts: Sequence[str], tenancy: Tenancy) -> list[str]:
    """Look each up; return those that are served an answer."""
    places = asyncio.Semaphore(AT_ONCE)

    async def one(text: str) -> bool:
        request = pb.LookupRequest(query=query(text), policy=ONLY)
        async with places:
            found = await decided(client, request, timeout=SECONDS, metadata=as_tenant(tenant, tenancy))
        return found.outcome in SERVED

    served = await asyncio.gather(*(one(text) for text in texts))
    return [text for text, hit in zip(texts, served, strict=True) if hit]


def as_tenant(tenant: str, tenancy: Tenancy) -> tuple[tuple[str, str], ...]:
    """How the suite itself speaks for a tenant."""
    return (*bearer(tenancy.service), ("x-antiphon-tenant", tenant))
