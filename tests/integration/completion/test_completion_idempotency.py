"""Idempotency keys with the real store and real processes, over gRPC."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from antiphon.completion.v1 import completion_pb2, completion_pb2_grpc
from antiphon_client import AsyncCompletionClient
from antiphon_client.errors import InvalidArgumentError, UnavailableError, from_rpc_error
from services.chassis.settings import SuiteSettings
from services.completion.adapters.idempotency_store import StoredRecords
from services.completion.idempotency.records import Scope, Terms, claimed, finished, renewed, taken_over
from services.storage import Connection, locate
from tests.fakes import behaviours
from tests.fakes.behaviours import Gate
from tests.fakes.openai_server import FakeOpenAI
from tests.faults.proxy import Proxy
from tests.integration.completion.conftest import Start
from tests.integration.completion.processes import ServiceProcess

Sent = completion_pb2.CompleteRequest
GUARD = 60.0
HEADERS_GUARD = 20.0
SHORT_LEASE = "1"

RETRYING = """{"methodConfig": [{"name": [{"service": "antiphon.completion.v1.CompletionService"}], "retryPolicy":
{"maxAttempts": 4, "initialBackoff": "0.5s", "maxBackoff": "4s", "backoffMultiplier": 3,
"retryableStatusCodes": ["UNAVAILABLE"]}}]}"""
"""What a cautious client sets: gRPC itself repeats what was UNAVAILABLE."""


@pytest.fixture
def store(start: Start) -> ServiceProcess:
    return start("edgestore")


@asynccontextmanager
async def client_of(process: ServiceProcess) -> AsyncIterator[AsyncCompletionClient]:
    address = await asyncio.to_thread(process.listening)
    async with AsyncCompletionClient(address) as client:
        yield client


def keyed(prompt: str = "How long is a mile?", key: str = "k1", **fields: object) -> Sent:
    return Sent(prompt=prompt, idempotency_key=key, **fields)  # type: ignore[arg-type]


async def called(upstream: FakeOpenAI, times: int) -> None:
    async with asyncio.timeout(GUARD):
        while len(upstream.chat_calls) < times:  # noqa: ASYNC110 -- another process's state
            await asyncio.sleep(0.01)


def as_first(response: completion_pb2.CompleteResponse) -> completion_pb2.CompleteResponse:
    """Return what a replay repeats."""
    first = completion_pb2.CompleteResponse()
    first.CopyFrom(response)
    first.info.replayed = False
    return first


@pytest.mark.fault(12)
async def test_a_thousand_calls_at_once_are_one_completion(
    start: Start, store: ServiceProcess, catalogue: str, upstream: FakeOpenAI
) -> None:
    store.listening()
    upstream.default = behaviours.answering("A ", "mile.")
    async with client_of(start("completion", ANTIPHON_CATALOGUE=catalogue)) as client:
        responses = await asyncio.gather(
            *(client.complete(keyed(request_id=f"r{n}"), timeout=GUARD) for n in range(1_000))
        )
        assert len(upstream.chat_calls) == 1
        assert len({response.info.completion_id for response in responses}) == 1
        assert len({as_first(response).SerializeToString(deterministic=True) for response in responses}) == 1
        assert sum(not response.info.replayed for response in responses) == 1
        async with client.stream(keyed()) as events:
            replay = [event async for event in events]
        assert [event.WhichOneof("event") for event in replay] == ["started", "delta", "finished"]
        assert replay[0].started.completion_id == responses[0].info.completion_id
        assert replay[1].delta.text == "A mile."
        assert replay[2].finished.info.replayed
        assert replay[2].finished.answer == responses[0].answer
        assert len(upstream.chat_calls) == 1


@pytest.mark.fault(13)
async def test_a_key_with_another_request_is_refused(
    start: Start, store: ServiceProcess, catalogue: str, upstream: FakeOpenAI
) -> None:
    store.listening()
    async with client_of(start("completion", ANTIPHON_CATALOGUE=catalogue)) as client:
        first = await client.complete(keyed())
        for other in (keyed("How short is a mile?"), keyed(namespace="elsewhere")):
            with pytest.raises(InvalidArgumentError) as caught:
                await client.complete(other)
            assert caught.value.reason == "IDEMPOTENCY_KEY_REUSED"
            assert list(caught.value.fields) == ["idempotency_key"]
        assert as_first(await client.complete(keyed(request_id="other"))) == first
        assert len(upstream.chat_calls) == 1


@pytest.mark.fault(12)
async def test_when_the_owner_is_killed_another_process_takes_over(
    start: Start, store: ServiceProcess, catalogue: str, upstream: FakeOpenAI, tmp_path: Path
) -> None:
    store.listening()
    gate = Gate()
    upstream.enqueue(behaviours.answering("Never ", "heard.", gate=gate, gate_after=1))
    upstream.default = behaviours.answering("The ", "other's.")
    settings = {"ANTIPHON_CATALOGUE": catalogue, "ANTIPHON_COMPLETION_IDEMPOTENCY_LEASE": SHORT_LEASE}
    owner = start("completion", **settings)
    async with client_of(owner) as client:
        lost = asyncio.create_task(client.complete(keyed(), timeout=GUARD))
        await called(upstream, 1)
        other = start("completion", **settings, ANTIPHON_COMPLETION_LISTEN="127.0.0.1:0")
        async with client_of(other) as second:
            waiting = asyncio.create_task(second.complete(keyed(), timeout=GUARD))
            owner.process.kill()
            lost.cancel()
            taken = await waiting
            assert taken.answer.text == "The other's."
            assert not taken.info.replayed
            assert as_first(await second.complete(keyed())) == taken
    assert len(upstream.chat_calls) == 2


@pytest.mark.fault(12)
async def test_a_store_that_was_restarted_meanwhile_keeps_the_answer(
    start: Start, store: ServiceProcess, catalogue: str, upstream: FakeOpenAI
) -> None:
    store.listening()
    gate = Gate()
    upstream.enqueue(behaviours.answering("Kept ", "after all.", gate=gate, gate_after=1))
    process = start("completion", ANTIPHON_CATALOGUE=catalogue)
    async with client_of(process) as client:
        asking = asyncio.create_task(client.complete(keyed(), timeout=GUARD))
        await called(upstream, 1)
        store.process.kill()
        # Without the client library, which would go on asking until the store is back.
        async with grpc.aio.insecure_channel(process.listening()) as channel:
            stub: completion_pb2_grpc.CompletionServiceAsyncStub = completion_pb2_grpc.CompletionServiceStub(channel)
            with pytest.raises(grpc.RpcError) as caught:
                await stub.Complete(keyed(key="k2"), timeout=GUARD)
        error = from_rpc_error(caught.value)
        assert error.reason == "STORE_UNAVAILABLE"
        assert error.retry_after is not None
        start("edgestore").listening()
        gate.open.set()
        first = await asking
        assert "idempotency_not_kept" not in first.info.degraded
        assert as_first(await client.complete(keyed())) == first
    assert len(upstream.chat_calls) == 1


@pytest.mark.fault(87)
async def test_a_repeated_request_whose_reply_was_lost_gets_the_same_answer(
    start: Start, store: ServiceProcess, catalogue: str, upstream: FakeOpenAI
) -> None:
    store.listening()
    gate = Gate()
    upstream.enqueue(behaviours.answering("Bought ", "once.", gate=gate, gate_after=1))
    process = start("completion", ANTIPHON_CATALOGUE=catalogue)
    host, _, port = (await asyncio.to_thread(process.listening)).rpartition(":")
    async with Proxy.to(host, int(port)) as proxy, AsyncCompletionClient(proxy.address) as client:
        asking = asyncio.create_task(client.complete(keyed(), timeout=GUARD))
        await called(upstream, 1)
        before = proxy.connections
        proxy.cut()
        async with asyncio.timeout(GUARD):
            while proxy.connections == before:  # noqa: ASYNC110 -- the proxy sets no event
                await asyncio.sleep(0.01)
        # The client repeats the call by itself, as it has a key; a person who repeats it gets the same.
        gate.open.set()
        first = await asking
        assert first.answer.text == "Bought once."
        assert as_first(await client.complete(keyed(), timeout=GUARD)) == as_first(first)
    assert len(upstream.chat_calls) == 1


@pytest.mark.fault(87)
@pytest.mark.parametrize("streaming", [False, True])
async def test_grpc_repeats_no_call_for_which_a_model_was_called(
    start: Start, catalogue: str, upstream: FakeOpenAI, streaming: bool
) -> None:
    gate = Gate()
    upstream.default = behaviours.answering("Bought ", "once.", gate=gate, gate_after=0)
    process = start("completion", ANTIPHON_CATALOGUE=catalogue)
    host, _, port = (await asyncio.to_thread(process.listening)).rpartition(":")
    async with (
        Proxy.to(host, int(port)) as proxy,
        grpc.aio.insecure_channel(proxy.address, options=[("grpc.service_config", RETRYING)]) as channel,
    ):
        stub: completion_pb2_grpc.CompletionServiceAsyncStub = completion_pb2_grpc.CompletionServiceStub(channel)
        sent = Sent(prompt="How long is a mile?")

        call: grpc.aio.UnaryStreamCall[Any, Any]
        if streaming:
            call = stub.StreamComplete(completion_pb2.StreamCompleteRequest(request=sent), timeout=GUARD)
        else:
            # As a stream of one message: grpc.aio tells nothing of a unary call's headers before its answer.
            call = channel.unary_stream(
                "/antiphon.completion.v1.CompletionService/Complete", Sent.SerializeToString, bytes
            )(sent, timeout=GUARD)
        # The headers are what tells the channel that the call must not be repeated.
        async with asyncio.timeout(HEADERS_GUARD):
            await call.initial_metadata()
        await called(upstream, 1)
        proxy.cut()
        with pytest.raises(grpc.RpcError) as caught:
            await anext(aiter(call))
        assert isinstance(from_rpc_error(caught.value), UnavailableError)
        # Another call over the same channel works, and is the second that the model gets.
        gate.open.set()
        await stub.Complete(Sent(prompt="How short?"), timeout=GUARD)
    assert [call.body["messages"][0]["content"] for call in upstream.chat_calls] == [
        "How long is a mile?",
        "How short?",
    ]


@pytest.mark.fault(87)
async def test_grpc_repeats_a_call_for_which_no_model_was_called(
    start: Start, catalogue: str, upstream: FakeOpenAI
) -> None:
    process = start("completion", ANTIPHON_CATALOGUE=catalogue)
    host, _, port = (await asyncio.to_thread(process.listening)).rpartition(":")
    async with (
        Proxy.to(host, int(port)) as proxy,
        grpc.aio.insecure_channel(proxy.address, options=[("grpc.service_config", RETRYING)]) as channel,
    ):
        stub: completion_pb2_grpc.CompletionServiceAsyncStub = completion_pb2_grpc.CompletionServiceStub(channel)
        await stub.Complete(Sent(prompt="Is the connection up?"), timeout=GUARD)
        proxy.cut_at["up"] = proxy.bytes["up"]
        asking = asyncio.ensure_future(stub.Complete(Sent(prompt="How long is a mile?"), timeout=GUARD))
        async with asyncio.timeout(GUARD):
            while proxy.open_connections:  # noqa: ASYNC110 -- the proxy sets no event
                await asyncio.sleep(0.01)
        proxy.cut_at.clear()
        assert (await asking).answer.text
    assert len(upstream.chat_calls) == 2


async def test_records_in_the_store_are_what_was_written_and_have_one_owner(
    start: Start, store: ServiceProcess
) -> None:
    store.listening()
    connection = Connection(lambda: locate(SuiteSettings(state_dir=store.state_dir)), timeout=GUARD)
    records, terms = StoredRecords(connection), Terms(lease=30.0, keep=3600.0)
    scope = Scope("acme", "a key: ~!")
    try:
        rivals = [claimed(scope, "body", f"owner-{n}", 1_000.25, terms) for n in range(8)]
        won = await asyncio.gather(*(records.insert(rival) for rival in rivals))
        assert won.count(True) == 1
        mine = rivals[won.index(True)]
        assert await records.find(scope) == mine
        assert await records.find(Scope("globex", scope.key)) is None
        again = renewed(mine, 1_010.0, terms)
        assert await records.replace(again, version=mine.version)
        assert not await records.replace(taken_over(mine, "body", "late", 1_011.0, terms), version=mine.version)
        done = finished(again, b"\x00\xffwhole\n", 1_012.0, terms)
        assert await records.replace(done, version=again.version)
        assert await records.find(scope) == done
        await records.free(scope, "somebody else")
        assert await records.find(scope) == done
        await records.purge(1_012.0 + 3600.0)
        assert await records.find(scope) == done
        await records.purge(1_012.1 + 3600.0)
        assert await records.find(scope) is None
        await records.insert(mine)
        await records.free(scope, mine.owner)
        assert await records.find(scope) is None
    finally:
        await connection.aclose()
