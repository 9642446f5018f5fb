"""The adapters against the real cache and the real router."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest

from antiphon_client import AsyncCacheClient, AsyncRouterClient
from services.catalogue.values import Capability, Tier
from services.chassis.auth.values import ANYONE
from services.chassis.errors import (
    AntiphonError,
    DeadlineExceeded,
    FailedPrecondition,
    InvalidRequest,
    NotFound,
    Reason,
    Unavailable,
)
from services.completion.adapters.cache import GrpcCache
from services.completion.adapters.router import GrpcRouter
from services.completion.ports import CallReport, CallStatus, Embedding, Filled, Found, Lease, Outcome, VerdictReport
from services.completion.request import CacheMode, CachePolicy, Constraints, Objective, Question, Request
from services.llm.values import (
    Answer,
    Cost,
    FinishReason,
    GenerationOptions,
    ImagePart,
    Message,
    Role,
    TextPart,
    Tool,
    ToolCall,
    Usage,
)
from tests.integration.completion.processes import ServiceProcess
from tests.suite_process import environment

SECONDS = 20.0
NOWHERE = "127.0.0.1:1"
ANSWER = Answer(
    "Through the settings page.",
    FinishReason.STOP,
    "offline-small",
    upstream="offline",
    tool_calls=(ToolCall("c1", "look_up", '{"a": 1}'),),
    usage=Usage(input=9, cached_input=4, cache_write_input=1, output=5, reasoning=2, estimated=True),
    cost=Cost(77, "v1"),
    created_at=1_700_000_000.0,
)


@pytest.fixture(scope="module")
def addresses(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The cache over its store, and the router."""
    environ = environment(Path(tmp_path_factory.mktemp("adapters")) / "state", ANTIPHON_CACHE_LEASE="60")
    started = [ServiceProcess(name, environ) for name in ("edgestore", "cache", "router")]
    try:
        yield {process.name: process.listening() for process in started}
    finally:
        for process in reversed(started):
            process.close()


@pytest.fixture
async def cache(addresses: dict[str, str]) -> AsyncIterator[GrpcCache]:
    async with AsyncCacheClient(addresses["cache"]) as client:
        adapter = GrpcCache(client)
        async with asyncio.timeout(SECONDS):
            while not await _ready(adapter):  # noqa: ASYNC110 -- another process's state
                await asyncio.sleep(0.02)
        yield adapter


async def _ready(cache: GrpcCache) -> bool:
    try:
        return await cache.store_healthy(timeout=SECONDS)
    except Unavailable:  # it listens before it has read its store; clients wait for the end of that
        return False


@pytest.fixture
async def router(addresses: dict[str, str]) -> AsyncIterator[GrpcRouter]:
    async with AsyncRouterClient(addresses["router"]) as client:
        yield GrpcRouter(client)


def _question(text: str) -> Question:
    """Return a question that uses every field."""
    return Question(
        messages=(
            Message(Role.SYSTEM, (TextPart("Be brief."),), name="app"),
            Message(Role.USER, (TextPart("Look at this"), ImagePart("https://example.org/a.png", "low"))),
            Message(Role.ASSISTANT, tool_calls=(ToolCall("c0", "look_up", "{}"),)),
            Message(Role.TOOL, (TextPart("found"),), tool_call_id="c0"),
            Message(Role.USER, (TextPart(text),)),
        ),
        model="offline-small",
        namespace="adapters",
        options=GenerationOptions(temperature=0.5, stop=("END",), seed=3, extra={"k": [1, "two", None, {"x": True}]}),
        tools=(Tool("look_up", "Looks things up", {"type": "object", "properties": {"a": {"type": "integer"}}}),),
        objective="0123",
    )


async def _look(cache: GrpcCache, question: Question, *, token: str = "", mode: CacheMode = CacheMode.DEFAULT) -> Found:
    return await cache.lookup(ANYONE, question, CachePolicy(mode=mode), token, timeout=SECONDS)


async def test_a_fill_from_its_grant_to_the_hit(cache: GrpcCache) -> None:
    question = _question("How do I reset my password?")
    first = await _look(cache, question, token="one")
    assert first.outcome is Outcome.MISS
    assert first.lease is not None
    assert first.lease.duration == pytest.approx(60.0)
    assert first.embedding is not None
    assert len(first.embedding.vector) == 4 * 384
    assert (await _look(cache, question, token="one")).lease == first.lease, "the same token gets the same lease"
    second = await _look(cache, question, token="two")
    assert second.in_progress == first.lease.id
    waiting = asyncio.create_task(cache.wait_fill(ANYONE, second.in_progress, "two", timeout=SECONDS))
    assert (await cache.renew(ANYONE, first.lease.id, timeout=SECONDS)).id == first.lease.id
    done = await cache.commit(ANYONE, first.lease.id, ANSWER, timeout=SECONDS)
    assert done.stored
    assert await waiting == Filled(ANSWER, done.entry_id)
    hit = await _look(cache, question)
    assert (hit.outcome, hit.answer, hit.entry_id) == (Outcome.EXACT, ANSWER, done.entry_id)
    assert hit.served_from is not None
    assert (hit.served_from.usage, hit.served_from.cost) == (ANSWER.usage, ANSWER.cost)
    assert hit.decision is not None
    assert hit.decision.similarity == 1.0
    assert hit.decision.age is not None
    assert hit.decision.expires_at is not None


async def test_a_lease_that_is_given_up_goes_to_who_waits(cache: GrpcCache) -> None:
    question = _question("Who is next?")
    lease = (await _look(cache, question)).lease
    assert lease is not None
    assert await cache.wait_fill(ANYONE, lease.id, "two", timeout=0.3) is None, "nothing has happened yet"
    waiting = asyncio.create_task(cache.wait_fill(ANYONE, lease.id, "two", timeout=SECONDS))
    await cache.abort(ANYONE, lease.id, "cancelled", timeout=SECONDS)
    theirs = await waiting
    assert isinstance(theirs, Lease)
    cut = replace(ANSWER, finish_reason=FinishReason.LENGTH)
    done = await cache.commit(ANYONE, theirs.id, cut, timeout=SECONDS)
    assert (done.stored, done.reason) == (False, "finish_reason")


async def test_what_is_put_is_found(cache: GrpcCache) -> None:
    question = _question("Was it put?")
    await cache.put(ANYONE, question, ANSWER, CachePolicy(ttl=60.0, tags=("t",)), timeout=SECONDS)
    assert (await _look(cache, question)).answer == ANSWER
    assert (await _look(cache, question, mode=CacheMode.REFRESH)).lease is not None
    assert (await _look(cache, replace(question, objective="4567"), mode=CacheMode.ONLY_IF_CACHED)).answer is None


async def test_what_the_cache_raises_comes_as_our_errors(cache: GrpcCache) -> None:
    for call in (
        cache.renew(ANYONE, "unheard-of", timeout=SECONDS),
        cache.commit(ANYONE, "unheard-of", ANSWER, timeout=SECONDS),
        cache.wait_fill(ANYONE, "unheard-of", "", timeout=SECONDS),
    ):
        with pytest.raises(NotFound) as unknown:
            await call
        assert unknown.value.reason is Reason.LEASE_UNKNOWN
    with pytest.raises(InvalidRequest) as wrong:
        await _look(cache, replace(_question("?"), namespace="with space"))
    assert wrong.value.field == "namespace", "named as the caller knows it"
    with pytest.raises(InvalidRequest) as policy:
        await cache.lookup(ANYONE, _question("?"), CachePolicy(min_similarity=2.0), "", timeout=SECONDS)
    assert policy.value.field == "cache.min_similarity"


async def test_a_service_that_is_not_there_is_unavailable() -> None:
    async with AsyncCacheClient(NOWHERE) as nobody, AsyncRouterClient(NOWHERE) as none:
        with pytest.raises(Unavailable) as cache:
            await _look(GrpcCache(nobody), _question("?"))
        assert cache.value.reason is Reason.CACHE_UNAVAILABLE
        with pytest.raises(Unavailable) as router:
            await GrpcRouter(none).list_models(timeout=SECONDS)
        assert router.value.reason is Reason.ROUTER_UNAVAILABLE
        assert NOWHERE not in cache.value.message, "callers are not told where our servers are"


async def test_a_service_that_does_not_answer_is_too_slow() -> None:
    # The kernel takes the connection; nobody ever reads from it.
    with socket.create_server(("127.0.0.1", 0)) as silent:
        async with AsyncCacheClient(f"127.0.0.1:{silent.getsockname()[1]}") as client:
            with pytest.raises(DeadlineExceeded):
                await GrpcCache(client).lookup(ANYONE, _question("?"), CachePolicy(), "", timeout=0.1)


def _request(text: str, **changes: object) -> Request:
    question = Question(messages=(Message(Role.USER, (TextPart(text),)),))
    return replace(Request(key=b"", question=question, caller=ANYONE), **changes)  # type: ignore[arg-type]


async def test_the_router_ranks_and_is_told_how_it_went(router: GrpcRouter) -> None:
    embedding = Embedding(b"\0" * 1536, "minilm")
    routing = await router.route(_request("How do I reset my password?"), embedding, timeout=SECONDS)
    assert routing.candidates[0].model == "offline-small"
    assert routing.candidates[0].upstream == "offline"
    assert routing.complexity is Tier.SIMPLE
    assert routing.decision_id
    assert routing.reasons
    assert routing.policy_version
    for _ in range(2):
        report = CallReport(
            caller=ANYONE,
            decision_id=routing.decision_id,
            source="completion",
            model="offline-small",
            usage=ANSWER.usage,
            cost=ANSWER.cost,
            latency=1.5,
            time_to_first_token=0.5,
            status=CallStatus.OK,
        )
        verdict = VerdictReport(ANYONE, routing.decision_id, "user", "offline-small", right=True)
        assert await router.record(ANYONE, [report, verdict], timeout=SECONDS) == 0
        foreign = replace(report, decision_id="never-decided")
        assert await router.record(ANYONE, [foreign, report, foreign], timeout=SECONDS) == 2


async def test_an_explicit_model_and_constraints_reach_the_router(router: GrpcRouter) -> None:
    explicit = _request("Hello")
    explicit = replace(explicit, question=replace(explicit.question, model="offline-large"))
    routing = await router.route(explicit, None, timeout=SECONDS)
    assert [candidate.model for candidate in routing.candidates] == ["offline-large"]
    assert routing.complexity is None
    limits = Constraints(denied=frozenset({"offline-small"}), max_latency=600.0, max_cost=10**12)
    routing = await router.route(
        _request("Hello", constraints=limits, objective=Objective.LATENCY, routing_policy="keywords"),
        None,
        timeout=SECONDS,
    )
    assert [candidate.model for candidate in routing.candidates] == ["offline-large"]
    assert routing.policy_version.startswith("keywords")


@pytest.mark.parametrize(
    ("changes", "kind", "reason", "field"),
    [
        ({"constraints": Constraints(max_cost=1)}, FailedPrecondition, Reason.NO_MODEL_FITS, None),
        (
            {"constraints": Constraints(capabilities=frozenset({Capability.IMAGES}))},
            FailedPrecondition,
            Reason.NO_MODEL_FITS,
            None,
        ),
        ({"routing_policy": "unheard-of"}, InvalidRequest, Reason.INVALID_FIELD, "routing_policy"),
    ],
)
async def test_what_the_router_refuses_comes_as_our_errors(
    router: GrpcRouter, changes: dict[str, object], kind: type[AntiphonError], reason: Reason, field: str | None
) -> None:
    with pytest.raises(kind) as caught:
        await router.route(_request("Hello", **changes), None, timeout=SECONDS)
    assert caught.value.reason is reason
    assert caught.value.field == field


async def test_the_catalogue_is_listed_with_its_prices(router: GrpcRouter) -> None:
    listed = {model.name: model for model in await router.list_models(timeout=SECONDS)}
    small = listed["offline-small"]
    assert (small.prices.input, small.prices.output) == (100_000_000, 400_000_000)
    assert small.prices.date == date(2026, 1, 1)
    assert small.prices.version
    assert small.context_tokens == 16_384
    assert Capability.STREAMING in small.capabilities
