"""No secret, no prompt and no answer reaches a log line, a metric, an error's text or a run file."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import signal
import tempfile
import urllib.request
from collections.abc import AsyncIterator, Coroutine
from dataclasses import dataclass, field
from pathlib import Path

import grpc.aio
from google.protobuf.message import Message

from antiphon.cache.v1 import cache_pb2
from antiphon.completion.v1 import completion_pb2
from antiphon_client import AntiphonError, AsyncCacheClient, AsyncCompletionClient, AsyncRouterClient
from services.chassis.auth.api_key import new_key
from services.chassis.auth.values import Role
from services.chassis.settings import SuiteSettings
from services.completion.adapters.idempotency_store import StoredRecords
from services.completion.idempotency.records import Scope
from services.storage import Connection, locate
from tests.canaries import keep_output, leaks, outputs, planted, planted_key
from tests.fakes import behaviours
from tests.fakes.behaviours import Behaviour
from tests.fakes.openai_server import FakeOpenAI
from tests.integration.tenants.methods import METHODS, REQUESTS, answer, call, query, report, server_of
from tests.integration.tenants.tenancy import Tenancy
from tests.suite_process import SERVICES, SuiteProcess, environment, two_models

SECONDS = 30.0

FROM_VARIABLE = '[upstreams.fake]\napi_key_env = "PLANTED_UPSTREAM_KEY"\n'

PROVOKED = {
    "UNKNOWN_MODEL",
    "INVALID_FIELD",
    "IDEMPOTENCY_KEY_REUSED",
    "INTERNAL",
    "LEASE_UNKNOWN",
    "DECISION_NOT_FOUND",
    "INVALID_CREDENTIAL",
    "EXPIRED_CREDENTIAL",
    "UPSTREAM_UNAUTHENTICATED",
    "UPSTREAM_REJECTED",
    "UPSTREAM_MALFORMED",
    "UPSTREAM_UNAVAILABLE",
    "STORE_UNAVAILABLE",
}
"""Reasons, each of which some caller must have been told."""


@dataclass
class Told:
    """What callers are told: the errors of all calls, with everything that a client shows of them."""

    texts: list[str] = field(default_factory=list)
    reasons: set[str] = field(default_factory=set)

    async def by(self, call: Coroutine[None, None, Message | list[Message]]) -> None:
        """Make a call, which may fail."""
        try:
            await call
        except AntiphonError as error:
            self.texts.append(f"{error} | {error.message} | {dict(error.metadata)} | {dict(error.fields)}")
            self.reasons.add(error.reason)


def asked(what: str, **fields: str) -> completion_pb2.CompleteRequest:
    """A question that is a secret, with an idempotency key that is one, too."""
    return completion_pb2.CompleteRequest(
        **{"prompt": planted(what), "model": "small", "idempotency_key": planted(f"key of {what}"), **fields}
    )


async def drained(client: AsyncCompletionClient, request: completion_pb2.CompleteRequest) -> list[Message]:
    async with client.stream(request, timeout=SECONDS) as events:
        return [event async for event in events]


async def trouble_upstream(
    told: Told, completion: AsyncCompletionClient, upstream: FakeOpenAI, upstream_key: str
) -> None:
    """An upstream that quotes what it was sent, in every way in which it can fail."""
    secret = planted("quoted")
    wrong: dict[str, Behaviour] = {
        "401": behaviours.status(401, error_code="invalid_api_key", message=f"Incorrect API key: {upstream_key}"),
        "400": behaviours.status(400, error_type="invalid_request_error", message=secret, param=secret),
        "in the stream": Behaviour(tokens=(secret, secret), error_after=1, error={"message": secret, "code": secret}),
        "malformed": behaviours.malformed(f'data: {{"choices": [{{"delta": {{"con{secret}\n\n'.encode()),
        "page": Behaviour(headers={"content-type": "text/html"}, body=f"<p>{secret}</p>".encode()),
        "500": behaviours.status(500, error_code=secret, error_type=secret, message=secret),
    }
    for name, behaviour in wrong.items():
        upstream.default = behaviour
        # Without an idempotency key: the client repeats a keyed call for as long as it has time.
        await told.by(completion.complete(asked(name, idempotency_key=""), timeout=SECONDS))
        await told.by(drained(completion, asked(name, model="large", idempotency_key="")))
    upstream.default = Behaviour()


async def bad_requests(
    told: Told, completion: AsyncCompletionClient, cache: AsyncCacheClient, router: AsyncRouterClient
) -> None:
    """Requests that no service accepts."""
    await told.by(completion.complete(asked("of no model", model="nobody-has-this"), timeout=SECONDS))
    await told.by(completion.complete(asked("in a bad place", namespace="not a name!"), timeout=SECONDS))
    await told.by(completion.complete(asked("by no policy", routing_policy="none"), timeout=SECONDS))
    await told.by(completion.complete(asked("keyed too long", idempotency_key=planted("k" * 200)), timeout=SECONDS))
    await told.by(completion.complete(asked("keyed in Greek", idempotency_key=planted("κλειδί")), timeout=SECONDS))
    again = planted("used twice")
    for wording in ("first", "second"):
        await told.by(completion.complete(asked(wording, idempotency_key=again), timeout=SECONDS))
    await told.by(cache.renew_fill(cache_pb2.RenewFillRequest(lease_id=planted("lease")), timeout=SECONDS))
    await told.by(cache.put(cache_pb2.PutRequest(query=query(planted("put")), answer=answer("")), timeout=SECONDS))
    await told.by(router.record_outcome(report(planted("decision")), timeout=SECONDS))


async def defect(told: Told, suite: SuiteProcess, completion: AsyncCompletionClient) -> None:
    """A defect: a kept answer that is none any more."""
    question = asked("kept")
    await completion.complete(question, timeout=SECONDS)
    settings = SuiteSettings(state_dir=suite.state_dir)
    connection = Connection(lambda: locate(settings), timeout=SECONDS)
    try:
        records = StoredRecords(connection)
        kept = await records.find(Scope("acme", question.idempotency_key))
        assert kept is not None
        spoilt = dataclasses.replace(kept, response=planted("spoilt").encode(), version=kept.version + 1)
        assert await records.replace(spoilt, version=kept.version)
    finally:
        await connection.aclose()
    await told.by(completion.complete(question, timeout=SECONDS))


async def wrong_keys(told: Told, suite: SuiteProcess, tenancy: Tenancy) -> None:
    """Every method with every kind of credential that is none."""
    credentials = [
        planted("no scheme"),
        f"Bearer {planted('not a key')}",
        f"Bearer {planted_key().text}",
        f"Bearer {tenancy.expired['acme', Role.CLIENT].text}",
        f"Bearer {tenancy.revoked['acme', Role.CLIENT].text}",
    ]
    for name in METHODS:
        async with grpc.aio.insecure_channel(suite.address(server_of(name))) as channel:
            for credential in credentials:
                await told.by(call(channel, name, REQUESTS[name](), (("authorization", credential),)))


async def without_store(
    told: Told, suite: SuiteProcess, completion: AsyncCompletionClient, cache: AsyncCacheClient
) -> None:
    """The store dies; who needs it asks meanwhile."""
    # Stopped, so that it does not start another store before anyone has asked.
    suite.process.send_signal(signal.SIGSTOP)
    try:
        os.kill(suite.pid("edgestore"), signal.SIGKILL)
        put = cache_pb2.PutRequest(query=query(planted("put")), answer=answer(planted("answer")), durable=True)
        await told.by(cache.put(put, timeout=SECONDS))
        # Keyed, so the client repeats it for as long as it has time.
        await told.by(completion.complete(asked("without a store"), timeout=2))
    finally:
        suite.process.send_signal(signal.SIGCONT)


def metrics_page(url: str) -> str:
    with urllib.request.urlopen(url, timeout=SECONDS) as page:
        return bytes(page.read()).decode()


async def pages(suite: SuiteProcess, *names: str) -> AsyncIterator[tuple[str, str]]:
    """Yield the metrics and the run files of processes."""
    for name in names:
        found = suite.running(name)
        page = await asyncio.to_thread(metrics_page, f"http://{found.metrics}/metrics")
        assert "process_cpu_seconds_total" in page
        yield f"metrics of {name}", page
        yield f"run file of {name}", (suite.state_dir / "run" / f"{name}.json").read_text()


async def test_no_secret_gets_out(tmp_path: Path) -> None:
    upstream_key, tenancy, told = planted("upstream-key"), Tenancy(("acme",)), Told()
    client, operator = (tenancy.key("acme", role) for role in (Role.CLIENT, Role.OPERATOR))
    async with FakeOpenAI.start() as upstream:
        catalogue = two_models(tmp_path, upstream.base_url)
        catalogue.write_text(catalogue.read_text().replace("[upstreams.fake]\n", FROM_VARIABLE))
        suite = SuiteProcess(
            environment(
                tmp_path / "state",
                **tenancy.write(tmp_path / "keys"),
                ANTIPHON_CATALOGUE=str(catalogue),
                ANTIPHON_LOG_LEVEL="info",
                ANTIPHON_LOG_SAMPLE="1",
                PLANTED_UPSTREAM_KEY=upstream_key,
                # Its upstream is to be called again, whatever it did before.
                ANTIPHON_COMPLETION_COOLDOWN="0.001",
                ANTIPHON_COMPLETION_BREAKER_FAILURES="1000",
            )
        )
        try:
            await asyncio.to_thread(suite.wait_for, "SERVING")
            async with (
                AsyncCompletionClient(suite.address("completion"), api_key=client) as completion,
                AsyncCacheClient(suite.address("cache"), api_key=operator) as cache,
                AsyncRouterClient(suite.address("router"), api_key=operator) as router,
            ):
                upstream.enqueue(behaviours.answering(planted("answer"), planted("more of it")))
                answered = await completion.complete(asked("that is answered"), timeout=SECONDS)
                assert leaks({"answer": str(answered)}), "the answer is a secret, which the caller gets"
                await bad_requests(told, completion, cache, router)
                await defect(told, suite, completion)
                await wrong_keys(told, suite, tenancy)
                await trouble_upstream(told, completion, upstream, upstream_key)
                texts = {where: text async for where, text in pages(suite, "edgestore")}
                await without_store(told, suite, completion, cache)
                texts |= {where: text async for where, text in pages(suite, *SERVICES)}
            token = (suite.state_dir / "edgestore.token").read_text().strip()
        finally:
            await asyncio.to_thread(suite.close)
    assert upstream_key in upstream.calls[0].headers["authorization"]
    assert told.reasons >= PROVOKED
    assert suite.errors.count('"event":"rpc"') > len(told.texts), "every call is logged"
    assert suite.errors in "".join(outputs(tmp_path).values()), "for the search at the end of all tests"
    texts |= {f"error {number}": text for number, text in enumerate(told.texts)}
    texts |= {"stdout": "\n".join(suite.lines), "log": suite.errors}
    assert not (found := leaks(texts, [token])), "\n".join(found)


def test_the_search_finds_what_was_planted() -> None:
    clean = {"log": "nothing here", "metrics": "calls 1"}
    secret = planted("prompt")
    assert leaks(clean, ["token"]) == []
    assert [found.partition(":")[0] for found in leaks({**clean, "error": f"cannot read {secret}"})] == ["error"]
    assert [found.partition(":")[0] for found in leaks({**clean, "run": "the token is here"}, ["token"])] == ["run"]
    tenancy = Tenancy(("acme",))
    for key in (tenancy.service, *tenancy.keys.values(), *tenancy.expired.values(), *tenancy.revoked.values()):
        assert leaks({"log": key.text})
        assert not leaks({"log": key.id}), "a key's id is no secret"


def test_what_a_process_wrote_is_searched_when_all_tests_have_run() -> None:
    # Not in a folder of pytest's, where that search would find it.
    with tempfile.TemporaryDirectory() as folder:
        state_dir = Path(folder, "test", "state")
        state_dir.mkdir(parents=True)
        keep_output(state_dir, 1, "all is well")
        assert leaks(outputs(Path(folder))) == []
        keep_output(state_dir, 2, f"cannot use {new_key().text}")
        (found,) = leaks(outputs(Path(folder)))
        assert found.startswith(f"{state_dir}/2.")
