"""Vectors of answers that were compared are kept, for their tenant alone."""

from __future__ import annotations

from services.cache.comparing import AnswerComparer
from tests.unit.cache.cache_parts import KnownEmbedder
from tests.unit.cache.learning.learning_parts import Scored


async def test_what_one_tenant_compared_is_computed_anew_for_another() -> None:
    embedder = KnownEmbedder()
    comparer = AnswerComparer(embedder, Scored())
    for tenant, computed in (("a", 2), ("a", 0), ("b", 2), ("a", 0)):
        before = len(embedder.calls)
        await comparer.same("The code is 4711.", "Ask at the counter.", tenant=tenant)
        assert len(embedder.calls) - before == computed
