"""A batch of lookups answers what as many lookups answer one after the other, and costs one search."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from antiphon.cache.v1 import cache_pb2 as pb
from antiphon.llm.v1 import llm_pb2
from antiphon_client.errors import ResourceExhaustedError, from_status
from services.cache.batch import PER_BUDGET
from services.cache.batch_proto import MAX_SERVED_BYTES, BatchResponse
from services.cache.fill_values import Granted, InProgress
from services.cache.values import Asked, BypassReason, LookupResult, Mode, Outcome, Policy, Vector
from services.chassis.errors import Reason, Unavailable
from simcore import IndexPoisoned
from tests.unit.cache.cache_parts import ASKED, ONLY, REWORDED, Bench, ask, benched, searches_held, user

NEAR = "Where do I reset a password?"
OTHER = "What does the planet Saturn weigh?"
FAR = "Who resets passwords?"
COSINES = {REWORDED: 0.955, NEAR: 0.925, FAR: 0.6, **{f"old {number}": 0.99 - number / 1_000 for number in range(6)}}

texts = st.sampled_from([ASKED, REWORDED, NEAR, FAR, OTHER])
policies = st.sampled_from(
    [
        Policy(),
        Policy(),
        ONLY,
        Policy(mode=Mode.REFRESH),
        Policy(mode=Mode.BYPASS),
        Policy(min_similarity=0.94),
        Policy(max_error_rate=0.01),
        Policy(max_age=50.0),
        Policy(mode=Mode.ONLY_IF_CACHED, max_age=50.0),
    ]
)
queries = st.builds(ask, texts, namespace=st.sampled_from(["n", "m"])) | st.just(ask("yes", user(ASKED), namespace="n"))
asked_lists = st.lists(st.builds(Asked, queries, policies, st.sampled_from(["", "mine"])), min_size=1, max_size=12)
stored_lists = st.lists(
    st.tuples(st.sampled_from([*COSINES, ASKED, OTHER]), st.sampled_from(["n", "m"]), st.booleans()), max_size=12
)


async def told(
    stored: list[tuple[str, str, bool]], asked: list[Asked], limit: int, least: float, *, batch: bool
) -> list[Any]:
    """What is answered, with leases by the place where they were first seen; and what embedding took."""
    async with benched(max_fills=limit, min_similarity=least) as bench:
        for text, cosine in COSINES.items():
            bench.embedder.alike(text, ASKED, cosine)
        for old in (True, False):
            for text, namespace, is_old in stored:
                if is_old is old:
                    await bench.put(ask(text, namespace=namespace), f"{text} {old}")
            bench.clock.advance(100 if old else 0)
        if batch:
            results = await bench.look_many(asked)
        else:
            results = [await bench.look(one.query, one.policy, token=one.token) for one in asked]
        assert sum(bench.cache.stats.of("default", None).outcomes.values()) == len(asked)
        leases: dict[str, int] = {}
        return [_comparable(result, leases) for result in results]


def _comparable(result: LookupResult, leases: dict[str, int]) -> dict[str, Any]:
    fields = {field.name: getattr(result, field.name) for field in dataclasses.fields(result)}
    # Of equal questions a later one needs no embedding if it comes when the first has its lease already.
    del fields["embedding_tokens"]
    if isinstance(result.fill, Granted | InProgress):
        fields["fill"] = type(result.fill), leases.setdefault(result.fill.lease_id, len(leases))
    fields["vector"] = None if result.vector is None else result.vector.tobytes()
    fields["entry"] = None if result.entry is None else (result.entry.id, result.entry.answer.text)
    return fields


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(stored=stored_lists, asked=asked_lists, limit=st.sampled_from([1, 1_000]), least=st.sampled_from([0.9, 0.5]))
def test_a_batch_answers_what_single_lookups_answer(
    stored: list[tuple[str, str, bool]], asked: list[Asked], limit: int, least: float
) -> None:
    one_by_one = asyncio.run(told(stored, asked, limit, least, batch=False))
    assert asyncio.run(told(stored, asked, limit, least, batch=True)) == one_by_one


class Counting:
    """An index that notes the searches."""

    def __init__(self, index: Any) -> None:
        self._index = index
        self.searches: list[tuple[int, list[int]]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._index, name)

    def search(self, queries: Vector, k: int, *, groups: Any, **how: Any) -> Any:
        self.searches.append((len(queries), groups.tolist()))
        return self._index.search(queries, k, groups=groups, **how)


async def test_a_batch_over_several_scopes_is_one_search(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    for namespace in ("n", "m"):
        await bench.put(ask(ASKED, namespace=namespace), namespace)
    index = Counting(bench.cache.entries.similarity._index)
    monkeypatch.setattr(bench.cache.entries.similarity, "_index", index)
    asked = [Asked(ask(REWORDED, namespace=name), ONLY) for name in ("m", "n", "empty", "m")]
    found = await bench.look_many([*asked, Asked(ask(ASKED, namespace="n"))])
    assert [one.entry and one.entry.answer.text for one in found] == ["m", "n", None, "m", "n"]
    ((count, groups),) = index.searches
    assert (count, len(set(groups))) == (3, 2)


async def test_the_widest_search_of_a_batch_widens_no_other() -> None:
    async with benched(min_similarity=0.5) as wide:
        wide.embedder.alike(FAR, ASKED, 0.6)
        await wide.put(ASKED)
        strict, loose = await wide.look_many([Asked(ask(FAR), Policy(min_similarity=0.9)), Asked(ask(FAR), ONLY)])
        assert (strict.decision.vetoes, strict.nearest) == (("nothing_similar",), None)
        assert loose.outcome is Outcome.SEMANTIC


async def test_of_equal_questions_the_first_fills(bench: Bench) -> None:
    results = await bench.look_many([Asked(ask(ASKED)), Asked(ask(OTHER)), *[Asked(ask(ASKED))] * 3])
    assert [type(result.fill) for result in results] == [Granted, Granted, InProgress, InProgress, InProgress]
    first = results[0].fill
    assert isinstance(first, Granted)
    assert {result.fill for result in results[2:]} == {InProgress(first.lease_id)}
    assert sorted(bench.embedder.calls) == sorted([ASKED, OTHER])
    assert sum(result.embedding_tokens for result in results) == len(f"{ASKED} {OTHER}".split()), "billed once"


async def test_a_repeated_batch_gets_its_leases_again(bench: Bench) -> None:
    asked = [Asked(ask(ASKED), token="a"), Asked(ask(OTHER), token="b")]
    first, again = await bench.look_many(asked), await bench.look_many(asked)
    assert [result.fill for result in first] == [result.fill for result in again]
    assert all(isinstance(result.fill, Granted) for result in again)


async def test_without_the_embedder_only_those_bypass_that_need_it(bench: Bench) -> None:
    await bench.put(ASKED)
    bench.embedder.error = Unavailable("down", reason=Reason.EMBEDDER_UNAVAILABLE)
    missed, exact, reasonable = await bench.look_many(
        [Asked(ask(OTHER)), Asked(ask(ASKED)), Asked(ask(OTHER), Policy(max_error_rate=0.1))]
    )
    assert missed.bypass_reason is BypassReason.EMBEDDER_UNAVAILABLE
    assert (exact.outcome, reasonable.outcome) == (Outcome.EXACT, Outcome.MISS)


async def test_a_search_beyond_its_budget_bypasses_those_that_search(monkeypatch: pytest.MonkeyPatch) -> None:
    async with benched(decision_budget=0.01) as bench:
        await bench.put(ASKED)
        with searches_held(bench.cache.entries.similarity, monkeypatch):
            searching, exact = await bench.look_many([Asked(ask(OTHER)), Asked(ask(ASKED))])
        assert (searching.bypass_reason, exact.outcome) == (BypassReason.DECISION_TIMEOUT, Outcome.EXACT)


async def test_so_many_share_a_budget_and_embed_within_their_own(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    budgets: list[float] = []
    search = bench.cache._answering.lookups.search

    async def noting(searches: Any, within: float) -> Any:
        budgets.append(within)
        return await search(searches, within)

    monkeypatch.setattr(bench.cache._answering.lookups, "search", noting)
    for count in (1, PER_BUDGET, PER_BUDGET + 1):
        await bench.look_many([Asked(ask(f"question {number} of {count}"), ONLY) for number in range(count)])
    assert budgets == [10.0, 10.0, 20.0]


async def test_a_fault_of_the_index_is_told_once(bench: Bench) -> None:
    await bench.put(ASKED)
    bench.cache.entries.similarity._index._inject_panic()
    with pytest.raises(IndexPoisoned):
        await bench.look_many([Asked(ask(REWORDED)), Asked(ask(ASKED))])
    bypassed, exact = await bench.look_many([Asked(ask(REWORDED)), Asked(ask(ASKED))])
    assert (bypassed.bypass_reason, exact.outcome) == (BypassReason.HYDRATING, Outcome.EXACT)


def test_answers_beyond_what_a_message_may_have_are_left_for_another_call() -> None:
    response = BatchResponse()
    large = pb.LookupResponse(answer=llm_pb2.Answer(text="x" * (MAX_SERVED_BYTES // 2 - 100)))
    for one in (large, large, large, pb.LookupResponse(outcome=pb.OUTCOME_MISS)):
        response.add(one)
    kinds = [result.WhichOneof("result") for result in response.message.results]
    assert kinds == ["response", "response", "error", "response"]
    error = from_status(response.message.results[2].error)
    assert isinstance(error, ResourceExhaustedError)
    assert (error.reason, error.retry_after) == ("RESPONSE_FULL", 0.0)
