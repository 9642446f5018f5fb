"""Feedback on an answer goes from the client to the store, whoever gave the answer and however it was asked."""

from __future__ import annotations

import asyncio
import os
import signal
import uuid
from collections.abc import Iterator, Mapping
from contextlib import aclosing
from pathlib import Path

import grpc.aio
import pytest

from antiphon.cache.v1 import cache_pb2
from antiphon.completion.v1 import completion_pb2
from antiphon_client import AsyncCacheClient, AsyncCompletionClient
from antiphon_client.errors import AntiphonError, NotFoundError, PermissionDeniedError, UnavailableError
from services.chassis.auth.values import Role
from services.router.adapters.outcome_store import SPEC
from services.router.settings import RouterSettings
from services.storage import Connection, Equals, locate
from tests.fakes import behaviours
from tests.fakes.openai_server import FakeOpenAI
from tests.integration.tenants.methods import call
from tests.integration.tenants.tenancy import Tenancy
from tests.suite_process import SuiteProcess

QUESTION = "How do I reset my password?"
REWORDED = "How can I reset my password?"
MISS, EXACT, SEMANTIC = cache_pb2.OUTCOME_MISS, cache_pb2.OUTCOME_EXACT, cache_pb2.OUTCOME_SEMANTIC
SECONDS = 60.0


@pytest.fixture
def tenancy() -> Tenancy:
    """One tenant with keys for every role."""
    return Tenancy(("acme",))


@pytest.fixture
def locked(environ: dict[str, str], tenancy: Tenancy) -> Iterator[SuiteProcess]:
    """The suite, for callers with keys only."""
    started = SuiteProcess({**environ, **tenancy.write(Path(environ["ANTIPHON_STATE_DIR"]).parent / "keys")})
    started.wait_for("SERVING")
    yield started
    started.close()


async def test_what_is_called_wrong_is_not_served_again(
    locked: SuiteProcess, tenancy: Tenancy, upstream: FakeOpenAI
) -> None:
    for text in ("Made first.", "Made for the reworded.", "Made anew."):
        upstream.enqueue(behaviours.answering(text))
    client_key, operator_key = tenancy.key("acme", Role.CLIENT), tenancy.key("acme", Role.OPERATOR)
    address = locked.address("completion")
    async with (
        AsyncCompletionClient(address, api_key=client_key) as client,
        AsyncCompletionClient(address, api_key=operator_key) as operator,
        AsyncCacheClient(locked.address("cache"), api_key=operator_key) as cache,
    ):

        async def ask(text: str) -> completion_pb2.CompleteResponse:
            return await client.complete(text, timeout=SECONDS)

        assert (await ask(QUESTION)).info.cache.outcome == MISS
        served, reworded = await ask(QUESTION), await ask(REWORDED)
        assert (served.info.cache.outcome, reworded.info.cache.outcome) == (EXACT, SEMANTIC)
        (entry,) = (await cache.list_entries(cache_pb2.ListEntriesRequest(), timeout=SECONDS)).entries
        assert entry.writer == tenancy.keys["acme", Role.CLIENT].id, "provenance is the caller's, not completion's"

        wrong = reworded.info.completion_id
        said = [await client.submit_feedback(wrong, right=False, user=user, timeout=SECONDS) for user in "abca"]
        assert [one.recorded for one in said] == [True, True, True, False]
        assert (await ask(REWORDED)).answer.text == "Made for the reworded."
        assert (await ask(QUESTION)).answer.text == "Made first.", "for its own question it may be right"

        with pytest.raises(PermissionDeniedError) as refused:
            await client.submit_feedback(
                served.info.completion_id, right=False, source=cache_pb2.FEEDBACK_SOURCE_OPERATOR, timeout=SECONDS
            )
        assert (refused.value.reason, list(refused.value.fields)) == ("SOURCE_NOT_ALLOWED", ["source"])
        assert (
            await operator.submit_feedback(
                served.info.completion_id, right=False, source=cache_pb2.FEEDBACK_SOURCE_OPERATOR, timeout=SECONDS
            )
        ).recorded
        again = await ask(QUESTION)
        assert again.info.cache.outcome == SEMANTIC
        assert again.answer.text == "Made for the reworded.", "another entry may serve it"
        with pytest.raises(NotFoundError) as unknown:
            await client.submit_feedback("nobody's", right=False, timeout=SECONDS)
        assert (unknown.value.reason, list(unknown.value.fields)) == ("COMPLETION_NOT_FOUND", ["completion_id"])


async def test_streams_and_keyed_answers_are_known_too(suite: SuiteProcess) -> None:
    async with AsyncCompletionClient(suite.address("completion")) as client:
        async with client.stream(QUESTION, timeout=SECONDS) as stream:
            streamed = (await stream.final()).info.completion_id
        key = uuid.uuid4().hex
        keyed = await client.complete("What does Saturn weigh?", idempotency_key=key, timeout=SECONDS)
        replayed = await client.complete("What does Saturn weigh?", idempotency_key=key, timeout=SECONDS)
        async with client.stream("Who wrote Faust?", idempotency_key=uuid.uuid4().hex, timeout=SECONDS) as stream:
            both = (await stream.final()).info.completion_id
        assert replayed.info.completion_id == keyed.info.completion_id
        for completion_id in (streamed, keyed.info.completion_id, both):
            assert (await client.submit_feedback(completion_id, right=True, timeout=SECONDS)).recorded
    async with AsyncCacheClient(suite.address("cache")) as cache:
        page = await cache.list_entries(cache_pb2.ListEntriesRequest(), timeout=SECONDS)
    assert [[count.right for count in entry.feedback] for entry in page.entries] == [[1], [1], [1]]


async def test_an_answer_that_is_gone_or_replaced_is_not_there_to_be_judged(suite: SuiteProcess) -> None:
    async with (
        AsyncCompletionClient(suite.address("completion")) as client,
        AsyncCacheClient(suite.address("cache")) as cache,
    ):
        await client.complete(QUESTION, timeout=SECONDS)
        first = (await client.complete(QUESTION, timeout=SECONDS)).info
        refresh = completion_pb2.CompleteRequest(
            prompt=QUESTION, cache=cache_pb2.CachePolicy(mode=cache_pb2.CACHE_MODE_REFRESH)
        )
        second = (await client.complete(refresh, timeout=SECONDS)).info
        assert (await client.submit_feedback(second.completion_id, right=True, timeout=SECONDS)).recorded
        with pytest.raises(NotFoundError) as replaced:
            await client.submit_feedback(first.completion_id, right=False, timeout=SECONDS)
        assert replaced.value.reason == "ENTRY_NOT_FOUND"
        served = (await client.complete(QUESTION, timeout=SECONDS)).info
        assert served.cache.outcome == EXACT
        await cache.clear(cache_pb2.ClearRequest(), timeout=SECONDS)
        with pytest.raises(NotFoundError) as gone:
            await client.submit_feedback(served.completion_id, right=False, timeout=SECONDS)
        assert (gone.value.reason, list(gone.value.fields)) == ("ENTRY_NOT_FOUND", ["completion_id"])


async def test_what_is_wrong_with_feedback_is_named(suite: SuiteProcess) -> None:
    request, wrong = completion_pb2.SubmitFeedbackRequest, cache_pb2.VERDICT_WRONG
    cases = [
        (request(verdict=wrong), "INVALID_ARGUMENT", "MISSING_FIELD", "completion_id"),
        (request(completion_id="x"), "INVALID_ARGUMENT", "MISSING_FIELD", "verdict"),
        (request(completion_id="x" * 129, verdict=wrong), "INVALID_ARGUMENT", "INVALID_FIELD", "completion_id"),
        (request(completion_id="x", verdict=wrong, user="x" * 129), "INVALID_ARGUMENT", "INVALID_FIELD", "user"),
        (request(completion_id="x", verdict=wrong, source=99), "INVALID_ARGUMENT", "INVALID_FIELD", "source"),  # type: ignore[arg-type]
    ]
    async with grpc.aio.insecure_channel(suite.address("completion")) as channel:
        for one, code, reason, field in cases:
            with pytest.raises(AntiphonError) as caught:
                await call(channel, "CompletionService/SubmitFeedback", one, ())
            error = caught.value
            assert (error.code.name, error.reason, list(error.fields)) == (code, reason, [field])


async def test_the_router_keeps_what_is_said_of_its_decision(suite: SuiteProcess) -> None:
    async with AsyncCompletionClient(suite.address("completion")) as client:
        bought = (await client.complete(QUESTION, timeout=SECONDS)).info
        assert bought.route.decision_id
        assert (await client.submit_feedback(bought.completion_id, right=False, user="ada", timeout=SECONDS)).recorded
    kept = await stored_verdict(suite.state_dir, bought.route.decision_id)
    assert (kept["verdict"], kept["model"]) == ("bad", bought.model)
    assert "ada" not in str(kept)


async def stored_verdict(state_dir: Path, decision_id: str) -> Mapping[str, object]:
    """Wait for the report in the router's store."""
    settings = RouterSettings(state_dir=state_dir)
    connection = Connection(lambda: locate(settings), timeout=5.0)
    try:
        async with asyncio.timeout(SECONDS), connection.collection(SPEC) as collection:
            while True:
                async with aclosing(collection.scroll(Equals("decision_id", decision_id), order_by=None)) as pages:
                    async for page in pages:
                        for point in page:
                            if point.payload["kind"] == "verdict":
                                return point.payload
                await asyncio.sleep(0.05)
    finally:
        await connection.aclose()


async def test_a_cache_that_is_away_is_said_to_be(suite: SuiteProcess) -> None:
    async with AsyncCompletionClient(suite.address("completion")) as client:
        await client.complete(QUESTION, timeout=SECONDS)
        served = (await client.complete(QUESTION, timeout=SECONDS)).info
        os.kill(suite.pid("cache"), signal.SIGSTOP)
        try:
            with pytest.raises(UnavailableError) as caught:
                await client.submit_feedback(served.completion_id, right=False, timeout=SECONDS)
        finally:
            os.kill(suite.pid("cache"), signal.SIGCONT)
        assert caught.value.reason == "CACHE_UNAVAILABLE"
        assert (await client.submit_feedback(served.completion_id, right=True, timeout=SECONDS)).recorded
