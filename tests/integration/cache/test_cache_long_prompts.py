"""A prompt of several windows may share an answer, and the question at its end decides whether it does."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from antiphon.cache.v1 import cache_pb2 as pb
from antiphon_client import AsyncCacheClient
from tests.integration.cache.cache_process import CacheProcess
from tests.integration.tenants.methods import answer, query

ROOMS = ("kitchen", "hall", "study", "cellar", "attic", "workshop", "nursery", "library", "garage", "pantry")
REPORT = "Report on the house at the old mill.\n" + "\n".join(
    f"The {room} has {number} windows to the garden, a floor of oak that was laid in {1900 + 7 * number}, walls that "
    f"were painted by the owner, and a stove which the inspector found in good order after a long look at the flue."
    for number, room in enumerate(ROOMS, start=2)
)
ASKED = f"{REPORT}\n\nWhich room has the oldest floor?"
SAME = f"{REPORT}\n\nPlease tell me: which room has the oldest floor?"
OTHERS = [f"{REPORT}\n\n{end}" for end in ("Which room has the newest floor?", "How many windows are there?")]


@pytest.mark.fault(84)
async def test_the_question_at_the_end_decides(start: Callable[..., CacheProcess]) -> None:
    cache = start(ANTIPHON_CACHE_DECISION_BUDGET="10").serving()
    async with AsyncCacheClient(cache.address) as client:
        await client.put(pb.PutRequest(query=query(ASKED), answer=answer("the kitchen")), timeout=60)
        policy = pb.CachePolicy(mode=pb.CACHE_MODE_ONLY_IF_CACHED)
        same = await client.lookup(pb.LookupRequest(query=query(SAME), policy=policy), timeout=60)
        others = [
            await client.lookup(pb.LookupRequest(query=query(text), policy=policy), timeout=60) for text in OTHERS
        ]
    assert same.outcome == pb.OUTCOME_SEMANTIC, same
    assert [other.outcome for other in others] == [pb.OUTCOME_MISS] * len(OTHERS)
    # The cosine alone would have served them.
    assert all(other.decision.similarity > other.decision.threshold for other in others), others


@pytest.mark.fault(84)
async def test_what_the_embedder_cannot_read_whole_is_found_by_its_own_words_only(
    start: Callable[..., CacheProcess],
) -> None:
    cache = start(ANTIPHON_EMBEDDING_MAX_WINDOWS="1", ANTIPHON_CACHE_DECISION_BUDGET="10").serving()
    policy = pb.CachePolicy(mode=pb.CACHE_MODE_ONLY_IF_CACHED)
    async with AsyncCacheClient(cache.address) as client:
        await client.put(pb.PutRequest(query=query(ASKED), answer=answer("the kitchen")), timeout=60)
        own, same = [
            await client.lookup(pb.LookupRequest(query=query(text), policy=policy), timeout=60)
            for text in (ASKED, SAME)
        ]
    assert own.outcome == pb.OUTCOME_EXACT
    assert (same.outcome, list(same.decision.veto_reasons)) == (pb.OUTCOME_MISS, ["exact_only"])
